"""Faults of result lines, as the SDK downloads them from a file job or shows them of an inline one."""

import json
from typing import Any

import pytest
from google.genai import types
from pydantic import ValidationError
from sdk_calls import finished
from six_prompts import (
    KEYS,
    answer_text,
    inlined,
    keys_of,
    lines,
    lines_of,
    prompt_of,
    raw_lines,
    results,
    submit_all,
    text_of,
)


def texts_of(found: list[Any]) -> list[str]:
    return [answer_text(one) if isinstance(one, dict) else one.response.text for one in found]


@pytest.fixture(params=[lines, inlined], ids=["file", "inline"])
def answered(request, client):
    """The result lines of a file job, or the SDK's inline responses: of the same six prompts."""
    return lambda: request.param(client)


@pytest.fixture
def first(answered):
    """The response of the first line as the SDK reads one, once the others have been found right."""

    def first() -> types.GenerateContentResponse:
        head, *others = answered()
        assert (keys_of([head, *others]), texts_of(others)) == (KEYS, [text_of(key) for key in KEYS[1:]])
        return (
            types.GenerateContentResponse.model_validate(head["response"]) if isinstance(head, dict) else head.response
        )

    return first


def the_candidate(response: types.GenerateContentResponse) -> types.Candidate:
    (candidate,) = response.candidates
    return candidate


def test_without_a_fault_every_answer_is_under_its_key(answered):
    found = answered()
    assert (keys_of(found), texts_of(found)) == (KEYS, [text_of(key) for key in KEYS])


# the lines of a job


def test_shuffled_results_keep_every_answer_with_its_key(answered, arm):
    arm("result_shuffled")
    found = answered()
    assert keys_of(found) != KEYS
    assert dict(zip(keys_of(found), texts_of(found), strict=True)) == {key: text_of(key) for key in KEYS}


def test_reversed_members_put_the_key_last_and_errors_under_status(client, arm):
    arm("result_reversed_members")
    arm("result_line_error")
    found = lines(client)
    assert {list(line)[-1] for line in found} == {"key"}
    assert found[0]["status"]["code"] == 13 and "error" not in found[0]
    assert texts_of(found[1:]) == [text_of(key) for key in KEYS[1:]]


def test_an_inline_error_under_status_is_an_answer_without_either_to_the_sdk(client, arm):
    arm("result_reversed_members")
    arm("result_line_error")
    head, *others = inlined(client)
    assert (head.response, head.error) == (None, None)
    assert texts_of(others) == [text_of(key) for key in KEYS[1:]]


def test_missing_lines_are_left_out(answered, arm):
    arm("result_line_missing", times=2, after=1)
    assert keys_of(answered()) == ["r0", "r3", "r4", "r5"]


def test_a_duplicated_line_comes_twice(answered, arm):
    arm("result_line_duplicated")
    found = answered()
    assert keys_of(found) == ["r0", *KEYS]
    assert texts_of(found)[0] == texts_of(found)[1]


def test_a_conflicting_line_comes_again_with_another_answer(answered, arm):
    arm("result_line_conflicting", after=2)
    found = answered()
    assert keys_of(found) == ["r0", "r1", "r2", "r2", "r3", "r4", "r5"]
    assert texts_of(found)[2] == text_of("r2") != texts_of(found)[3]


def test_a_foreign_line_comes_on_top_under_a_key_nobody_sent(answered, arm):
    arm("result_line_foreign", after=5)
    assert keys_of(answered()) == [*KEYS, "nobody-sent-this"]


def test_swapped_lines_have_each_other_s_answer_under_their_own_key(answered, arm):
    arm("result_line_swapped", after=1)
    found = answered()
    assert keys_of(found) == KEYS
    assert texts_of(found) == [text_of(key) for key in ("r0", "r2", "r1", "r3", "r4", "r5")]


def test_the_last_line_has_nobody_to_swap_with(answered, arm):
    arm("result_line_swapped", after=5)
    assert texts_of(answered()) == [text_of(key) for key in KEYS]


def test_line_faults_run_on_into_the_next_job_and_never_meet_on_one_line(client, arm):
    arm("result_line_missing", times=2, after=5)
    arm("result_line_error", times=1, after=5)
    assert keys_of(lines(client)) == KEYS[:5]
    second = lines(client)
    assert keys_of(second) == KEYS[1:]
    assert "error" in second[0]


# lines that are none


def test_a_broken_line_is_half_a_line(client, arm):
    arm("result_line_broken", after=2)
    found = raw_lines(client)
    assert len(found) == 6
    with pytest.raises(json.JSONDecodeError):
        json.loads(found[2])
    assert keys_of([json.loads(line) for line in found[:2] + found[3:]]) == ["r0", "r1", "r3", "r4", "r5"]


