"""A remote job: what is known of it, which state that means at an instant, and how the service would show it.

The state is never stored; it follows from the clock, the answering and a cancel.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from gemini_batch.emulator.wire import Json, place_in_time, timestamp

LONGEST_JOB = timedelta(hours=48)  # Batch API guide: running or pending for longer means expired
FOR_EVER = timedelta(days=3650)

_MESSAGES = "type.googleapis.com/google.ai.generativelanguage.v1main."
_GENERATE, _EMBED = _MESSAGES + "GenerateContentBatch", _MESSAGES + "EmbedContentBatch"


class State(StrEnum):
    PENDING = "BATCH_STATE_PENDING"
    RUNNING = "BATCH_STATE_RUNNING"
    SUCCEEDED = "BATCH_STATE_SUCCEEDED"
    FAILED = "BATCH_STATE_FAILED"
    CANCELLED = "BATCH_STATE_CANCELLED"
    EXPIRED = "BATCH_STATE_EXPIRED"


LIVE = frozenset({State.PENDING, State.RUNNING})
_ENDED_BY = {
    "job_failed": State.FAILED,
    "job_expired": State.EXPIRED,
    "job_cancelled": State.CANCELLED,
}

_ERRORS = {
    State.FAILED: {"code": 13, "message": "The batch failed: an internal error has occurred."},
    State.CANCELLED: {"code": 1, "message": "The batch was cancelled."},
    State.EXPIRED: {"code": 4, "message": "The batch did not finish within 48 hours."},
}


@dataclass(slots=True)
class Tally:
    """How far the answering of a job is; written by its thread alone."""

    succeeded: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    serial: int
    id: str
    owner: str
    model: str
    display_name: str
    input_file: str | None
    """The file's name, None for a job of inline requests."""
    n_requests: int
    tokens: int = 0
    embeds: bool = False
    created: datetime
    """May lie ahead: a create that lands late."""
    queue: timedelta = timedelta(0)
    run: timedelta = timedelta(0)
    faults: Mapping[str, float] = field(default_factory=dict)
    line_faults: Mapping[int, str] = field(default_factory=dict)
    """Until it has been answered: those that are known by position."""
    tally: Tally = field(default_factory=Tally)
    answered: datetime | None = None
    cancelled: datetime | None = None

    @property
    def name(self) -> str:
        return f"batches/{self.id}"

    @property
    def result_id(self) -> str:
        return f"batch-{self.id}"

    @property
    def order(self) -> int:
        return place_in_time(self.created, self.serial)

    @property
    def source(self) -> str:
        """The file of its request lines, in the emulator's folder."""
        return f"input-{self.id}"

    @property
    def results(self) -> str:
        return f"results-{self.id}"

    @property
    def starts(self) -> datetime:
        return self.created + (FOR_EVER if "job_stuck" in self.faults else self.queue)

    @property
    def ends(self) -> datetime:
        """When it is over if nothing comes between: never later than it expires."""
        return min(self.starts + self.run, self.created + LONGEST_JOB)

    @property
    def expires(self) -> bool:
        return self.starts + self.run > self.created + LONGEST_JOB

    @property
    def due(self) -> datetime:
        """When it is answered; one that expires not before it has: a shorter time may still let it succeed."""
        return self.ends if self.expires else self.starts

    @property
    def has_output(self) -> bool:
        """Once it has been answered."""
        return not self.expires and self.faults.keys().isdisjoint(_ENDED_BY)


def state_of(job: Job, now: datetime) -> State:
    if job.cancelled:
        return State.CANCELLED
    if job.expires and now >= job.ends:
        return State.EXPIRED
    if job.answered and now >= job.ends:
        return next((state for fault, state in _ENDED_BY.items() if fault in job.faults), State.SUCCEEDED)
    return State.PENDING if now <= job.starts else State.RUNNING


def job_reply(job: Job, now: datetime, output: Json | None) -> Json:
    """The operation that create, get and list show; `output` only for a job that has some."""
    state = state_of(job, now)
    kind = _EMBED if job.embeds else _GENERATE
    reply: Json = {"name": job.name, "metadata": {"@type": kind} | _metadata(job, state, now)}
    if state in LIVE:
        return reply
    reply["done"] = True
    if state in _ERRORS:
        reply["error"] = _ERRORS[state]
    if output is not None:
        reply["metadata"]["output"] = output
        reply["response"] = {"@type": kind + "Output", **output}
    return reply


def _metadata(job: Job, state: State, now: datetime) -> Json:
    metadata: Json = {"model": f"models/{job.model}"}
    if job.display_name:
        metadata["displayName"] = job.display_name
    if job.input_file:
        metadata["inputConfig"] = {"fileName": job.input_file}
    ended = None if state in LIVE else ended_at(job)
    metadata["createTime"] = timestamp(job.created)
    if ended:
        metadata["endTime"] = timestamp(ended)
    metadata["updateTime"] = timestamp(ended or (job.created if state is State.PENDING else now))
    if "job_without_stats" not in job.faults:
        metadata["batchStats"] = _stats(job, state, now)
    metadata["state"] = state.value
    metadata["name"] = job.name
    return metadata


def ended_at(job: Job) -> datetime:
    """A job that takes no virtual time ends when it has been answered."""
    takes_time = job.queue or job.run or job.expires
    return job.cancelled or (job.ends if takes_time or not job.answered else job.answered)


def _stats(job: Job, state: State, now: datetime) -> Json:
    """Strings, zeros left out, as recorded from the service."""
    kept = 0.5 if "cancelled_with_output" in job.faults and job.answered else 0.0
    share = {State.SUCCEEDED: 1.0, State.RUNNING: _progress(job, now), State.CANCELLED: kept}.get(state, 0.0)
    succeeded, failed = int(job.tally.succeeded * share), int(job.tally.failed * share)
    counts = {
        "requestCount": job.n_requests,
        "successfulRequestCount": succeeded,
        "failedRequestCount": failed,
        "pendingRequestCount": job.n_requests - succeeded - failed,
    }
    return {name: str(count) for name, count in counts.items() if count}


def _progress(job: Job, now: datetime) -> float:
    """The share of what is answered already that a running job shows: it moves as the virtual time does."""
    return min(1.0, (now - job.starts) / job.run) if job.run else 1.0
