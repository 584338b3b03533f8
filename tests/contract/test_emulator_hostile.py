"""Whatever is sent, the answer is 200 or 4xx in Google's shape, what was accepted is answered, and the next one is
served: a 500 here is a defect of the emulator, never part of its emulation."""

import json
from typing import Any

import httpx2
import pytest
from emulator_calls import advance, create_inline, order, send_chunk, shown, start_upload, store
from hostile import bodies, raw, spoilt
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sdk_calls import MODEL

SOME = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA = {
    "type": "OBJECT",
    "properties": {
        "name": {"type": "STRING", "minLength": 1, "maxLength": "9", "format": "uuid", "nullable": True},
        "count": {"type": "INTEGER", "minimum": 1, "maximum": 9, "multipleOf": 2},
        "share": {"type": "NUMBER", "minimum": 0, "exclusiveMaximum": 1},
        "kind": {"type": "STRING", "enum": ["a", "b"]},
        "list": {"type": "ARRAY", "items": {"type": "BOOLEAN"}, "minItems": 1, "maxItems": 3},
        "either": {"anyOf": [{"type": "NULL"}, {"type": ["string", "null"]}]},
        "tuple": {"type": "array", "prefixItems": [{"const": 1}], "items": False},
        "map": {"type": "object", "additionalProperties": {"type": "integer"}},
    },
    "required": ["name", "count"],
    "propertyOrdering": ["count", "name"],
}
RECURSIVE = {"$defs": {"N": {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}}}}, "$ref": "#/$defs/N"}
REQUESTS = [
    {
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"text": "x"},
                    {"inlineData": {"mimeType": "image/png", "data": PIXEL}, "mediaResolution": {"level": "HIGH"}},
                    {"fileData": {"fileUri": "https://x/v1beta/files/abc", "mimeType": "application/pdf"}},
                    {"functionCall": {"name": "f", "args": {"a": 1}}},
                    {"thought": True, "thoughtSignature": "AAAA"},
                ],
            }
        ],
        "systemInstruction": {"parts": [{"text": "y"}]},
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
        "tools": [{"googleSearch": {}}],
        "labels": {"a": "b"},
    },
    {
        "contents": [{"parts": [{"text": "x"}]}],
        "generationConfig": {
            "temperature": 0.5,
            "topK": 3,
            "maxOutputTokens": 50,
            "stopSequences": ["a"],
            "mediaResolution": "MEDIA_RESOLUTION_LOW",
            "thinkingConfig": {"thinkingBudget": 5, "includeThoughts": True, "thinkingLevel": "LOW"},
            "responseMimeType": "application/json",
            "responseSchema": SCHEMA,
        },
    },
    {"contents": {"parts": {"text": "x"}}, "generationConfig": {"responseJsonSchema": SCHEMA}},
    {"contents": {"parts": {"text": "x"}}, "generation_config": {"response_json_schema": RECURSIVE}},
    {
        "contents": {"parts": {"text": "x"}},
        "generationConfig": {"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING", "enum": ["a"]}},
    },
]
EMBED_REQUESTS = [
    {
        "content": {"parts": [{"text": "x"}]},
        "taskType": "RETRIEVAL_QUERY",
        "title": "t",
        "outputDimensionality": 3,
        "model": "models/x",
    }
]
GOOD = {"key": "good", "request": REQUESTS[0]}


def assert_refused_well(reply: httpx2.Response) -> None:
    error = reply.json()["error"]
    assert 400 <= reply.status_code < 500, reply.text
    assert error["code"] == reply.status_code and error["status"] and error["message"]


