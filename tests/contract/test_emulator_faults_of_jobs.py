"""Faults of jobs and of how they are shown."""

import pytest
from google.genai import errors
from sdk_calls import finished
from six_prompts import submit_all


def test_a_failed_job_has_a_top_level_error_and_no_output(client, http, arm):
    arm("job_failed")
    job = finished(client, submit_all(client))
    body = http.get(f"/v1/{job.name}").json()
    assert job.state == "JOB_STATE_FAILED"
    assert body["done"] is True and body["error"]["code"] == 13
    assert "response" not in body and "output" not in body["metadata"]
    assert len(list(client.files.list())) == 1


def test_a_create_that_is_refused_uses_up_no_fault_of_a_job(client, http, arm):
    arm("job_failed")
    http.post("/admin/settings", json={"max_enqueued_tokens": 1})
    with pytest.raises(errors.ClientError) as refused:
        submit_all(client)
    assert refused.value.code == 429
    http.post("/admin/settings", json={"max_enqueued_tokens": {}})
    assert [finished(client, submit_all(client)).state.value for _ in range(2)] == [
        "JOB_STATE_FAILED",
        "JOB_STATE_SUCCEEDED",
    ]


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


def states_of(client, job, count):
    return [client.batches.get(name=job.name).state for _ in range(count)]


def test_an_unknown_state_passes_through_the_sdk_with_a_warning_and_without_output(client, http, arm):
    job = finished(client, submit_all(client))
    arm("state_unknown")
    with pytest.warns(UserWarning, match="not a valid JobState"):
        seen = [client.batches.get(name=job.name) for _ in range(3)]
    assert [one.state.value for one in seen] == [*["BATCH_STATE_SOMETHING"] * 2, "JOB_STATE_SUCCEEDED"]
    assert [one.done for one in seen] == [False, False, True]
    assert [bool(one.dest and one.dest.file_name) for one in seen] == [False, False, True]


@pytest.mark.parametrize("end", ["succeeded", "cancelled", "failed"])
def test_a_stale_state_is_pending_whatever_has_become_of_the_job(client, http, arm, end):
    if end == "failed":
        arm("job_failed")
    http.post("/admin/settings", json={"job_seconds": 1000 if end == "cancelled" else 0})
    job = submit_all(client)
    if end == "cancelled":
        client.batches.cancel(name=job.name)
    finished(client, job)
    arm("state_stale")
    ended = f"JOB_STATE_{end.upper()}"
    assert states_of(client, job, 3) == ["JOB_STATE_PENDING", "JOB_STATE_PENDING", ended]


def test_output_that_is_late_is_not_used_up_while_the_state_hides_it(client, arm):
    job = finished(client, submit_all(client))
    arm("state_stale", times=1)
    arm("succeeded_without_output", times=1)
    seen = [client.batches.get(name=job.name) for _ in range(3)]
    assert [(one.done, bool(one.dest)) for one in seen] == [(False, False), (True, False), (True, True)]
