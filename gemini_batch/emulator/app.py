"""The application: the stores put together, the routes, and what happens to an error."""

import contextlib
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import format_datetime
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gemini_batch.clock import Clock
from gemini_batch.emulator.admin import AdminApi
from gemini_batch.emulator.batches import BatchesApi
from gemini_batch.emulator.bought import Bought
from gemini_batch.emulator.faults import FaultBoard
from gemini_batch.emulator.file_store import FileStore
from gemini_batch.emulator.files import FilesApi
from gemini_batch.emulator.job_store import JobStore
from gemini_batch.emulator.settings import EmulatorSettings
from gemini_batch.emulator.wire import ApiError, JsonReply, internal, not_found

Endpoint = Callable[[Request], Awaitable[Response]]


def build_app(settings: EmulatorSettings, clock: Clock) -> Starlette:
    folder = Path(tempfile.mkdtemp(prefix="gemini-emulator-")) if settings.storage is None else settings.storage
    folder.mkdir(parents=True, exist_ok=True)
    closing = threading.Event()
    readers = ThreadPoolExecutor(2, "create")
    faults, bought, calls = FaultBoard(), Bought(), Counter[str]()
    files = FileStore(folder, clock)
    jobs = JobStore(settings, clock, folder, files)
    batches_api = BatchesApi(
        jobs=jobs,
        files=files,
        faults=faults,
        bought=bought,
        readers=readers,
        wanted=lambda: not closing.is_set(),
    )
    files_api, admin_api = FilesApi(files, faults), AdminApi(jobs, files, faults, bought, calls)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        jobs.start()
        yield
        closing.set()
        jobs.close()
        readers.shutdown(cancel_futures=True)
        if settings.storage is None:
            shutil.rmtree(folder, ignore_errors=True)

    app = Starlette(
        routes=[*_api_routes(files_api, batches_api, calls), *_admin_routes(admin_api)],
        middleware=[Middleware(_Dated, clock=clock)],
        exception_handlers={
            ApiError: _refused,
            HTTPException: _unknown_path,
            ClientDisconnect: _gone,
            Exception: _crashed,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


def _api_routes(files: FilesApi, batches: BatchesApi, calls: Counter[str]) -> Iterator[Route]:
    """Both versions: google-genai 3 speaks v1, its predecessors and the REST pages v1beta."""
    table: list[tuple[str, str, str, Endpoint]] = [
        ("POST", "/upload/{v}/files", "upload", files.upload),
        ("GET", "/download/{v}/files/{file_id}:download", "download", files.download),
        ("GET", "/{v}/files/{file_id}:download", "download", files.download),
        ("GET", "/{v}/files/{file_id}", "files.get", files.get),
        ("DELETE", "/{v}/files/{file_id}", "files.delete", files.delete),
        ("GET", "/{v}/files", "files.list", files.list),
        ("POST", "/{v}/models/{model}:batchGenerateContent", "batchGenerateContent", batches.create),
        ("POST", "/{v}/batches/{job_id}:cancel", "batches.cancel", batches.cancel),
        ("GET", "/{v}/batches/{job_id}", "batches.get", batches.get),
        ("DELETE", "/{v}/batches/{job_id}", "batches.delete", batches.delete),
        ("GET", "/{v}/batches", "batches.list", batches.list),
    ]
    for version in ("v1", "v1beta"):
        for method, path, call, endpoint in table:
            counted = _counted(f"{method} {call}", endpoint, calls)
            yield Route(path.replace("{v}", version), counted, methods=[method])


def _admin_routes(admin: AdminApi) -> list[Route]:
    return [
        Route("/admin/stats", admin.stats, methods=["GET"]),
        Route("/admin/bought", admin.bought, methods=["GET"]),
        Route("/admin/faults", admin.show_faults, methods=["GET"]),
        Route("/admin/faults", admin.arm_fault, methods=["POST"]),
        Route("/admin/faults", admin.clear_faults, methods=["DELETE"]),
        Route("/admin/reset", admin.reset, methods=["POST"]),
        Route("/admin/settings", admin.settings, methods=["POST"]),
    ]


def _counted(call: str, endpoint: Endpoint, calls: Counter[str]) -> Endpoint:
    async def counted(request: Request) -> Response:
        calls[call] += 1
        return await endpoint(request)

    return counted


class _Dated:
    """The Date header, from the emulator's own clock."""

    def __init__(self, app: ASGIApp, clock: Clock) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["date"] = format_datetime(self._clock.now(), usegmt=True)
            await send(message)

        await self._app(scope, receive, dated)


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    return JsonReply(error.body(), error.code)


async def _unknown_path(request: Request, error: Exception) -> Response:
    refusal = not_found(f"{request.method} {request.url.path} is not served here.")
    return JsonReply(refusal.body(), refusal.code)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)


async def _crashed(request: Request, error: Exception) -> Response:
    return JsonReply(internal().body(), 500)
