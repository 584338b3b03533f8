"""How long a plan may take, by a simulation of its shards under the limits that hold for it. Pure.

In: shards, limits, the median time of a job. Out: seconds, and in words what they rest on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log
from statistics import NormalDist
from typing import Any

from gemini_batch.eta import in_words
from gemini_batch.records import Limits, ShardPlan
from gemini_batch.simulate.fleet import simulate
from gemini_batch.simulate.scenario import HOUR, JobTimes, Offered, Scenario, ServiceLimits

TARGET_HOURS = 24.0
"""Of a job: "target turnaround 24 hours", mostly faster, without a promise ("Batch API" guide)."""

MEDIAN_HOURS = 4.0
"""Ours: nothing is published but the target, and that most jobs are faster."""

LATE_SHARE = 0.05
"""Of jobs that take longer than the target; ours as well. Such are reported (python-genai #2221, #2974)."""

DRAWS, FEW_SHARDS = 5, 500
"""Of few jobs the slowest one decides: the median of so many simulations is told."""

LEAST_SPREAD = 0.25
"""Jobs differ, also where their median is near the target."""


@dataclass(frozen=True)
class Forecast:
    """What a plan takes from its first upload to its last result, in seconds."""

    seconds: float
    seconds_if_all_take_the_target: float
    most_live: int
    most_tokens: int
    creates_a_day: int
    assumptions: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The object `simulated` of `plan --json`."""
        return {
            "seconds": round(self.seconds),
            "seconds_at_24h_jobs": round(self.seconds_if_all_take_the_target),
            "highest_live_jobs": self.most_live,
            "highest_enqueued_tokens": self.most_tokens,
            "highest_creates_a_day": self.creates_a_day,
            "assumptions": list(self.assumptions),
        }


def job_times(median_hours: float) -> JobTimes:
    """Lognormal, so that one in twenty takes longer than the target."""
    spread = log(TARGET_HOURS / median_hours) / NormalDist().inv_cdf(1 - LATE_SHARE)
    return JobTimes(median_hours * HOUR, max(spread, LEAST_SPREAD))


def forecast(shards: Sequence[ShardPlan], limits: Limits, median_hours: float = MEDIAN_HOURS) -> Forecast:
    """How long one run of these shards takes where nothing else uses the project and its limits are as known."""
    service = _service(shards, limits)
    runs = (Offered(tuple(shards), limits.model_copy(update={"max_cost": None})),)
    times, draws = job_times(median_hours), DRAWS if len(shards) <= FEW_SHARDS else 1
    drawn = [simulate(Scenario(runs, service, times, seed=seed)) for seed in range(draws)]
    expected = sorted(drawn, key=lambda found: found.seconds)[draws // 2]
    slow = simulate(Scenario(runs, service, JobTimes(TARGET_HOURS * HOUR)))
    return Forecast(
        seconds=expected.seconds,
        seconds_if_all_take_the_target=slow.seconds,
        most_live=max(expected.most_live, slow.most_live),
        most_tokens=max(expected.most_tokens, slow.most_tokens),
        creates_a_day=max(expected.most_creates_a_day, slow.most_creates_a_day),
        assumptions=_assumptions(limits, median_hours),
    )


def _service(shards: Sequence[ShardPlan], limits: Limits) -> ServiceLimits:
    """One that allows what the limits say, and each shard by itself."""

    def at_least(limit: int | None, sizes: Iterable[int]) -> int | None:
        return None if limit is None else max([limit, *sizes])

    return ServiceLimits(
        live_jobs=limits.max_live_jobs,
        enqueued_tokens=at_least(limits.max_enqueued_tokens, (shard.tokens for shard in shards)),
        creates_a_day=limits.max_creates_per_day,
        stored_bytes=at_least(limits.max_stored_bytes, (shard.request_bytes for shard in shards)),
    )


def _assumptions(limits: Limits, median_hours: float) -> tuple[str, ...]:
    tokens, creates = limits.max_enqueued_tokens, limits.max_creates_per_day
    late = "" if job_times(median_hours).spread == LEAST_SPREAD else f", {LATE_SHARE:.0%} of them over 24 h"
    return (
        f"jobs of {median_hours:g} h in the median (--job-hours){late}: the service's target is 24 h, mostly faster",
        f"{limits.max_live_jobs} live jobs (--max-live-jobs)",
        f"{creates:,} jobs created in 24 hours" if creates else "no limit of jobs a day (--tier sets one)",
        f"{tokens:,} tokens in flight" if tokens else "no limit of tokens in flight (--tier sets one)",
        "nothing else uses the project, and no row is bought again",
    )


def forecast_in_words(found: Forecast) -> str:
    """Two lines, as `cost_in_words` has them."""
    expected, slow = in_words(found.seconds), in_words(found.seconds_if_all_take_the_target)
    return (
        f"time     expected {expected}; {slow} if every job takes 24 h; at most {found.most_live:,} jobs at once, "
        f"{found.creates_a_day:,} created in a day\n"
        f"           assuming: {'; '.join(found.assumptions)}"
    )
