"""What is simulated, and what comes out. Pure data, and draws that are a function of the seed alone.

Times are seconds from the beginning of the simulation.
"""

from dataclasses import dataclass, field
from hashlib import blake2b
from math import exp
from statistics import NormalDist

from gemini_batch.records import Limits, ShardPlan

HOUR, DAY = 3_600.0, 86_400.0

FILE_LIFE = 48 * HOUR
"""Files live so long if nobody deletes them ("Files API" guide)."""

JOB_LIFE = 48 * HOUR
"""A job that takes longer expires ("Batch API" guide); no job is drawn longer."""

_NORMAL = NormalDist()


@dataclass(frozen=True)
class ServiceLimits:
    """What the service allows a project; None is no limit. The desk may believe otherwise (`Offered.limits`)."""

    live_jobs: int = 100
    enqueued_tokens: int | None = None
    creates_a_day: int | None = None
    stored_bytes: int | None = None
    tokens_scale: float = 1.0
    """What the service counts for each token that we estimate."""
    foreign_jobs: int = 0
    """Live jobs of other programs, which stay for ever."""


@dataclass(frozen=True)
class JobTimes:
    """Time from a create to the end of its job, waiting included: lognormal, or constant without a spread."""

    median: float = HOUR
    spread: float = 0.0
    """Standard deviation of the logarithm."""

    def draw(self, seed: int, run: int, shard: int) -> float:
        """Of one shard, the same whenever it is sent."""
        if not self.spread:
            return min(self.median, JOB_LIFE)
        return min(self.median * exp(self.spread * _NORMAL.inv_cdf(uniform(seed, run, shard))), JOB_LIFE)


@dataclass(frozen=True)
class Delays:
    """How long a worker is busy with a step."""

    upload: float = 15.0
    """Encode and upload."""
    create: float = 3.0
    collect: float = 15.0
    """Download, parse, publish."""


@dataclass(frozen=True)
class Offered:
    """A run that comes to the fleet at a time, with the limits that it goes by."""

    shards: tuple[ShardPlan, ...]
    limits: Limits
    arrives: float = 0.0
    model: str = "gemini-2.5-flash"


@dataclass(frozen=True)
class Scenario:
    """One simulation."""

    runs: tuple[Offered, ...]
    service: ServiceLimits = ServiceLimits()
    times: JobTimes = JobTimes()
    delays: Delays = Delays()
    workers: int = 16
    """Steps under way at once, over all runs."""
    seed: int = 0

    def job_seconds(self, run: int, shard: int) -> float:
        return self.times.draw(self.seed, run, shard)


@dataclass
class Simulated:
    """What came of it."""

    seconds: float = 0.0
    """Makespan: from the first arrival until the last shard is collected."""
    finished: list[float] = field(default_factory=list)
    """Per run, from its arrival until its last shard is collected."""
    most_live: int = 0
    """As the service counts, without jobs of others; so is what follows."""
    most_tokens: int = 0
    most_creates_a_day: int = 0
    most_stored_bytes: int = 0
    creates: int = 0
    """Tried."""
    rejected: int = 0
    """Answered with 429."""
    late_creates: int = 0
    """Tried once half of all shards had a job: what was to be learned should be known by then."""
    late_rejected: int = 0
    throttled: dict[str, int] = field(default_factory=dict)
    """Answers 429 by call."""
    split: int = 0
    """Shards that were halved because the service would never take them."""
    events: int = 0

    @property
    def rejected_share(self) -> float:
        return self.rejected / self.creates if self.creates else 0.0

    @property
    def late_rejected_share(self) -> float:
        return self.late_rejected / self.late_creates if self.late_creates else 0.0


def uniform(*of: int) -> float:
    """A draw from (0, 1) that depends on these numbers alone."""
    digest = blake2b(repr(of).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 0.5) / 2.0**64


def drawn_plan(
    shards: int, tokens: int = 300_000, uneven: float = 0.0, seed: int = 0, bytes_of_token: int = 8
) -> tuple[ShardPlan, ...]:
    """A plan of so many shards of `tokens` tokens each, or of between 1 - uneven and 1 of them."""
    plan = []
    for shard in range(shards):
        weight = max(1, round(tokens * (1 - uneven * uniform(seed, shard))))
        requests = max(1, weight // 300)
        plan.append(
            ShardPlan(
                shard=shard,
                first_index=0,
                rows=requests,
                requests=requests,
                request_bytes=weight * bytes_of_token,
                tokens=weight,
            )
        )
    return tuple(plan)
