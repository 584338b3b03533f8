"""The application: the routes to the service, and what happens to an error."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import format_datetime

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
from gemini_batch.emulator.calls import Calls, Endpoint
from gemini_batch.emulator.files import FilesApi
from gemini_batch.emulator.models import ModelsApi
from gemini_batch.emulator.service import Service
from gemini_batch.emulator.wire import ApiError, JsonReply, internal, not_found


def build_app(service: Service, calls: Calls) -> Starlette:
    """Starting the application starts the service; stopping it closes it."""
    readers = ThreadPoolExecutor(2, "create")

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.start()
        yield
        service.begin_close()
        readers.shutdown(cancel_futures=True)
        service.close()

    app = Starlette(
        routes=[*_api_routes(service, calls, readers), *_admin_routes(AdminApi(service, calls))],
        middleware=[Middleware(_Dated, clock=service.clock)],
        exception_handlers={
            ApiError: _refused,
            HTTPException: _unknown_path(calls),
            ClientDisconnect: _gone,
            Exception: _crashed,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


def _api_routes(service: Service, calls: Calls, readers: ThreadPoolExecutor) -> Iterator[Route]:
    """Both versions: google-genai 3 speaks v1, its predecessors and the REST pages v1beta."""
    files = FilesApi(service.files, service.faults, service.clock, calls.owner_of, service.subject)
    batches, models = BatchesApi(service, calls, readers), ModelsApi(service, calls)
    table: list[tuple[str, str, str, str, Endpoint]] = [
        ("POST", "/upload/{v}/files", "upload", "upload", files.upload),
        ("GET", "/download/{v}/files/{file_id}:download", "download", "download", files.download),
        ("GET", "/{v}/files/{file_id}:download", "download", "download", files.download),
        ("GET", "/{v}/files/{file_id}", "files.get", "file_get", files.get),
        ("DELETE", "/{v}/files/{file_id}", "files.delete", "file_delete", files.delete),
        ("GET", "/{v}/files", "files.list", "file_list", files.list),
        ("POST", "/{v}/models/{model}:batchGenerateContent", "batchGenerateContent", "create", batches.create),
        (
            "POST",
            "/{v}/models/{model}:asyncBatchEmbedContent",
            "asyncBatchEmbedContent",
            "create",
            batches.create_embeddings,
        ),
        ("POST", "/{v}/models/{model}:generateContent", "generateContent", "generate", models.generate),
        ("POST", "/{v}/models/{model}:streamGenerateContent", "streamGenerateContent", "generate", models.stream),
        ("POST", "/{v}/models/{model}:countTokens", "countTokens", "count_tokens", models.count_tokens),
        ("GET", "/{v}/models/{model}", "models.get", "model_get", models.get),
        ("GET", "/{v}/models", "models.list", "model_list", models.list),
        ("POST", "/{v}/batches/{job_id}:cancel", "batches.cancel", "cancel", batches.cancel),
        ("GET", "/{v}/batches/{job_id}", "batches.get", "get", batches.get),
        ("DELETE", "/{v}/batches/{job_id}", "batches.delete", "delete", batches.delete),
        ("GET", "/{v}/batches", "batches.list", "list", batches.list),
    ]
    for version in ("v1", "v1beta"):
        for method, path, label, call, endpoint in table:
            guarded = calls.guarded(f"{method} {label}", call, endpoint)
            yield Route(path.replace("{v}", version), guarded, methods=[method])


def _admin_routes(admin: AdminApi) -> list[Route]:
    return [
        Route("/admin/stats", admin.stats, methods=["GET"]),
        Route("/admin/bought", admin.bought, methods=["GET"]),
        Route("/admin/faults", admin.show_faults, methods=["GET"]),
        Route("/admin/faults", admin.arm_fault, methods=["POST"]),
        Route("/admin/faults", admin.clear_faults, methods=["DELETE"]),
        Route("/admin/settings", admin.show_settings, methods=["GET"]),
        Route("/admin/settings", admin.settings, methods=["POST"]),
        Route("/admin/answers", admin.answers, methods=["POST", "DELETE"]),
        Route("/admin/clock", admin.show_clock, methods=["GET"]),
        Route("/admin/clock", admin.step_clock, methods=["POST"]),
        Route("/admin/reset", admin.reset, methods=["POST"]),
    ]


class _Dated:
    """The Date header, from the service's own clock."""

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


def _unknown_path(calls: Calls) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def refuse(request: Request, error: Exception) -> Response:
        if not request.url.path.startswith("/admin"):
            calls.rejected["unknown path"] += 1
        refusal = not_found(f"{request.method} {request.url.path} is not served here.")
        return JsonReply(refusal.body(), refusal.code)

    return refuse


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)


async def _crashed(request: Request, error: Exception) -> Response:
    return JsonReply(internal().body(), 500)
