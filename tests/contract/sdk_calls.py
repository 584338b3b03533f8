"""The SDK calls that every emulator test makes."""

import contextlib
import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

from google import genai

MODEL = "gemini-3.8-flash"
SERVE = "from gemini_batch.emulator.server import serve, EmulatorSettings; serve(EmulatorSettings())"


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


def upload(client: genai.Client, content: bytes, **config: Any) -> Any:
    return client.files.upload(file=io.BytesIO(content), config={"mime_type": "jsonl", **config})


def submit(client: genai.Client, *lines: Any, name: str | None = None) -> Any:
    source = upload(client, jsonl(*lines))
    return client.batches.create(model=MODEL, src=source.name, config={"display_name": name} if name else None)


def finished(client: genai.Client, job: Any) -> Any:
    for _ in range(1000):
        job = client.batches.get(name=job.name)
        if job.done:
            return job
        threading.Event().wait(0.01)
    raise AssertionError(f"{job.name} is still {job.state}")
