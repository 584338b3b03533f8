"""What a sweep rings for. Pure.

In: the last record of every shard, what Redis remembers of each, the free places at the desk. Out: the shards that are
due, the most urgent first: what is paid for, then what is begun, then what has yet to begin.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from gemini_batch.records import ShardRecord, ShardState

S = ShardState

URGENCY = {S.ENDED: 0, S.READY: 1, S.SENDING: 2, S.CLAIMED: 3, S.PLANNED: 4}
"""Shards whose job is looked for or looked at are the sweep's own, final ones nobody's."""


@dataclass(frozen=True)
class Wake:
    """When a shard is worth ringing for again, and why it rests. A hint: without it the next sweep rings."""

    began: float
    until: float
    failures: int
    reason: str
    known: float | None = None
    """When what it waits for is over, if that is known."""

    def rests(self, now: float) -> bool:
        """Whether it still does. Not so if Redis's clock was put back to before it began."""
        return self.began <= now < self.until


def due_shards(
    records: Iterable[ShardRecord],
    wakes: Mapping[int, Wake],
    now: float,
    room: int,
    budget: int | None = None,
    tokens: Mapping[int, int] | None = None,
) -> list[int]:
    """The shards to ring for, in order.

    Args:
        wakes: by shard; times as `now`.
        room: how many that have not begun the desk could let in.
        budget: tokens of all these together; None for any. The first is rung for whatever it has: the desk keeps room
            for one that has waited for long.
        tokens: by shard.
    """
    due = [record for record in records if record.state in URGENCY and not _rests(wakes.get(record.shard), now)]
    begun = sorted((URGENCY[record.state], record.shard) for record in due if record.state is not S.PLANNED)
    waiting = sorted(record.shard for record in due if record.state is S.PLANNED)
    return [shard for _, shard in begun] + list(islice(fitting(waiting, budget, tokens or {}), max(0, room)))


def fitting(waiting: Iterable[int], budget: int | None, tokens: Mapping[int, int]) -> Iterator[int]:
    """The shards that may be let in together, and the first of all."""
    first = True
    for shard in waiting:
        size = tokens.get(shard, 0)
        if first or budget is None or size <= budget:
            yield shard
            budget = None if budget is None else budget - (size if size <= budget else 0)
        first = False


def until_next(wakes: Iterable[Wake], now: float, at_most: timedelta) -> timedelta:
    """How long until a sweep has something to do, but for news."""
    soonest = min((wake.until - now for wake in wakes if wake.rests(now)), default=at_most.total_seconds())
    return timedelta(seconds=min(soonest, at_most.total_seconds()))


def _rests(wake: Wake | None, now: float) -> bool:
    return wake is not None and wake.rests(now)
