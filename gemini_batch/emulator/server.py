"""The emulator served on a socket: one ready line on stdout, a clean stop on SIGTERM and SIGINT."""

import contextlib
import logging
import signal
import socket
import sys
import threading
from collections.abc import Iterator

import orjson
import uvicorn

from gemini_batch.clock import SystemClock
from gemini_batch.emulator.app import build_app
from gemini_batch.emulator.connection import CuttableProtocol
from gemini_batch.emulator.settings import EmulatorSettings

__all__ = ["EmulatorError", "EmulatorSettings", "build_app", "serve"]

_BACKLOG = 1024
_KEEP_ALIVE_SECONDS = 600  # longer than a client's pool keeps one: no request meets a closing connection
_SWITCH_SECONDS = 0.001  # a reply waits for the answering thread at most this long at a time


class EmulatorError(Exception):
    """The emulator cannot start; the message says what to change."""


def serve(settings: EmulatorSettings) -> None:
    """Blocks until SIGTERM or SIGINT; prints one JSON line with the URL once requests are accepted."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    with _listener(settings) as listener, _ignored_once_stopped():
        config = uvicorn.Config(
            build_app(settings, SystemClock()),
            http=CuttableProtocol,
            loop="asyncio",
            ws="none",
            lifespan="on",
            backlog=_BACKLOG,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=1,
        )
        host, port = listener.getsockname()[:2]
        _Server(config, f"http://{host}:{port}").run([listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, url: str) -> None:
        super().__init__(config)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        sys.stdout.write(orjson.dumps({"event": "ready", "url": self._url}).decode() + "\n")
        sys.stdout.flush()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Requests that the stop cuts short are not errors.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)


def _listener(settings: EmulatorSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio switches Nagle's delay off only where the protocol is named; with it each reply takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except (OSError, OverflowError) as e:
        listener.close()
        raise EmulatorError(
            f"Cannot listen on {settings.host} port {settings.port} ({e.args[-1]}): "
            "choose another port, or 0 for a free one."
        ) from e
    return listener


@contextlib.contextmanager
def _ignored_once_stopped() -> Iterator[None]:
    """uvicorn raises a signal again after its clean stop; that would end the process with its code."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)
