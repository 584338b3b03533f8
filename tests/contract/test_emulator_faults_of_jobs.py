"""Faults of jobs and of how they are shown."""

from datetime import datetime, timedelta

import pytest
from google.genai import errors
from sdk_calls import BROKEN_OFF, MODEL, TransportError, finished, name_of
from six_prompts import KEYS, keys_of, lines_of, prompt_of, submit_all, upload_all


@pytest.fixture
def advance(http):
    """Steps the clock; returns when what has started by then is answered."""

    def advance(**step: float) -> None:
        http.post("/admin/clock", json={"advance_seconds": timedelta(**step).total_seconds()})

    return advance


@pytest.fixture
def submit_running(client, http, advance):
    """A job that is RUNNING and answered, for a thousand seconds to come."""

    def submit_running():
        http.post("/admin/settings", json={"queue_seconds": 0, "run_seconds": 1000})
        job = submit_all(client)
        advance(seconds=1)
        assert states_of(client, job, 1) == ["JOB_STATE_RUNNING"]
        return job

    return submit_running


def states_of(client, job, count):
    return [client.batches.get(name=job.name).state.value for _ in range(count)]


def has_output(job) -> bool:
    return bool(job.dest and job.dest.file_name)


def metadata_of(http, job) -> dict:
    return http.get(f"/v1/{job.name}").json()["metadata"]


# coming to be


def test_a_late_create_makes_a_job_that_is_nowhere_until_it_is_created(client, http, arm, advance):
    arm("create_late", seconds=1000, job="late")
    source = upload_all(client)
    asked = datetime.fromisoformat(http.get("/admin/clock").json()["now"])
    with pytest.raises(TransportError) as lost:
        client.batches.create(model=MODEL, src=source, config={"display_name": "late"})
    assert name_of(lost.value) == BROKEN_OFF
    assert list(client.batches.list()) == []
    advance(seconds=900)
    assert list(client.batches.list()) == []
    advance(seconds=100)
    (job,) = client.batches.list()
    assert (job.display_name, job.create_time >= asked + timedelta(seconds=1000)) == ("late", True)
    assert keys_of(lines_of(client, finished(client, job))) == KEYS
    assert http.get("/admin/stats").json()["creates"] == 1


def test_a_late_create_comes_after_jobs_that_were_made_meanwhile(client, arm, advance):
    arm("create_late")
    with pytest.raises(TransportError):
        submit_all(client, "late")
    submit_all(client, "next")
    advance(seconds=30)
    assert [job.display_name for job in client.batches.list()] == ["late", "next"]


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


# ending


@pytest.mark.parametrize(
    ("fault", "state", "code"),
    [("job_failed", "FAILED", 13), ("job_expired", "EXPIRED", 4), ("job_cancelled", "CANCELLED", 1)],
)
def test_a_job_that_ends_badly_has_no_output_and_an_error_that_the_sdk_drops(client, http, arm, fault, state, code):
    arm(fault)
    job = finished(client, submit_all(client))
    assert (job.state.value, job.error, has_output(job)) == (f"JOB_STATE_{state}", None, False)
    (listed,) = client.batches.list()
    assert (listed.state, has_output(listed)) == (job.state, False)
    body = http.get(f"/v1/{job.name}").json()
    assert (body["done"], body["error"]["code"]) == (True, code)
    assert "response" not in body and "output" not in body["metadata"]
    assert len(list(client.files.list())) == 1
    assert finished(client, submit_all(client)).state == "JOB_STATE_SUCCEEDED"


def test_a_job_that_is_stuck_expires_after_48_hours_and_nothing_can_be_had(client, arm, advance):
    arm("job_stuck")
    job = submit_all(client)
    advance(hours=47)
    assert states_of(client, job, 1) == ["JOB_STATE_PENDING"]
    advance(hours=1)
    ended = client.batches.get(name=job.name)
    assert (ended.state, has_output(ended)) == ("JOB_STATE_EXPIRED", False)
    assert ended.end_time - ended.create_time == timedelta(hours=48)
    assert list(client.files.list()) == []
    assert finished(client, submit_all(client)).state == "JOB_STATE_SUCCEEDED"


