"""Faults of jobs and of how they are shown."""

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
