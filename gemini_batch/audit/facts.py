"""What an audit saw of a run. Pure data: everything is decided from it, and nothing here is.

Files come as None where they are absent and as `Unreadable` where they are damaged.
"""

from dataclasses import dataclass, field
from datetime import datetime

from gemini_batch.records import Job, RunRecord, ShardPlan, ShardRecord


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be."""

    kind: str
    shard: int | None
    what: str
    fix: str


@dataclass(frozen=True)
class Unreadable:
    """A file that is there and cannot be read."""

    why: str


@dataclass(frozen=True)
class Spot:
    """Rows with something amiss."""

    count: int = 0
    first: int | None = None
    """The index of the first one."""


# --- one shard --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Version:
    """One version of a shard's history; without a record when it is absent or unreadable."""

    number: int
    record: ShardRecord | None
    why: str | None = None
    """Why it cannot be read."""


@dataclass(frozen=True)
class Rows:
    """The frozen rows."""

    count: int
    misplaced: Spot = Spot()


@dataclass(frozen=True)
class Remade:
    """The request lines, encoded again from the frozen rows."""

    sha256: str
    size_bytes: int
    lines: int


@dataclass(frozen=True)
class Requests:
    """The record of what was sent for each row."""

    rows: int
    lines: int
    misplaced: Spot = Spot()
    remade: Remade | None = None
    """None where the lines hold pictures, which need not be there any more."""
    unlike: Spot = Spot()
    """Rows whose digest or error is not what the frozen rows give."""


@dataclass(frozen=True)
class Lines:
    """The raw results, read again. Without a file nothing was received and all that was sent is missing."""

    sha256: str | None
    received: int = 0
    missing: int = 0
    duplicate: int = 0
    conflicting: int = 0
    foreign: int = 0
    broken: int = 0


@dataclass(frozen=True)
class Part:
    """The shard's aligned rows."""

    sha256: str
    rows: int
    by_status: dict[str, int]
    by_kind: dict[str, int]
    prompt_tokens: int = 0
    output_tokens: int = 0
    thoughts_tokens: int = 0
    misplaced: Spot = Spot()
    """Rows whose index or key is not that of the frozen row."""
    unlike_request: Spot = Spot()
    """Rows whose digest is not that of the request that was sent for them."""
    without_line: Spot = Spot()
    """Rows that are ok though the raw results have no line for them."""
    unlike_line: Spot = Spot()
    """Rows whose status or text is not what their line says."""


@dataclass(frozen=True)
class Files:
    rows: Rows | Unreadable | None = None
    requests: Requests | Unreadable | None = None
    lines: Lines | Unreadable | None = None
    """None where there is no telling, for want of the requests."""
    part: Part | Unreadable | None = None


@dataclass(frozen=True)
class ShardFacts:
    plan: ShardPlan
    history: tuple[Version, ...] = ()
    files: Files = Files()
    listed: tuple[Job, ...] | None = None
    """The jobs that the service lists under the shard's names; None when nobody asked."""
    gone: bool = False
    """The ledger waits for a job that the service neither lists nor knows by name."""

    @property
    def record(self) -> ShardRecord:
        """The newest record that can be read."""
        records = [version.record for version in self.history if version.record]
        return records[-1] if records else ShardRecord(shard=self.plan.shard)


# --- the whole run ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DatasetFile:
    """A file that `_SUCCESS` lists: what was said of it, and what it is."""

    name: str
    rows: int
    sha256: str
    seen: "Seen | Unreadable | None"


@dataclass(frozen=True)
class Seen:
    rows: int
    sha256: str
    misplaced: Spot = Spot()
    """Rows whose index is not their place."""
    unlike_part: Spot = Spot()
    """Rows that are not those of the parts."""


@dataclass(frozen=True)
class Success:
    """`_SUCCESS`: what readers trust."""

    run_id: str
    endpoint: str
    files: tuple[DatasetFile, ...]


@dataclass(frozen=True)
class RunFacts:
    where: str
    run: RunRecord
    plan: tuple[ShardPlan, ...] | Unreadable | None
    is_of_question: bool = True
    """The plan says that it was made for what `run.json` asks."""
    may_resubmit: bool = True
    """At some time a send that stayed absent was allowed to be made again."""
    success: Success | Unreadable | None = None
    reported_rows: int | Unreadable | None = None
    """What `report.json` says."""
    strays: tuple[str, ...] = ()
    """Objects of shards or files that nobody planned."""
    control_faults: tuple[str, ...] = ()
    unseen: str | None = None
    """Why the jobs could not be listed though they were to be."""
    looked_at: datetime | None = None
    """Provider time of the job list; None when nobody looked."""
    nobodys: tuple[Job, ...] = field(default=())
    """Jobs under the run's name that name no shard of it."""
