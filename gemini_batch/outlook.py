"""What a run's records say of its pace: rows a second, when it may be over, what it will have cost, what failed. Pure.

In: plan, last records, limits. Out: the keys that `status --json` has for these. One pass over the records.
"""

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from gemini_batch.coordinator.repair import passing
from gemini_batch.eta import Eta, Work, eta
from gemini_batch.gemini.estimate import estimate_plan
from gemini_batch.records import IN_FLIGHT, Limits, RunRecord, ShardPlan, ShardRecord, ShardState

S = ShardState

RECENT_JOBS = 200
"""So many of the jobs that ended last tell how long a job takes: the service is not equally busy all day. Ours."""

RECENT_SHARDS, LEAST_WINDOW = 20, 10
"""So many of the shards that were collected last tell the rows a second, over a tenth of the run's time at least: jobs
that were created together end together. Ours."""

ENOUGH_LINES = 20
"""Lines with a known cost, from which on their mean is expected of the rest rather than the plan's estimate. Ours."""


@dataclass(frozen=True)
class Books:
    """A run's records, as of now."""

    run: RunRecord
    plan: Sequence[ShardPlan]
    records: Mapping[int, ShardRecord]
    """The last of each shard; of one that has not begun there may be none."""
    limits: Limits
    wanted: Sequence[ShardRecord]
    """Shards whose failed rows are bought again, and are in no round yet."""
    now: datetime


@dataclass(frozen=True)
class Pace:
    """Keys of `status --json`; None where too little is known."""

    rows_per_s: float | None
    eta: dict[str, Any] | None
    expected_usd: float | None


def pace_of(books: Books, states: Mapping[str, int], *, moves: bool, is_full: bool, finished: bool) -> Pace:
    """How fast a run goes, and where that leads.

    Args:
        states: how many records are in each state.
        moves: somebody works on it, and nothing holds it back.
        is_full: shards are turned away at the quota desk: no more run at once than do now.
    """
    seen = look(books, states)
    found = when_over(books, seen, is_full=is_full) if moves else None
    return Pace(rows_a_second(seen, books.now, finished), _told(found, books.now), expected_usd(books, seen))


@dataclass
class Seen:
    """What one pass over the records finds."""

    began: datetime
    """When the round began that a person asked for last, or the run."""
    states: Mapping[str, int]
    collected: list[tuple[datetime, int]] = field(default_factory=list)
    """Since it began: when, and how many rows."""
    ended: list[tuple[datetime, datetime]] = field(default_factory=list)
    """Creation and end of jobs that gave something back, in the provider's time."""
    ages: list[float] = field(default_factory=list)
    """Seconds, of jobs that run and creates on the wire."""
    spent_usd: float = 0.0
    priced: int = 0
    """Lines with a known cost."""
    left: list[ShardPlan] = field(default_factory=list)
    """Shards that have yet to be collected."""


def look(books: Books, states: Mapping[str, int]) -> Seen:
    """Read all records once.

    What was collected before a person asked for a round counts for money and for how long jobs take, not for rows a
    second: days may lie between.
    """
    since = first_round(books.plan)
    seen = Seen(_began(books, since), states)
    for entry in books.plan:
        record = books.records.get(entry.shard)
        if record is None or record.state is not S.COLLECTED:
            seen.left.append(entry)
        if record is not None and record.sends:
            _note(seen, entry, record, books.now, entry.round >= since)
    return seen


def _began(books: Books, since: int) -> datetime:
    if not since:
        return books.run.created_at
    records = (books.records.get(entry.shard) for entry in books.plan if entry.round == since)
    return min((record.sends[0].began_at for record in records if record and record.sends), default=books.now)


def _note(seen: Seen, entry: ShardPlan, record: ShardRecord, now: datetime, counts: bool) -> None:
    job, tally = record.job, record.tally
    if job and job.created_at and job.ended_at and (tally is None or tally.received):
        seen.ended.append((job.created_at, job.ended_at))
    if record.state is S.SUBMITTED:
        seen.ages.append((now - ((job and job.created_at) or record.sends[-1].began_at)).total_seconds())
    elif record.state is S.SENDING:
        seen.ages.append((now - record.sends[-1].began_at).total_seconds())
    if tally is None:
        return
    seen.spent_usd += tally.cost_usd
    seen.priced += max(0, tally.received - tally.unpriced)
    if counts and record.at:
        rows = entry.rows if entry.unanswered is None else entry.unanswered
        seen.collected.append((record.at, rows))


def first_round(plan: Sequence[ShardPlan]) -> int:
    """The round that a person asked for last; 0 where nobody did."""
    return max((entry.round for entry in plan if entry.asked_for), default=0)


def rows_a_second(seen: Seen, now: datetime, finished: bool) -> float | None:
    """Over the shards that were collected last, until now, or of a finished run over all; None before the first.

    A row that is bought again in a later round counts again.
    """
    if not seen.collected:
        return None
    until = max(at for at, _ in seen.collected) if finished else now
    since = seen.began
    if not finished and len(seen.collected) > RECENT_SHARDS:
        share = until - (until - since) / LEAST_WINDOW
        since = min(share, heapq.nlargest(RECENT_SHARDS, seen.collected)[-1][0])
    seconds = (until - since).total_seconds()
    rows = sum(rows for at, rows in seen.collected if at > since)
    return round(rows / seconds, 3) if seconds > 0 else None


