"""The emulator's own calls, under /admin: what was bought, faults, settings, answers, the clock, reset."""

import asyncio
from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gemini_batch.emulator.calls import Calls
from gemini_batch.emulator.canned import canned
from gemini_batch.emulator.clock import LONGEST_STEP
from gemini_batch.emulator.faults import FaultSpec
from gemini_batch.emulator.service import Service
from gemini_batch.emulator.settings import ONLY_AT_START, SettingsError, make_fault, nearest
from gemini_batch.emulator.wire import Json, JsonReply, invalid, query_int, read_json, timestamp

_MOST = 1 << 62
"""SQLite counts no further."""


class AdminApi:
    def __init__(self, service: Service, calls: Calls) -> None:
        self._service = service
        self._calls = calls

    async def stats(self, request: Request) -> Response:
        _check_query(request)
        return JsonReply(stats(self._service, self._calls))

    async def bought(self, request: Request) -> Response:
        _check_query(request, "more_than", "by")
        more_than = query_int(request, "more_than")
        by = request.query_params.get("by", "line")
        if more_than == 0:
            raise invalid("more_than must be at least 1.")
        if by not in ("line", "body"):
            raise invalid("by must be line (key and body) or body.")
        return JsonReply({"lines": self._service.bought.more_than(min(more_than or 1, _MOST), by == "body")})

    async def arm_fault(self, request: Request) -> Response:
        """One fault, or `{"faults": [...]}`: all of them or none."""
        body = await read_json(request)
        many = body.get("faults", [body])
        if not isinstance(many, list) or ("faults" in body and len(body) > 1):
            raise invalid('Expected one fault, or {"faults": [...]}.')
        for spec in [_fault(one) for one in many]:
            self._service.faults.arm(spec)
        return await self.show_faults(request)

    async def show_faults(self, request: Request) -> Response:
        return JsonReply({"armed": self._service.faults.armed()})

    async def clear_faults(self, request: Request) -> Response:
        """All of them, or those of `?name=`."""
        _check_query(request, "name")
        name = request.query_params.get("name")
        if name is not None:
            _fault({"name": name})
        self._service.faults.disarm(name)
        return JsonReply({})

    async def show_settings(self, request: Request) -> Response:
        return JsonReply(self._settings())

    async def settings(self, request: Request) -> Response:
        body = await read_json(request)
        if fixed := sorted(body.keys() & ONLY_AT_START):
            raise invalid(f"{fixed[0]} can be set at the start only.")
        try:
            self._service.configure(body)
        except SettingsError as e:
            raise invalid(str(e)) from e
        return JsonReply(self._settings())

    def _settings(self) -> Json:
        return self._service.settings().model_dump(mode="json", exclude=set(ONLY_AT_START) | {"api_keys", "projects"})

    async def answers(self, request: Request) -> Response:
        """A JSONL of canned answers from now on; DELETE: the ones of the start again."""
        if request.method == "DELETE":
            self._service.answers = self._service.start_answers
            return JsonReply({})
        try:
            self._service.answers = canned((await request.body()).split(b"\n"), "the body")
        except SettingsError as e:
            raise invalid(str(e)) from e
        return JsonReply({})

    async def show_clock(self, request: Request) -> Response:
        return JsonReply(self._clock())

    async def step_clock(self, request: Request) -> Response:
        body = await read_json(request)
        seconds: Any = body.get("advance_seconds")
        longest = LONGEST_STEP.total_seconds()
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if body.keys() != {"advance_seconds"} or not is_number or not 0 <= seconds <= longest:
            raise invalid(f"Expected advance_seconds, a number from 0 to {longest:.0f}; speed is one of the settings.")
        try:
            await asyncio.to_thread(self._service.advance, timedelta(seconds=seconds))
        except ValueError as e:
            raise invalid(str(e)) from e
        return JsonReply(self._clock())

    def _clock(self) -> Json:
        return {"now": timestamp(self._service.clock.now()), "speed": self._service.clock.speed}

    async def reset(self, request: Request) -> Response:
        if await read_json(request):
            raise invalid("A reset takes no members: it is always of everything.")
        self._service.reset()
        self._calls.clear()
        return JsonReply({})


def _fault(given: Any) -> FaultSpec:
    try:
        return make_fault(given)
    except SettingsError as e:
        raise invalid(str(e)) from e


def _check_query(request: Request, *known: str) -> None:
    """A misspelt restriction must not mean all."""
    if unknown := sorted(request.query_params.keys() - set(known)):
        hint = nearest(unknown[0], known) if known else "none is known."
        raise invalid(f"Unknown query parameter {unknown[0]!r}; {hint}")


def stats(service: Service, calls: Calls) -> Json:
    """What happened so far: counts since the start or the last reset."""
    rejected = dict(calls.rejected)
    return service.jobs.stats() | {
        "creates_rejected": sum(count for reason, count in rejected.items() if reason.startswith("create: ")),
        "requests": service.bought.stats(),
        "files": service.files.stats(),
        "calls": dict(calls.made),
        "rejected": rejected,
        "faults": dict(service.faults.fired),
        "usage": service.spending.stats(),
    }
