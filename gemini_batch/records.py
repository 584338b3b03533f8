"""The words of the project as frozen records: what is planned, asked, sent, learned.

All are immutable and serialise to JSON; a change is a new record. Sizes end in `_bytes`, times are aware UTC.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

FORMAT = 1
"""Version of everything below the run directory. A release reads all formats up to its own."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ShardState(StrEnum):
    """Where a shard stands. `docs/lifecycle.md` has the picture, `jobs/lifecycle.py` the table."""

    PLANNED = "PLANNED"
    """Nothing done. The first worker that the quota desk lets in claims it. Dying here costs nothing."""
    CLAIMED = "CLAIMED"
    """One worker encodes and uploads it. Free and repeatable; after its death the next claim starts over."""
    READY = "READY"
    """The request file lies at the service. Nothing is bought yet; anyone may begin the send."""
    SENDING = "SENDING"
    """The create may be on the wire. Only the process that wrote this record may send, once. After its death:
    UNKNOWN."""
    UNKNOWN = "UNKNOWN"
    """A create whose outcome nobody saw. Ends by adoption, by a late word of the sender, or by the settle rule."""
    SUBMITTED = "SUBMITTED"
    """The job's name is recorded. Polling moves it on; any process may."""
    ENDED = "ENDED"
    """The job is terminal, or there is nothing to send. What it holds is fetched, kept raw, and parsed."""
    COLLECTED = "COLLECTED"
    """The part is published. Final."""


IN_FLIGHT = frozenset(
    {ShardState.CLAIMED, ShardState.READY, ShardState.SENDING, ShardState.UNKNOWN, ShardState.SUBMITTED}
)
"""States that hold a place at the quota desk."""


class ShardPlan(Frozen):
    """One row of `plan-0000.parquet`, or of a later round's plan. Shards are numbered on from round to round."""

    shard: int
    first_index: int
    """Of its first row. In round 0 its rows follow one another; later ones are any, in order."""
    rows: int
    requests: int
    request_bytes: int
    tokens: int
    round: int = 0
    frozen: str | None = None
    """Name of the object that holds its rows, where it is not the shard's own."""
    sources: tuple[int, ...] = ()
    """Earlier shards whose failed rows it buys again."""
    refusals: int = 0
    """Creates that the service turned down on the way here: of the shards that this one is a piece of."""
    settings: str | None = None
    """Fields of `Asked` that differ for it, as a JSON object."""
    replaced: bool = False
    """Whether its rows have content that a person gave with this round: earlier answers are to another question."""
    asked_for: bool = False
    """Whether a person asked for its round: all that had failed before was given up then."""
    unanswered: int | None = None
    """Rows of a later round's shard that had no answer before."""


class SchemaSpec(Frozen):
    """What `result` must look like, without code: `ref` is only ever imported by whoever may."""

    ref: str | None
    """`module:Name`, or None for a schema file and for classes that no other process can import."""
    json_schema: dict[str, Any]
    """What an answer has to fit."""
    result_schema: dict[str, Any] | None = None
    """What a model makes of an answer (names and types as it serialises), where that differs."""
    validate_by: Literal["model", "json-schema"]

    @property
    def shape_schema(self) -> dict[str, Any]:
        """The schema of the `result` column."""
        return self.result_schema or self.json_schema


class Asked(Frozen):
    """What a run asks for: its identity. Two runs with equal values answer the same question."""

    rows: int
    rows_digest: str
    model: str
    response_schema: SchemaSpec | None
    generation_config: dict[str, Any]
    system_instruction: str | None
    media: Literal["inline", "upload", "auto"]
    n_samples: int
    endpoint: str
    project: str
    min_valid: int = 1
    """Samples that have to be valid for a row to be answered."""
    safety_settings: tuple[str, ...] = ()
    """`CATEGORY=THRESHOLD` each, in the REST spelling."""

    def identity(self) -> dict[str, Any]:
        """What makes two runs the same question.

        Fields at their default, and what is derived from others, do not count: a release that adds a field or derives
        differently must not make yesterday's question a new one, to be paid for again.
        """
        asked = self.model_dump(exclude_defaults=True, exclude={"response_schema": {"result_schema"}})
        config = asked["generation_config"]
        if self.response_schema is not None:  # what is sent of it is derived; in which field is not
            config = {name: config[name] for name in config if name != "responseSchema"}
            config |= {"responseJsonSchema": True} if "responseJsonSchema" in config else {}
        return {**asked, "generation_config": config}


