"""The emulator answers in the shapes that were recorded from the service: each is provoked over plain HTTP.

Each function makes the emulator give the reply of its own name in recorded/, whose `source` says where it was seen.
"""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from sdk_calls import MODEL, jsonl, request_of
from shapes import RECORDED, differences, recorded

Provoke = Callable[[httpx2.Client], Any]
PROVOKED: dict[str, Provoke] = {}

EMBEDDING_MODEL = "gemini-embedding-001"
GOOD = {"key": "a", "request": request_of("x")}
EMPTY = {"key": "b", "request": {"contents": []}}
TO_EMBED = {"key": "a", "request": {"content": {"parts": [{"text": "x"}]}, "output_dimensionality": 4}}


def provokes(function: Provoke) -> Provoke:
    PROVOKED[function.__name__] = function
    return function


# what the provoking takes


def start_upload(http: httpx2.Client) -> httpx2.Response:
    return http.post("/upload/v1/files", json={"file": {"displayName": "d", "mimeType": "jsonl"}})


def send(http: httpx2.Client, content: bytes, command: str) -> httpx2.Response:
    headers = {"x-goog-upload-command": command, "x-goog-upload-offset": "0"}
    return http.post(start_upload(http).headers["x-goog-upload-url"], content=content, headers=headers)


def stored(http: httpx2.Client, content: bytes = b"{}") -> str:
    return str(send(http, content, "upload, finalize").json()["file"]["name"])


def order(config: dict[str, Any]) -> dict[str, Any]:
    return {"batch": {"inputConfig": config, "displayName": "j"}}


def create(http: httpx2.Client, *lines: Any) -> httpx2.Response:
    config = {"fileName": stored(http, jsonl(*lines))}
    return http.post(f"/v1/models/{MODEL}:batchGenerateContent", json=order(config))


def create_inline(http: httpx2.Client, *requests: Any) -> httpx2.Response:
    config = {"requests": {"requests": requests}}
    return http.post(f"/v1/models/{MODEL}:batchGenerateContent", json=order(config))


def embed(http: httpx2.Client, config: dict[str, Any]) -> httpx2.Response:
    reply = http.post(f"/v1/models/{EMBEDDING_MODEL}:asyncBatchEmbedContent", json=order(config))
    assert reply.status_code == 200, reply.text
    return reply


def embed_file(http: httpx2.Client) -> httpx2.Response:
    return embed(http, {"file_name": stored(http, jsonl(TO_EMBED))})


def ended(http: httpx2.Client, created: httpx2.Response) -> httpx2.Response:
    for _ in range(1000):
        reply = http.get(f"/v1/{created.json()['name']}")
        if reply.json().get("done"):
            return reply
        threading.Event().wait(0.01)
    raise AssertionError(f"does not end: {reply.text}")


def line(http: httpx2.Client, created: httpx2.Response) -> Any:
    """The one line of a job's result file."""
    file = ended(http, created).json()["response"]["responsesFile"]
    return json.loads(http.get(f"/v1/{file}:download?alt=media").content)


def arm(http: httpx2.Client, *faults: str) -> None:
    for name in faults:
        reply = http.post("/admin/faults", json={"name": name})
        assert reply.status_code == 200, reply.text


def slow_down(http: httpx2.Client, seconds: float) -> None:
    http.post("/admin/settings", json={"job_seconds": seconds})


def ask(http: httpx2.Client, method: str) -> httpx2.Response:
    return http.post(f"/v1/models/{MODEL}:{method}", json=request_of("hello"))


# files


@provokes
def upload_started(http):
    return start_upload(http)


@provokes
def upload_continued(http):
    return send(http, b"first", "upload")


@provokes
def upload_finished(http):
    return send(http, b"{}", "upload, finalize")


@provokes
def file_uploaded(http):
    return http.get(f"/v1/{stored(http)}")


@provokes
def file_generated(http):
    return http.get(f"/v1/{ended(http, create(http, GOOD)).json()['response']['responsesFile']}")


@provokes
def files_page(http):
    stored(http), stored(http)
    return http.get("/v1/files?pageSize=1")


@provokes
def empty(http):
    replies = [http.get("/v1/files"), http.get("/v1/batches"), http.delete(f"/v1/{stored(http)}")]
    job = create(http, GOOD).json()["name"]
    replies += [http.post(f"/v1/{job}:cancel"), http.delete(f"/v1/{job}")]
    assert len({reply.content for reply in replies}) == 1
    return replies[0]


# jobs


@provokes
def job_created_file(http):
    return create(http, GOOD)


@provokes
def job_created_inline(http):
    return create_inline(http, {"request": GOOD["request"], "metadata": {"key": "a"}})


@provokes
def job_running(http):
    for seconds in (0.25, 0.5, 1, 2, 4, 8):  # a slow machine may miss the second half of a short one
        slow_down(http, seconds)
        created = create(http, GOOD)
        for _ in range(2000):
            reply = http.get(f"/v1/{created.json()['name']}")
            if reply.json()["metadata"]["state"] != "BATCH_STATE_PENDING":
                break
            threading.Event().wait(0.005)
        if "done" not in reply.json():
            return reply
    raise AssertionError("never seen running")


