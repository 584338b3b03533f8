"""What every call passes before it is served: it is counted, its key is looked at, and a fault may answer instead."""

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import lru_cache

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gemini_batch.emulator.board import FaultBoard
from gemini_batch.emulator.connection import CutReply, Hang
from gemini_batch.emulator.faults import Point, Subject
from gemini_batch.emulator.settings import EmulatorSettings
from gemini_batch.emulator.wire import (
    ApiError,
    Json,
    error_of,
    generate_quota_exceeded,
    key_missing,
    key_refused,
    message_member,
    read_json,
    text_member,
)

Endpoint = Callable[[Request], Awaitable[Response]]


class Calls:
    def __init__(
        self, settings: Callable[[], EmulatorSettings], faults: FaultBoard, subject: Callable[[str], Subject]
    ) -> None:
        self._settings = settings
        self._faults = faults
        self._job = subject
        self.made: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()

    def clear(self) -> None:
        self.made.clear()
        self.rejected.clear()

    def owner_of(self, request: Request) -> str:
        """Whose files and jobs these are: a hash of the key's project; raises ApiError.

        A key is kept nowhere: it may be a real one that was sent here by mistake.
        """
        key = request.headers.get("x-goog-api-key") or request.query_params.get("key", "")
        settings = self._settings()
        if not key:
            raise key_missing()
        if settings.api_keys and key not in settings.api_keys:
            raise key_refused()
        return _hashed(settings.project_of(key))

    def guarded(self, label: str, call: str, endpoint: Endpoint) -> Endpoint:
        """`label` is what the call is counted under, `call` what faults know it by."""

        async def guarded(request: Request) -> Response:
            self.made[label] += 1
            named = "upload_start" if call == "upload" and "upload_id" not in request.query_params else call
            try:
                if named != "upload":  # a chunk is known by its upload id alone
                    self.owner_of(request)
                return await self._fault(named, request) or await endpoint(request)
            except ApiError as e:
                self.rejected[f"{named}: {e.reason}"] += 1
                raise

        return guarded

    async def _fault(self, call: str, request: Request) -> Response | None:
        if self._faults.is_quiet:
            return None
        job, model = await self._subject(call, request)
        fired = self._faults.take(Point.CALL, call=call, job=job, model=model)
        for name, seconds in fired.items():
            answer = name.rpartition("_")[2]
            if answer == "hang":
                return Hang(seconds)
            if answer == "reset":
                return CutReply()
            async for _ in request.stream():  # the reply to a body half sent would be lost with the connection
                pass
            is_quota = call == "generate" and answer == "429"
            raise generate_quota_exceeded(f"fault {name}") if is_quota else error_of(answer, f"fault {name}")
        return None

    async def _subject(self, call: str, request: Request) -> Subject:
        model = request.path_params.get("model")
        if call == "create":
            try:
                return _display_name(await read_json(request)), model
            except (ApiError, ClientDisconnect):
                return None, model
        job_id = request.path_params.get("job_id") or request.path_params.get("file_id", "").removeprefix("batch-")
        job, of_job = self._job(job_id)
        return job, model or of_job


def _display_name(body: Json) -> str:
    return text_member(message_member(body, "batch"), "displayName")


@lru_cache(maxsize=1024)
def _hashed(project: str) -> str:
    return hashlib.sha256(project.encode()).hexdigest()[:16]