Tier = Literal["free", "1", "2", "3"]
"""Usage tiers of a Google Cloud project ("Rate limits" page)."""


class Limits(Frozen):
    """How a run is carried out; may change on any resume."""

    max_requests_per_shard: int
    max_bytes_per_shard: int
    max_tokens_per_shard: int | None
    max_live_jobs: int
    max_enqueued_tokens: int | None
    poll_interval: float
    settle: float
    on_unknown: Literal["resubmit", "wait"]
    stuck: Literal["report", "cancel"] = "report"
    max_attempts: int = 3
    """Times that a row may be bought."""
    retry_truncated: bool = False
    retry_invalid: bool = False
    tier: Tier | None = None
    """Where `max_enqueued_tokens` is from, unless it was given as a number."""
    max_creates_per_day: int | None = None
    """Jobs that the project may create in 24 hours. Without a tier nobody has said that there is such a limit."""
    max_stored_bytes: int | None = 20_000_000_000
    """Files of the project at the service ("Files API" guide: 20 GB)."""
    allow_http: bool = False
    """Whether pictures may lie at http(s) URLs."""
    price: tuple[float, float] | None = None
    """What the user says that the model costs: USD per million input and output tokens."""
    max_cost: float | None = None
    """USD that the run may cost: nothing is sent that could pass it."""
    project: str | None = None
    """The name that the Google project of the run was given, at the start or since."""
    owner: str | None = None
    """Who looks after the run, for people."""


class ColumnNames(Frozen):
    """How the manifest was read, for more rows of its kind. No part of what is asked: that counts the rows."""

    prompt: str = "prompt"
    key: str = "key"
    template: str | None = None
    image: str | None = None


class RunRecord(Frozen):
    """`run.json`, written last: a directory without it is debris."""

    format: int = FORMAT
    run_id: str
    nonce: str
    created_at: datetime
    version: str
    manifest: str
    media_roots: tuple[str, ...]
    asked: Asked
    limits: Limits
    shards: int
    keep: tuple[str, ...] = ()
    """Columns of the manifest that the dataset has behind its own. No part of what is asked."""
    broker: str | None = None
    """Of the fleet that the run was begun for, without user and password; None where one process drives it."""
    columns: ColumnNames = ColumnNames()


def most_bytes(run: RunRecord, entry: ShardPlan) -> int:
    """The largest request file that a shard may have: as its run was begun, or as its round was planned since."""
    return max(run.limits.max_bytes_per_shard, entry.request_bytes)


class Snapshot(Frozen):
    """A version of a history: everything as it is then, its cause, and the nonce that tells whose write it was."""

    format: int = FORMAT
    version: int = 0
    nonce: str = ""
    cause: str = ""
    at: datetime | None = None
    owner: str = ""


Order = Literal["run", "pause", "cancel"]


class ControlRecord(Snapshot):
    """What an operator said after the run began. The last one holds."""

    limits: Limits
    order: Order = "run"
    """`pause`: no job is created, those that run are collected. `cancel`: those that run are cancelled and collected,
    the rest is given up, and what there is becomes the dataset."""
    broker: str | None = None
    """Of the fleet that the run was handed to, without user and password; None where one process drives it."""


class Upload(Frozen):
    """The shard's request file at the service, and the exact bytes it holds."""

    name: str
    size_bytes: int
    sha256: str
    lines: int
    uploaded_at: datetime
    active: bool = True
    """Whether the service was done with it when it was recorded."""
    deleted: bool = False
    """The request file is no longer stored."""
    media: int = 0
    """Pictures that were uploaded for it; `rundir.media_of` names the object that lists them."""
    media_bytes: int = 0
    media_deleted: bool = False
    """The pictures are no longer stored."""

    @property
    def stored_bytes(self) -> int:
        """What the shard still takes of the project's storage, as far as is recorded."""
        return (0 if self.deleted else self.size_bytes) + (0 if self.media_deleted else self.media_bytes)


class Send(Frozen):
    """One permission to create a job. `display_name` is unique to it, so a lost answer can be found again."""

    number: int
    display_name: str
    sha256: str
    lines: int
    requests: str
    """Name of the object that says, per row, what these lines hold."""
    owner: str
    began_at: datetime
    reserved_usd: float | None = None
    """The most that it may cost, held back from the cap; None where none was set."""


