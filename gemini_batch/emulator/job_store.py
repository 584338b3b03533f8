"""All jobs of one emulator: frozen records, replaced under a lock, never edited; and the limits they meet."""

import itertools
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import TypeAdapter

from gemini_batch.clock import Clock
from gemini_batch.emulator.dice import Dice, fingerprint
from gemini_batch.emulator.jobs import LIVE, Job, Tally, state_of
from gemini_batch.emulator.settings import EmulatorSettings
from gemini_batch.emulator.state import State
from gemini_batch.emulator.wire import Json, not_found, quota_exceeded

_JOB = TypeAdapter(Job)
_CREATE = TypeAdapter(tuple[str, datetime])
_DAY = timedelta(days=1)


class JobStore:
    """`changed` is called with a job whose answering has become due sooner, or needless."""

    def __init__(self, settings: Callable[[], EmulatorSettings], clock: Clock, state: State) -> None:
        self._settings = settings
        self._clock = clock
        self._state = state
        self._lock = threading.RLock()
        self._jobs: dict[str, Job] = {}
        self._maybe_live: set[str] = set()
        self._creates: list[tuple[str, datetime]] = []
        """Owner and time of every create, of jobs deleted since too: for the limit of a day."""
        self._highest: Counter[str] = Counter()
        self.changed: Callable[[Job], None] = lambda job: None
        self._load()
        self._serials = itertools.count(1 + max((job.serial for job in self._jobs.values()), default=0))

    def _load(self) -> None:
        for record in self._state.all("job"):
            job = _JOB.validate_json(record)
            # What a half-done answering had counted is counted again.
            self._jobs[job.id] = job if job.answered else replace(job, tally=Tally())
            self._maybe_live.add(job.id)
        self._creates = [_CREATE.validate_json(record) for record in self._state.all("create")]
        self._raise_marks()

    def unanswered(self) -> list[Job]:
        return [job for job in self._all() if not job.answered and not job.cancelled]

    def results(self) -> set[str]:
        """The names of all result files that there are or may come to be."""
        return {job.results for job in self._all()}

    def clear(self) -> list[Job]:
        """The jobs there were."""
        with self._lock:
            old = self._all()
            self._jobs.clear()
            self._maybe_live.clear()
            self._creates.clear()
            self._highest.clear()
            self._serials = itertools.count(1)
        return old

    def shorten(self, settings: EmulatorSettings, before: Callable[[Job], None]) -> None:
        """A shorter time also ends live jobs sooner; a longer one leaves them alone: no state goes back.

        Args:
            before: called with each job as it is about to become.
        """
        with self._lock:
            for job in self._live():
                queue, run = self._times(job.serial, settings)
                sooner = replace(job, queue=min(job.queue, queue), run=min(job.run, run))
                before(sooner)
                self._put(sooner)
        for job in self.unanswered():
            self.changed(job)

    # --- create -------------------------------------------------------------------------------------------------------

    def check_room(self, owner: str, model: str, tokens: int = 0) -> None:
        """Raises ApiError: the recorded 429, which does not say which limit it was."""
        settings, now = self._settings(), self._clock.now()
        live = [job for job in self._live() if job.owner == owner]
        if len(live) >= settings.max_live_jobs:
            raise quota_exceeded("live_jobs")
        limit = settings.token_limit(model)
        if limit is not None and tokens + sum(job.tokens for job in live if job.model == model) > limit:
            raise quota_exceeded("enqueued_tokens")
        a_day = settings.max_creates_per_day
        if a_day is not None and sum(who == owner and now - at < _DAY for who, at in list(self._creates)) >= a_day:
            raise quota_exceeded("creates_per_day")

    def add(self, owner: str, model: str, tokens: int, late: timedelta, fields: dict[str, Any]) -> Job:
        """The room is looked at again: another create may have taken it while the lines were read."""
        with self._lock:
            self.check_room(owner, model, tokens)
            serial, created = next(self._serials), self._clock.now() + late
            queue, run = self._times(serial, self._settings())
            job = Job(
                serial=serial, owner=owner, model=model, tokens=tokens, created=created, queue=queue, run=run, **fields
            )
            self._put(job)
            self._maybe_live.add(job.id)
            self._creates.append((owner, created))
            self._state.put("create", job.id, _CREATE.dump_json((owner, created)))
            self._raise_marks()
        return job

    def undo(self, job: Job) -> None:
        """A create that failed after all."""
        with self._lock:
            self._jobs.pop(job.id, None)
            self._creates.remove((job.owner, job.created))
            self._state.drop("create", job.id)
            self._state.drop("job", job.id)

    def _times(self, serial: int, settings: EmulatorSettings) -> tuple[timedelta, timedelta]:
        """Drawn for each job by its number, so that the same settings draw the same times."""
        dice = Dice(fingerprint(settings.seed, b"times %d" % serial))
        return timedelta(seconds=settings.queue_seconds.draw(dice)), timedelta(seconds=settings.run_seconds.draw(dice))

    def _raise_marks(self) -> None:
        live = self._live()
        by_model: Counter[str] = Counter()
        for job in live:
            by_model[job.model] += job.tokens
        self._highest |= Counter({"jobs": len(live), "tokens": sum(by_model.values())})
        self._highest |= Counter({f"tokens of {model}": tokens for model, tokens in by_model.items()})

    # --- what comes after ---------------------------------------------------------------------------------------------

    def get(self, owner: str, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None or job.owner != owner or not self._has_come(job):
            raise not_found()
        return job

    def current(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def newest_first(self, owner: str) -> list[Job]:
        now = self._clock.now()
        mine = [
            job
            for job in self._all()
            if job.owner == owner and job.created + timedelta(seconds=job.faults.get("list_lag", 0)) <= now
        ]
        return sorted(mine, key=lambda job: job.order, reverse=True)

    def cancel(self, job: Job) -> Job | None:
        """Terminal at once (tobert/kaibo PR #8); None for a job that has ended, to which nothing happens."""
        now = self._clock.now()
        with self._lock:
            current = self._jobs.get(job.id, job)
            if state_of(current, now) not in LIVE or "cancel_ignored" in current.faults:
                return None
            cancelled = replace(current, cancelled=now)
            self._put(cancelled)
        self.changed(cancelled)
        return cancelled

    def remove(self, job: Job) -> Job:
        """The job as it was last."""
        with self._lock:
            last = self._jobs.pop(job.id, job)
            self._state.drop("job", job.id)
        self.changed(last)
        return last

    def answered(self, job: Job, at: datetime, broken: bool = False) -> Job | None:
        """Note that a job's results stand, or never will; None for one that nobody waits for any more."""
        with self._lock:
            current = self._jobs.get(job.id)
            if current is None or current.cancelled:
                return None
            faults = {**current.faults, "job_failed": 0.0} if broken else current.faults
            done = replace(current, answered=at, faults=faults, line_faults={})
            self._put(done)
        return done

    def _put(self, job: Job) -> None:
        self._jobs[job.id] = job
        if self._state.is_kept:
            self._state.put("job", job.id, _JOB.dump_json(job))

    # --- looking on ---------------------------------------------------------------------------------------------------

    def stats(self) -> Json:
        with self._lock:
            jobs, live = self._all(), self._live()
            tokens: defaultdict[str, int] = defaultdict(int)
            for job in live:
                tokens[job.model] += job.tokens
            models = {name.removeprefix("tokens of ") for name in self._highest} - {"jobs", "tokens"}
            return {
                "creates": len(self._creates),
                "jobs": {"total": len(jobs), "live": len(live), "live_max": self._highest["jobs"]},
                "tokens": {
                    "live": sum(tokens.values()),
                    "live_max": self._highest["tokens"],
                    "by_model": {
                        model: {"live": tokens[model], "live_max": self._highest[f"tokens of {model}"]}
                        for model in sorted(models)
                    },
                },
            }

    def _all(self) -> list[Job]:
        return list(self._jobs.values())

    def _live(self) -> list[Job]:
        """An ended job stays ended, so it is looked at for the last time here."""
        now = self._clock.now()
        with self._lock:
            found = [job for id_ in self._maybe_live if (job := self._jobs.get(id_)) and state_of(job, now) in LIVE]
            self._maybe_live = {job.id for job in found}
        return found

    def _has_come(self, job: Job) -> bool:
        """A late create comes to be, and a lagging one can be got, only in time."""
        return job.created + timedelta(seconds=job.faults.get("get_lag", 0)) <= self._clock.now()
