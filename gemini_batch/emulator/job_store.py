"""All jobs of one emulator: frozen records, replaced under a lock, never edited."""

import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from gemini_batch.clock import Clock
from gemini_batch.emulator.answering import Answerer
from gemini_batch.emulator.file_store import FileStore
from gemini_batch.emulator.jobs import LIVE, Job, state_of
from gemini_batch.emulator.settings import EmulatorSettings
from gemini_batch.emulator.wire import Json, not_found, quota_exceeded


class JobStore:
    def __init__(self, settings: EmulatorSettings, clock: Clock, folder: Path, files: FileStore) -> None:
        self.settings = settings
        self.clock = clock
        self.folder = folder
        self._files = files
        self._answerer = Answerer(settings.seed, self._knows_file, self._wanted, self._finished)
        self._lock = threading.Lock()
        self._serials = itertools.count(1)
        self._jobs: dict[str, Job] = {}
        self._creates = self._rejected = self._live_max = 0

    def start(self) -> None:
        self._answerer.start()

    def close(self) -> None:
        self._answerer.close()

    def clear(self) -> None:
        with self._lock:
            old = list(self._jobs.values())
            self._jobs.clear()
            self._creates = self._rejected = self._live_max = 0
        for job in old:
            self._discard_results(job)

    def configure(self, job_seconds: float | None, max_live_jobs: int | None) -> None:
        """A shorter time also ends live jobs sooner; a longer one leaves them alone: no state goes back."""
        if max_live_jobs is not None:
            self.settings = replace(self.settings, max_live_jobs=max_live_jobs)
        if job_seconds is None:
            return
        self.settings = replace(self.settings, job_seconds=job_seconds)
        with self._lock:
            for job in self._live():
                duration = min(job.duration, timedelta(seconds=job_seconds))
                self._jobs[job.id] = replace(job, duration=duration)

    def check_room(self, owner: str) -> None:
        if sum(job.owner == owner for job in self._live()) >= self.settings.max_live_jobs:
            raise quota_exceeded()

    def add(self, owner: str, make: Callable[[int], Job]) -> Job:
        """`make` gets the serial number; jobs are newer the higher it is."""
        with self._lock:
            self.check_room(owner)
            job = make(next(self._serials))
            self._jobs[job.id] = job
            self._creates += 1
            self._live_max = max(self._live_max, len(self._live()))
        return job

    def answer(self, job: Job) -> None:
        self._answerer.put(job)

    def count_rejected(self) -> None:
        self._rejected += 1

    def get(self, owner: str, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None or job.owner != owner:
            raise not_found()
        return job

    def newest_first(self, owner: str) -> list[Job]:
        mine = [job for job in list(self._jobs.values()) if job.owner == owner]
        return sorted(mine, key=lambda job: -job.serial)

    def cancel(self, job: Job) -> None:
        """Terminal at once, no output (tobert/kaibo PR #8); nothing happens to a job that has ended."""
        now = self.clock.now()
        with self._lock:
            current = self._jobs.get(job.id, job)
            if state_of(current, now) not in LIVE:
                return
            self._jobs[job.id] = replace(current, cancelled=now)
        self._discard_results(current)

    def remove(self, job: Job) -> None:
        """A result file already published stays readable."""
        with self._lock:
            self._jobs.pop(job.id, None)

    def stats(self) -> Json:
        with self._lock:
            jobs = {"total": len(self._jobs), "live": len(self._live()), "live_max": self._live_max}
            return {"creates": self._creates, "creates_rejected": self._rejected, "jobs": jobs}

    def _live(self) -> list[Job]:
        now = self.clock.now()
        return [job for job in list(self._jobs.values()) if state_of(job, now) in LIVE]

    def _knows_file(self, owner: str, file_id: str) -> bool:
        return self._files.find(owner, file_id) is not None

    def _wanted(self, job: Job) -> bool:
        current = self._jobs.get(job.id)
        return current is not None and current.cancelled is None

    def _finished(self, job: Job) -> None:
        if job.input_file is not None and not job.job_faults & {"job_failed", "job_expired"}:
            self._files.add_result(job.owner, job.result_file.removeprefix("files/"), job.results)
        done = replace(job, answered=self.clock.now())
        with self._lock:
            kept = self._wanted(job)
            if kept:
                done = replace(done, duration=self._jobs[job.id].duration)
                self._jobs[job.id] = done
        if not kept:
            self._discard_results(done)

    def _discard_results(self, job: Job) -> None:
        """Before it is answered, a job's result file is the answering thread's to remove."""
        if job.answered:
            self._files.delete(job.result_file.removeprefix("files/"))
            job.results.unlink(missing_ok=True)