class Job(Frozen):
    """A remote job as last seen. `created_at` and `ended_at` are the provider's times."""

    name: str
    display_name: str
    state: str = "BATCH_STATE_PENDING"
    created_at: datetime | None = None
    ended_at: datetime | None = None
    requests: int | None = None
    responses_file: str | None = None
    error: str | None = None

    def with_requests(self, requests: int | None) -> "Job":
        """The same job, its requests counted if that count is known."""
        return self if requests is None else self.model_copy(update={"requests": requests})


class Absence(Frozen):
    """How often, and since when in provider time, something recorded was looked for and not seen."""

    first_at: datetime
    last_at: datetime
    times: int = 1
    of: Literal["itself", "outcome"] = "itself"
    """Of a job: whether it is not there, or shows no outcome."""


class Failed(Frozen):
    """Rows of a shard that have no answer for one reason, after as many attempts."""

    kind: str
    attempts: int
    rows: int
    requests: int
    """Samples that it takes to buy them again."""


class Tally(Frozen):
    """What collecting a shard found. Line counts are of the result file; rows sum to the shard's."""

    rows: int
    by_status: dict[str, int]
    by_kind: dict[str, int]
    received: int = 0
    missing: int = 0
    duplicate: int = 0
    conflicting: int = 0
    foreign: int = 0
    broken: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    thoughts_tokens: int = 0
    failed: tuple[Failed, ...] = ()
    """Samples without a valid answer, by kind and attempts."""
    mended: int = 0
    """Rows that are ok and were not in the rounds before, less those that were and, with new content, are not."""
    cost_usd: float = 0.0
    """Of all lines with a known cost."""
    unpriced: int = 0
    """Lines whose cost is not known."""
    raw_sha256: str | None = None
    raw_bytes: int = 0
    """Size of the result file. It stays at the service, which refuses to delete it (python-genai #1759)."""
    part_sha256: str
    counted: int | None = None
    """Lines whose usage says how many tokens their prompt had; None by a release that did not count them."""


class LeftOut(Frozen):
    """A row that is not sent, because a create was refused for its line."""

    index: int
    line: int
    """In the file that was refused, from 1."""
    why: str


class ShardRecord(Snapshot):
    """The history of one shard."""

    shard: int
    state: ShardState = ShardState.PLANNED
    requests: str | None = None
    """Name of the object that says, per row, what was encoded or why not: of the job if there is one."""
    upload: Upload | None = None
    sends: tuple[Send, ...] = ()
    job: Job | None = None
    twins: tuple[Job, ...] = ()
    absence: Absence | None = None
    refusals: int = 0
    """Creates that the service read and turned down."""
    refused: str | None = None
    """Why the service will never take the shard's create as it is."""
    too_large: bool = False
    """It was refused for what may be its size: its halves may pass, and no row is at fault."""
    stuck_since: datetime | None = None
    """When the job was found to run for too long, and its cancelling began; provider time."""
    left_out: tuple[LeftOut, ...] = ()
    problem: str | None = None
    """Why the shard is where it is, for people."""
    tally: Tally | None = None

    @property
    def sent_lines(self) -> int | None:
        """How many lines the shard's job was given; None without a job, or for one whose send is not known."""
        job = self.job
        return next((send.lines for send in self.sends if job and send.display_name == job.display_name), None)


class Reservation(Frozen):
    """Money held back for one send of a shard, made before its SENDING is recorded."""

    shard: int
    version: int
    """Of the shard's record that it was made by: a send of it has the next number."""
    usd: float


class SpendRecord(Snapshot):
    """The money of a run with a cap, in USD. What is committed is the sum of the three kinds."""

    cap_usd: float = 0.0
    """In force when this was written."""
    settled_usd: float = 0.0
    """Known cost of what is collected."""
    unknown_usd: float = 0.0
    """The most that may have been paid for what came back without a known cost, twins included."""
    held: tuple[Reservation, ...] = ()
    """For what is in flight."""
    counted: tuple[tuple[int, int], ...] = ()
    """Collected shards that are in the sums: from, to (exclusive)."""
    twins: tuple[str, ...] = ()
    """Jobs beside the one of their shard that are in the sums."""
    highest_ratio: float | None = None
    """Of counted to estimated input tokens, in any one shard that is settled."""
