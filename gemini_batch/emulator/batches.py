"""The Batch API: create, get, list, cancel, delete."""

import asyncio
import re
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gemini_batch.emulator.calls import Calls
from gemini_batch.emulator.connection import CutReply, Hang
from gemini_batch.emulator.dice import Dice, fingerprint
from gemini_batch.emulator.faults import Point
from gemini_batch.emulator.jobs import Job, State, job_reply, state_of
from gemini_batch.emulator.lines import AbandonedError
from gemini_batch.emulator.proto import BadLineError, check_create
from gemini_batch.emulator.service import Order, Service
from gemini_batch.emulator.settings import MAX_INLINE_BYTES
from gemini_batch.emulator.wire import (
    ApiError,
    Json,
    JsonReply,
    error_of,
    invalid,
    member,
    message_member,
    not_found,
    page,
    query_int,
    read_json,
    snake_case,
    text_member,
    unavailable,
)

_DEFAULT_PAGE = 100
_MODEL = re.compile(r"gemini-[a-z0-9.-]+")


class BatchesApi:
    def __init__(self, service: Service, calls: Calls, readers: Executor) -> None:
        self._service = service
        self._jobs = service.jobs
        self._faults = service.faults
        self._calls = calls
        self._readers = readers

    async def create(self, request: Request) -> Response:
        return await self._create(request, embeds=False)

    async def create_embeddings(self, request: Request) -> Response:
        return await self._create(request, embeds=True)

    async def _create(self, request: Request, embeds: bool) -> Response:
        order = _order(request, await read_json(request), self._calls.owner_of(request), embeds)
        if order.input_file is None and len(await request.body()) > MAX_INLINE_BYTES:
            message = f"Request payload size exceeds the limit: {MAX_INLINE_BYTES} bytes."
            raise invalid(message, reason="inline_bytes")
        try:
            loop = asyncio.get_running_loop()
            job = await loop.run_in_executor(self._readers, self._service.accept, order)
        except BadLineError as e:
            if order.input_file is None:
                raise _bad_inline(e) from e
            raise invalid(e.message(), reason="bad_line") from e
        except AbandonedError as e:
            raise unavailable() from e
        if "create_late" in job.faults:
            return CutReply()
        lost = self._faults.take(Point.CREATED, job=order.display_name, model=order.model)
        for name, seconds in lost.items():
            if name == "create_reply_lost":
                return CutReply()
            if name == "create_hangs_after_commit":
                return Hang(seconds)
            raise error_of(name.split("_")[1], f"fault {name}")
        return JsonReply(job_reply(job, job.created, None))

    async def get(self, request: Request) -> Response:
        job = self._found(request)
        fired = self._faults.take(Point.GET, job=job.display_name, model=job.model)
        if "state_stale" in fired:
            return JsonReply(job_reply(replace(job, answered=None, cancelled=None), job.created, None))
        reply = await self._shown(job)
        if "state_unknown" in fired:
            shown = {name: value for name, value in reply["metadata"].items() if name != "output"}
            return JsonReply({"name": job.name, "metadata": shown | {"state": "BATCH_STATE_SOMETHING"}})
        if "response" in reply:
            late = self._faults.take(Point.GET_SUCCEEDED, job=job.display_name, model=job.model)
            if "succeeded_without_output" in late:
                del reply["response"], reply["metadata"]["output"]
        return JsonReply(reply)

    async def list(self, request: Request) -> Response:
        jobs = self._jobs.newest_first(self._calls.owner_of(request))
        shown, token = page(jobs, lambda job: job.order, request, _DEFAULT_PAGE)
        here = query_int(request, "pageToken")
        if here is not None and "list_page_repeated" in self._faults.take(Point.LIST_OF_REST):
            shown = jobs[: len(shown)]
        if token and "list_truncated" in self._faults.take(Point.LIST_WITH_MORE):
            token = {}
        fired = self._faults.take(Point.LIST)
        if "list_shuffled" in fired:
            shown = _another_order(shown)
        if "list_token_loop" in fired:
            token = {"nextPageToken": str(here or (jobs[0].order + 1 if jobs else 1))}
        listed = {"operations": [await self._shown(job) for job in shown]} if shown else {}
        return JsonReply(listed | token)

    async def cancel(self, request: Request) -> Response:
        self._service.cancel(self._found(request))
        return JsonReply({})

    async def delete(self, request: Request) -> Response:
        self._service.delete(self._found(request))
        return JsonReply({})

    def _found(self, request: Request) -> Job:
        return self._jobs.get(self._calls.owner_of(request), request.path_params["job_id"])

    async def _shown(self, job: Job) -> Json:
        service, now = self._service, self._service.clock.now()
        state = state_of(job, now)
        has_output = state is State.SUCCEEDED
        if state is State.CANCELLED and "cancelled_with_output" in job.faults:
            has_output = (service.folder / job.results).exists()
        if not has_output:
            return job_reply(job, now, None)
        if job.input_file is not None:
            return job_reply(job, now, {"responsesFile": f"files/{job.result_id}"})
        return job_reply(job, now, await asyncio.to_thread(_inlined, service.folder / job.results))


