"""When a process that drives a run alone looks at which shard: a queue of what is due, parked or yet to begin.

Knows no clock: times are given. What it forgets is read off the ledger again.
"""

import heapq
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from gemini_batch.jobs.lifecycle import backoff
from gemini_batch.jobs.verdicts import AwaitDesk, Stop, Verdict

GLANCE_SECONDS = 0.5
"""Between two reports of progress, and the longest that an interrupt goes unnoticed."""

GLANCE_SHARE = 20
"""A report that takes a while, of a run of very many shards, is followed by so many times as long without one."""

DESK_SECONDS = 2.0
"""Between two tries at a desk that turned a shard away, while nothing else happens."""


@dataclass
class Agenda:
    """When each shard is looked at again. Times are boottime seconds."""

    backlog: deque[int]
    """Not begun."""
    timed: list[tuple[float, int]] = field(default_factory=list)
    parked: deque[int] = field(default_factory=deque)
    """Ready, and not yet let send."""
    reasons: dict[int, str] = field(default_factory=dict)
    until: dict[str, datetime] = field(default_factory=dict)
    """Of reasons of the desk: when it is worth asking again, where that is known."""
    failures: Counter[int] = field(default_factory=Counter)
    once: bool = False
    """Whether each shard is looked at one time only, whatever it waits for."""
    closed_until: float = 0.0
    """The desk turned a shard away: it is asked again when another has been looked at, or then."""

    def pop(self, now: float, choose: Callable[[deque[int]], int | None]) -> int | None:
        """The shard to look at next, if there is one.

        Args:
            choose: asks the desk which of the shards that have not begun it has room for.
        """
        if self.timed and self.timed[0][0] <= now:
            return heapq.heappop(self.timed)[1]
        if now < self.closed_until:
            return None
        if self.parked:
            return self.parked.popleft()
        shard = choose(self.backlog) if self.backlog else None
        if shard is not None:
            self.backlog.remove(shard)
        return shard

    def put(self, shard: int, verdict: Verdict, now: float, ceiling: float, begun: bool) -> None:
        """Place a shard by what its last look said.

        Args:
            begun: it has more to lose than its place.
        """
        if not isinstance(verdict, AwaitDesk):
            self.closed_until = 0.0
        if isinstance(verdict, Stop):
            self.reasons.pop(shard, None)
            return
        self.reasons[shard] = verdict.reason
        if isinstance(verdict, AwaitDesk):
            self.closed_until = now + DESK_SECONDS
            if verdict.until:
                self.until[verdict.reason] = verdict.until
            if self.once:
                return
            if begun:
                self.parked.append(shard)
            else:
                self.backlog.appendleft(shard)
        elif self.once:
            return
        elif verdict.delay is not None:
            self.failures.pop(shard, None)
            heapq.heappush(self.timed, (now + verdict.delay.total_seconds(), shard))
        else:
            self.failures[shard] += 1
            heapq.heappush(self.timed, (now + backoff(self.failures[shard] - 1, ceiling).total_seconds(), shard))

    def hasten(self) -> None:
        """Look at everything again, at once."""
        self.timed = [(0.0, shard) for _, shard in self.timed]
        self.closed_until = 0.0

    def until_next(self, now: float, hands: int) -> float:
        """Seconds until there is something to do, at most `GLANCE_SECONDS`.

        Args:
            hands: how many threads are free; without one, what is due waits for the end of a step.
        """
        if not (self.timed and hands):
            return GLANCE_SECONDS
        return max(0.0, min(GLANCE_SECONDS, self.timed[0][0] - now))
