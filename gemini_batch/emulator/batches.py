"""The Batch API: create, get, list, cancel, delete."""

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gemini_batch.clock import new_nonce
from gemini_batch.emulator.bought import Bought
from gemini_batch.emulator.connection import CutReply
from gemini_batch.emulator.faults import FaultBoard, Point
from gemini_batch.emulator.file_store import FileStore
from gemini_batch.emulator.job_store import JobStore
from gemini_batch.emulator.jobs import Job, State, job_reply, state_of
from gemini_batch.emulator.lines import AbandonedError, BadLineError, Survey, survey_lines
from gemini_batch.emulator.wire import (
    ApiError,
    Json,
    JsonReply,
    internal,
    invalid,
    member,
    message_member,
    not_found,
    owner_of,
    page,
    quota_exceeded,
    read_json,
    text_member,
    unavailable,
)

MAX_INLINE_BYTES = 20 << 20  # Batch API guide
_DEFAULT_PAGE = 100
_MODEL = re.compile(r"gemini-[a-z0-9.-]+")


@dataclass(frozen=True)
class Order:
    """A create call, as far as it can be read without its lines."""

    owner: str
    model: str
    display_name: str
    input_file: str | None
    inline: list[Any]


class BatchesApi:
    def __init__(
        self,
        *,
        jobs: JobStore,
        files: FileStore,
        faults: FaultBoard,
        bought: Bought,
        readers: Executor,
        wanted: Callable[[], bool],
    ) -> None:
        self._jobs = jobs
        self._files = files
        self._faults = faults
        self._bought = bought
        self._readers = readers
        self._wanted = wanted

    async def create(self, request: Request) -> Response:
        try:
            _raise_create_fault(self._faults.take(Point.CREATE))
            order = _order(request, await read_json(request))
            loop = asyncio.get_running_loop()
            job = await loop.run_in_executor(self._readers, self._accept, order)
        except ApiError:
            self._jobs.count_rejected()
            raise
        lost = self._faults.take(Point.CREATED)
        if "create_reply_lost" in lost:
            return CutReply()
        if "create_503_after_commit" in lost:
            raise unavailable()
        return JsonReply(job_reply(job, job.created, None))

    def _accept(self, order: Order) -> Job:
        """Runs off the event loop: it reads every line of the job."""
        self._jobs.check_room(order.owner)
        job_id = new_nonce(18)
        source = self._jobs.folder / f"input-{job_id}"
        try:
            self._stage(order, source)
            survey = self._surveyed(order, source)
            job = self._jobs.add(order.owner, lambda serial: self._job(serial, job_id, order, source, survey))
        except BaseException:
            source.unlink(missing_ok=True)
            raise
        self._bought.add(survey.digests, source)
        self._jobs.answer(job)
        return job

    def _stage(self, order: Order, source: Path) -> None:
        """The job's own name for its lines: the input file may be deleted right after create."""
        if order.input_file is None:
            with source.open("wb") as lines:
                lines.writelines(orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE) for item in order.inline)
            return
        file = self._files.find(order.owner, order.input_file.removeprefix("files/"))
        if file is None:
            raise not_found()
        source.hardlink_to(file.path)

    def _surveyed(self, order: Order, source: Path) -> Survey:
        try:
            with source.open("rb", buffering=1 << 20) as lines:
                survey = survey_lines(lines, self._wanted)
        except BadLineError as e:
            raise _bad_inline(e) if order.input_file is None else invalid(e.message()) from e
        except AbandonedError as e:
            raise unavailable() from e
        if not survey.n_lines:
            raise invalid("The batch holds no requests.")
        return survey

    def _job(self, serial: int, job_id: str, order: Order, source: Path, survey: Survey) -> Job:
        return Job(
            serial=serial,
            id=job_id,
            owner=order.owner,
            model=order.model,
            display_name=order.display_name,
            input_file=order.input_file,
            n_requests=survey.n_lines,
            created=self._jobs.clock.now(),
            duration=timedelta(seconds=self._jobs.settings.job_seconds),
            source=source,
            results=self._jobs.folder / f"results-{job_id}",
            job_faults=self._faults.take(Point.JOB),
            line_faults=self._faults.take_lines(survey.n_lines),
        )

    async def get(self, request: Request) -> Response:
        fired = self._faults.take(Point.GET)
        if "get_500" in fired:
            raise internal()
        job = self._found(request)
        reply = await self._shown(job)
        if "response" in reply and "succeeded_without_output" in self._faults.take(Point.GET_SUCCEEDED):
            del reply["response"], reply["metadata"]["output"]
        if "state_unknown" in fired:
            reply = {"name": job.name, "metadata": reply["metadata"] | {"state": "BATCH_STATE_SOMETHING"}}
            reply["metadata"].pop("output", None)
        return JsonReply(reply)

    async def list(self, request: Request) -> Response:
        if "list_500" in self._faults.take(Point.LIST):
            raise internal()
        jobs = self._jobs.newest_first(owner_of(request))
        shown, token = page(jobs, lambda job: job.serial, request, _DEFAULT_PAGE)
        listed = {"operations": [await self._shown(job) for job in shown]} if shown else {}
        return JsonReply(listed | token)

    async def cancel(self, request: Request) -> Response:
        self._jobs.cancel(self._found(request))
        return JsonReply({})

    async def delete(self, request: Request) -> Response:
        self._jobs.remove(self._found(request))
        return JsonReply({})

    def _found(self, request: Request) -> Job:
        return self._jobs.get(owner_of(request), request.path_params["job_id"])

    async def _shown(self, job: Job) -> Json:
        now = self._jobs.clock.now()
        if state_of(job, now) is not State.SUCCEEDED:
            return job_reply(job, now, None)
        if job.input_file is not None:
            return job_reply(job, now, {"responsesFile": job.result_file})
        return job_reply(job, now, await asyncio.to_thread(_inlined, job.results))


