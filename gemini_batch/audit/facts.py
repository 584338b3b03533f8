"""What an audit saw of a run. Pure data: everything is decided from it, and nothing here is.

Files come as None where they are absent and as `Unreadable` where they are damaged.
"""

from dataclasses import dataclass, field
from datetime import datetime

from gemini_batch.records import Failed, Job, RunRecord, ShardPlan, ShardRecord, SpendRecord


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
    """Rows that are not of the plan: in round 0 out of order, later not rising, or outside of the manifest."""
    misasked: Spot = Spot()
    """Rows that ask for samples that the run does not have."""
    unanswered: int | None = None
    """Of a later round: rows that had no answer before."""


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
    lines: int | None
    """None where there is no telling, for want of the rows."""
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
    raw_bytes: int = 0
    """Unpacked."""


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
    failed: tuple[Failed, ...] = ()
    mended: int | None = None
    """None where there is no telling, for want of the rows; nor is `unpriced` counted then."""
    requests: int = 0
    """Samples that its rows are of."""
    cost_usd: float = 0.0
    """Of the rows that say what they cost."""
    unpriced: int = 0
    """Rows bought that do not."""
    with_usage: int = 0
    """Rows that say how many tokens their prompt had, in at least one line."""
    rounds: frozenset[int] = frozenset()
    """That its rows say they are of."""
    misplaced: Spot = Spot()
    """Rows whose index or key is not that of the frozen row."""
    misvoted: Spot = Spot()
    """Rows that are not what their samples come to, or have other samples than were asked for."""
    uncounted: Spot = Spot()
    """Rows whose attempts are not those before and, if they were bought, one more."""
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
class Again:
    """The rows of a later round's shard, held against what the shards that they are from say of them."""

    unfinished: tuple[int, ...] = ()
    """Shards whose end had to be recorded before, and is not."""
    unseen: tuple[int, ...] = ()
    """Sources whose files cannot be read; nothing is held against them."""
    sources: tuple[int, ...] = ()
    """Shards that the rows are from."""
    refused: bool = False
    """They are pieces of shards whose creates were refused."""
    bought: int = 0
    """Rows that had been bought before."""
    were: dict[str, int] = field(default_factory=dict)
    """Those, by what they were: the kind of failure, or for a person who asked the status. A row may count twice."""
    unknown: Spot = Spot()
    """Rows that no source has under that index and key."""
    unlike: Spot = Spot()
    """Rows of other attempts, or with another request, than their source says."""
    unasked: Spot = Spot()
    """Rows with samples that have an answer, though no person asked for them."""
    doubled: Spot = Spot()
    """Rows with samples that another shard buys again for the same failure."""


@dataclass(frozen=True)
class ShardFacts:
    plan: ShardPlan
    history: tuple[Version, ...] = ()
    files: Files = Files()
    again: Again | None = None
    """None in round 0."""
    listed: tuple[Job, ...] | None = None
    """The jobs that the service lists under the shard's names; None when nobody asked."""
    gone: bool = False
    """The ledger waits for a job that the service neither lists nor knows by name."""

    @property
    def record(self) -> ShardRecord:
        """The newest record that can be read."""
        records = [version.record for version in self.history if version.record]
        return records[-1] if records else ShardRecord(shard=self.plan.shard)


# --- the money --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chain:
    """The `spend/` chain of a run with a cap; without a version of one that never had any."""

    versions: int = 0
    last: SpendRecord | None = None
    """The last that can be read."""
    faults: tuple[str, ...] = ()
    """What is wrong with those before."""
    reserved: dict[tuple[int, int], float] = field(default_factory=dict)
    """The most, in USD, that was ever held for a shard by a version of its record."""
    caps: tuple[float, ...] = ()
    """That it was written under."""
    said_caps: tuple[float, ...] = ()
    """That were ever said."""


@dataclass(frozen=True)
class Told:
    """The money of a run, by the last records of all its shards."""

    settled_usd: float
    unsettled_usd: float
    """The most that may have been paid beyond it, as far as it is recorded."""
    is_exact: bool
    """Whether that is all of it: each job's reservation is recorded."""
    sends: dict[tuple[int, int], float]
    """What was reserved for each send, by shard and the version before it, in USD."""
    twins: tuple[str, ...]
    highest_ratio: float | None


# --- the whole run ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Round:
    """A later plan."""

    shards: int
    cause: str
    """`repair`, or `retry` when a person asked for it."""


@dataclass(frozen=True)
class DatasetFile:
    """A file that `_SUCCESS` lists: what was said of it, and what it is."""

    name: str
    rows: int
    sha256: str
    seen: "Seen | Unreadable | None"
    made_of: str = ""
    by_status: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    rows: int
    sha256: str
    made_of: str | None = None
    """A digest of the parts that it must be made of; None where one was never recorded."""
    by_status: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    misplaced: Spot = Spot()
    """Rows whose index is not their place."""
    unlike_part: Spot = Spot()
    """Rows that are not those of the parts."""


@dataclass(frozen=True)
class Success:
    """`_SUCCESS`: what readers trust."""

    run_id: str
    endpoint: str
    round: int
    """The last that it is made of."""
    files: tuple[DatasetFile, ...]


@dataclass(frozen=True)
class RunFacts:
    where: str
    run: RunRecord
    plan: tuple[ShardPlan, ...] | Unreadable | None
    """The shards of all rounds, up to a plan that cannot be read."""
    rounds: tuple[Round, ...] = ()
    """Beside the first."""
    plan_faults: tuple[str, ...] = ()
    """What is wrong with the files of later plans."""
    is_of_question: bool = True
    """The plan says that it was made for what `run.json` asks."""
    may_resubmit: bool = True
    """At some time a send that stayed absent was allowed to be made again."""
    success: Success | Unreadable | None = None
    is_repeated: bool = True
    """`merged.json` says what `_SUCCESS` does."""
    reported_rows: int | Unreadable | None = None
    """What `report.json` says."""
    strays: tuple[str, ...] = ()
    """Objects of shards or files that nobody planned."""
    control_faults: tuple[str, ...] = ()
    chain: Chain = Chain()
    told: Told | None = None
    """None while not every shard has been looked at."""
    unseen: str | None = None
    """Why the jobs could not be listed though they were to be."""
    looked_at: datetime | None = None
    """Provider time of the job list; None when nobody looked."""
    nobodys: tuple[Job, ...] = field(default=())
    """Jobs under the run's name that name no shard of it."""

    @property
    def finished(self) -> bool:
        """Whether the dataset is there and of the last round, as far as can be told."""
        if isinstance(self.success, Success):
            return self.success.round >= len(self.rounds)
        return self.success is not None
