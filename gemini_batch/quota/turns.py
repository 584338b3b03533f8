"""Whose turn it is: runs that share a project, by what they hold. Pure.

Each run has one shard at the head of its queue. Who holds least comes first, so a small run is never behind all of a
large one; a shard that does not fit lets others pass until it has waited for a while, then room is kept for it.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from gemini_batch.records import Frozen

WAIT_SECONDS = 120.0
"""A run whose head has neither asked nor been named for so long waits no more: it was paused, or its process has gone.
Longer than any run of a fleet goes without a sweep, but for very large ones."""

PATIENCE_SECONDS = 600.0
"""From then on room is kept for a shard: so long, at most, do others pass it by."""


class Waiter(Frozen):
    """A shard that was not let in."""

    run: str
    shard: int
    model: str
    tokens: int
    request_bytes: int = 0
    since: float
    until: float
    """Desk time: when it counts as waiting no more."""

    @property
    def name(self) -> str:
        return f"{self.run}/{self.shard}"

    def has_waited(self, now: float) -> bool:
        """Whether room is to be kept for it."""
        return now - self.since >= PATIENCE_SECONDS


@dataclass
class Kept:
    """Room that is not for the one who asks: places, tokens by model, bytes."""

    jobs: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    stored_bytes: int = 0


def in_turn(heads: Iterable[Waiter], held: Callable[[Waiter], float], now: float) -> list[Waiter]:
    """The heads of the runs, who is next first: one that has waited for long, then who holds least, then who waits
    longest.

    Args:
        held: of the run of a head, the share of what is scarce.
    """
    aged = min((head for head in heads if head.has_waited(now)), key=lambda head: (head.since, head.name), default=None)
    rest = sorted((head for head in heads if head is not aged), key=lambda head: (held(head), head.since, head.name))
    return [aged, *rest] if aged else rest
