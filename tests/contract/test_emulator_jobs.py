"""A job's state and reply, as the clock moves."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gemini_batch.emulator.jobs import Job, State, job_reply, state_of

MODEL = "gemini-3.8-flash"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def job_of(seconds: float, **fields: Any) -> Job:
    return Job(
        serial=1,
        id="x",
        owner="k",
        model=MODEL,
        display_name="",
        input_file="files/in",
        n_requests=1,
        created=NOON,
        queue=timedelta(seconds=seconds / 2),
        run=timedelta(seconds=seconds / 2),
        **({"answered": NOON + timedelta(seconds=1)} | fields),
    )


@pytest.mark.parametrize(
    ("job", "age_seconds", "state"),
    [
        (job_of(100), 0, State.PENDING),
        (job_of(100), 50, State.PENDING),
        (job_of(100), 51, State.RUNNING),
        (job_of(100), 100, State.SUCCEEDED),
        (job_of(100, answered=None), 100, State.RUNNING),
        (job_of(0, answered=None), 0, State.PENDING),
        (job_of(0), 1, State.SUCCEEDED),
        (job_of(100, cancelled=NOON), 1, State.CANCELLED),
        (job_of(100, faults={"job_failed": 0.0}), 99, State.RUNNING),
        (job_of(100, faults={"job_failed": 0.0}), 100, State.FAILED),
        (job_of(100, faults={"job_expired": 0.0}), 100, State.EXPIRED),
        (job_of(200_000), 48 * 3600 - 1, State.RUNNING),
        (job_of(200_000), 48 * 3600, State.EXPIRED),
    ],
)
def test_the_state_follows_from_the_clock(job, age_seconds, state):
    assert state_of(job, NOON + timedelta(seconds=age_seconds)) is state


def test_the_end_of_a_job_does_not_move():
    replies = [job_reply(job_of(100), NOON + timedelta(seconds=age), None) for age in (100, 500)]
    assert replies[0] == replies[1]
    assert replies[0]["metadata"]["endTime"] == "2026-11-22T12:01:40.000000000Z"
