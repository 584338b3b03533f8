"""What can happen to a shard: the words between the world and its lifecycle. Pure data."""

from dataclasses import dataclass
from datetime import datetime

from gemini_batch.records import Job, LeftOut, Send, Tally, Upload


@dataclass(frozen=True)
class Claimed:
    """A worker took the shard, for the first time or after another one's death."""


@dataclass(frozen=True)
class Prepared:
    """The request file is encoded and uploaded."""

    upload: Upload
    requests: str


@dataclass(frozen=True)
class NothingToSend:
    """Every row of the shard is bad."""

    requests: str


@dataclass(frozen=True)
class SendBegan:
    send: Send


@dataclass(frozen=True)
class JobLearned:
    """The service holds this job under a name of ours: from the create's answer or from a listing."""

    job: Job


@dataclass(frozen=True)
class SendFailed:
    """Nothing was created by send `number`, for certain; the uploaded file still serves."""

    number: int
    why: str


@dataclass(frozen=True)
class UploadGone:
    """The create of send `number` was refused because its file no longer exists."""

    number: int
    why: str


@dataclass(frozen=True)
class SendRefused:
    """The service read the create of send `number` and will never take it, or not with the row that is to be left
    out."""

    number: int
    why: str
    left_out: LeftOut | None = None
    too_large: bool = False
    """It was not read: answered 429 with nothing else live, it may be larger than the limit."""


@dataclass(frozen=True)
class OutcomeUnknown:
    """A create may or may not have taken effect."""

    why: str


@dataclass(frozen=True)
class Absent:
    """A complete listing of provider time `at` holds none of the shard's sends."""

    at: datetime


@dataclass(frozen=True)
class Settled:
    """The settle rule holds: the send never took effect, and buying again is allowed."""


@dataclass(frozen=True)
class JobMissing:
    """The recorded job answered 404 at provider time `at`, while the same key saw another object of the run."""

    at: datetime


@dataclass(frozen=True)
class ResultsMissing:
    """The ended job's result file was refused at provider time `at`, while the job itself is still seen."""

    at: datetime


@dataclass(frozen=True)
class JobUnclear:
    """The job was shown at provider time `at` in a way that would end it without its answers: over, but without
    output, or long overdue in a state that nobody knows."""

    job: Job
    at: datetime


@dataclass(frozen=True)
class JobStuck:
    """The job has run for so long at provider time `at` that it is to be cancelled."""

    at: datetime


@dataclass(frozen=True)
class JobEnded:
    job: Job


@dataclass(frozen=True)
class FilesDeleted:
    """Files of the shard are no longer stored at the service."""

    input: bool
    media: bool
    requests: int | None = None
    """As many as the job that is under way was seen to have, which is why its input file could go."""


@dataclass(frozen=True)
class Collected:
    tally: Tally


Event = (
    Claimed
    | Prepared
    | NothingToSend
    | SendBegan
    | JobLearned
    | SendFailed
    | UploadGone
    | SendRefused
    | OutcomeUnknown
    | Absent
    | Settled
    | JobMissing
    | ResultsMissing
    | JobUnclear
    | JobStuck
    | JobEnded
    | FilesDeleted
    | Collected
)