def _order(request: Request, body: Json, owner: str, embeds: bool) -> Order:
    model = known_model(request, "asyncBatchEmbedContent" if embeds else "batchGenerateContent")
    try:
        check_create(body)
    except BadLineError as e:
        raise unknown_name(e) from e
    batch = message_member(body, "batch")
    config = message_member(batch, "inputConfig")
    input_file = text_member(config, "fileName") or None
    inline: Any = member(message_member(config, "requests"), "requests") or []
    if not isinstance(inline, list) or bool(inline) == bool(input_file):
        raise invalid("batch.input_config: exactly one of file_name and requests must be set.")
    return Order(owner, model, text_member(batch, "displayName"), input_file, inline, embeds)


def known_model(request: Request, method: str) -> str:
    """The model of the path; raises ApiError."""
    model, version = request.path_params["model"], request.url.path.split("/")[1]
    takes = {"asyncBatchEmbedContent": True, "batchGenerateContent": False, "generateContent": False}
    embeds = "embedding" in model
    if not _MODEL.fullmatch(model) or "does-not-exist" in model or takes.get(method, embeds) != embeds:
        raise not_found(
            f"models/{model} is not found for API version {version}, or is not supported for {method}. "
            "Call ListModels to see the list of available models and their supported methods."
        )
    return str(model)


def _another_order(jobs: list[Job]) -> list[Job]:
    shuffled = sorted(jobs, key=lambda job: Dice(fingerprint(0, job.id.encode())).digest)
    return shuffled if shuffled != jobs else shuffled[::-1]


def _bad_inline(bad: BadLineError) -> ApiError:
    """Inline requests are refused with field violations (python-genai #1103)."""
    for step in (bad.number - 1, "requests", "requests", "inputConfig", "batch"):
        bad.inside(step)
    return unknown_name(bad)


def unknown_name(bad: BadLineError) -> ApiError:
    """The recorded form of what is wrong in a body (python-genai #1103); where it stands is told in snake_case."""
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{snake_case(step)}" for step in bad.path)[1:]
    complaint = f"{where}: {bad.complaint}"
    if bad.field:
        where = where.removesuffix(snake_case(bad.field)).removesuffix(".")
        at = f" at '{where}'" if where else ""
        complaint = f'Unknown name "{bad.field}"{at}: Cannot find field.'
    message = f"Invalid JSON payload received. {complaint}"
    violation = {"field": where, "description": message}
    details = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]}
    return invalid(message, [details], reason="bad_line")


def _inlined(results: Path) -> Json:
    """The inline form of a result file; a torn line, which only a fault makes, is left out."""
    responses = []
    for raw in results.read_bytes().split(b"\n"):
        try:
            responses.append(orjson.loads(raw))
        except orjson.JSONDecodeError:
            continue
    return {"inlinedResponses": {"inlinedResponses": responses}}
