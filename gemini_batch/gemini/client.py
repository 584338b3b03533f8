"""The Gemini API through the official SDK: the only module that imports it.

Jobs are read as raw JSON, because the SDK drops `batchStats` and `error` (python-genai #1323). Creating uses a client
of its own that sends once: it follows no redirect, and never reuses a connection, since a server that closes an idle
one would leave the outcome unknown.
"""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from google import genai
from google.genai import errors as sdk_errors
from google.genai import types

from gemini_batch.config import Account
from gemini_batch.effects import effect
from gemini_batch.errors import (
    Denied,
    NotFound,
    NotSent,
    Refused,
    RemoteError,
    Throttled,
    Unavailable,
)
from gemini_batch.gemini.names import OUR_PREFIX
from gemini_batch.gemini.remote import BatchJob, Listing, Seen, StoredFile
from gemini_batch.gemini.wire import DIGITS
from gemini_batch.records import Job

R = TypeVar("R")

CREATE_TIMEOUT_MS = 120_000
"""The service reads the whole input file during the create (its reply has the request count), so a large one takes a
while."""

CALL_TIMEOUT_MS = 120_000
"""Per network read or write, not per call: a long download is many reads."""

LIST_PAGE = 100
"""The most the service returns (jobs: tobert/kaibo `src/batch.rs`; files: Files REST reference)."""

SHA256_DIGITS = 64

CONNECT_PHASE = {"ConnectError", "ConnectTimeout", "PoolTimeout"}
"""Exceptions of httpx and httpx2 that end before the first byte of a request."""


class GeminiClient:
    """`Remote` over google-genai, for one account. Safe to share between threads."""

    def __init__(self, account: Account) -> None:
        self._general = _sdk_client(account, CALL_TIMEOUT_MS)
        self._paying = _sdk_client(account, CREATE_TIMEOUT_MS, {"Connection": "close"}, follow_redirects=False)

    @effect("remote.upload")
    def upload(self, path: Path, display_name: str, mime_type: str) -> StoredFile:
        config = types.UploadFileConfig(display_name=display_name, mime_type=mime_type)
        with path.open("rb") as stream:  # a handle: the SDK puts a path's name into a header, which must be ASCII
            file = _mapped(lambda: self._general.files.upload(file=stream, config=config))
        if file.state is not None and file.state.name == "FAILED":
            raise Unavailable(f"the service could not process the upload {display_name}")
        return _stored(file)

    @effect("remote.create_job")
    def create_job(self, model: str, file_name: str, display_name: str) -> Job:
        config = types.CreateBatchJobConfig(display_name=display_name)
        made = _sent_once(lambda: self._paying.batches.create(model=model, src=file_name, config=config))
        return _named(Job(name=made.name or "", display_name=display_name, created_at=made.create_time))

    @effect("remote.create_job")
    def create_other(self, model: str, method: str, source: dict[str, Any], display_name: str) -> Job:
        """Create a job that `create_job` does not make, by the same rule: one POST, never repeated.

        Args:
            method: `batchGenerateContent` or `asyncBatchEmbedContent`.
            source: `inputConfig` in the REST spelling.
        """
        path = f"models/{model.removeprefix('models/')}:{method}"
        batch = {"displayName": display_name, "inputConfig": source}
        body = _sent_once(lambda: _object(self._paying._api_client.request("post", path, {"batch": batch}).body, path))
        name = body.get("name")
        return _named(Job(name=name if isinstance(name, str) else "", display_name=display_name))

    @effect("remote.get_job")
    def get_job(self, name: str) -> Seen:
        body, at = self._raw(name)
        return Seen(_job(body), at)

    @effect("remote.get_job")
    def show_job(self, name: str) -> tuple[BatchJob, datetime]:
        """A job with all that is shown of it, and the provider's time of the look."""
        body, at = self._raw(name)
        return _shown_job(body), at

    @effect("remote.get_job")
    def inline_results(self, name: str) -> tuple[BatchJob, list[Any] | None]:
        """A job with the results that it shows itself; None where it shows none."""
        body, _ = self._raw(name)
        job, output = _shown_job(body), (body.get("metadata") or {}).get("output") or body.get("response") or {}
        for kind in ("inlinedResponses", "inlinedEmbedContentResponses"):
            held = output.get(kind) if isinstance(output, dict) else None
            if isinstance(held, dict) and isinstance(held.get(kind), list):
                return job, held[kind]
        return job, None

    @effect("remote.cancel_job")
    def cancel_job(self, name: str) -> None:
        _mapped(lambda: self._general.batches.cancel(name=name))

    @effect("remote.list_jobs")
    def list_jobs(self) -> Listing:
        entries, at = self._pages("batches", "operations")
        jobs = [_listed_job(entry) for entry in entries]
        jobs.sort(key=lambda job: (job.created_at or at, job.name), reverse=True)
        names = frozenset(job.name for job in jobs)
        ours = {job.name: job for job in reversed(jobs) if job.display_name.startswith(OUR_PREFIX)}
        others = tuple(job for job in jobs if not job.display_name.startswith(OUR_PREFIX))
        by_display_name = {job.display_name: job for job in jobs}
        return Listing(by_display_name, names, at, tuple(ours.values()), others, whole=len(names) == len(jobs))

    @effect("remote.list_jobs")
    def show_jobs(self) -> list[BatchJob]:
        """Every job that the key can see, in the order of the service, all pages read."""
        entries, _ = self._pages("batches", "operations")
        return [_shown_entry(entry) for entry in entries]

    @effect("remote.get_file")
    def get_file(self, name: str) -> StoredFile:
        return _stored(_mapped(lambda: self._general.files.get(name=name)))

    @effect("remote.delete_file")
    def delete_file(self, name: str) -> None:
        _mapped(lambda: self._general.files.delete(name=name))

    @effect("remote.list_files")
    def list_files(self) -> tuple[StoredFile, ...]:
        entries, _ = self._pages("files", "files")
        return tuple(_listed_file(entry) for entry in entries)

    @effect("remote.download")
    def download(self, name: str, target: Path) -> None:
        _mapped(lambda: self._general.files.download(file=name, destination=str(target)))

    def _pages(self, what: str, member: str) -> tuple[list[Any], datetime]:
        """All entries of a list, and the provider's time when it began."""
        entries: list[Any] = []
        token, seen_tokens, first_at = "", set[str](), None
        while True:
            body, at = self._raw(f"{what}?pageSize={LIST_PAGE}" + (f"&pageToken={quote(token)}" if token else ""))
            first_at = first_at or at
            entries += body.get(member) or ()
            token = str(body.get("nextPageToken") or "")
            if not token:
                return entries, first_at
            if token in seen_tokens:
                raise Unavailable(f"the list of {what} repeats a page")
            seen_tokens.add(token)

    def _raw(self, path: str) -> tuple[dict[str, Any], datetime]:
        """GET as JSON with the provider's time. The SDK's public calls give neither (google-genai 2.21 to 3.4)."""
        reply = _mapped(lambda: self._general._api_client.request("get", path, {}))
        headers = {name.lower(): value for name, value in (reply.headers or {}).items()}
        try:
            at = parsedate_to_datetime(headers["date"])
        except (ValueError, KeyError, TypeError):
            raise Unavailable(f"GET {path} was not answered with a Date header") from None
        return _object(reply.body, path), at


