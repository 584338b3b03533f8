"""How close to the floor runs come that share a project, by the simulator: a table for docs/performance.md.

    python benchmarks/simulate.py [--shards 100,1000,10000] [--runs 1,3,10] [--seeds 2] [--even]

Each line is the worst of the seeds. `known`: the desk goes by the service's limits. `learnt`: it knows of none and has
to find them out by being refused.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from gemini_batch.config import Options
from gemini_batch.records import Limits
from gemini_batch.simulate import (
    JobTimes,
    Offered,
    Scenario,
    ServiceLimits,
    Simulated,
    drawn_plan,
    floor_seconds,
    greedy_seconds,
    simulate,
)

SERVICE = ServiceLimits(live_jobs=100, enqueued_tokens=12_000_000)
"""Some forty jobs of a drawn plan at once: of these two limits it is the tokens that run out."""

TIMES = {"1 h each": JobTimes(3600.0), "1 h, spread": JobTimes(3600.0, 0.7)}

HEAD = (
    "| runs | shards | jobs take | limits | makespan / floor | / greedy | first run done | creates refused "
    "| of late ones | seconds to simulate |\n|---:|---:|---|---|---:|---:|---:|---:|---:|---:|\n"
)


@dataclass(frozen=True)
class _Case:
    runs: int
    shards: int
    times: str
    known: bool

    def scenario(self, seed: int) -> Scenario:
        limits = Options(max_enqueued_tokens=SERVICE.enqueued_tokens if self.known else None).limits()
        return Scenario(tuple(self._offered(limits, seed)), SERVICE, TIMES[self.times], seed=seed)

    def _offered(self, limits: Limits, seed: int) -> Iterator[Offered]:
        """Runs of different size: each has twice as many shards as the one before, up to eight times the first."""
        weights = [2 ** min(run, 3) for run in range(self.runs)]
        for run, weight in enumerate(weights):
            shards = max(1, self.shards * weight // sum(weights))
            yield Offered(drawn_plan(shards, 400_000, uneven=0.5, seed=seed * 100 + run), limits)


@dataclass(frozen=True)
class _Outcome:
    found: Simulated
    of_floor: float
    of_greedy: float
    took: float


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--shards", default="100,1000,10000")
    arguments.add_argument("--runs", default="1,3,10")
    arguments.add_argument("--seeds", type=int, default=2)
    arguments.add_argument("--even", action="store_true", help="only jobs that all take the same time")
    given = arguments.parse_args()
    sys.stdout.write(HEAD)
    for shards in map(int, given.shards.split(",")):
        for runs in map(int, given.runs.split(",")):
            for times in list(TIMES)[: 1 if given.even else None]:
                for known in (True, False):
                    _show(_Case(runs, shards, times, known), given.seeds)


def _show(case: _Case, seeds: int) -> None:
    outcomes = [_measured(case.scenario(seed)) for seed in range(seeds)]
    worst = max(outcomes, key=lambda one: one.of_floor)
    sys.stdout.write(
        f"| {case.runs} | {case.shards:,} | {case.times} | {'known' if case.known else 'learnt'} "
        f"| {worst.of_floor:.3f} | {worst.of_greedy:.3f} | {min(worst.found.finished) / worst.found.seconds:.0%} "
        f"| {max(one.found.rejected_share for one in outcomes):.1%} "
        f"| {max(one.found.late_rejected_share for one in outcomes):.1%} | {max(one.took for one in outcomes):.1f} |\n"
    )
    sys.stdout.flush()


def _measured(scenario: Scenario) -> _Outcome:
    began = time.process_time()
    found = simulate(scenario)
    took = time.process_time() - began
    return _Outcome(found, found.seconds / floor_seconds(scenario), found.seconds / greedy_seconds(scenario), took)


if __name__ == "__main__":
    main()
