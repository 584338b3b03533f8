"""The settle rule, the end of jobs, and pauses: tables of numbers in provider time."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.jobs import lifecycle as life
from gemini_batch.records import Job, Send, ShardRecord, ShardState

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def unknown(*numbers):
    sends = tuple(
        Send(number=n, display_name=f"d{n}", sha256="s", lines=1, requests="r", owner="o", began_at=NOW)
        for n in numbers or (1,)
    )
    return ShardRecord(shard=0, state=ShardState.UNKNOWN, sends=sends)


def listings(times, settle, record=None, listed=None):
    """Empty listings at the given times; returns (the record, when it was settled or None, listings counted)."""
    record, counted = record or unknown(), 0
    for at in times:
        event = life.reconcile(record, listed or {}, at, settle)
        if isinstance(event, life.Settled):
            return record, at, counted + 1
        if isinstance(event, life.Absent):
            counted += 1
            record = life.apply(record, event)
    return record, None, counted


def minutes(*values):
    return [NOW + timedelta(minutes=value) for value in values]


def test_a_lost_send_settles_after_the_settle_time_and_three_listings():
    _, at, counted = listings(minutes(*range(0, 200, 5)), HOUR)
    assert at == NOW + HOUR
    assert counted >= 3


def test_two_listings_far_apart_do_not_settle():
    """One blind spot of the service must not be enough."""
    _, at, _ = listings(minutes(0, 600), HOUR)
    assert at is None


def test_many_listings_within_the_settle_time_do_not_settle():
    _, at, _ = listings(minutes(*[n / 10 for n in range(599)]), HOUR)
    assert at is None


def test_the_settle_time_is_counted_from_the_first_absence_not_from_the_send():
    """Provider time alone: our clocks may be wrong by hours."""
    late = [NOW + timedelta(days=1) + timedelta(minutes=m) for m in range(0, 120, 10)]
    _, at, _ = listings(late, HOUR)
    assert at == late[0] + HOUR


@given(st.lists(st.integers(-300, 3000), max_size=40))
def test_under_wait_a_lost_send_is_never_settled_and_the_history_stays_short(offsets):
    """`--on-unknown wait` promises at most one billed job per shard."""
    record, at, counted = listings(minutes(*offsets), None)
    assert at is None
    assert counted <= life.SETTLE_LISTINGS
    assert record.state is ShardState.UNKNOWN


@given(st.lists(st.integers(-300, 3000), max_size=40), st.integers(1, 300))
def test_no_order_of_listings_settles_too_early(offsets, settle):
    """Listings may come late and out of order."""
    times, span = minutes(*offsets), timedelta(minutes=settle)
    _, at, counted = listings(times, span)
    if at is not None:
        before = times[: times.index(at) + 1]
        assert counted >= life.SETTLE_LISTINGS
        assert at - min(before) >= span


def test_a_settle_time_of_zero_settles_after_three_listings_without_further_delay():
    """`--settle 0` is the shortest, not a default of an hour."""
    _, at, _ = listings(minutes(*[n / 60 for n in range(10)]), timedelta(0))
    assert at is not None


@pytest.mark.parametrize("found", ["d1", "d2", "d3"])
@pytest.mark.parametrize("settle", [None, timedelta(0), HOUR])
def test_any_send_ever_made_is_recognised_in_a_listing(found, settle):
    """A job of an earlier send that appears late is adopted rather than bought again."""
    job = Job(name="batches/9", display_name=found)
    assert life.reconcile(unknown(1, 2, 3), {found: job, "other": job}, NOW, settle) == life.JobLearned(job)


def test_a_job_found_when_the_settle_time_is_over_is_adopted():
    record, *_ = listings(minutes(0, 20, 40), HOUR)
    job = Job(name="batches/9", display_name="d1")
    assert life.reconcile(record, {"d1": job}, NOW + 2 * HOUR, HOUR) == life.JobLearned(job)
    assert life.reconcile(record, {}, NOW + 2 * HOUR, HOUR) == life.Settled()


# --- the end of a job -------------------------------------------------------------------------------------------------


def job(state, age=HOUR, **changes):
    return Job(name="batches/1", display_name="d1", state=state, created_at=NOW - age, **changes)


@pytest.mark.parametrize("prefix", ["BATCH_STATE_", "JOB_STATE_", ""])
@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "EXPIRED"])
def test_every_terminal_state_ends_the_wait(prefix, state):
    assert life.looked_at(job(prefix + state), NOW) == life.JobEnded(job(prefix + state))


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_a_live_job_is_waited_for(state):
    assert life.looked_at(job(f"BATCH_STATE_{state}", timedelta(hours=47)), NOW) is None


@pytest.mark.parametrize("state", ["BATCH_STATE_DREAMING", "BATCH_STATE_UNSPECIFIED", "", "PARTIALLY_SUCCEEDED"])
def test_a_state_that_says_nothing_is_waited_for_within_bounds(state):
    """An unknown state must neither lose a paid job nor be polled for ever."""
    assert life.looked_at(job(state, timedelta(hours=47)), NOW) is None
    overdue = life.looked_at(job(state, timedelta(hours=73)), NOW)
    assert isinstance(overdue, life.JobUnclear)
    assert overdue.job.error


def test_success_with_output_ends_at_once():
    done = job("BATCH_STATE_SUCCEEDED", responses_file="files/r", ended_at=NOW)
    assert life.looked_at(done, NOW) == life.JobEnded(done)


@pytest.mark.parametrize("ended_at", [None, NOW, NOW - timedelta(days=3)])
def test_no_single_look_gives_up_the_output_of_a_success(ended_at):
    """The state may be seen before the output (tidyverse/ellmer PR #926), by whoever looks first, however late."""
    verdict = life.looked_at(job("BATCH_STATE_SUCCEEDED", ended_at=ended_at), NOW)
    assert isinstance(verdict, life.JobUnclear)
    assert verdict.at == NOW
    assert verdict.job.error


# --- pauses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "ceiling", "expected"),
    [(0, 60, 0.2), (-50, 60, 0.2), (10, 60, 1), (100, 60, 10), (10**6, 60, 60), (10, 0.05, 0.05)],
)
def test_a_job_is_polled_at_a_tenth_of_its_age(age, ceiling, expected):
    assert life.poll_delay(timedelta(seconds=age), ceiling) == timedelta(seconds=expected)


