"""One job, created: requests on the disk, uploaded, and one POST that is never repeated.

In: request lines. Out: the name of the job. Where the answer to the POST is lost, the job is looked for by what is
unique to it, and the caller hears of it if it cannot be found.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import orjson

from gemini_batch.config import MAX_FILE_BYTES
from gemini_batch.errors import BadInput, CreateUnknown, RemoteError, Unavailable
from gemini_batch.gemini.client import GeminiClient
from gemini_batch.gemini.generation import camel, request_members
from gemini_batch.gemini.remote import BatchJob
from gemini_batch.records import Job
from gemini_batch.single.media import Uploads
from gemini_batch.single.service import connect, pause, unique_name

DEFAULT_MODEL = "gemini-2.5-flash"

MAX_INLINE_BYTES = 20_000_000
"""Of all inline requests of a job (Batch API guide)."""

MAX_DISPLAY_NAME = 512
"""Characters (Files REST reference, of files); longer ones were never seen to work."""

LOOKS = (0.0, 2.0, 5.0, 10.0)
"""Seconds before each look for a job whose create was not answered."""

GENERATE = "batchGenerateContent"

log = logging.getLogger(__name__)


def create_batch_job(
    requests: Iterable[Mapping[str, Any]],
    model_name: str = DEFAULT_MODEL,
    job_display_name: str | None = None,
    generation_config: Any = None,
    jsonl_dir: str | os.PathLike[str] | None = None,
    *,
    inline: bool = False,
    client: GeminiClient | None = None,
) -> str:
    """Create a job of request lines. Costs money; nothing here does it twice.

    Args:
        requests: dicts with a unique `key` and a `request`, a REST GenerateContentRequest: `{"contents": [{"parts":
            [{"text": "…"}]}]}`.
        job_display_name: what lists call the job; by default a unique name.
        generation_config: settings of every request, in place of its own: a dict in the REST spelling or the SDK's, or
            a `types.GenerateContentConfig`.
        jsonl_dir: directory to keep the request file in, under a name of its own; by default it is not kept.
        inline: send the requests with the create (at most 20 MB), and not as a file (at most 2 GB);
            `get_inline_results` has the results then.
        client: the service; by default that of the environment.

    Returns:
        The name of the job, `batches/…`.

    Raises:
        BadInput: a request of another form, two with one key, or more than one job holds; nothing was sent.
        CreateUnknown: the answer to the create was lost, and the job is not to be found.
        RemoteError: the service refuses the job, or cannot be reached; nothing was created.
    """
    entries = _entries(requests, request_members(generation_config))
    order = Order(connect(client), model_name, job_display_name)
    if inline:
        return order.create_inline(list(entries))
    uploads = Uploads(order.service, show=False)
    with uploads.wasted_if_refused(), request_file(jsonl_dir, order.unique) as (path, out):
        write_lines(out, map(_line, entries))
        return order.create(path, uploads)


def _entries(requests: Iterable[Mapping[str, Any]], members: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    seen = set[str]()
    for number, entry in enumerate(requests):
        key = entry.get("key") if isinstance(entry, Mapping) else None
        request = entry.get("request") if isinstance(entry, Mapping) else None
        if not isinstance(key, str | int) or not isinstance(request, Mapping):
            raise BadInput(f'request {number} has to be a dict such as {{"key": "0", "request": {{"contents": […]}}}}')
        if str(key) in seen:
            raise BadInput(f"request {number}: the key {key!r} is another's; results are told apart by key alone")
        seen.add(str(key))
        yield {**entry, "key": str(key), "request": {**_without_twins(request, members), **members}}
    if not seen:
        raise BadInput("requests is empty")


def _without_twins(request: Mapping[str, Any], members: Mapping[str, Any]) -> dict[str, Any]:
    """A request without other spellings of members that will be set: both at once are refused."""
    return {name: value for name, value in request.items() if camel(name) not in members}


def _line(entry: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(entry) + b"\n"
    except orjson.JSONEncodeError as error:
        raise BadInput(f"the request {entry['key']!r} cannot be written as JSON: {error}") from None


@contextmanager
def request_file(folder: str | os.PathLike[str] | None, name: str) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file for request lines, in a folder that keeps it or in one that goes away.

    Raises:
        BadInput: it cannot be made there.
    """
    with ExitStack() as stack:
        try:
            if folder is None:
                path = Path(stack.enter_context(TemporaryDirectory(prefix="gemini-batch-"))) / "requests.jsonl"
            else:
                Path(folder).mkdir(parents=True, exist_ok=True)
                path = Path(folder) / f"{name}_requests.jsonl"
            stream = stack.enter_context(path.open("xb"))
        except OSError as error:
            raise BadInput(f"no request file can be made in {folder or 'the temporary directory'}: {error}") from None
        try:
            yield path, stream
        except (BadInput, OSError):  # half a file is of no use to anybody
            path.unlink(missing_ok=True)
            raise


