"""Records of one shard as the model keeps them: what cannot matter is the same in all, so that equal states are equal.

There is no calendar. A time is an age, in ticks before a fixed `NOW`: when a tick passes, all that is remembered grows
older by one, and what is older than any rule of the lifecycle asks for stays as it is.
"""

from datetime import UTC, datetime, timedelta

from gemini_batch.jobs.lifecycle import GONE, SETTLE_LISTINGS, TERMINAL, UPLOAD_LIFE
from gemini_batch.records import Absence, Job, Send, ShardRecord, ShardState, Tally, Upload

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TICK = timedelta(hours=1)
SETTLE_TICKS = 2
"""The settle time. One tick is longer than the 30 seconds of a sender and than every pause between two looks."""

OLDEST_LISTING = 1
"""Ticks that a process may sleep between a listing and what it does with it."""

OLDEST_LAST, OLDEST_FIRST = 1 + OLDEST_LISTING, SETTLE_TICKS + OLDEST_LISTING
"""Ages of an absence from which on nothing that is compared with it, itself up to a listing old, tells a difference."""

STALE = NOW - UPLOAD_LIFE - TICK
RUNNING, DONE = "BATCH_STATE_RUNNING", "BATCH_STATE_SUCCEEDED"
OVER = frozenset({GONE, *TERMINAL, *(f"BATCH_STATE_{state}" for state in TERMINAL)})
UNSENT = frozenset({ShardState.PLANNED, ShardState.CLAIMED, ShardState.READY})
HAS_JOB = frozenset({ShardState.SUBMITTED, ShardState.ENDED, ShardState.COLLECTED})
TALLY = Tally(rows=1, by_status={}, by_kind={}, part_sha256="p")


def at(age: int) -> datetime:
    return NOW - age * TICK


def upload(number: int) -> Upload:
    return Upload(name=f"files/{number}", size_bytes=1, sha256="s", lines=1, uploaded_at=NOW)


def number_of(name: str) -> int:
    """The number in `files/1`, `batches/1` or `gbd-run-000000-1-…`."""
    return int(name.rpartition("/")[2]) if "/" in name else int(name.split("-")[3])


def canonical(record: ShardRecord) -> ShardRecord:
    """What of a record can matter to anybody, version 0."""
    return ShardRecord(
        shard=record.shard,
        state=record.state,
        requests=record.requests,
        upload=_upload(record),
        sends=tuple(_send(send) for send in record.sends),
        job=_job(record),
        twins=tuple(plain_job(twin, twin.state if twin.state in OVER else RUNNING) for twin in record.twins),
        absence=_absence(record),
        refusals=0 if record.state in HAS_JOB else record.refusals,
    )


def older(record: ShardRecord) -> ShardRecord:
    """The record a tick later."""
    if record.absence is None:
        return record
    first_at, last_at = record.absence.first_at - TICK, record.absence.last_at - TICK
    aged = record.absence.model_copy(update={"first_at": first_at, "last_at": last_at})
    return record.model_copy(update={"absence": _absence(record.model_copy(update={"absence": aged}))})


def with_stale_upload(record: ShardRecord) -> ShardRecord:
    """The record when its upload has become too old to send; READY is the one state in which that matters."""
    if record.state is not ShardState.READY or record.upload is None:
        return record
    return record.model_copy(update={"upload": record.upload.model_copy(update={"uploaded_at": STALE})})


def plain_job(job: Job, state: str = RUNNING, responses_file: str | None = None) -> Job:
    return Job(name=job.name, display_name=job.display_name, state=state, responses_file=responses_file)


def _upload(record: ShardRecord) -> Upload | None:
    if record.upload is None or record.state not in HAS_JOB:
        return record.upload
    return upload(0)


def _send(send: Send) -> Send:
    return send.model_copy(update={"owner": "", "began_at": NOW})


def _job(record: ShardRecord) -> Job | None:
    if record.job is None or record.state is ShardState.SUBMITTED:
        return record.job and plain_job(record.job)
    results = None if record.state is ShardState.COLLECTED else record.job.responses_file
    return plain_job(record.job, GONE if record.job.state == GONE else DONE, results)


def _absence(record: ShardRecord) -> Absence | None:
    absence = record.absence
    if absence is None or record.state is ShardState.COLLECTED:
        return None
    if record.state in UNSENT:  # means nothing there; if it were not dropped with the next send, it is as bad as can be
        return Absence(first_at=at(OLDEST_FIRST), last_at=at(OLDEST_LAST), times=SETTLE_LISTINGS)
    oldest = OLDEST_FIRST if record.state is ShardState.UNKNOWN else OLDEST_LAST
    first_at, last_at = max(absence.first_at, at(oldest)), max(absence.last_at, at(OLDEST_LAST))
    return absence.model_copy(update={"first_at": first_at, "last_at": last_at})