def test_a_line_of_bad_utf8_spoils_a_file_that_is_decoded_as_a_whole(client, arm):
    arm("result_line_bad_utf8", after=2)
    whole = results(client)
    with pytest.raises(UnicodeDecodeError):
        whole.decode()
    found = [json.loads(line.decode(errors="replace")) for line in whole.splitlines()]
    assert keys_of(found) == KEYS
    assert [text == text_of(key) for key, text in zip(KEYS, texts_of(found), strict=True)].count(False) == 1


@pytest.mark.parametrize("fault", ["result_line_broken", "result_line_bad_utf8"])
def test_an_inline_answer_that_is_no_json_is_left_out(client, arm, fault):
    arm(fault, after=2)
    assert keys_of(inlined(client)) == ["r0", "r1", "r3", "r4", "r5"]


def test_a_separator_in_a_string_tears_a_line_that_is_split_as_text(client, arm):
    arm("result_line_separator")
    whole = results(client)
    assert len(whole.removesuffix(b"\n").split(b"\n")) == 6
    assert len(whole.decode().splitlines()) == 9
    assert lines(client)[0]["response"]["responseId"] != "\u2028\u2029\u0085"


# lines without a response


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("result_line_error", {"error": {"code": 13, "message": "An internal error has occurred. Please retry."}}),
        ("result_line_status", {"status": {"code": 13, "message": "An internal error has occurred. Please retry."}}),
        (
            "result_line_media_expired",
            {
                "error": {
                    "code": 7,
                    "message": "You do not have permission to access the File abc123 or it may not exist.",
                }
            },
        ),
        ("result_line_null", {"response": None}),
        ("result_line_empty", {}),
    ],
)
def test_a_line_may_have_no_response(client, arm, fault, line):
    arm(fault)
    head, *others = lines(client)
    assert head == {"key": "r0"} | line
    assert texts_of(others) == [text_of(key) for key in KEYS[1:]]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("result_line_error", 13),
        ("result_line_media_expired", 7),
        ("result_line_status", None),
        ("result_line_null", None),
        ("result_line_empty", None),
    ],
)
def test_an_inline_answer_may_have_no_response(client, arm, fault, code):
    arm(fault)
    head, *others = inlined(client)
    assert (head.metadata, head.response, head.error and head.error.code) == ({"key": "r0"}, None, code)
    assert texts_of(others) == [text_of(key) for key in KEYS[1:]]


def test_an_inline_error_with_details_makes_the_sdk_unable_to_show_the_job(client, http):
    """Not a fault of the emulator's own: a user's answers can say it, and the service does."""
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "R"}]
    canned = json.dumps({"error": {"code": 3, "message": "no", "details": details}})
    http.post("/admin/answers", content=canned)
    try:
        with pytest.raises((ValidationError, AttributeError), match=r"details|model_fields"):  # SDK 3, SDK 2
            inlined(client)
        assert {line["error"]["code"] for line in lines(client)} == {3}
    finally:
        http.delete("/admin/answers")


@pytest.mark.parametrize(
    ("fault", "failed"),
    [
        ("result_line_error", 1),
        ("result_line_status", 1),
        ("result_line_media_expired", 1),
        ("result_line_missing", 0),
        ("result_line_null", 0),
        ("result_line_blocked", 0),
        ("result_line_truncated", 0),
    ],
)
def test_the_counts_of_a_job_know_of_errors_only(client, http, arm, fault, failed):
    arm(fault)
    lines(client)
    (job,) = http.get("/v1/batches").json()["operations"]
    stats = {"requestCount": "6", "successfulRequestCount": str(6 - failed), "failedRequestCount": str(failed)}
    assert job["metadata"]["batchStats"] == {name: count for name, count in stats.items() if count != "0"}


def test_a_line_that_failed_costs_nothing(client, http, arm):
    arm("result_line_error", times=5)
    (usage,) = [line["response"]["usageMetadata"] for line in lines(client) if "response" in line]
    (used,) = http.get("/admin/stats").json()["usage"]["models"].values()
    assert used["prompt_tokens"] == usage["promptTokenCount"]
    assert used["prompt_tokens"] + used["output_tokens"] == usage["totalTokenCount"]


# responses


def test_a_blocked_prompt_has_feedback_and_no_candidates(first, arm):
    arm("result_line_blocked")
    response = first()
    assert (response.candidates, response.text) == (None, None)
    assert response.prompt_feedback.block_reason == "PROHIBITED_CONTENT"
    assert response.usage_metadata.candidates_token_count is None
    assert response.usage_metadata.total_token_count == response.usage_metadata.prompt_token_count > 0