@given(st.floats(-1e6, 1e9), st.floats(0.001, 1e6))
def test_a_poll_never_pauses_longer_than_its_ceiling_or_not_at_all(age, ceiling):
    assert timedelta(0) < life.poll_delay(timedelta(seconds=age), ceiling) <= timedelta(seconds=ceiling)


@given(st.integers(0, 10**6), st.floats(0.001, 1e6))
def test_backoff_doubles_up_to_its_ceiling(failures, ceiling):
    pause = life.backoff(failures, ceiling)
    assert timedelta(seconds=1) <= pause <= timedelta(seconds=max(1, ceiling))
    assert pause <= life.backoff(failures + 1, ceiling)
    assert life.backoff(0, 60) == timedelta(seconds=1)


@pytest.mark.parametrize(
    ("hours", "policy", "told", "cancelled"),
    [
        (23.9, "cancel", False, False),
        (24, "cancel", True, False),
        (35.9, "cancel", True, False),
        (36, "cancel", True, True),
        (47, "report", True, False),
    ],
)
def test_a_job_is_told_of_after_a_day_and_cancelled_after_a_day_and_a_half_on_request(hours, policy, told, cancelled):
    at = NOW + timedelta(hours=hours)
    old = Job(name="batches/1", display_name="gbd-1", state="BATCH_STATE_RUNNING", created_at=NOW)
    record = ShardRecord(shard=0, state=ShardState.SUBMITTED, job=old)
    assert ("RUNNING for more than 24 hours" in life.why_it_runs(old, at)) is told
    assert life.is_stuck(record, old, at, policy) is cancelled
    begun = life.apply(record, life.JobStuck(at))
    assert life.is_stuck(begun, old, NOW, "report"), "what was begun is not taken back"