def _raise_create_fault(fired: frozenset[str]) -> None:
    if "create_503" in fired:
        raise unavailable()
    if "create_429" in fired:
        raise quota_exceeded()


def _order(request: Request, body: Json) -> Order:
    model, version = request.path_params["model"], request.url.path.split("/")[1]
    if not _MODEL.fullmatch(model) or "does-not-exist" in model:
        raise not_found(
            f"models/{model} is not found for API version {version}, or is not supported for "
            "batchGenerateContent. Call ListModels to see the list of available models and their supported "
            "methods."
        )
    batch = message_member(body, "batch")
    config = message_member(batch, "inputConfig")
    input_file = text_member(config, "fileName") or None
    inline = member(message_member(config, "requests"), "requests") or []
    if not isinstance(inline, list) or not (inline or input_file):
        raise invalid("batch.input_config: exactly one of file_name and requests must be set.")
    if input_file is None and int(request.headers.get("content-length", 0)) > MAX_INLINE_BYTES:
        raise invalid(f"Request payload size exceeds the limit: {MAX_INLINE_BYTES} bytes.")
    return Order(owner_of(request), model, text_member(batch, "displayName"), input_file, inline)


def _write_inline(requests: list[Any], source: Path) -> None:
    try:
        with source.open("wb") as lines:
            lines.writelines(orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE) for one in requests)
    except orjson.JSONEncodeError as e:
        raise invalid(f"batch.input_config.requests: {e}") from e


def _bad_inline(bad: BadLineError) -> ApiError:
    """Inline requests are refused with field violations (python-genai #1103)."""
    where = f"batch.input_config.requests.requests[{bad.number - 1}]"
    complaint = f"Unknown name \"{bad.field}\" at '{where}.request': Cannot find field." if bad.field else ""
    message = f"Invalid JSON payload received. {complaint or f'{where}: {bad.complaint}'}"
    violation = {"field": where, "description": message}
    details = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]}
    return invalid(message, [details])


def _inlined(results: Path) -> Json:
    """The inline form of a result file; a torn line, which only a fault makes, is left out."""
    responses = []
    for raw in results.read_bytes().split(b"\n"):
        try:
            responses.append(orjson.loads(raw))
        except orjson.JSONDecodeError:
            continue
    return {"inlinedResponses": {"inlinedResponses": responses}}
