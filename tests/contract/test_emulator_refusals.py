"""What the emulator refuses, and its own calls under /admin."""

import io
import json
from typing import Any

import pytest
from google.genai import errors
from sdk_calls import MODEL, finished, jsonl, request_of, submit, upload

GOOD = {"key": "good", "request": request_of("x")}


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (b"{not json\n", "Error on line 2: invalid JSON"),
        (b"\n", "Error on line 2: invalid JSON"),
        ([1], "unexpected character: '['; expected '{'"),
        ({"key": "a"}, "'request'"),
        ({"key": "a", "request": [1]}, "unexpected character: '['; expected '{'"),
        ({"key": 7, "request": request_of("x")}, "expected a string"),
        (
            {"key": "a", "request": {"contents": [], "thinking_config": {}}},
            "no such field: 'thinking_config'",
        ),
        ({"key": "a", "request": request_of("x", thinkingLevel="LOW")}, "no such field: 'thinkingLevel'"),
        ({"key": "a", "request": request_of("x") | {"systemInstruction": []}}, "expected '{'"),
        ({"key": "a", "request": {"contents": [{"parts": [{"text": 1}]}]}}, "expected a string"),
        ({"key": "a", "request": {"contents": [{"parts": "x"}]}}, "expected '{'"),
        ({"key": "a", "request": request_of("x", responseSchema={"type": "WORD"})}, "unknown type 'WORD'"),
        ({"key": "a", "request": request_of("x", responseSchema={"properties": [1]})}, "response schema"),
        ({"key": "a", "request": request_of("x", responseSchema={"$ref": "#/$defs/No"})}, "points nowhere"),
    ],
)
def test_one_bad_line_refuses_the_whole_job_and_is_named(client, http, bad, complaint):
    with pytest.raises(errors.ClientError) as refused:
        submit(client, GOOD, bad, GOOD)
    assert (refused.value.code, refused.value.status) == (400, "INVALID_ARGUMENT")
    assert refused.value.message.startswith("Error on line 2: invalid JSON, near column ")
    assert complaint in refused.value.message
    stats = http.get("/admin/stats").json()
    assert (stats["creates"], stats["creates_rejected"], stats["requests"]["bought_total"]) == (0, 1, 0)


def test_the_column_points_at_the_unknown_field(client):
    line = b'{"key":"a","request":{"contents":[],"bogus":1}}\n'
    with pytest.raises(errors.ClientError) as refused:
        submit(client, line)
    column = line.index(b'"bogus"') + 1
    assert refused.value.message == (f"Error on line 1: invalid JSON, near column {column}: no such field: 'bogus'")


def test_an_inline_request_with_an_unknown_field_is_refused_with_a_field_violation(http):
    items = [{"request": request_of("x")}, {"request": request_of("x") | {"bogus": 1}}]
    body = {"batch": {"inputConfig": {"requests": {"requests": items}}}}
    reply = http.post(f"/v1/models/{MODEL}:batchGenerateContent", json=body)
    (detail,) = reply.json()["error"]["details"]
    assert reply.status_code == 400
    assert detail["fieldViolations"][0]["field"] == "batch.input_config.requests.requests[1].request"
    assert "bogus" in detail["fieldViolations"][0]["description"]


@pytest.mark.parametrize("model", ["gemini-does-not-exist", "gpt-4"])
def test_an_unknown_model_is_not_found(client, model):
    source = upload(client, jsonl(GOOD))
    with pytest.raises(errors.ClientError, match=f"models/{model} is not found for API version v1") as refused:
        client.batches.create(model=model, src=source.name)
    assert refused.value.code == 404


def test_a_missing_input_file_is_not_found(client):
    with pytest.raises(errors.ClientError, match="Requested entity was not found") as refused:
        client.batches.create(model=MODEL, src="files/absent")
    assert refused.value.code == 404


def test_an_empty_input_file_is_refused(client):
    with pytest.raises(errors.ClientError, match="no requests"):
        submit(client)