def _object(text: str | None, path: str) -> dict[str, Any]:
    try:
        body = json.loads(text or "")
    except ValueError:
        raise Unavailable(f"{path} was not answered with JSON") from None
    if not isinstance(body, dict):
        raise Unavailable(f"{path} was not answered with a JSON object")
    return body


def _sent_once(create: Callable[[], R]) -> R:
    """Run the create. Whatever is not certainly a refusal leaves its outcome unknown."""
    try:
        return _mapped(create)
    except NotFound as error:
        raise _refusal(error.code, str(error)) from None
    except RemoteError:
        raise
    except Exception as error:  # whatever it was, nobody can say that it was not sent
        raise Unavailable(f"{type(error).__name__}: {error}") from error


def _named(made: Job) -> Job:
    if not made.name:
        raise Unavailable("the create was answered without a job name")
    return made


def _sdk_client(
    account: Account, timeout_ms: int, headers: dict[str, str] | None = None, follow_redirects: bool = True
) -> genai.Client:
    trust_env = not account.is_loopback  # a proxy must not see loopback calls
    options = types.HttpOptions(
        base_url=account.endpoint,
        timeout=timeout_ms,
        headers=headers or {},
        client_args={"trust_env": trust_env, "follow_redirects": follow_redirects},
        retry_options=types.HttpRetryOptions(attempts=1),
    )
    return genai.Client(api_key=account.key, vertexai=False, http_options=options)


def _mapped(call: Callable[[], R]) -> R:
    """Run an SDK call; every foreign error becomes a leaf of ours."""
    try:
        return call()
    except sdk_errors.APIError as error:
        raise _of_status(error.code, f"{error.code} {error.status}: {error.message}", str(error.details)) from None
    except (ConnectionError, TimeoutError) as error:
        raise Unavailable(f"{type(error).__name__}: {error}") from None
    except OSError:
        raise  # a file of ours, not the network
    except Exception as error:
        if type(error).__module__.partition(".")[0] in {"httpx", "httpx2", "httpcore", "httpcore2"}:
            leaf = NotSent if type(error).__name__ in CONNECT_PHASE else Unavailable
            raise leaf(f"{type(error).__name__}: {error}") from None
        if isinstance(error, ValueError | KeyError):  # not JSON, or a header or field that the SDK expects is missing
            raise Unavailable(f"the answer was not understood: {type(error).__name__}: {error}") from None
        raise


def _of_status(code: int, text: str, details: str) -> RemoteError:
    if code in (401, 403) or "API_KEY_INVALID" in details or "API key not valid" in details:
        return Denied(text, code)
    if code == 429 or (code == 400 and "ACTIVE state" in text):  # an upload that is still being processed
        return Throttled(text, code)
    if code == 402 or "FAILED_PRECONDITION" in text:  # billing, region: true of every request
        return Denied(text, code)
    if code == 404:
        return NotFound(text, code)
    if code in (408, 499) or code >= 500 or code < 400:  # 499 is google.rpc CANCELLED: it may have been done
        return Unavailable(text, code)
    return Refused(text, code)


