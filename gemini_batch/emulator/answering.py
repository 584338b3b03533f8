"""The thread that answers accepted jobs, oldest first, one line at a time from disk to disk."""

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import replace

import orjson

from gemini_batch.emulator.answers import KnowsFile, answer_line
from gemini_batch.emulator.damage import dump, reverse_members, shuffle_lines, spoil
from gemini_batch.emulator.jobs import Job
from gemini_batch.emulator.lines import AbandonedError

_LINES_BETWEEN_LOOKS = 1024


class Answerer:
    """Writes a job's result file, then calls `finished(job)`; a job no longer `wanted` is dropped.

    Until `finished`, the job's two files belong to this thread alone.
    """

    def __init__(
        self,
        seed: int,
        knows_file: Callable[[str, str], bool],
        wanted: Callable[[Job], bool],
        finished: Callable[[Job], None],
    ) -> None:
        self._seed = seed
        self._knows_file = knows_file
        self._wanted = wanted
        self._finished = finished
        self._closing = threading.Event()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="answerer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, job: Job) -> None:
        self._jobs.put(job)

    def close(self) -> None:
        self._closing.set()
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None and not self._closing.is_set():
            try:
                self._answer(job)
                self._finished(job)
            except AbandonedError:
                job.results.unlink(missing_ok=True)
            except Exception:  # a defect of the emulator: show it, fail this job, answer the next
                logging.getLogger(__name__).exception("answering %s failed", job.name)
                self._finished(replace(job, job_faults=job.job_faults | {"job_failed"}))
            finally:
                job.source.unlink(missing_ok=True)

    def _answer(self, job: Job) -> None:
        write_results(job, self._seed, lambda file_id: self._knows_file(job.owner, file_id), self._still_wanted)
        if "result_shuffled" in job.job_faults:
            shuffle_lines(job.results, self._seed)

    def _still_wanted(self, job: Job) -> bool:
        return not self._closing.is_set() and self._wanted(job)


def write_results(job: Job, seed: int, knows_file: KnowsFile, wanted: Callable[[Job], bool]) -> None:
    """Raises AbandonedError once the job is no longer wanted."""
    plain = "result_reversed_members" not in job.job_faults
    with job.source.open("rb", buffering=1 << 20) as source, job.results.open("wb", buffering=1 << 20) as out:
        for position, raw in enumerate(source):
            if not position % _LINES_BETWEEN_LOOKS and not wanted(job):
                raise AbandonedError
            line = answer_line(orjson.loads(raw), seed, job.model, knows_file)
            fault = job.line_faults.get(position)
            for piece in [line] if fault is None else spoil(fault, line):
                if isinstance(piece, bytes):
                    out.write(piece)
                else:
                    out.write(dump(piece if plain else reverse_members(piece)))
            if "error" in line or fault == "result_line_error":
                job.tally.failed += 1
            else:
                job.tally.succeeded += 1
