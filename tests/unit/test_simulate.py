"""The simulator: how close to the floor the fleet comes, and laws that hold under any limits."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemini_batch.config import Options
from gemini_batch.simulate import (
    Delays,
    JobTimes,
    Offered,
    Scenario,
    ServiceLimits,
    drawn_plan,
    floor_seconds,
    forecast,
    forecast_in_words,
    greedy_seconds,
    simulate,
)

HOUR, DAY = 3_600.0, 86_400.0
AT_ONCE = Delays(upload=0, create=0, collect=0)


def limits(**given):
    return Options(**given).limits()


EACH_AN_HOUR = JobTimes(HOUR)
UNEVEN_JOBS = JobTimes(HOUR, 0.7)


def one_run(shards, service, times=EACH_AN_HOUR, known=True, uneven=0.0, tokens=300_000, seed=0, **more):
    """A run whose desk goes by the service's limits, or by none."""
    own = limits(max_live_jobs=service.live_jobs, max_enqueued_tokens=service.enqueued_tokens) if known else limits()
    plan = drawn_plan(shards, tokens, uneven, seed)
    return Scenario((Offered(plan, own),), service, times, seed=seed, **more)


# --- the floor --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "hours"),
    [
        (ServiceLimits(live_jobs=4), 10),
        (ServiceLimits(live_jobs=100), 1),
        (ServiceLimits(live_jobs=100, enqueued_tokens=1_000), 4),
        (ServiceLimits(live_jobs=5, foreign_jobs=1), 10),
        (ServiceLimits(live_jobs=100, enqueued_tokens=1_000, tokens_scale=2), 8),
        (ServiceLimits(live_jobs=100, creates_a_day=20), 25),
    ],
    ids=["jobs", "longest job", "tokens", "jobs of others", "tokens as counted", "creates a day"],
)
def test_the_floor_is_the_work_over_the_scarcest_limit(service, hours):
    """Forty jobs of an hour and a hundred tokens each."""
    scenario = one_run(40, service, tokens=100, delays=AT_ONCE)
    assert floor_seconds(scenario) == pytest.approx(hours * HOUR)


def test_the_floor_counts_no_time_in_which_the_runs_have_not_come():
    """A run that comes late cannot be done before."""
    service = ServiceLimits(live_jobs=4)
    scenario = one_run(40, service, delays=AT_ONCE)
    late = replace(scenario.runs[0], arrives=100 * HOUR)
    assert floor_seconds(replace(scenario, runs=(*scenario.runs, late))) == pytest.approx(110 * HOUR)


@given(st.integers(1, 30), st.integers(1, 8), st.integers(1, 3_000), st.integers(0, 99))
def test_no_greedy_schedule_beats_the_floor(shards, live, tokens, seed):
    """The bound has to be one."""
    service = ServiceLimits(live_jobs=live, enqueued_tokens=max(tokens, 1_000))
    scenario = one_run(shards, service, JobTimes(HOUR, 1.0), uneven=0.9, tokens=1_000, seed=seed, delays=AT_ONCE)
    assert greedy_seconds(scenario) >= floor_seconds(scenario) * (1 - 1e-9)


# --- how close the fleet comes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "service",
    [ServiceLimits(live_jobs=20), ServiceLimits(live_jobs=100, enqueued_tokens=6_000_000)],
    ids=["live jobs", "tokens"],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_with_known_limits_a_run_takes_no_twentieth_more_than_the_floor(service, seed):
    found = simulate(scenario := one_run(400, service, seed=seed))
    assert found.seconds <= 1.05 * floor_seconds(scenario)
    assert found.rejected == 0


def test_an_early_long_job_is_the_floor_of_a_run_of_few():
    """A hundred jobs that all go at once take as long as the longest of them, and their steps."""
    found = simulate(scenario := one_run(100, ServiceLimits(), UNEVEN_JOBS))
    assert found.seconds <= 1.05 * floor_seconds(scenario)


@pytest.mark.parametrize("times", [EACH_AN_HOUR, UNEVEN_JOBS], ids=["even", "uneven"])
@pytest.mark.parametrize(
    "service",
    [ServiceLimits(live_jobs=20), ServiceLimits(enqueued_tokens=6_000_000)],
    ids=["live jobs", "tokens"],
)
def test_learnt_limits_cost_no_quarter_more_time_and_then_less_than_one_create_in_a_hundred(service, times):
    """Held against a schedule that knows the limits and loses no time: what comes on top is what learning costs."""
    found = simulate(scenario := one_run(400, service, times, known=False, uneven=0.5))
    assert found.seconds <= 1.25 * greedy_seconds(scenario)
    assert found.late_rejected_share < 0.01
    assert found.rejected_share < 0.1


def test_jobs_of_others_leave_less_room_and_no_create_is_refused_for_them():
    scenario = one_run(100, ServiceLimits(live_jobs=10, foreign_jobs=5))
    found = simulate(scenario)
    assert (found.most_live, found.rejected) == (5, 0)
    assert found.seconds <= 1.05 * floor_seconds(scenario)