def assert_answered(http: httpx2.Client, created: httpx2.Response, n_lines: int) -> None:
    """What was accepted has a result for each line; a line may fail, a job may not."""
    if created.status_code != 200:
        return assert_refused_well(created)
    advance(http, seconds=0)
    job = shown(http, created)
    assert job["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"
    if "responsesFile" in job["response"]:
        body = http.get(f"/v1/{job['response']['responsesFile']}:download?alt=media").content
        results = [json.loads(line) for line in body.splitlines()]
    else:
        results = job["response"]["inlinedResponses"]["inlinedResponses"]
    assert len(results) == n_lines
    failed = [result["error"] for result in results if "error" in result]
    assert not [error for error in failed if error["code"] not in (3, 7)]  # 13 is an exception of the emulator's own
    return None


@pytest.mark.parametrize("method", ["batchGenerateContent", "asyncBatchEmbedContent"])
def test_a_line_of_a_file_never_crashes_a_create(http, method):
    requests = REQUESTS if method == "batchGenerateContent" else EMBED_REQUESTS
    good = raw({"key": "good", "request": requests[0]})
    lines = [{"key": "a", "request": request, "metadata": {"m": "n"}} for request in requests]

    @SOME
    @given(bodies(*lines))
    def sent(line: bytes) -> None:
        file = store(http, b"\n".join([good, line, good]) + b"\n")["name"]
        body = {"batch": {"inputConfig": {"fileName": file}}}
        created = http.post(f"/v1/models/{MODEL}:{method}", json=body)
        assert_answered(http, created, 3 + line.count(b"\n"))

    sent()
    assert order(http, store(http, raw(GOOD))["name"]).status_code == 200


@pytest.mark.parametrize("method", ["batchGenerateContent", "asyncBatchEmbedContent"])
def test_a_body_never_crashes_a_create(http, method):
    requests = REQUESTS if method == "batchGenerateContent" else EMBED_REQUESTS
    file = store(http, raw({"key": "good", "request": requests[0]}), name="files/good")["name"]
    sources = [{"fileName": file}] + [
        {"requests": {"requests": [{"request": request, "metadata": {"key": "k"}}]}} for request in requests
    ]
    valid = [{"batch": {"inputConfig": source, "displayName": "j", "priority": "3"}} for source in sources]

    @SOME
    @given(bodies(*valid))
    def sent(body: bytes) -> None:
        assert_answered(http, http.post(f"/v1/models/{MODEL}:{method}", content=body), 1)

    sent()
    assert create_inline(http, REQUESTS[0]).status_code == 200


@pytest.mark.parametrize("method", ["generateContent", "streamGenerateContent", "countTokens"])
def test_a_body_never_crashes_a_call_of_a_model(http, method):
    valid = [*REQUESTS, {"generateContentRequest": REQUESTS[0]}] if method == "countTokens" else REQUESTS

    @SOME
    @given(bodies(*valid))
    def sent(body: bytes) -> None:
        reply = http.post(f"/v1/models/{MODEL}:{method}", content=body)
        if reply.status_code != 200:
            assert_refused_well(reply)

    sent()


HEADERS = ["x-goog-upload-header-content-length", "x-goog-upload-header-content-type", "x-goog-upload-protocol"]
OF_CHUNKS = ["x-goog-upload-command", "x-goog-upload-offset"]
header_values = st.sampled_from(
    ["", "0", "-1", "1e3", "9" * 30, "x", "upload", "finalize", "upload, finalize", "query", "cancel", "upload,,", "é"]
).map(str.encode)


def test_nothing_crashes_an_upload(http):
    file = {"file": {"name": "files/mine", "displayName": "d", "mimeType": "jsonl", "sizeBytes": "3"}}

    @SOME
    @given(bodies(file), st.dictionaries(st.sampled_from(HEADERS), header_values), st.data())
    def sent(body: bytes, headers: dict[str, bytes], data: Any) -> None:
        http.post("/admin/reset")
        started = http.post("/upload/v1/files", content=body, headers=headers)
        if started.status_code != 200:
            return assert_refused_well(started)
        for _ in range(3):
            headers = data.draw(st.dictionaries(st.sampled_from(OF_CHUNKS), header_values, min_size=1))
            content = data.draw(st.binary(max_size=9))
            reply = http.post(started.headers["x-goog-upload-url"], content=content, headers=headers)
            if reply.status_code != 200:
                assert_refused_well(reply)
        return None

    sent()
    assert store(http, b"x")["sizeBytes"] == "1"


ADMIN = {
    "settings": [
        {"job_seconds": 1, "speed": 2, "max_live_jobs": 3, "max_enqueued_tokens": {"a": 1}, "chaos": 0},
        {"queue_seconds": "uniform:1:2", "run_seconds": 3, "projects": {"p": ["a"]}, "api_keys": [], "token_factor": 2},
    ],
    "faults": [{"name": "get_500", "times": 1, "after": 2, "rate": 0.5, "job": "x"}],
    "clock": [{"advance_seconds": 5}],
    "reset": [{}],
}


@pytest.mark.parametrize("path", ADMIN)
def test_a_body_never_crashes_an_admin_call(http, path):
    @SOME
    @given(bodies(*ADMIN[path]))
    def sent(body: bytes) -> None:
        reply = http.post(f"/admin/{path}", content=body)
        if reply.status_code != 200:
            assert_refused_well(reply)
        assert http.get("/admin/stats").status_code == http.get("/admin/settings").status_code == 200
        http.post("/admin/reset")

    sent()


def test_no_line_of_answers_crashes_what_it_answers(http):
    lines = [
        {"key": "a", "answer": {"a": 1}},
        {"prompt": "x", "answer": "y"},
        {"response": {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}]}},
        {"response": {"usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 3}}},
        {"error": {"code": 3, "message": "x"}},
    ]
    inline = {"contents": [{"parts": [{"text": "x"}]}]}

    @SOME
    @given(spoilt(*lines).map(raw))
    def sent(line: bytes) -> None:
        reply = http.post("/admin/answers", content=line)
        if reply.status_code != 200:
            return assert_refused_well(reply)
        created = create_inline(http, inline)
        advance(http, seconds=0)
        assert shown(http, created)["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"
        return None

    sent()


words = st.sampled_from(["", "0", "-1", "1", "9" * 30, "x", "%00", "%ff", "..", "é", "files/x", ":", "a" * 3000, "٣"])
GETS = ["v1/files", "v1/batches", "v1/models", "admin/bought", "admin/faults", "admin/stats"]
OF_ONE = ["v1/files/{}", "v1/batches/{}", "v1/models/{}", "v1/files/{}:download", "download/v1/files/{}:download"]
PARAMETERS = st.sampled_from(
    ["pageSize", "page_size", "pageToken", "alt", "more_than", "by", "name", "key", "upload_id"]
)


def test_no_path_and_no_query_crashes_a_read(http):
    @SOME
    @given(st.sampled_from(GETS + OF_ONE), words, st.dictionaries(PARAMETERS, words, max_size=3))
    def asked(path: str, word: str, query: dict[str, str]) -> None:
        for method in ("GET", "DELETE", "POST"):
            reply = http.request(method, "/" + path.format(word), params=query)
            if reply.status_code != 200:
                assert_refused_well(reply)

    asked()


@pytest.mark.parametrize(
    "value", [b'"\\ud800"', b'"\\u0000"', b"NaN", b"1e999", b"-0", b"1" * 5000, b"0." + b"1" * 5000]
)
def test_odd_literals_are_taken_or_refused_and_the_next_create_works(http, value):
    line = b'{"key":"a","request":{"contents":[{"parts":[{"text":"x"}]}],"generationConfig":{"seed":' + value + b"}}}\n"
    named = b'{"key":' + value + b',"request":{"contents":[{"parts":[{"text":"x"}]}]}}\n'
    for content in (line, named, line.replace(b'"x"', value)):
        assert_answered(http, order(http, store(http, content)["name"]), 1)
    assert order(http, store(http, raw(GOOD))["name"]).status_code == 200


def test_a_chunk_in_the_wrong_place_is_refused(http):
    url = start_upload(http).headers["x-goog-upload-url"]
    assert_refused_well(send_chunk(http, url, b"x", offset=9))


DEEP_PLACES = [
    {"tools": "@"},
    {"toolConfig": "@"},
    {"contents": [{"parts": [{"functionCall": {"args": "@"}}]}]},
    {"contents": "@"},
    {"systemInstruction": "@"},
    {"generationConfig": "@"},
    {"generationConfig": {"responseSchema": "@"}},
    {"generationConfig": {"speechConfig": "@"}},
    {"labels": "@"},
]


@pytest.mark.parametrize("depth", [200, 300, 1000, 1500])
def test_what_is_nested_very_deeply_is_taken_or_refused_wherever_it_stands(http, depth):
    for place in DEEP_PLACES:
        request = raw({"contents": [{"parts": [{"text": "x"}]}], **place})
        for opening, closing in ((b"[", b"]"), (b'{"items":', b"}")):
            deep = request.replace(b'"@"', opening * depth + b"1" + closing * depth)
            inline = b'{"batch":{"inputConfig":{"requests":{"requests":[{"request":' + deep + b"}]}}}}"
            line = store(http, b'{"key":"a","request":' + deep + b"}\n")["name"]
            for reply in (
                order(http, line),
                http.post(f"/v1/models/{MODEL}:batchGenerateContent", content=inline),
                http.post(f"/v1/models/{MODEL}:generateContent", content=deep),
                http.post(f"/v1/models/{MODEL}:countTokens", content=deep),
            ):
                if reply.status_code != 200:
                    assert_refused_well(reply)


@pytest.mark.parametrize("data", ["é", "\u2028", "=", "A", "A===", "\0", "A B", "AA\n==", "-_", "+/"])
def test_base64_of_any_kind_is_taken_or_refused(http, data):
    image = {"inlineData": {"mimeType": "image/png", "data": data}}
    assert_answered(http, create_inline(http, {"contents": [{"parts": [image]}]}), 1)
