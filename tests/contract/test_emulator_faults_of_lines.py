"""Faults of result lines, as the SDK downloads them."""

import json

import pytest
from six_prompts import KEYS, answer_text, lines, prompt_of, raw_lines

from gemini_batch.emulator.answers import expected_text


def test_shuffled_results_keep_every_answer_with_its_key(client, arm):
    arm("result_shuffled")
    found = lines(client)
    assert [line["key"] for line in found] != KEYS
    assert {line["key"]: answer_text(line) for line in found} == {key: expected_text(0, prompt_of(key)) for key in KEYS}


def test_missing_lines_are_left_out(client, arm):
    arm("result_line_missing", times=2, after=1)
    assert [line["key"] for line in lines(client)] == ["r0", "r3", "r4", "r5"]


def test_a_duplicated_line_comes_twice(client, arm):
    arm("result_line_duplicated")
    assert [line["key"] for line in lines(client)] == ["r0", *KEYS]


def test_a_foreign_line_comes_on_top(client, arm):
    arm("result_line_foreign", after=5)
    assert [line["key"] for line in lines(client)] == [*KEYS, "nobody-sent-this"]


def test_a_broken_line_is_half_a_line(client, arm):
    arm("result_line_broken", after=2)
    found = raw_lines(client)
    assert len(found) == 6
    with pytest.raises(json.JSONDecodeError):
        json.loads(found[2])


def test_an_error_line_has_code_13_and_counts_as_failed(client, http, arm):
    arm("result_line_error")
    found = lines(client)
    assert found[0]["error"]["code"] == 13 and "response" not in found[0]
    (job,) = http.get("/v1/batches").json()["operations"]
    assert job["metadata"]["batchStats"] == {
        "requestCount": "6",
        "successfulRequestCount": "5",
        "failedRequestCount": "1",
    }


def test_a_blocked_line_has_feedback_and_no_candidates(client, arm):
    arm("result_line_blocked")
    response = lines(client)[0]["response"]
    assert response["promptFeedback"] == {"blockReason": "PROHIBITED_CONTENT"}
    assert "candidates" not in response


def test_a_truncated_line_says_max_tokens(client, arm):
    arm("result_line_truncated")
    (candidate,) = lines(client)[0]["response"]["candidates"]
    text = candidate["content"]["parts"][0]["text"]
    whole = expected_text(0, prompt_of("r0"))
    assert candidate["finishReason"] == "MAX_TOKENS"
    assert whole.startswith(text) and text != whole


def test_reversed_members_put_the_key_last_and_errors_under_status(client, arm):
    arm("result_reversed_members")
    arm("result_line_error")
    found = lines(client)
    assert {list(line)[-1] for line in found} == {"key"}
    assert found[0]["status"]["code"] == 13 and "error" not in found[0]


def test_line_faults_run_on_into_the_next_job_and_never_meet_on_one_line(client, arm):
    arm("result_line_missing", times=2, after=5)
    arm("result_line_error", times=1, after=5)
    assert [line["key"] for line in lines(client)] == KEYS[:5]
    second = lines(client)
    assert [line["key"] for line in second] == KEYS[1:]
    assert "error" in second[0]