def test_a_job_without_stats_has_none_in_any_reply(client, http, arm):
    arm("job_without_stats")
    body = {"batch": {"displayName": "j", "inputConfig": {"fileName": upload_all(client)}}}
    made = http.post(f"/v1/models/{MODEL}:batchGenerateContent", json=body).json()
    job = finished(client, client.batches.get(name=made["name"]))
    (listed,) = http.get("/v1/batches").json()["operations"]
    assert [one for one in (made["metadata"], listed["metadata"], metadata_of(http, job)) if "batchStats" in one] == []
    assert "batchStats" in metadata_of(http, submit_all(client))


# cancelling


def test_a_cancel_may_be_ignored(client, arm, submit_running, advance):
    arm("cancel_ignored")
    job = submit_running()
    assert client.batches.cancel(name=job.name) is None
    assert states_of(client, job, 1) == ["JOB_STATE_RUNNING"]
    advance(seconds=1000)
    ended = client.batches.get(name=job.name)
    assert ended.state == "JOB_STATE_SUCCEEDED"
    assert keys_of(lines_of(client, ended)) == KEYS
    other = submit_running()
    client.batches.cancel(name=other.name)
    assert states_of(client, other, 1) == ["JOB_STATE_CANCELLED"]


def test_a_cancelled_job_may_keep_the_first_half_of_its_lines(client, http, arm, submit_running):
    arm("cancelled_with_output")
    job = submit_running()
    client.batches.cancel(name=job.name)
    ended = client.batches.get(name=job.name)
    assert ended.state == "JOB_STATE_CANCELLED"
    assert keys_of(lines_of(client, ended)) == KEYS[:3]
    assert metadata_of(http, job)["batchStats"] == {
        "requestCount": "6",
        "successfulRequestCount": "3",
        "pendingRequestCount": "3",
    }
    other = submit_running()
    client.batches.cancel(name=other.name)
    assert not has_output(client.batches.get(name=other.name))


def test_a_cancelled_inline_job_keeps_the_first_half_in_place_and_makes_no_file(client, http, arm, advance):
    arm("cancelled_with_output")
    http.post("/admin/settings", json={"queue_seconds": 0, "run_seconds": 1000})
    sent = [prompt_of(key) | {"metadata": {"key": key}} for key in KEYS]
    job = client.batches.create(model=MODEL, src=sent)
    advance(seconds=1)
    client.batches.cancel(name=job.name)
    assert keys_of(client.batches.get(name=job.name).dest.inlined_responses) == KEYS[:3]
    assert list(client.files.list()) == []


def test_a_job_that_was_cancelled_before_it_ran_has_nothing_to_keep(client, http, arm):
    arm("cancelled_with_output")
    http.post("/admin/settings", json={"job_seconds": 1000})
    job = submit_all(client)
    client.batches.cancel(name=job.name)
    ended = client.batches.get(name=job.name)
    assert (ended.state, has_output(ended)) == ("JOB_STATE_CANCELLED", False)


# as they are shown


def test_output_may_come_after_success(client, arm):
    arm("succeeded_without_output")
    job = finished(client, submit_all(client))
    shown = [job] + [client.batches.get(name=job.name) for _ in range(2)]
    assert {one.state for one in shown} == {"JOB_STATE_SUCCEEDED"}
    assert [has_output(one) for one in shown] == [False, False, True]
    assert keys_of(lines_of(client, shown[-1])) == KEYS


def test_inline_output_may_come_after_success(client, arm):
    arm("succeeded_without_output", times=1)
    job = finished(client, client.batches.create(model=MODEL, src=[prompt_of("r0")]))
    assert (job.state, job.dest) == ("JOB_STATE_SUCCEEDED", None)
    assert len(client.batches.get(name=job.name).dest.inlined_responses) == 1


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