def test_one_live_job_too_many_is_a_429_with_nothing_but_a_help_link(client, http):
    http.post("/admin/settings", json={"job_seconds": 3600, "max_live_jobs": 1})
    submit(client, GOOD)
    with pytest.raises(errors.ClientError) as refused:
        submit(client, GOOD)
    assert (refused.value.code, refused.value.status) == (429, "RESOURCE_EXHAUSTED")
    (detail,) = refused.value.details["error"]["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.Help"
    assert "retry-after" not in refused.value.response.headers
    assert http.get("/admin/stats").json()["jobs"] == {"total": 1, "live": 1, "live_max": 1}


def test_a_line_with_media_that_its_key_cannot_read_fails_alone(client):
    picture = client.files.upload(file=io.BytesIO(b"png"), config={"mime_type": "image/png"})

    def line(key: str, uri: str) -> dict[str, Any]:
        media = {"fileData": {"fileUri": uri, "mimeType": "image/png"}}
        return {"key": key, "request": {"contents": [{"parts": [{"text": "look"}, media]}]}}

    job = submit(client, line("kept", picture.uri), line("lost", "https://x/v1beta/files/abc"))
    content = client.files.download(file=finished(client, job).dest.file_name)
    kept, lost = map(json.loads, content.strip().split(b"\n"))
    assert kept["response"]["usageMetadata"]["promptTokenCount"] == 259
    assert lost["error"] == {
        "code": 7,
        "message": "You do not have permission to access the File abc or it may not exist.",
    }


# the emulator's own calls


def test_buying_the_same_key_and_body_again_is_counted_and_named(client, http):
    other = {"key": "other", "request": GOOD["request"]}
    submit(client, GOOD, other)
    submit(client, GOOD)
    client.batches.create(model=MODEL, src=[{"contents": "x", "metadata": {"key": "inline"}}, {"contents": "x"}])
    requests = http.get("/admin/stats").json()["requests"]
    assert requests == {"bought_total": 5, "distinct": 4, "bought_more_than_once": 1}
    assert http.get("/admin/bought?more_than=1").json() == {"lines": [{"key": "good", "count": 2}]}
    assert http.get("/admin/bought?more_than=2").json() == {"lines": []}


def test_calls_are_counted_by_name(client, http):
    finished(client, submit(client, GOOD))
    calls = http.get("/admin/stats").json()["calls"]
    assert calls["POST batchGenerateContent"] == 1
    assert calls["POST upload"] == 2
    assert calls["GET batches.get"] >= 1


def test_reset_leaves_nothing(client, http):
    finished(client, submit(client, GOOD))
    http.post("/admin/faults", json={"name": "get_500"})
    http.post("/admin/reset")
    assert http.get("/admin/faults").json() == {"armed": []}
    assert http.get("/admin/stats").json() == {
        "creates": 0,
        "creates_rejected": 0,
        "jobs": {"total": 0, "live": 0, "live_max": 0},
        "requests": {"bought_total": 0, "distinct": 0, "bought_more_than_once": 0},
        "files": {"stored": 0, "bytes": 0},
        "calls": {},
        "rejected": {},
        "faults": {},
        "tokens": {"live": 0, "live_max": 0, "by_model": {}},
        "usage": {"models": {}, "cost_usd": 0.0},
    }


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/admin/settings", b'{"job_seconds": -1}'),
        ("/admin/settings", b'{"job_seconds": "soon"}'),
        ("/admin/settings", b'{"max_live_jobs": 1.5}'),
        ("/admin/settings", b'{"seed": 1}'),
        ("/admin/settings", b"[1]"),
        ("/admin/faults", b"{"),
        ("/admin/faults", b'{"times": 1}'),
        ("/admin/faults", b'{"name": "get_500", "times": 0}'),
        ("/admin/faults", b'{"name": "get_500", "after": true}'),
        ("/v1/models/gemini-3.8-flash:batchGenerateContent", b'{"batch": {}}'),
        ("/v1/models/gemini-3.8-flash:batchGenerateContent", b'{"batch": []}'),
        ("/v1/models/gemini-3.8-flash:batchGenerateContent", b'{"batch": {"inputConfig": {"fileName": 7}}}'),
    ],
)
def test_a_bad_call_is_a_400_that_says_why(http, path, body):
    reply = http.post(path, content=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["status"] == "INVALID_ARGUMENT" and reply.json()["error"]["message"]


@pytest.mark.parametrize("query", ["pageSize=x", "pageToken=x", "pageToken=" + "9" * 5000])
def test_a_bad_page_is_refused(http, query):
    assert http.get(f"/v1/batches?{query}").status_code == 400


@pytest.mark.parametrize("path", ["/v1/tunedModels", "/v2/files", "/", "/v1/batches/x/y"])
def test_an_unknown_path_is_a_404_in_google_shape(http, path):
    reply = http.get(path)
    assert reply.status_code == 404 and reply.json()["error"]["status"] == "NOT_FOUND"