@provokes
def job_succeeded_file(http):
    return ended(http, create(http, GOOD, EMPTY))


@provokes
def job_succeeded_inline(http):
    items = [{"request": one["request"], "metadata": {"key": one["key"]}} for one in (GOOD, EMPTY)]
    return ended(http, create_inline(http, *items))


@provokes
def job_failed(http):
    arm(http, "job_failed")
    return ended(http, create(http, GOOD))


@provokes
def job_cancelled(http):
    slow_down(http, 3600)
    created = create(http, GOOD)
    http.post(f"/v1/{created.json()['name']}:cancel")
    return ended(http, created)


@provokes
def jobs_page(http):
    slow_down(http, 3600)
    create(http, GOOD), create(http, GOOD)
    return http.get("/v1/batches?pageSize=1")


# result lines


@provokes
def line_succeeded(http):
    return line(http, create(http, GOOD))


@provokes
def line_error(http):
    arm(http, "result_line_error")
    return line(http, create(http, GOOD))


@provokes
def line_status(http):
    arm(http, "result_reversed_members")
    return line(http, create(http, EMPTY))


@provokes
def line_blocked(http):
    arm(http, "result_line_blocked")
    return line(http, create(http, GOOD))


# embeddings


@provokes
def embed_created(http):
    return embed_file(http)


@provokes
def embed_succeeded_file(http):
    return ended(http, embed_file(http))


@provokes
def embed_succeeded_inline(http):
    request = {"content": {"parts": [{"text": "x"}]}, "taskType": "RETRIEVAL_DOCUMENT", "outputDimensionality": 4}
    return ended(http, embed(http, {"requests": {"requests": [{"request": request}]}}))


@provokes
def line_embedding(http):
    return line(http, embed_file(http))


# models


@provokes
def generate_content(http):
    return ask(http, "generateContent")


@provokes
def count_tokens(http):
    return ask(http, "countTokens")


@provokes
def model(http):
    return http.get(f"/v1/models/{MODEL}")


@provokes
def models_page(http):
    return http.get("/v1/models")


# refusals


@provokes
def error_unknown_field(http):
    return create(http, {"key": "a", "request": {"contents": [], "thinking_config": {}}})


@provokes
def error_wrong_type(http):
    return create(http, {"key": "a", "request": request_of("x") | {"systemInstruction": []}})


@provokes
def error_inline_field(http):
    return create_inline(http, {"request": request_of("x"), "safetySettings": []})


@provokes
def error_no_input_file(http):
    return http.post(f"/v1/models/{MODEL}:batchGenerateContent", json=order({"fileName": "files/absent"}))


@provokes
def error_not_active(http):
    arm(http, "file_processing")
    return create(http, GOOD)


@provokes
def error_storage_full(http):
    http.post("/admin/settings", json={"max_stored_bytes": 1})
    stored(http, b"1")
    return http.post("/upload/v1/files", json={"file": {"sizeBytes": "1"}})


@provokes
def error_no_access(http):
    return http.get("/v1/files/absent")


@provokes
def error_long_file_id(http):
    return http.delete(f"/v1/{ended(http, create(http, GOOD)).json()['response']['responsesFile']}")


@provokes
def error_quota_batch(http):
    arm(http, "create_429")
    return create(http, GOOD)


@provokes
def error_quota_generate(http):
    arm(http, "generate_429")
    return ask(http, "generateContent")


# the comparison


def test_every_recording_is_provoked():
    assert PROVOKED.keys() == {path.stem for path in RECORDED.iterdir()}
    assert all(recorded(name)["source"] for name in PROVOKED)


@pytest.mark.parametrize("name", PROVOKED)
def test_a_reply_has_its_recorded_shape(http, name):
    assert "\n".join(unlike(recorded(name), PROVOKED[name](http))) == ""


def unlike(expected: dict[str, Any], found: Any) -> Iterator[str]:
    """How a reply, or a line of a result file, differs from the recording."""
    if not isinstance(found, httpx2.Response):
        yield from differences(expected["reply"], found)
    elif found.status_code != expected["status"]:
        yield f"status {found.status_code}, not {expected['status']}: {found.text}"
    else:
        headers = expected.get("headers", {})
        yield from differences(headers, {name: found.headers.get(name) for name in headers}, "headers")
        if "text" in expected and found.text != expected["text"]:
            yield f"the body is {found.text!r}, not {expected['text']!r}"
        if "reply" in expected:
            yield from differences(expected["reply"], found.json())


def test_a_field_violation_points_at_what_its_message_names(http):
    """As recorded: python-genai #1451."""
    error = create_inline(http, {"request": request_of("x") | {"bogus": 1}}).json()["error"]
    (violation,) = error["details"][0]["fieldViolations"]
    assert f"at '{violation['field']}':" in violation["description"]
