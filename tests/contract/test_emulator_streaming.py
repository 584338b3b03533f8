"""streamGenerateContent through the SDK and plain HTTP: the same answer as in one piece."""

import json
from typing import Any

import pytest
from google.genai import errors
from hypothesis import given
from hypothesis import strategies as st
from sdk_calls import MODEL, request_of

from gemini_batch.emulator.answers import expected_text
from gemini_batch.emulator.streaming import pieces

PATH = f"models/{MODEL}:streamGenerateContent"
TEXT = "The quick brown fox."


def events(reply: Any) -> list[Any]:
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.text.endswith("\r\n\r\n")
    return [json.loads(event.removeprefix("data: ")) for event in reply.text.split("\r\n\r\n")[:-1]]


def texts(shown: list[Any]) -> list[str]:
    return [part["text"] for one in shown for part in one["candidates"][0]["content"]["parts"]]


def test_the_sdk_streams_the_same_text_in_pieces(client):
    whole = client.models.generate_content(model=MODEL, contents=TEXT)
    shown = list(client.models.generate_content_stream(model=MODEL, contents=TEXT))
    assert len(shown) > 1 and "".join(one.text for one in shown) == whole.text
    assert [one.candidates[0].finish_reason for one in shown] == [None] * (len(shown) - 1) + ["STOP"]
    assert shown[-1].usage_metadata == whole.usage_metadata


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_events_and_an_array_hold_the_same_pieces(http, version):
    request = request_of(TEXT)
    streamed = events(http.post(f"/{version}/{PATH}?alt=sse", json=request))
    assert http.post(f"/{version}/{PATH}", json=request).json() == streamed
    assert "".join(texts(streamed)) == expected_text(0, request)


def test_a_users_own_answers_are_streamed_too(http):
    http.post("/admin/answers", content=json.dumps({"prompt": TEXT, "answer": "so it is, " * 9}))
    try:
        assert "".join(texts(events(http.post(f"/v1/{PATH}?alt=sse", json=request_of(TEXT))))) == "so it is, " * 9
    finally:
        http.delete("/admin/answers")


def test_a_result_without_a_response_is_a_piece_of_its_own(http):
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}}
    for response, shown in ((blocked, blocked), (None, {})):
        http.post("/admin/answers", content=json.dumps({"response": response}))
        try:
            assert events(http.post(f"/v1/{PATH}?alt=sse", json=request_of(TEXT))) == [shown]
        finally:
            http.delete("/admin/answers")


def test_thoughts_come_before_the_text(client):
    config = {"thinking_config": {"include_thoughts": True, "thinking_budget": 100}}
    shown = list(client.models.generate_content_stream(model=MODEL, contents=TEXT, config=config))
    marks = [bool(part.thought) for one in shown for part in one.candidates[0].content.parts]
    assert marks == sorted(marks, reverse=True) and set(marks) == {True, False}


@pytest.mark.parametrize(("fault", "code"), [("generate_429", 429), ("generate_503", 503)])
def test_a_refused_stream_is_raised_by_the_sdk(client, arm, fault, code):
    arm(fault)
    with pytest.raises(errors.APIError) as refused:
        list(client.models.generate_content_stream(model=MODEL, contents=TEXT))
    assert refused.value.code == code


@given(st.lists(st.text(max_size=200), min_size=1, max_size=3), st.sampled_from(["STOP", "MAX_TOKENS"]))
def test_pieces_add_up_to_the_response(parts, reason):
    candidate = {"content": {"parts": [{"text": text} for text in parts], "role": "model"}, "index": 0}
    whole = {"candidates": [candidate | {"finishReason": reason}], "responseId": "x"}
    shown = pieces(whole)
    assert "".join(texts(shown)) == "".join(parts)
    assert [one["candidates"][0].get("finishReason") for one in shown] == [None] * (len(shown) - 1) + [reason]
    assert all(one["responseId"] == "x" for one in shown)
