"""The quota desk of one process: who may have a job in flight.

In: a shard that wants to upload, with its tokens. Out: a lease, or why it has to wait. Leases follow the ledger:
whatever is in flight there holds one, after a restart too.
"""

from threading import Lock

from gemini_batch.records import IN_FLIGHT, Limits, ShardRecord


class MemoryDesk:
    """Live jobs and enqueued tokens against the limits of one run. Safe to share between threads."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._leases: dict[int, int] = {}
        self._lock = Lock()
        self._proven = False

    @property
    def proven(self) -> bool:
        """Whether the service has accepted a job of this run. Until then one shard goes ahead alone, as a pilot."""
        return self._proven

    def ask(self, shard: int, tokens: int) -> str | None:
        """None with a lease; otherwise the reason to wait. Asking again with a lease renews it."""
        with self._lock:
            if shard not in self._leases and (reason := self._full(tokens)):
                return reason
            self._leases[shard] = tokens
            return None

    def follow(self, record: ShardRecord, tokens: int) -> None:
        """Hold or give back the shard's lease as its record says."""
        with self._lock:
            self._proven = self._proven or record.job is not None
            if record.state in IN_FLIGHT:
                self._leases[record.shard] = tokens
            else:
                self._leases.pop(record.shard, None)

    def _full(self, tokens: int) -> str | None:
        if not self._leases:
            return None  # alone, a shard over the token limit is tried rather than waiting for ever
        if not self._proven:
            return "the first job of the run has yet to be accepted"
        if len(self._leases) >= self._limits.max_live_jobs:
            return f"{self._limits.max_live_jobs} jobs are in flight (--max-live-jobs)"
        limit = self._limits.max_enqueued_tokens
        if limit is not None and sum(self._leases.values()) + tokens > limit:
            return f"{limit:,} tokens are enqueued (--max-enqueued-tokens)"
        return None
