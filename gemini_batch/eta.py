"""When the jobs of a run may be over, from the run's own history. Pure.

In: how long its jobs took, how old those are that run, how many have yet to begin, how many may run at once. Out: the
soonest and the latest that is likely, in seconds from now; None before the first job has ended. While nothing new is
heard, neither instant comes nearer, and neither slips by more than one and a half times the time that passed.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, sqrt

HOUR, DAY = 3600.0, 86_400.0

LATE_SHARE = 0.95
"""Of the jobs that ended, so many took no longer than the time that the last ones are given. Ours."""

OVERRUN, REST = 0.5, 0.1
"""A job that has run for longer than that is given half of its overrun more, and any job a tenth of its age: of what
lasts, the rest grows with the age. Ours."""

INSTANT = 1e-3
"""Seconds: no job takes less."""


@dataclass(frozen=True)
class Work:
    """What the estimate goes by. Times are in seconds."""

    took: Sequence[float]
    """By jobs that ended, from their creation to their end."""
    ages: Sequence[float] = ()
    """Of jobs that run."""
    waiting: int = 0
    """Jobs that have yet to be created."""
    fewest: int = 1
    """Jobs that run at once at least, while any wait."""
    most: int = 1
    """And at most."""
    creates_left: int | None = None
    """Jobs that may be created by today's limit; None for no limit."""
    creates_a_day: int = 0
    lost: int = 0
    """Creates whose answer was lost: they are looked for, and perhaps sent again."""
    settle: float = 0.0
    """How long they are looked for."""
    rounds: tuple[int, int] = (0, 0)
    """Later rounds, after all of this, at least and at most."""


@dataclass(frozen=True)
class Eta:
    """Seconds from now, 0 <= low <= high."""

    low: float
    high: float
    jobs: int
    """Ended jobs that it rests on."""


@dataclass(frozen=True)
class _Pace:
    """What a job takes: in the mean between `low` and `high`, and late ones."""

    low: float
    high: float
    late: float


def eta(work: Work) -> Eta | None:
    """When the work may be done; None where no job has ended yet."""
    took = [max(INSTANT, seconds) for seconds in work.took]
    if not took:
        return None
    pace, ages = _pace(took), [max(0.0, age) for age in work.ages]
    least, most = _days(work)
    waiting = work.waiting + work.lost
    low = _end([max(0.0, pace.low - age) for age in ages], waiting, pace.low, max(1, work.most))
    high = _end([_left(pace.high, age) for age in ages], waiting, pace.high, max(1, min(work.fewest, work.most)))
    low = max(low, least + pace.low if least else 0.0) + work.rounds[0] * pace.low
    high = max([high, most + pace.high if most else 0.0, *(_left(pace.late, age) for age in ages)])
    high += (pace.late - pace.high) if waiting else 0.0
    high = max(high, work.settle + pace.late if work.lost else 0.0) + work.rounds[1] * pace.late
    return Eta(min(low, high), high, len(took))


def _pace(took: list[float]) -> _Pace:
    """The mean, as well as so few or so many jobs tell it."""
    jobs = len(took)
    mean = sum(took) / jobs
    spread = sqrt(max(0.0, sum((one - mean) ** 2 for one in took) / jobs))
    error = max(2 * spread / sqrt(jobs), mean / (jobs + 1))
    high = mean + error
    late = sorted(took)[ceil(LATE_SHARE * jobs) - 1]
    return _Pace(max(min(took), mean - error) if jobs > 2 else max(0.0, mean - error), high, max(late, high))


def _left(total: float, age: float) -> float:
    return max(total - age, REST * age, OVERRUN * (age - total))


def _days(work: Work) -> tuple[float, float]:
    """How long until the last job may be created by the limit of jobs a day, at least and at most: a day's places may
    all come free at once, any time within it."""
    if work.creates_left is None or not work.creates_a_day:
        return 0.0, 0.0
    over = work.waiting - max(0, work.creates_left)
    if over <= 0:
        return 0.0, 0.0
    return (over - 1) // work.creates_a_day * DAY, ceil(over / work.creates_a_day) * DAY


def _end(running: list[float], waiting: int, each: float, places: int) -> float:
    """When the last of equally long jobs ends that take the first place to come free. Takes the same time however many
    wait.

    Args:
        running: when those end that hold a place; more may run than there are places, if these became fewer.
    """
    last = max(running, default=0.0)
    if not waiting or each < INSTANT:
        return last
    free = sorted(running)[max(0, len(running) - places) :]
    free += [0.0] * (min(places, len(running) + waiting) - len(free))
    level = _level(sorted(free), waiting * each)
    ends = []
    for begins in free:
        done = max(0, int((level - begins) / each))
        waiting -= done
        ends.append(begins + done * each)
    heapq.heapify(ends)
    for _ in range(max(0, waiting)):
        heapq.heapreplace(ends, ends[0] + each)
    return max(last, *ends)


def _level(begins: list[float], work: float) -> float:
    """When so much work is done if it could be divided at will: how high water stands over a floor of steps."""
    for steps, (below, above) in enumerate(pairwise(begins), 1):
        if (room := steps * (above - below)) >= work:
            return below + work / steps
        work -= room
    return begins[-1] + work / len(begins)


def in_words(seconds: float) -> str:
    """`40 s`, `40 min`, `7.5 h`, `3.2 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / HOUR:.1f} h" if seconds < 2 * DAY else f"{seconds / DAY:.1f} days"
