"""A batch service on a virtual clock: what it takes, what it turns down, when its jobs end.

Implements what the steps of a shard call of `Remote`. Counts everything it was asked, by its own limits.
"""

import heapq
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from gemini_batch.errors import NotFound, Throttled
from gemini_batch.gemini.remote import Seen
from gemini_batch.records import Job, ShardPlan
from gemini_batch.simulate.scenario import DAY, FILE_LIFE, ServiceLimits, Simulated

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class VirtualClock:
    """Seconds since the beginning; a wall clock besides. Moved by the simulation alone."""

    seconds: float = 0.0

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.seconds)

    def boottime(self) -> float:
        return self.seconds


@dataclass
class Service:
    """One project at the service."""

    limits: ServiceLimits
    clock: VirtualClock
    counted: Simulated
    half: int
    """Jobs from which on a create is late."""
    ended: list[str] = field(default_factory=list)
    """Jobs that ended and were not looked at yet."""
    _live: list[tuple[float, str, int]] = field(default_factory=list)
    """Ends, name, tokens."""
    _jobs: dict[str, Job] = field(default_factory=dict)
    _tokens: int = 0
    _created: deque[float] = field(default_factory=deque)
    _files: dict[str, int] = field(default_factory=dict)
    _expiring: deque[tuple[float, str]] = field(default_factory=deque)
    _stored: int = 0

    def upload_bytes(self, name: str, size: int) -> None:
        """Store a file until it is deleted or its life is over.

        Raises:
            Throttled: it does not fit.
        """
        self.settle()
        limit = self.limits.stored_bytes
        if limit is not None and self._stored + size > limit:
            raise self._too_much("upload", "file_storage_bytes")
        self._stored += size - self._files.get(name, 0)
        self._files[name] = size
        self._expiring.append((self.clock.seconds + FILE_LIFE, name))
        self.counted.most_stored_bytes = max(self.counted.most_stored_bytes, self._stored)

    def delete_file(self, name: str) -> None:
        """Give back its room."""
        self._stored -= self._files.pop(name, 0)

    def create(self, display_name: str, shard: ShardPlan, seconds: float) -> Job:
        """A job that takes so long.

        Raises:
            Throttled: a limit would be passed; the answer does not say which.
        """
        self.settle()
        counted, limits, now = self.counted, self.limits, self.clock.seconds
        late = len(self._jobs) >= self.half
        counted.creates += 1
        counted.late_creates += late
        tokens = round(shard.tokens * limits.tokens_scale)
        if self._is_full(tokens):
            counted.rejected += 1
            counted.late_rejected += late
            raise self._too_much("create", "You exceeded your current quota")
        name = f"batches/{len(self._jobs)}"
        heapq.heappush(self._live, (now + seconds, name, tokens))
        self._tokens += tokens
        self._created.append(now)
        job = self._jobs[name] = Job(
            name=name, display_name=display_name, created_at=self.clock.now(), requests=shard.requests
        )
        counted.most_live = max(counted.most_live, len(self._live))
        counted.most_tokens = max(counted.most_tokens, self._tokens)
        counted.most_creates_a_day = max(counted.most_creates_a_day, len(self._created))
        return job

    def get_job(self, name: str) -> Seen:
        """A look at a job."""
        self.settle()
        return Seen(self._jobs[name], self.clock.now())

    def next_end(self) -> float | None:
        """When the next job ends."""
        return self._live[0][0] if self._live else None

    def settle(self) -> None:
        """End what has ended by now."""
        now = self.clock.seconds
        while self._live and self._live[0][0] <= now:
            ends, name, tokens = heapq.heappop(self._live)
            self._tokens -= tokens
            at = EPOCH + timedelta(seconds=ends)
            self._jobs[name] = self._jobs[name].model_copy(
                update={"state": "BATCH_STATE_SUCCEEDED", "ended_at": at, "responses_file": f"files/of-{name[8:]}"}
            )
            self.ended.append(name)
        while self._created and self._created[0] <= now - DAY:
            self._created.popleft()
        while self._expiring and self._expiring[0][0] <= now:
            self.delete_file(self._expiring.popleft()[1])

    def _is_full(self, tokens: int) -> bool:
        limits = self.limits
        return (
            len(self._live) + limits.foreign_jobs >= limits.live_jobs
            or (limits.enqueued_tokens is not None and self._tokens + tokens > limits.enqueued_tokens)
            or (limits.creates_a_day is not None and len(self._created) >= limits.creates_a_day)
        )

    def _too_much(self, call: str, message: str) -> Throttled:
        self.counted.throttled[call] = self.counted.throttled.get(call, 0) + 1
        return Throttled(message, 429)

    def get_file(self, name: str) -> None:
        raise NotFound(name, 404)
