"""What a project has: in flight, at the service, created today; its own and others'. Pure sums.

In: leases, what outlives them, what listings show of others. Out: how much of each limit is taken.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from gemini_batch.quota.belief import Belief
from gemini_batch.quota.turns import Waiter
from gemini_batch.quota.uses import DAY_SECONDS, Uses
from gemini_batch.quota.words import Applicant, Foreign, Lease
from gemini_batch.records import ShardState

S = ShardState
SENT = frozenset({S.SENDING, S.UNKNOWN, S.SUBMITTED})
"""States in which there is, or may be, a job at the service."""


@dataclass
class Holdings:
    """One project's."""

    leases: dict[str, Lease] = field(default_factory=dict)
    """By name of the shard."""
    uses: dict[str, Uses] = field(default_factory=dict)
    """By run: what its shards that are no longer in flight still take."""
    foreign: Foreign = field(default_factory=Foreign)
    scales: dict[str, float] = field(default_factory=dict)
    """By run: actual input tokens of what has come back, over the estimate; 1 where nothing is known."""
    beliefs: dict[str, Belief] = field(default_factory=dict)
    """By model, once it was refused."""

    def sent(self, besides: str, now: float) -> list[Lease]:
        """Leases of shards that have, or may have, a job at the service, or were told that they may create it."""
        return [
            lease
            for name, lease in self.leases.items()
            if name != besides and (lease.state in SENT or lease.cleared_until > now)
        ]

    def has_unsent(self, model: str) -> bool:
        """Whether a shard is let in that has not been sent: where the limit is learnt, one is ready to probe it."""
        return any(lease.model == model and lease.state not in SENT for lease in self.leases.values())

    def weight(self, who: Applicant | Waiter) -> float:
        return who.tokens * self.scales.get(who.run, 1.0)

    def tokens(self, leases: Iterable[Lease], model: str) -> float:
        scale = self.scales.get
        return sum(lease.tokens * scale(lease.run, 1.0) for lease in leases if lease.model == model)

    def held(self, model: str, now: float) -> "Held":
        """What is taken of a model's tokens and of the project's storage, summed once for many questions."""
        return Held(self.tokens(self.leases.values(), model), self.stored_bytes(now))

    def by_run(self) -> dict[str, list[Lease]]:
        """The leases of each run that has any."""
        found: dict[str, list[Lease]] = {}
        for lease in self.leases.values():
            found.setdefault(lease.run, []).append(lease)
        return found

    def creates(self, now: float) -> int:
        """Creates of the last day, and those that are still to come of what is let in."""
        kept = sum(uses.number_of_creates for uses in self.uses.values()) + sum(self.foreign.creates.values())
        to_come = sum(lease.state not in SENT for lease in self.leases.values())
        return kept + to_come + sum(at > now - DAY_SECONDS for lease in self.leases.values() for at in lease.creates)

    def next_create_ends(self) -> float | None:
        ends = [uses.next_create_ends() for uses in (*self.uses.values(), Uses(creates=self.foreign.creates))]
        ends += [at + DAY_SECONDS for lease in self.leases.values() for at in lease.creates]
        return min((end for end in ends if end is not None), default=None)

    def stored_bytes(self, now: float) -> int:
        kept = sum(uses.stored_bytes for uses in self.uses.values())
        return kept + sum(_stored(lease, now) for lease in self.leases.values())

    def next_file_ends(self, now: float) -> float | None:
        ends = [uses.next_file_ends() for uses in self.uses.values()]
        ends += [until for lease in self.leases.values() for until, _ in lease.files if until > now]
        return min((end for end in ends if end is not None), default=None)


class Held(NamedTuple):
    tokens: float
    """Of one model."""
    stored_bytes: int


def _stored(lease: Lease, now: float) -> int:
    """Bytes of files that a shard in flight has at the service, or is about to have."""
    kept = sum(size_bytes for until, size_bytes in lease.files if until > now) if lease.files else 0
    return max(kept, lease.request_bytes) if lease.state in (S.PLANNED, S.CLAIMED) else kept
