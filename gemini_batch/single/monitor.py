"""Waiting for one job: until it is over, for a bounded time, through whatever passes.

In: the name of a job. Out: its state. Nothing is fetched here, and no end of this process ends the job.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gemini_batch.clock import Clock, SystemClock
from gemini_batch.errors import JobUnfinished, NotFound
from gemini_batch.gemini.client import GeminiClient
from gemini_batch.gemini.remote import BatchJob
from gemini_batch.jobs.lifecycle import LONGEST_LIFE, backoff, is_over, poll_delay
from gemini_batch.single.service import MAY_PASS, connect, pause

SUCCEEDED = "JOB_STATE_SUCCEEDED"

PATIENCE = timedelta(hours=1)
"""Without any answer; a laptop that is moved is offline for less."""

MISSING = timedelta(minutes=5)
"""A job that is known may answer 404 for a while after it was made."""

OUTPUT_LATE = timedelta(minutes=10)
"""A job may succeed before its output is visible (tidyverse/ellmer PR #926)."""

OnProgress = Callable[[BatchJob], object]

log = logging.getLogger(__name__)


def monitor_batch_job(
    job_name: str,
    poll_interval: float = 60,
    *,
    timeout: float | None = None,
    on_progress: OnProgress | None = None,
    client: GeminiClient | None = None,
) -> str:
    """Wait until a job is over.

    Args:
        poll_interval: longest pause between two looks, in seconds; a young job is looked at more often.
        timeout: longest wait in seconds; by default 72 hours, more than any job lives.
        on_progress: called with the job at each look.
        client: the service; by default that of the environment.

    Returns:
        `JOB_STATE_SUCCEEDED`, `JOB_STATE_FAILED`, `JOB_STATE_CANCELLED` or `JOB_STATE_EXPIRED`, or whatever else the
        service calls a job that is over. One that succeeded may hold requests that failed.

    Raises:
        JobUnfinished: the time is up; the job goes on.
        RemoteError: the key sees no such job, or the service did not answer for an hour.
        BadInput: no API key.
    """
    service = connect(client)
    watch = Watch(job_name, poll_interval, timeout, on_progress)
    return watch.until_over(lambda: service.show_job(job_name)).state


@dataclass(frozen=True)
class Watch:
    """How a job is waited for."""

    job_name: str
    poll_interval: float = 60
    timeout: float | None = None
    on_progress: OnProgress | None = None
    known: bool = False
    """Whether the job certainly is or was there, so that a 404 may pass."""
    clock: Clock = field(default_factory=SystemClock)
    pause: Callable[[float], None] = pause

    def until_over(self, look: Callable[[], tuple[BatchJob, datetime]]) -> BatchJob:
        """The job as it was seen when it was over. Raises as `monitor_batch_job`."""
        began = answered = self.clock.boottime()
        limit = LONGEST_LIFE.total_seconds() if self.timeout is None else self.timeout
        failures, seen, succeeded_at = 0, None, None
        while True:
            try:
                seen, at = look()
            except (*MAY_PASS, NotFound) as error:
                if self.clock.boottime() - answered >= self._patience(error, seen):
                    raise
                delay = backoff(failures, max(self.poll_interval, 1))
                failures += 1
            else:
                answered, failures = self.clock.boottime(), 0
                if self.on_progress:
                    self.on_progress(seen)
                succeeded_at = succeeded_at or (answered if seen.state == SUCCEEDED else None)
                if _is_whole(seen, answered, succeeded_at):
                    return seen
                delay = poll_delay(at - (seen.created_at or at), max(self.poll_interval, 0.1))
            left = began + limit - self.clock.boottime()
            if left <= 0:
                raise JobUnfinished(self.job_name, seen.state if seen else None, limit)
            self.pause(min(delay.total_seconds(), left))

    def _patience(self, error: Exception, seen: BatchJob | None) -> float:
        if not isinstance(error, NotFound):
            return PATIENCE.total_seconds()
        return MISSING.total_seconds() if seen or self.known else 0.0


def _is_whole(job: BatchJob, now: float, succeeded_at: float | None) -> bool:
    """Whether it is over, and with it what a success brings."""
    if not (job.done or is_over(job)):
        return False
    return job.has_output or succeeded_at is None or now - succeeded_at >= OUTPUT_LATE.total_seconds()


@contextmanager
def telling(job_name: str) -> Iterator[None]:
    """Whatever ends what is done with a job, its name is said: it may go on, and has been paid for."""
    said = f"the job {job_name} is at the service; come back to it with monitor_batch_job({job_name!r})"
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.add_note(said)
        log.warning("interrupted: %s", said)
        raise
    except BaseException as error:
        error.add_note(said)
        raise
