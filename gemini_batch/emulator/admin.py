"""The emulator's own calls, under /admin: what was bought, faults, settings, reset."""

import math
from collections import Counter
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gemini_batch.emulator.bought import Bought
from gemini_batch.emulator.faults import FaultBoard
from gemini_batch.emulator.file_store import FileStore
from gemini_batch.emulator.job_store import JobStore
from gemini_batch.emulator.wire import Json, JsonReply, invalid, query_int, read_json


class AdminApi:
    def __init__(
        self, jobs: JobStore, files: FileStore, faults: FaultBoard, bought: Bought, calls: Counter[str]
    ) -> None:
        self._jobs = jobs
        self._files = files
        self._faults = faults
        self._bought = bought
        self._calls = calls

    async def stats(self, request: Request) -> Response:
        return JsonReply(
            self._jobs.stats()
            | {"requests": self._bought.stats(), "files": self._files.stats(), "calls": dict(self._calls)}
        )

    async def bought(self, request: Request) -> Response:
        more_than = query_int(request, "more_than")
        if more_than == 0:
            raise invalid("more_than must be at least 1.")
        return JsonReply({"lines": self._bought.more_than(more_than or 1)})

    async def arm_fault(self, request: Request) -> Response:
        body = await _known_members(request, {"name", "times", "after"})
        name = body.get("name")
        if not isinstance(name, str):
            raise invalid("A fault needs a name.")
        times, after = _whole(body, "times", least=1), _whole(body, "after", least=0)
        self._faults.arm(name, times, after or 0)
        return JsonReply({"armed": self._faults.armed()})

    async def show_faults(self, request: Request) -> Response:
        return JsonReply({"armed": self._faults.armed()})

    async def clear_faults(self, request: Request) -> Response:
        self._faults.clear()
        return JsonReply({})

    async def settings(self, request: Request) -> Response:
        body = await _known_members(request, {"job_seconds", "max_live_jobs"})
        self._jobs.configure(_seconds(body, "job_seconds"), _whole(body, "max_live_jobs", least=0))
        now = self._jobs.settings
        return JsonReply({"job_seconds": now.job_seconds, "max_live_jobs": now.max_live_jobs})

    async def reset(self, request: Request) -> Response:
        """Jobs first: an answering that is under way notices and stops."""
        self._jobs.clear()
        self._files.clear()
        self._faults.clear()
        self._bought.clear()
        self._calls.clear()
        return JsonReply({})


async def _known_members(request: Request, known: set[str]) -> Json:
    body = await read_json(request)
    if unknown := sorted(body.keys() - known):
        raise invalid(f"Unknown member {unknown[0]!r}. Known: {', '.join(sorted(known))}.")
    return body


def _whole(body: Json, name: str, least: int) -> int | None:
    value: Any = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise invalid(f"{name} must be a whole number of at least {least}.")
    return value


def _seconds(body: Json, name: str) -> float | None:
    value: Any = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise invalid(f"{name} must be a number of at least 0.")
    return float(value)
