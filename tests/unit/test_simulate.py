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


def one_run(shards, service, times=JobTimes(), known=True, uneven=0.0, tokens=300_000, seed=0, **more):
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
