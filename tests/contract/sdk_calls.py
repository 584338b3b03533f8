"""The SDK calls that every emulator test makes, of either half of the SDK: synchronous or asynchronous."""

import contextlib
import importlib
import io
import json
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from google import genai

MODEL = "gemini-3.8-flash"
SERVE = "from gemini_batch.emulator.server import serve, EmulatorSettings; serve(EmulatorSettings())"

TransportError: type[Exception] = importlib.import_module(
    "httpx" if genai.version.__version__.startswith("2.") else "httpx2"
).TransportError
"""What the SDK lets through when a connection fails: google-genai 2 sends with httpx, google-genai 3 with httpx2."""

BROKEN_OFF = "the connection was broken off"


def name_of(error: BaseException) -> str:
    """The class of an error. Whether a client meets the end of a connection or its reset is up to the network."""
    name = type(error).__name__
    return BROKEN_OFF if name in {"RemoteProtocolError", "ReadError", "WriteError"} else name


Client = Any
"""A `genai.Client`, or the asynchronous one behind `Awaited`."""


class Awaited:
    """The asynchronous half of the SDK with the calls of the synchronous one: each is run to its end, pages and all."""

    def __init__(self, half: Any, run: Callable[[Any], Any]) -> None:
        self._half = half
        self._run = run

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._half, name)
        if not callable(found):
            return Awaited(found, self._run)
        return lambda **given: self._run(_awaited(found(**given)))


async def _awaited(call: Awaitable[Any]) -> Any:
    found = await call
    return [item async for item in found] if hasattr(found, "__aiter__") else found


@contextlib.contextmanager
def running_emulator() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-c", SERVE], stdout=subprocess.PIPE, text=True)
    try:
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.terminate()
        process.communicate(timeout=10)


def request_of(text: str, **config: Any) -> dict[str, Any]:
    request: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    return request | {"generationConfig": config} if config else request


def jsonl(*lines: Any) -> bytes:
    return b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)


def upload(client: Client, content: bytes, **config: Any) -> Any:
    return client.files.upload(file=io.BytesIO(content), config={"mime_type": "jsonl", **config})


def submit(client: Client, *lines: Any, name: str | None = None) -> Any:
    source = upload(client, jsonl(*lines))
    return client.batches.create(model=MODEL, src=source.name, config={"display_name": name} if name else None)


def finished(client: Client, job: Any) -> Any:
    for _ in range(1000):
        job = client.batches.get(name=job.name)
        if job.done:
            return job
        threading.Event().wait(0.01)
    raise AssertionError(f"{job.name} is still {job.state}")