@pytest.mark.parametrize(
    ("fault", "reason", "content"),
    [
        ("result_line_refused", "SAFETY", None),
        ("result_line_recitation", "RECITATION", types.Content(role="model")),
        ("result_line_unfinished", "MAX_TOKENS", types.Content(role="model")),
    ],
)
def test_a_candidate_may_have_no_text(first, arm, fault, reason, content):
    arm(fault)
    response = first()
    candidate = the_candidate(response)
    assert (candidate.finish_reason, candidate.content, response.text) == (reason, content, None)


def test_an_unfinished_answer_was_thinking_all_along(first, arm):
    arm("result_line_unfinished")
    usage = first().usage_metadata
    assert usage.candidates_token_count is None
    assert usage.prompt_token_count + usage.thoughts_token_count == usage.total_token_count


def test_a_truncated_answer_is_half_the_text(first, arm):
    arm("result_line_truncated")
    response = first()
    whole = text_of("r0")
    assert (the_candidate(response).finish_reason, response.text) == ("MAX_TOKENS", whole[: len(whole) // 2])


def test_a_finish_reason_nobody_knows_passes_through_the_sdk_with_a_warning(first, arm):
    arm("result_line_odd_finish")
    with pytest.warns(UserWarning, match="SOMETHING_NEW is not a valid FinishReason"):
        response = first()
    assert (the_candidate(response).finish_reason.value, response.text) == ("SOMETHING_NEW", text_of("r0"))


def test_thoughts_beside_the_text_are_no_part_of_it(first, arm):
    arm("result_line_thoughts")
    response = first()
    thought, text, signature = the_candidate(response).content.parts
    assert thought.thought and thought.text and signature.thought_signature
    assert response.text == text.text == text_of("r0")


def test_thoughts_alone_are_no_text(first, arm):
    arm("result_line_only_thoughts")
    response = first()
    assert not response.text
    assert [bool(part.thought) for part in the_candidate(response).content.parts] == [True, False]
    assert the_candidate(response).finish_reason == "STOP"


def test_a_text_in_several_parts_is_one_text(first, arm):
    arm("result_line_split")
    response = first()
    parts = the_candidate(response).content.parts
    assert len(parts) == 3 and all(part.text for part in parts)
    assert response.text == text_of("r0")


@pytest.mark.parametrize(
    ("fault", "before", "after"),
    [
        ("result_line_fenced", "```json\n", "\n```"),
        ("result_line_in_prose", "Here is the JSON you asked for:\n\n", ""),
    ],
)
def test_a_text_may_be_wrapped(first, arm, fault, before, after):
    arm(fault)
    assert first().text == f"{before}{text_of('r0')}{after}"


def test_a_giant_text_is_eight_megabytes_longer(first, arm):
    arm("result_line_giant")
    text = first().text
    assert len(text) == len(text_of("r0")) + (8 << 20)
    assert text.rstrip() == text_of("r0")


def test_separators_arrive_in_a_string(first, arm):
    arm("result_line_separator")
    response = first()
    assert (response.response_id, response.text) == ("\u2028\u2029\u0085", text_of("r0"))


def test_usage_may_be_left_out(first, arm):
    arm("result_line_without_usage")
    response = first()
    assert (response.usage_metadata, response.text) == (None, text_of("r0"))


@pytest.mark.parametrize("fault", ["result_line_blocked", "result_line_fenced", "result_line_giant"])
def test_a_line_without_a_text_has_none_to_spoil(client, http, arm, fault):
    canned = json.dumps({"key": "r0", "error": {"code": 3, "message": "no"}})
    http.post("/admin/answers", content=canned)
    arm(fault)
    try:
        job = finished(client, submit_all(client))
    finally:
        http.delete("/admin/answers")
    assert lines_of(client, job)[0] == {"key": "r0", "error": {"code": 3, "message": "no"}}


def test_an_answer_that_is_an_embedding_may_be_missing_or_fail_and_has_no_text_to_spoil(client, http, arm):
    for row, fault in enumerate(["result_line_error", "result_line_missing", "result_line_fenced"]):
        arm(fault, row=row)
    request = {"content": prompt_of("x")["contents"][0]}
    requests = [{"request": request, "metadata": {"key": f"e{i}"}} for i in range(4)]
    body = {"batch": {"displayName": "e", "inputConfig": {"requests": {"requests": requests}}}}
    name = http.post("/v1/models/gemini-embedding-001:asyncBatchEmbedContent", json=body).json()["name"]
    http.post("/admin/clock", json={"advance_seconds": 1})
    output = http.get(f"/v1/{name}").json()["metadata"]["output"]["inlinedResponses"]["inlinedResponses"]
    assert [one["metadata"]["key"] for one in output] == ["e0", "e2", "e3"]
    assert ["response" in one for one in output] == [False, True, True]
    assert output[1]["response"] == output[2]["response"]
