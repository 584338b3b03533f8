"""What no schedule can beat, to hold a simulated one against. Pure.

In: a scenario. Out: seconds from the first arrival.
"""

import heapq
from bisect import bisect_right, insort
from collections.abc import Iterator

from gemini_batch.simulate.scenario import DAY, Scenario


def floor_seconds(scenario: Scenario) -> float:
    """The largest of: total work / limit, for live jobs (job seconds), enqueued tokens (token seconds) and workers
    (steps), of what arrives from any time on; whole days that the creates take; the longest job. Besides, what comes
    before the first job and after the last: one upload, one create, one collecting.

    No schedule is shorter, even one that knows how long each job takes; with few or very uneven jobs none may reach it
    (`greedy_seconds`)."""
    began, delays = min(run.arrives for run in scenario.runs), scenario.delays
    around = delays.upload + delays.create + delays.collect
    steps = sum(len(run.shards) for run in scenario.runs) * around / scenario.workers
    jobs = max(_from(scenario, at) + at - began for at in {run.arrives for run in scenario.runs})
    return max(steps, around + jobs)


def _from(scenario: Scenario, arrival: float) -> float:
    """The bound by what arrives at that time or later."""
    service = scenario.service
    work = [
        (scenario.job_seconds(number, shard.shard), shard.tokens * service.tokens_scale)
        for number, run in enumerate(scenario.runs)
        if run.arrives >= arrival
        for shard in run.shards
    ]
    if not work:
        return 0.0
    seconds = [taken for taken, _ in work]
    bounds = [max(seconds), sum(seconds) / (service.live_jobs - service.foreign_jobs)]
    if service.enqueued_tokens is not None:
        bounds.append(sum(taken * tokens for taken, tokens in work) / service.enqueued_tokens)
    if service.creates_a_day is not None:
        bounds.append((len(work) - 1) // service.creates_a_day * DAY + min(seconds))
    return max(bounds)


def greedy_seconds(scenario: Scenario) -> float:
    """What it takes to begin, without any delay, the largest shard that fits whenever one fits: the best that can be
    asked of who does not know how long jobs take. All runs are taken as one."""
    service = scenario.service
    waiting: list[tuple[float, int, int]] = []  # tokens, run, shard: the largest last
    arrivals = sorted(((run.arrives, number) for number, run in enumerate(scenario.runs)), reverse=True)
    live: list[tuple[float, float]] = []  # ends, tokens
    created: list[float] = []
    room = float("inf") if service.enqueued_tokens is None else float(service.enqueued_tokens)
    began = now = arrivals[-1][0]
    last = now
    while arrivals or waiting or live:
        while arrivals and arrivals[-1][0] <= now:
            _, number = arrivals.pop()
            for weight, shard in _weights(scenario, number):
                insort(waiting, (weight, number, shard))
        while (
            waiting and len(live) < service.live_jobs - service.foreign_jobs and _day_has_room(scenario, created, now)
        ):
            at = bisect_right(waiting, (room, len(scenario.runs), 0))
            if at == 0 and live:
                break
            at = max(at, 1)  # one that is larger than the limit goes alone: it would have to be split
            weight, number, shard = waiting.pop(at - 1)
            room -= weight
            created.append(now)
            heapq.heappush(live, (now + scenario.job_seconds(number, shard), weight))
        now = min(_next_times(scenario, arrivals, waiting, live, created, now))
        while live and live[0][0] <= now:
            last, weight = heapq.heappop(live)
            room += weight
    return last - began


def _weights(scenario: Scenario, number: int) -> Iterator[tuple[float, int]]:
    for shard in scenario.runs[number].shards:
        yield shard.tokens * scenario.service.tokens_scale, shard.shard


def _day_has_room(scenario: Scenario, created: list[float], now: float) -> bool:
    limit = scenario.service.creates_a_day
    return limit is None or len(created) < limit or created[-limit] <= now - DAY


def _next_times(
    scenario: Scenario,
    arrivals: list[tuple[float, int]],
    waiting: list[tuple[float, int, int]],
    live: list[tuple[float, float]],
    created: list[float],
    now: float,
) -> Iterator[float]:
    if arrivals:
        yield arrivals[-1][0]
    if live:
        yield live[0][0]
    limit = scenario.service.creates_a_day
    if waiting and limit is not None and len(created) >= limit and created[-limit] > now - DAY:
        yield created[-limit] + DAY
