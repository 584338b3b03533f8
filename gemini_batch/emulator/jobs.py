"""A remote job: what is known of it, which state that means at an instant, and how the service would show it.

The state is never stored; it follows from the clock, the answering and a cancel.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from gemini_batch.emulator.wire import Json, timestamp

LONGEST_JOB = timedelta(hours=48)  # Batch API guide: running or pending for longer means expired

_BATCH_TYPE = "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch"


class State(StrEnum):
    PENDING = "BATCH_STATE_PENDING"
    RUNNING = "BATCH_STATE_RUNNING"
    SUCCEEDED = "BATCH_STATE_SUCCEEDED"
    FAILED = "BATCH_STATE_FAILED"
    CANCELLED = "BATCH_STATE_CANCELLED"
    EXPIRED = "BATCH_STATE_EXPIRED"


LIVE = frozenset({State.PENDING, State.RUNNING})

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


@dataclass(frozen=True, slots=True)
class Job:
    serial: int
    id: str
    owner: str
    model: str
    display_name: str
    input_file: str | None
    """The file's name, None for a job of inline requests."""
    n_requests: int
    created: datetime
    duration: timedelta
    source: Path
    results: Path
    job_faults: frozenset[str] = frozenset()
    line_faults: Mapping[int, str] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    answered: datetime | None = None
    cancelled: datetime | None = None

    @property
    def name(self) -> str:
        return f"batches/{self.id}"

    @property
    def result_file(self) -> str:
        return f"files/batch-{self.id}"


def state_of(job: Job, now: datetime) -> State:
    age = now - job.created
    if job.cancelled:
        return State.CANCELLED
    if job.duration > LONGEST_JOB and age >= LONGEST_JOB:
        return State.EXPIRED
    if age < job.duration or not job.answered:
        return State.PENDING if age <= job.duration / 2 else State.RUNNING
    if "job_expired" in job.job_faults:
        return State.EXPIRED
    return State.FAILED if "job_failed" in job.job_faults else State.SUCCEEDED


def job_reply(job: Job, now: datetime, output: Json | None) -> Json:
    """The operation that create, get and list show; `output` only for a job that has succeeded."""
    state = state_of(job, now)
    reply: Json = {"name": job.name, "metadata": _metadata(job, state, now)}
    if state in LIVE:
        return reply
    reply["done"] = True
    if state in _ERRORS:
        reply["error"] = _ERRORS[state]
    if output is not None:
        reply["metadata"]["output"] = output
        reply["response"] = {"@type": _BATCH_TYPE + "Output", **output}
    return reply


def _metadata(job: Job, state: State, now: datetime) -> Json:
    metadata: Json = {"@type": _BATCH_TYPE, "model": f"models/{job.model}"}
    if job.display_name:
        metadata["displayName"] = job.display_name
    if job.input_file:
        metadata["inputConfig"] = {"fileName": job.input_file}
    ended = None if state in LIVE else ended_at(job)
    metadata["createTime"] = timestamp(job.created)
    if ended:
        metadata["endTime"] = timestamp(ended)
    metadata["updateTime"] = timestamp(ended or (job.created if state is State.PENDING else now))
    metadata["batchStats"] = _stats(job, state)
    metadata["state"] = state.value
    metadata["name"] = job.name
    return metadata


def ended_at(job: Job) -> datetime:
    end = job.cancelled or job.created + min(job.duration, LONGEST_JOB)
    return max(end, job.answered) if job.answered and not job.cancelled else end


def _stats(job: Job, state: State) -> Json:
    """Strings, zeros left out, as recorded from the service."""
    counted = state in (State.RUNNING, State.SUCCEEDED)
    succeeded, failed = (job.tally.succeeded, job.tally.failed) if counted else (0, 0)
    counts = {
        "requestCount": job.n_requests,
        "successfulRequestCount": succeeded,
        "failedRequestCount": failed,
        "pendingRequestCount": job.n_requests - succeeded - failed,
    }
    return {name: str(count) for name, count in counts.items() if count}
