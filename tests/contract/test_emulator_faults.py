"""Each fault, as the SDK or a plain HTTP client meets it."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from google.genai import errors
from sdk_calls import MODEL, Client, TransportError, finished, jsonl, request_of, upload

from gemini_batch.emulator.answers import expected_text
from gemini_batch.emulator.board import FaultBoard
from gemini_batch.emulator.faults import FAULTS, FaultSpec, Point

KEYS = [f"r{i}" for i in range(6)]


@pytest.fixture
def arm(http):
    def arm(name: str, **how: int) -> None:
        assert http.post("/admin/faults", json={"name": name, **how}).status_code == 200

    return arm


def prompt_of(key: str) -> dict[str, Any]:
    return request_of(f"prompt {key}")


def upload_all(client: Client) -> str:
    return upload(client, jsonl(*({"key": key, "request": prompt_of(key)} for key in KEYS))).name


def submit_all(client: Client, name: str = "j") -> Any:
    return client.batches.create(model=MODEL, src=upload_all(client), config={"display_name": name})


def raw_lines(client: Client) -> list[bytes]:
    job = finished(client, submit_all(client))
    assert job.state == "JOB_STATE_SUCCEEDED"
    return client.files.download(file=job.dest.file_name).removesuffix(b"\n").split(b"\n")


def lines(client: Client) -> list[dict[str, Any]]:
    return [json.loads(line) for line in raw_lines(client)]


def answer_text(line: dict[str, Any]) -> str:
    return line["response"]["candidates"][0]["content"]["parts"][0]["text"]


# creating


@pytest.mark.parametrize(("fault", "code"), [("create_503", 503), ("create_429", 429)])
def test_a_refused_create_makes_no_job(client, http, arm, fault, code):
    arm(fault)
    with pytest.raises(errors.APIError) as refused:
        submit_all(client)
    assert refused.value.code == code
    assert http.get("/admin/stats").json()["creates"] == 0
    assert http.get("/admin/stats").json()["creates_rejected"] == 1
    assert submit_all(client).name


def test_a_503_after_commit_leaves_a_job(client, http, arm):
    arm("create_503_after_commit")
    with pytest.raises(errors.ServerError):
        submit_all(client, "unclear")
    assert [job.display_name for job in client.batches.list()] == ["unclear"]
    assert http.get("/admin/stats").json()["creates"] == 1


def test_a_lost_reply_leaves_a_job_and_a_closed_connection(client, arm):
    arm("create_reply_lost")
    with pytest.raises(TransportError):
        submit_all(client, "unclear")
    assert [job.display_name for job in client.batches.list()] == ["unclear"]


def test_a_refused_create_does_not_use_up_a_fault_that_needs_a_job(client, arm):
    arm("create_reply_lost")
    with pytest.raises(errors.ClientError):
        client.batches.create(model=MODEL, src="files/absent")
    with pytest.raises(TransportError):
        submit_all(client)


# results


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


# jobs


def test_a_failed_job_has_a_top_level_error_and_no_output(client, http, arm):
    arm("job_failed")
    job = finished(client, submit_all(client))
    body = http.get(f"/v1/{job.name}").json()
    assert job.state == "JOB_STATE_FAILED"
    assert body["done"] is True and body["error"]["code"] == 13
    assert "response" not in body and "output" not in body["metadata"]
    assert len(list(client.files.list())) == 1


def test_an_expired_job_has_no_output(client, arm):
    arm("job_expired")
    job = finished(client, submit_all(client))
    assert job.state == "JOB_STATE_EXPIRED" and not (job.dest and job.dest.file_name)


def test_output_may_come_after_success(client, arm):
    arm("succeeded_without_output")
    job = finished(client, submit_all(client))
    shown = [job] + [client.batches.get(name=job.name) for _ in range(2)]
    assert {one.state for one in shown} == {"JOB_STATE_SUCCEEDED"}
    assert [bool(one.dest and one.dest.file_name) for one in shown] == [False, False, True]


def test_an_unknown_state_is_shown_for_two_gets(client, http, arm):
    job = finished(client, submit_all(client))
    arm("state_unknown")
    states = [http.get(f"/v1/{job.name}").json()["metadata"]["state"] for _ in range(3)]
    assert states == ["BATCH_STATE_SOMETHING", "BATCH_STATE_SOMETHING", "BATCH_STATE_SUCCEEDED"]


@pytest.mark.parametrize("fault", ["get_500", "list_500"])
def test_a_500_passes(client, arm, fault):
    job = submit_all(client)
    arm(fault)

    def call() -> Any:
        return client.batches.get(name=job.name) if fault == "get_500" else list(client.batches.list())

    with pytest.raises(errors.ServerError):
        call()
    assert call()


# bytes on the way


def test_a_cut_download_looks_complete_to_a_careless_client(client, http, arm):
    job = finished(client, submit_all(client))
    whole = client.files.download(file=job.dest.file_name)
    arm("download_cut")
    reply = http.get(f"/v1/{job.dest.file_name}:download?alt=media")
    assert reply.status_code == 200
    assert "content-length" not in reply.headers and "transfer-encoding" not in reply.headers
    assert reply.content == whole[: len(whole) // 2]
    assert client.files.download(file=job.dest.file_name) == whole


def test_the_sdk_survives_a_503_on_a_chunk(client, http, arm):
    arm("upload_503")
    assert [line["key"] for line in lines(client)] == KEYS
    assert http.get("/admin/stats").json()["calls"]["POST upload"] == 3


# the port itself


def test_an_unknown_fault_is_refused_with_the_known_names(http):
    reply = http.post("/admin/faults", json={"name": "rain"})
    assert reply.status_code == 400
    message = reply.json()["error"]["message"]
    assert "'rain'" in message and all(name in message for name in FAULTS)


def test_clearing_disarms(client, http, arm):
    arm("get_500", times=5)
    http.delete("/admin/faults")
    assert submit_all(client).name


def board_with(**spec: Any) -> FaultBoard:
    board = FaultBoard(lambda: datetime(2026, 11, 22, tzinfo=UTC), 0)
    board.arm(FaultSpec(**spec))
    return board


def test_faults_skip_then_happen_then_are_spent():
    board = board_with(name="state_unknown", times=2, after=1)
    assert [bool(board.take(Point.GET)) for _ in range(5)] == [False, True, True, False, False]
    assert board.armed() == []


def test_a_fault_does_not_happen_elsewhere():
    board = board_with(name="get_500")
    assert not board.take(Point.CALL, call="list") and not board.take(Point.GET)
    assert board.take(Point.CALL, call="get")
