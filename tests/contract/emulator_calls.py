"""Plain HTTP calls of a running emulator, and what they answer, that several test modules need."""

from datetime import timedelta
from typing import Any

import httpx2
from sdk_calls import MODEL, jsonl, request_of

HELP_ONLY = [
    {
        "@type": "type.googleapis.com/google.rpc.Help",
        "links": [
            {
                "description": "Learn more about Gemini API quotas",
                "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
            }
        ],
    }
]
"""`details` of the recorded 429: it tells neither which limit was met nor for how long (langchain4j PR #3942)."""

HUNDRED_TOKENS = {"key": "a", "request": request_of("x" * 400)}


def with_key(url: str, key: str) -> httpx2.Client:
    """Without looking at certificates, which takes longer than most calls."""
    headers = {"x-goog-api-key": key} if key else {}
    return httpx2.Client(base_url=url, headers=headers, trust_env=False, verify=False, timeout=60)


def stats(http: httpx2.Client) -> Any:
    return http.get("/admin/stats").json()


def settings(http: httpx2.Client, **changes: Any) -> Any:
    reply = http.post("/admin/settings", json=changes)
    assert reply.status_code == 200, reply.text
    return reply.json()


def advance(http: httpx2.Client, **span: float) -> None:
    reply = http.post("/admin/clock", json={"advance_seconds": timedelta(**span).total_seconds()})
    assert reply.status_code == 200, reply.text


def start_upload(http: httpx2.Client, size: int | None = None, **file: Any) -> httpx2.Response:
    headers = {} if size is None else {"x-goog-upload-header-content-length": str(size)}
    return http.post("/upload/v1/files", json={"file": file}, headers=headers)


def send_chunk(
    http: httpx2.Client, url: str, content: Any, offset: int = 0, command: str = "upload, finalize"
) -> httpx2.Response:
    headers = {"x-goog-upload-command": command, "x-goog-upload-offset": str(offset)}
    return http.post(url, content=content, headers=headers)


def store(http: httpx2.Client, content: bytes, **file: Any) -> Any:
    """The File object of an upload."""
    started = start_upload(http, len(content), **file)
    assert started.status_code == 200, started.text
    return send_chunk(http, started.headers["x-goog-upload-url"], content).json()["file"]


def order(http: httpx2.Client, file_name: str, model: str = MODEL, **batch: Any) -> httpx2.Response:
    """A create for a stored file."""
    body = {"batch": {"inputConfig": {"fileName": file_name}, **batch}}
    return http.post(f"/v1/models/{model}:batchGenerateContent", json=body)


def create(http: httpx2.Client, *lines: Any, model: str = MODEL) -> httpx2.Response:
    return order(http, store(http, jsonl(*lines))["name"], model)


def create_inline(http: httpx2.Client, *requests: Any) -> httpx2.Response:
    items = [{"request": request} for request in requests]
    body = {"batch": {"inputConfig": {"requests": {"requests": items}}}}
    return http.post(f"/v1/models/{MODEL}:batchGenerateContent", json=body)


def shown(http: httpx2.Client, created: httpx2.Response) -> Any:
    """The operation that a create made, as it is now."""
    return http.get(f"/v1/{created.json()['name']}").json()
