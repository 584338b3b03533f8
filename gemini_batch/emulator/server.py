"""The emulator served on a socket: one ready line on stdout, a clean stop on SIGTERM and SIGINT."""

import contextlib
import logging
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import orjson
import uvicorn

from gemini_batch.clock import SystemClock
from gemini_batch.emulator.app import build_app
from gemini_batch.emulator.calls import Calls
from gemini_batch.emulator.canned import Answers
from gemini_batch.emulator.connection import CuttableProtocol
from gemini_batch.emulator.service import Service
from gemini_batch.emulator.settings import EmulatorSettings
from gemini_batch.emulator.state import State, StateError

__all__ = ["EmulatorError", "EmulatorSettings", "opened", "serve"]

_BACKLOG = 1024
_KEEP_ALIVE_SECONDS = 600  # longer than a client's pool keeps one: no request meets a closing connection
_SWITCH_SECONDS = 0.001  # a reply waits for the answering thread at most this long at a time


class EmulatorError(Exception):
    """The emulator cannot start; the message says what to change."""


def serve(
    settings: EmulatorSettings,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    allow_remote: bool = False,
    state: Path | None = None,
    answers: Answers | None = None,
) -> None:
    """Blocks until SIGTERM or SIGINT; prints one JSON line with the URL once requests are accepted.

    Args:
        port: 0 takes a free one.
        allow_remote: required for a host that is not this machine: anybody who reaches it may use it and its /admin.
        state: a folder that survives a restart; None keeps nothing.
        answers: a user's own.

    Raises:
        EmulatorError: the socket or the folder cannot be had.
    """
    if not allow_remote and not _is_loopback(host):
        raise EmulatorError(f"{host} can be reached from other machines: say --allow-remote if that is meant.")
    sys.setswitchinterval(_SWITCH_SECONDS)
    with (
        _asked_to_stop() as is_asked,
        listen(host, port) as listener,
        opened(settings, state, answers) as (service, calls),
    ):
        server(service, calls, _say_ready(listener), is_asked).run([listener])


@contextlib.contextmanager
def opened(settings: EmulatorSettings, state: Path | None, answers: Answers | None) -> Iterator[tuple[Service, Calls]]:
    """A service on its folder; one without a state leaves no folder behind."""
    with contextlib.ExitStack() as stack:
        try:
            folder = state or Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="gemini-emulator-", ignore_cleanup_errors=True))
            )
            folder.mkdir(parents=True, exist_ok=True)
            kept = stack.enter_context(contextlib.closing(State(state)))
            service = Service(settings, SystemClock(), folder, kept, answers)
        except (OSError, StateError) as e:
            raise EmulatorError(f"state: {e}") from e
        yield service, Calls(service.settings, service.faults, service.subject)


def server(
    service: Service, calls: Calls, ready: Callable[[], None], is_asked_to_stop: Callable[[], bool] = lambda: False
) -> uvicorn.Server:
    """`is_asked_to_stop` is looked at once, when requests are accepted."""
    config = uvicorn.Config(
        build_app(service, calls),
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
    return _Server(config, ready, is_asked_to_stop)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], is_asked_to_stop: Callable[[], bool]) -> None:
        super().__init__(config)
        self._ready = ready
        self._is_asked_to_stop = is_asked_to_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()
        self.should_exit = self.should_exit or self._is_asked_to_stop()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Requests that the stop cuts short are not errors.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _say_ready(listener: socket.socket) -> Callable[[], None]:
    def say() -> None:
        sys.stdout.write(orjson.dumps({"event": "ready", "url": url_of(listener)}).decode() + "\n")
        sys.stdout.flush()

    return say


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's delay off only where the protocol is named; with it each reply takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as e:
        listener.close()
        is_unknown = isinstance(e, socket.gaierror)
        raise EmulatorError(
            f"Cannot listen on {host} port {port} ({e.args[-1]}): "
            + ("give an address of this machine." if is_unknown else "choose another port, or 0 for a free one.")
        ) from e
    return listener


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether a signal came while uvicorn did not take them: before it serves, and after, when it raises each again."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in numbers}
    try:
        yield asked.is_set
    finally:
        for number, action in before.items():
            signal.signal(number, action)