def test_a_small_run_that_comes_late_is_not_behind_all_of_a_large_one():
    """Ten shards beside four hundred, twenty at once: alone they take an hour, in their turn not much longer."""
    service = ServiceLimits(live_jobs=20)
    large = one_run(400, service).runs[0]
    small = replace(large, shards=drawn_plan(10), arrives=2.5 * HOUR)
    found = simulate(Scenario((large, small), service, JobTimes(HOUR, 0.3)))
    assert found.finished[1] < 4 * HOUR
    assert found.finished[0] > 15 * HOUR


def test_shards_that_are_larger_than_the_limit_are_halved_until_they_pass():
    """Nobody knows the limit; a shard over it would be refused for ever."""
    found = simulate(one_run(3, ServiceLimits(enqueued_tokens=100_000), known=False))
    assert found.split == 9, "each of three in two, and its halves again"
    assert found.most_tokens <= 100_000


# --- laws -------------------------------------------------------------------------------------------------------------

SERVICES = st.builds(
    ServiceLimits,
    live_jobs=st.integers(2, 12),
    enqueued_tokens=st.none() | st.integers(300_000, 2_000_000),
    creates_a_day=st.none() | st.integers(8, 40),
    foreign_jobs=st.integers(0, 1),
)
PLANS = st.builds(
    lambda shards, uneven, seed, arrives: (drawn_plan(shards, 300_000, uneven, seed), arrives),
    st.integers(0, 12),
    st.floats(0, 0.99),
    st.integers(0, 99),
    st.floats(0, 5_000),
)
TIMES = st.builds(JobTimes, st.floats(1, 20_000), st.floats(0, 1))


def offered(plans, known):
    return tuple(Offered(plan, known, arrives) for plan, arrives in plans)


@settings(max_examples=25, deadline=None)
@given(SERVICES, st.lists(PLANS, min_size=1, max_size=3), TIMES, st.integers(0, 99))
def test_under_known_limits_nothing_is_refused_and_everything_ends(service, plans, times, seed):
    """`simulate` raises where a run does not end; the service refuses whatever passes a limit."""
    known = limits(
        max_live_jobs=service.live_jobs,
        max_enqueued_tokens=service.enqueued_tokens,
        max_creates_per_day=service.creates_a_day,
    )
    found = simulate(Scenario(offered(plans, known), service, times, seed=seed))
    assert (found.rejected, found.throttled, found.split) == (0, {}, 0)
    assert found.creates == sum(len(plan) for plan, _ in plans)


@settings(max_examples=15, deadline=None)
@given(SERVICES, st.lists(PLANS, min_size=1, max_size=3), TIMES, st.integers(0, 99))
def test_under_limits_that_nobody_knows_everything_ends(service, plans, times, seed):
    """However little is allowed; and the same scenario always ends alike."""
    service = replace(service, creates_a_day=None)
    scenario = Scenario(offered(plans, limits()), service, times, seed=seed)
    found = simulate(scenario)
    assert found.creates - found.rejected == sum(len(plan) for plan, _ in plans) + found.split
    assert found == simulate(scenario)


# --- what a plan may take ---------------------------------------------------------------------------------------------


def test_a_forecast_names_what_it_rests_on():
    found = forecast(drawn_plan(50), limits(max_live_jobs=10), median_hours=2.0)
    assert found.most_live == 10
    assert 5 * DAY <= found.seconds_if_all_take_the_target <= 5.1 * DAY
    assert 10 * HOUR <= found.seconds < 3 * DAY
    said = forecast_in_words(found)
    assert "5.0 days if every job takes 24 h" in said
    assert "10 live jobs (--max-live-jobs)" in said
    assert found.as_json()["assumptions"] == list(found.assumptions)


def test_a_forecast_waits_for_the_next_day_where_creates_of_a_day_are_limited():
    found = forecast(drawn_plan(25), limits(max_creates_per_day=10), median_hours=12)
    assert found.seconds > 2 * DAY
    assert 3 * DAY <= found.seconds_if_all_take_the_target < 3.1 * DAY
    assert found.creates_a_day <= 10


def test_a_row_that_is_larger_than_the_limit_does_not_keep_a_forecast_from_ending():
    """The desk tries it alone; whether the service takes it no simulation can tell."""
    plan = [shard.model_copy(update={"rows": 1}) for shard in drawn_plan(3)]
    assert forecast(plan, limits(max_enqueued_tokens=1_000)).seconds > 0


def test_a_cap_on_money_does_not_hold_up_a_forecast():
    capped = limits(max_cost=0.01, max_output_tokens=10)
    assert forecast(drawn_plan(2), capped).seconds > 0


def test_a_plan_without_shards_takes_no_time():
    assert forecast((), limits()).seconds == 0