def _refusal(code: int, text: str) -> RemoteError:
    """A create's 404 means an unknown model, which no shard can pass, or a missing input file, which a new upload
    mends."""
    return Denied(text, code) if "models/" in text else Refused(text, code)


def _stored(file: types.File) -> StoredFile:
    state = file.state.name if file.state is not None else "ACTIVE"
    return StoredFile(
        file.name or "",
        file.uri or "",
        file.size_bytes,
        state != "PROCESSING",
        file.display_name or "",
        _sha256(file),
    )


def _listed_file(entry: Any) -> StoredFile:
    """An entry of a listing, which may be of any program."""
    shown = entry if isinstance(entry, dict) else {}
    name, uri, display_name = (str(shown.get(member) or "") for member in ("name", "uri", "displayName"))
    size = str(shown.get("sizeBytes") or "")
    size_bytes = int(size) if size.isascii() and size.isdecimal() and len(size) <= DIGITS else None
    return StoredFile(name, uri, size_bytes, shown.get("state") != "PROCESSING", display_name)


def _sha256(file: types.File) -> str | None:
    """The digest in hex; None where there is none. On the wire it is base64: of the hex digits, as the cookbook shows
    it, or of the bytes, as the reference may be read."""
    try:
        digest = base64.b64decode(file.sha256_hash or "", validate=True)
        return digest.decode().lower() if len(digest) == SHA256_DIGITS else digest.hex() or None
    except ValueError:
        return None


def _job(body: dict[str, Any]) -> Job:
    """A job as the service shows it. Unavailable where it is shown in a way that cannot be read."""
    try:
        return _read_job(body)
    except (AttributeError, TypeError, ValueError, RecursionError):
        raise Unavailable("the service shows a job in a form that is not understood") from None


def _listed_job(entry: Any) -> Job:
    """An entry of a listing. Of a job that is not ours only names and state are read: it may look as it likes."""
    metadata = entry.get("metadata") if isinstance(entry, dict) else None
    metadata = metadata if isinstance(metadata, dict) else {}
    shown = str(metadata.get("displayName") or "")
    if shown.startswith(OUR_PREFIX):
        return _job(entry)
    name = str(entry.get("name") or "") if isinstance(entry, dict) else ""
    return Job(name=name, display_name=shown, state=str(metadata.get("state") or "BATCH_STATE_UNSPECIFIED"))


def _read_job(body: dict[str, Any]) -> Job:
    metadata = body.get("metadata") or {}
    stats = metadata.get("batchStats") or {}
    output = metadata.get("output") or body.get("response") or {}
    error = body.get("error") or {}
    return Job(
        name=str(body.get("name") or metadata.get("name") or ""),
        display_name=str(metadata.get("displayName") or ""),
        state=str(metadata.get("state") or "BATCH_STATE_UNSPECIFIED"),
        created_at=_instant(metadata.get("createTime")),
        ended_at=_instant(metadata.get("endTime")),
        requests=int(stats["requestCount"]) if stats.get("requestCount") is not None else None,
        responses_file=output.get("responsesFile"),
        error=str(error.get("message") or error.get("code")) if error else None,
    )


def _shown_job(body: dict[str, Any]) -> BatchJob:
    """The same with all that is shown, for people."""
    try:
        return _read_shown(body)
    except (AttributeError, TypeError, ValueError, RecursionError):
        raise Unavailable("the service shows a job in a form that is not understood") from None


def _read_shown(body: dict[str, Any]) -> BatchJob:
    job, metadata = _read_job(body), body.get("metadata") or {}
    stats = metadata.get("batchStats") or {}
    return BatchJob(
        **job.model_dump(exclude={"state"}),
        state=_as_the_sdk_spells(job.state),
        model=metadata.get("model"),
        input_file=(metadata.get("inputConfig") or {}).get("fileName"),
        succeeded=_count_of(stats, "successfulRequestCount"),
        failed=_count_of(stats, "failedRequestCount"),
        done=body.get("done") is True,
        has_output=bool(metadata.get("output") or body.get("response")),
    )


def _count_of(stats: dict[str, Any], name: str) -> int | None:
    """Zero counts are left out where others are there (langchain4j Gemini batch tests)."""
    return int(stats.get(name) or 0) if stats else None


def _shown_entry(entry: Any) -> BatchJob:
    """An entry of a listing, which may be of any program; of one that cannot be read name and state."""
    try:
        return _read_shown(entry)
    except (AttributeError, TypeError, ValueError, RecursionError):
        job = _listed_job(entry)
        return BatchJob(name=job.name, display_name=job.display_name, state=_as_the_sdk_spells(job.state))


def _as_the_sdk_spells(state: str) -> str:
    return f"JOB_STATE_{state.removeprefix('BATCH_STATE_').removeprefix('JOB_STATE_')}"


def _instant(text: str | None) -> datetime | None:
    """RFC 3339 with up to nine digits of a second; what is beyond microseconds is cut."""
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
