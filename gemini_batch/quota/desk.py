"""The quota desk: who may have a job in flight.

In: a shard that wants to upload or to send, with its tokens. Out: leave, or why it has to wait. Leases follow the
ledger: whatever is in flight there holds one, after a restart too.
"""

from dataclasses import dataclass
from threading import Lock
from typing import Protocol

from gemini_batch.records import IN_FLIGHT, Limits, ShardRecord, ShardState

S = ShardState
SENT = frozenset({S.SENDING, S.UNKNOWN, S.SUBMITTED})


class Desk(Protocol):
    @property
    def proven(self) -> bool:
        """Whether the service has accepted a job of this run. Until then one shard goes ahead alone, as a pilot."""

    def ask(self, shard: int, tokens: int) -> str | None:
        """None with a lease; otherwise the reason to wait. Asking again with a lease renews it."""

    def may_send(self, shard: int) -> str | None:
        """None when a shard with a lease may create its job now; otherwise the reason to wait."""

    def refused(self, shard: int) -> None:
        """The service answered 429 to this shard's create: it alone tries again, the others wait for it."""

    def follow(self, record: ShardRecord, tokens: int) -> None:
        """Hold or give back the shard's lease as its record says."""


@dataclass(frozen=True)
class _Lease:
    tokens: int
    state: ShardState


class MemoryDesk:
    """The desk of one process: live jobs and enqueued tokens against the limits of one run. Safe between threads."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._leases: dict[int, _Lease] = {}
        self._lock = Lock()
        self._proven = False
        self._probe: int | None = None

    @property
    def proven(self) -> bool:
        return self._proven

    def ask(self, shard: int, tokens: int) -> str | None:
        with self._lock:
            if shard not in self._leases and (reason := self._full(tokens)):
                return reason
            self._leases[shard] = _Lease(tokens, S.CLAIMED)
            return None

    def may_send(self, shard: int) -> str | None:
        with self._lock:
            if self._probe not in (None, shard):
                return f"the service answered 429; shard {self._probe} asks again for all"
            sent = sum(lease.state in SENT for lease in self._leases.values())
            return self._live_reason() if sent >= self._limits.max_live_jobs else None

    def refused(self, shard: int) -> None:
        with self._lock:
            self._probe = shard if self._probe is None else self._probe

    def follow(self, record: ShardRecord, tokens: int) -> None:
        with self._lock:
            self._proven = self._proven or record.job is not None
            if self._probe == record.shard and (record.job or record.state not in IN_FLIGHT):
                self._probe = None
            if record.state in IN_FLIGHT:
                self._leases[record.shard] = _Lease(tokens, record.state)
            else:
                self._leases.pop(record.shard, None)

    def _full(self, tokens: int) -> str | None:
        leases = self._leases.values()
        if not leases:
            return None  # alone, a shard over the token limit is tried rather than waiting for ever
        if not self._proven and any(lease.state is not S.UNKNOWN for lease in leases):
            return "the first job of the run has yet to be accepted"
        if len(leases) >= self._limits.max_live_jobs:
            return self._live_reason()
        limit = self._limits.max_enqueued_tokens
        if limit is not None and sum(lease.tokens for lease in leases) + tokens > limit:
            return f"{limit:,} tokens are enqueued (--max-enqueued-tokens)"
        return None

    def _live_reason(self) -> str:
        return f"{self._limits.max_live_jobs} jobs are in flight (--max-live-jobs)"