def when_over(books: Books, seen: Seen, *, is_full: bool) -> Eta | None:
    """When the rest may be done."""
    limits, wanted = books.limits, bool(books.wanted)
    recent = heapq.nlargest(RECENT_JOBS, seen.ended, key=lambda job: job[1])
    took = [(ended - created).total_seconds() for created, ended in recent]
    most, in_flight = _places(seen, limits), sum(seen.states.get(state, 0) for state in IN_FLIGHT)
    is_full = is_full and (in_flight > 1 or len(took) > 2)  # the wait for a run's first job is short
    creates, lost = limits.max_creates_per_day, seen.states.get(S.UNKNOWN, 0)
    begun = len(seen.ages) + lost + seen.states.get(S.ENDED, 0)
    return eta(
        Work(
            took=took,
            ages=seen.ages,
            waiting=max(0, len(seen.left) - begun),
            fewest=max(1, in_flight, _at_once(recent, took)) if is_full else most,
            most=most,
            creates_left=None if creates is None else creates - _sent_within_a_day(books),
            creates_a_day=creates or 0,
            lost=lost,
            settle=limits.settle,
            rounds=(int(wanted), int(wanted or bool(books.plan and books.plan[-1].round and seen.left))),
        )
    )


def _sent_within_a_day(books: Books) -> int:
    """Jobs that the run created in the last 24 hours."""
    yesterday = books.now - timedelta(days=1)
    return sum(send.began_at > yesterday for record in books.records.values() for send in record.sends)


def _places(seen: Seen, limits: Limits) -> int:
    """Jobs that may run at once by the limits."""
    most, tokens = limits.max_live_jobs, limits.max_enqueued_tokens
    needed = sum(entry.tokens for entry in seen.left)
    if tokens is not None and needed:
        most = min(most, int(tokens / needed * len(seen.left)))
    return max(1, most)


def _at_once(jobs: Sequence[tuple[datetime, datetime]], took: Sequence[float]) -> int:
    """How many ran at once in the mean, by Little's law."""
    if not jobs:
        return 0
    span = max(ended for _, ended in jobs) - min(created for created, _ in jobs)
    return round(sum(took) / span.total_seconds()) if span else len(jobs)


def expected_usd(books: Books, seen: Seen) -> float | None:
    """What the run will have cost: what is known, and for the rest the mean of it, or the plan's estimate before there
    is one; None where nobody knows a price."""
    again = sum(failed.requests for record in books.wanted for failed in passing(record, books.limits))
    requests = sum(entry.requests for entry in seen.left) + again
    if seen.priced >= ENOUGH_LINES:
        return round(seen.spent_usd * (1 + requests / seen.priced), 6)
    cost = estimate_plan(books.run.asked, seen.left, books.now, books.limits.price)
    return None if cost is None else round(seen.spent_usd + cost.expected, 6)


def failed_by_kind(books: Books) -> dict[str, int]:
    """Rows that have failed for good, by kind, as far as collected shards say; most first. In a run of which a person
    bought rows again, those of that round and later ones: which of the earlier are mended only the dataset knows.
    """
    since = first_round(books.plan)
    again = {source for entry in books.plan for source in entry.sources} | {record.shard for record in books.wanted}
    kinds = Counter[str]()
    for entry in books.plan:
        record = books.records.get(entry.shard)
        if record and record.tally and record.tally.by_kind and entry.round >= since:
            for kind, rows in record.tally.by_kind.items():
                kinds[kind] += rows
            if record.shard in again:
                kinds.subtract(dict(_bought_again(record, books.limits)))
    return {kind: rows for kind, rows in kinds.most_common() if rows > 0}


def _bought_again(record: ShardRecord, limits: Limits) -> Iterator[tuple[str, int]]:
    """Rows of a shard that are in a later round, or will be, by kind."""
    tally = record.tally
    if tally is None:
        return
    moved = Counter[str]()
    if record.refused:
        moved["invalid_argument"] = tally.by_kind.get("invalid_argument", 0) - len(record.left_out)
    for failed in passing(record, limits):
        moved[failed.kind] += failed.rows
    yield from ((kind, min(rows, tally.by_kind.get(kind, 0))) for kind, rows in moved.items())


def _told(found: Eta | None, now: datetime) -> dict[str, Any] | None:
    """An estimate as `status --json` has it."""
    if found is None:
        return None
    earliest, latest = (now + timedelta(seconds=round(seconds)) for seconds in (found.low, found.high))
    return {
        "earliest": earliest.isoformat(timespec="seconds"),
        "latest": latest.isoformat(timespec="seconds"),
        "seconds_low": round(found.low),
        "seconds_high": round(found.high),
        "jobs": found.jobs,
    }
