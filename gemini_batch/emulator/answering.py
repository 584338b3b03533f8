"""The thread that answers accepted jobs when they start, one line at a time from disk to disk."""

import heapq
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Protocol

import orjson

from gemini_batch.emulator.board import LineFaults
from gemini_batch.emulator.clock import VirtualClock
from gemini_batch.emulator.damage import ResultFile
from gemini_batch.emulator.jobs import Job
from gemini_batch.emulator.lines import AbandonedError
from gemini_batch.emulator.usage import number
from gemini_batch.emulator.wire import Json, key_of

_LONGEST_WAIT = 3600.0
_PATIENCE = 5.0
"""Seconds that the end waits for a user's answer."""

AnswerLine = Callable[[Json], Json]
"""A validated request line in, its result line out."""


class Work(Protocol):
    """What the answerer asks of the one who owns the jobs."""

    def current(self, job_id: str) -> Job | None:
        """As it is now; None once it is gone."""

    def answerer_of(self, job: Job) -> AnswerLine: ...

    def finished(self, job: Job) -> None:
        """Its result file, if it has output, is complete."""

    def broke(self, job: Job) -> None:
        """It could not be answered."""


class Answerer:
    """Until a job is finished, its two files belong to this thread alone; it removes those of a job that is gone."""

    def __init__(self, folder: Path, clock: VirtualClock, work: Work, seed: int) -> None:
        self._folder = folder
        self._clock = clock
        self._work = work
        self._seed = seed
        self._closing = False
        self._is_busy = False
        self._waiting: list[tuple[datetime, int, str]] = []
        self._numbers = itertools.count()
        self._line_faults: dict[str, LineFaults] = {}
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="answerer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, job: Job, line_faults: LineFaults | None = None) -> None:
        """To be answered when it is due; again whenever it has changed."""
        with self._changed:
            if line_faults is not None:
                self._line_faults[job.id] = line_faults
            due = self._clock.now() if job.cancelled else job.due
            heapq.heappush(self._waiting, (due, next(self._numbers), job.id))
            self._changed.notify_all()

    def wake(self) -> None:
        """The clock has been changed."""
        with self._changed:
            self._changed.notify_all()

    def wait_until_idle(self) -> None:
        """Returns when no job that has started is left to answer, or at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or not (self._is_busy or self._due()))

    def _due(self) -> bool:
        return bool(self._waiting) and self._clock.real_seconds_until(self._waiting[0][0]) <= 0

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE)

    def _run(self) -> None:
        while (job_id := self._next()) is not None:
            job = self._work.current(job_id)
            if job is not None and job.answered:
                continue
            line_faults = self._line_faults.pop(job_id, None) or LineFaults(job.line_faults if job else {})
            if job is not None and not job.cancelled and not self._finish(job, line_faults):
                continue
            (self._folder / f"input-{job_id}").unlink(missing_ok=True)

    def _finish(self, job: Job, line_faults: LineFaults) -> bool:
        """Whether the job's lines are needed no longer."""
        try:
            if job.has_output:
                self._answer(job, line_faults)
            self._work.finished(job)
        except AbandonedError:
            (self._folder / job.results).unlink(missing_ok=True)
            return not self._closing  # with a state folder it is answered after the restart
        except Exception:  # a defect of the emulator or of a user's answers: show it, fail this job, go on
            logging.getLogger(__name__).exception("answering %s failed", job.name)
            (self._folder / job.results).unlink(missing_ok=True)
            self._work.broke(job)
        return True

    def _next(self) -> str | None:
        """The next job that has started; None at the end."""
        with self._changed:
            self._is_busy = False
            self._changed.notify_all()
            while not self._closing:
                if self._due():
                    self._is_busy = True
                    return heapq.heappop(self._waiting)[2]
                left = self._clock.real_seconds_until(self._waiting[0][0]) if self._waiting else _LONGEST_WAIT
                self._changed.wait(min(left, _LONGEST_WAIT))
        return None

    def _answer(self, job: Job, line_faults: LineFaults) -> None:
        answer = self._work.answerer_of(job)
        with ResultFile(self._folder / job.results, job.faults, self._seed) as out:
            for position, line in enumerate(self._lines(job)):
                result = answer(line)
                fault = line_faults.at(position, key_of(line))
                failed = out.write(result, fault)
                _count(job, result, failed)
        if self._closing:  # and perhaps closed: nobody waited for a user's answer any longer
            raise AbandonedError

    def _lines(self, job: Job) -> Iterator[Json]:
        """Raises AbandonedError once nobody waits for the job: a user's answers may take their time."""
        with (self._folder / job.source).open("rb", buffering=1 << 20) as source:
            for raw in source:
                current = self._work.current(job.id)
                if self._closing or current is None or current.cancelled:
                    raise AbandonedError
                yield orjson.loads(raw)


def _count(job: Job, result: Json, failed: bool) -> None:
    """A user's own result may have any shape."""
    tally = job.tally
    if failed:  # and costs nothing
        tally.failed += 1
        return
    tally.succeeded += 1
    response = result.get("response")
    if type(response) is not dict:
        return
    if type(usage := response.get("usageMetadata")) is dict:
        prompt, total = (number(usage.get(name)) or 0 for name in ("promptTokenCount", "totalTokenCount"))
        tally.prompt_tokens += prompt
        tally.output_tokens += max(0, total - prompt)
    elif job.embeds:
        tally.prompt_tokens += number(response.get("tokenCount")) or 0