def refuse_folder(folder: str | os.PathLike[str]) -> None:
    """Find out before anything is paid for whether results can be kept there; the folder is made.

    Raises:
        BadInput: they cannot.
    """
    probe = Path(folder) / f".{unique_name()}"
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise BadInput(f"output_dir {folder}: no results can be kept there: {error}") from None


def write_lines(out: BinaryIO, lines: Iterable[bytes], most: int = MAX_FILE_BYTES) -> None:
    """Write request lines, as many as one job holds.

    Raises:
        BadInput: there are more.
    """
    size = 0
    for line in lines:
        size += len(line)
        if size > most:
            raise BadInput(
                f"the requests have more than {most:,} bytes, which one job cannot hold; distributed_batch_process "
                "makes several jobs of them"
            )
        out.write(line)
    out.flush()


@dataclass
class Order:
    """A job about to be made."""

    service: GeminiClient
    model: str
    given_name: str | None = None
    pause: Callable[[float], None] = pause

    def __post_init__(self) -> None:
        self.unique = unique_name()
        if self.given_name is not None and not 0 < len(self.given_name) <= MAX_DISPLAY_NAME:
            raise BadInput(f"job_display_name has to have 1 to {MAX_DISPLAY_NAME} characters")

    @property
    def display_name(self) -> str:
        return self.unique if self.given_name is None else self.given_name

    def create(self, path: Path, uploads: Uploads, method: str = GENERATE) -> str:
        """Upload a file of request lines and create the job of it. Returns the job's name."""
        stored = uploads.file(path, f"{self.unique}-input", "jsonl")
        name, source = self.display_name, {"fileName": stored.name}

        def create() -> Job:
            if method == GENERATE:
                return self.service.create_job(self.model, stored.name, name)
            return self.service.create_other(self.model, method, source, name)

        return self._once(create, stored.name)

    def create_inline(self, entries: Sequence[Mapping[str, Any]]) -> str:
        """Create the job of requests that travel with the create."""
        each = [{"request": entry["request"], "metadata": {"key": entry["key"]}} for entry in entries]
        size = sum(len(_line(entry)) for entry in entries)
        if size > MAX_INLINE_BYTES:
            raise BadInput(
                f"the inline requests of a job have at most {MAX_INLINE_BYTES:,} bytes, these have {size:,}; leave "
                "`inline` out, or use distributed_batch_process for any size"
            )
        source = {"requests": {"requests": each}}
        return self._once(lambda: self.service.create_other(self.model, GENERATE, source, self.display_name), None)

    def _once(self, create: Callable[[], Job], input_file: str | None) -> str:
        """The one POST. Only an answer that was lost leads to a look at the list, and never to another POST."""
        try:
            job = create()
        except Unavailable as error:
            found = self._look_for(input_file)
            if found is None:
                raise CreateUnknown(self.display_name, str(error)) from error
            log.warning("the answer to a create was lost (%s); its job was found: %s", error, found.name)
            return found.name
        except KeyboardInterrupt as stop:
            stop.add_note(str(CreateUnknown(self.display_name, "interrupted")))
            raise
        log.info("created %s, called %s", job.name, self.display_name)
        return job.name

    def _look_for(self, input_file: str | None) -> BatchJob | None:
        for seconds in LOOKS:
            self.pause(seconds)
            try:
                jobs = self.service.show_jobs()
            except RemoteError:
                continue
            if found := next((job for job in jobs if self._is_ours(job, input_file)), None):
                return found
        return None

    def _is_ours(self, job: BatchJob, input_file: str | None) -> bool:
        """By its request file, which no other job has; by its name only if that was made for this job alone."""
        if job.input_file is not None and input_file is not None:
            return job.input_file == input_file
        return self.given_name is None and job.display_name == self.unique
