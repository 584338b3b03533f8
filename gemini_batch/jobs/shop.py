"""What a worker has at hand to advance the shards of one run.

Holds no decision: the run's record, its files, the service, the desk, the CPU pool, the clock, and the newest known
record of each shard.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from threading import Event, Lock
from typing import Any, Protocol, TypeVar

import orjson

from gemini_batch import rundir
from gemini_batch.clock import Clock, new_nonce
from gemini_batch.errors import IllegalTransition
from gemini_batch.gemini.names import mark_of
from gemini_batch.gemini.remote import Listing, Remote, StoredFile
from gemini_batch.gemini.roots import MediaRoots, media_roots
from gemini_batch.jobs import events, lifecycle
from gemini_batch.jobs.learnt import Learnt
from gemini_batch.ledger.run import RunFiles
from gemini_batch.quota.desk import Desk
from gemini_batch.quota.words import Applicant
from gemini_batch.records import (
    Asked,
    ControlRecord,
    Limits,
    Order,
    RunRecord,
    ShardPlan,
    ShardRecord,
    ShardState,
    SpendRecord,
)

R = TypeVar("R")

STAYS_TRUE = (
    events.JobLearned,
    events.SendFailed,
    events.UploadGone,
    events.SendRefused,
)
"""What a sender learned about its own send, which a record that someone else wrote meanwhile does not change."""


class CpuPool(Protocol):
    def run(self, function: Callable[[Any], R], task: Any) -> R:
        """The function's result, computed in another process. Blocks."""


@dataclass
class Uploaded:
    """Pictures of a shard at the service, since `began` (boottime), by sha256."""

    began: float
    files: dict[str, StoredFile] = field(default_factory=dict)

    @property
    def uris(self) -> dict[str, str]:
        return {sha256: file.uri for sha256, file in self.files.items()}


@dataclass
class Shop:
    run: RunRecord
    limits: Limits
    files: RunFiles
    plan: list[ShardPlan]
    remote: Remote
    desk: Desk
    pool: CpuPool
    clock: Clock
    owner: str
    records: dict[int, ShardRecord] = field(default_factory=dict)
    unrecorded: dict[int, events.Event] = field(default_factory=dict)
    """What a sender learned and the store would not take: recorded before anything else is done with the shard."""
    uris: dict[int, "Uploaded"] = field(default_factory=dict)
    """Pictures uploaded for shards whose request file has yet to follow."""
    closing: Event = field(default_factory=Event)
    """Set when the process wants to leave: no further step is begun."""
    said: ControlRecord | None = None
    """The newest known of what operators said."""
    book: SpendRecord | None = None
    """The newest known record of the run's money, under a cap."""
    spending: Lock = field(default_factory=Lock)
    """Held by who reads and adds to it."""
    learnt: Learnt = field(default_factory=Learnt)
    """What the shards that this process knows to be collected say of the plan."""
    sees_all: bool = False
    """Whether that is all there is: then the desk is told from here, as each is collected. A fleet's sweep tells it."""
    deleted_jobs: set[str] = field(default_factory=set)
    """Recorded jobs that someone deleted at the service: listings need not show them."""
    allow_http: bool = False
    """Whether this process may fetch pictures by http(s)."""
    media_root: tuple[str, ...] = ()
    """Where this process has pictures, as `gemini.roots` reads it."""
    deletions: int | None = None
    """Request files that a sweep, which holds up every run, may still delete; None where nobody counts."""
    _listing: tuple[float, Listing] | None = None
    _proven: bool = False
    _listing_lock: Lock = field(default_factory=Lock)

    @cached_property
    def media_roots(self) -> MediaRoots:
        return media_roots(self.run.media_roots, self.media_root)

    @property
    def remote_prefix(self) -> str:
        """What the names of all that the run has at the service begin with."""
        return f"gbd-{self.run.run_id}-"

    def remote_name(self, shard: int, what: str) -> str:
        return f"{self.remote_prefix}{shard:06d}-{what}"

    def heed(self) -> None:
        """Take over the limits that were said last.

        Raises:
            OSError: they cannot be read now.
        """
        self.said = self.files.controls().last(self.said)
        if self.said:
            self.limits = self.desk.limits = self.said.limits

    @property
    def order(self) -> Order:
        """What operators said last, as far as this process knows."""
        return self.said.order if self.said else "run"

    def file_name(self, shard: int, what: str) -> str:
        """Display name of an upload."""
        return self.remote_name(shard, f"{mark_of(self.run.nonce)}-{what}")

    def last(self, shard: int) -> ShardRecord:
        """The shard's newest record, read from the ledger; the desk is told."""
        return self._note(self.read(shard))

    def read(self, shard: int) -> ShardRecord:
        """The shard's newest record, read from the ledger."""
        record = self.records[shard] = self.files.last(shard, self.records.get(shard))
        return record

    def load(self) -> None:
        """Read every shard's newest record. Leases follow the ledger before anyone asks the desk."""
        self.files.refresh(self.plan, self.records, strict=True)
        if self.learnt.add(self.plan, self.records.values()):
            self.desk.calibrate(self.learnt.calibration.scale)
        self.tell_desk()

    def tell_desk(self) -> None:
        """Hold the desk against all that this process knows of the run."""
        self.desk.follow_run(lambda: map(self.applicant, list(self.records.values())))

    def save(self, record: ShardRecord, event: events.Event) -> tuple[ShardRecord, bool]:
        """Record what happened. Returns the newest record, and whether the event is in it by this call's write.

        Raises:
            OSError: the store could not take it.
        """
        history = self.files.history(record.shard)
        while True:
            changed = lifecycle.apply(record, event)
            if changed == record and isinstance(event, events.JobLearned):
                return record, False  # known already; a new claim, though, says as much as the old one and is news
            written = changed.model_copy(
                update={
                    "version": record.version + 1,
                    "nonce": new_nonce(),
                    "cause": type(event).__name__,
                    "at": self.clock.now(),
                    "owner": self.owner,
                }
            )
            if history.append(written):
                return self._note(written), True
            record = self.last(record.shard)
            if not isinstance(event, STAYS_TRUE) or not still_fits(record, event):
                return record, False

    def listing(self, not_before: float) -> Listing:
        """A complete listing begun at or after `not_before` (boottime); one serves all who wait for it."""
        with self._listing_lock:
            if self._listing is None or self._listing[0] < not_before:
                began = self.clock.boottime()
                self._listing = (began, self.remote.list_jobs())
            return self._listing[1]

    def recorded_jobs(self) -> set[str]:
        """Names of the run's jobs that the service must still know."""
        jobs = [job for record in self.all_records() for job in (record.job, *record.twins) if job]
        return {job.name for job in jobs if job.state != lifecycle.GONE} - self.deleted_jobs

    def may_delete(self) -> bool:
        """Whether a sweep may take the time for one more file. The next one goes on, or whoever collects the shard."""
        if self.deletions is None:
            return True
        self.deletions -= 1
        return self.deletions >= 0

    def proven(self) -> bool:
        """Whether the service has accepted a job of this run, by its ledger."""
        self._proven = self._proven or any(record.job is not None for record in self.all_records())
        if not self._proven:  # another process may have been luckier
            self._proven = any(self.read(entry.shard).job is not None for entry in self.plan)
        return self._proven

    def rows(self, shard: int) -> str:
        """Name of the object that holds a shard's rows."""
        return self.plan[shard].frozen or rundir.rows_of(shard)

    def asked(self, shard: int) -> Asked:
        """What is asked for a shard's rows: a later round may have other settings."""
        settings = self.plan[shard].settings
        return self.run.asked.model_copy(update=orjson.loads(settings)) if settings else self.run.asked

    def size(self, shard: int) -> tuple[int, int]:
        """Estimated input tokens of a shard, and the bytes of its request file as planned."""
        return self.plan[shard].tokens, self.plan[shard].request_bytes

    def applicant(self, record: ShardRecord) -> Applicant:
        """A shard as the desk knows it."""
        return self.desk.applicant(record, *self.size(record.shard))

    def head(self) -> Applicant | None:
        """The first shard that has not begun, as far as this process knows, for the desk."""
        planned = (record for record in self.records.values() if record.state is ShardState.PLANNED)
        first = min(planned, key=lambda record: record.shard, default=None)
        return None if first is None else self.applicant(first)

    def scale(self) -> float:
        """Actual over estimated input tokens, by every record that this process knows."""
        self.learnt.add(self.plan, self.records.values())
        return self.learnt.calibration.scale

    def all_records(self) -> list[ShardRecord]:
        """The newest record of every shard that this process knows of, read where it knows none."""
        return [self.records.get(entry.shard) or self.read(entry.shard) for entry in self.plan]

    def _note(self, record: ShardRecord) -> ShardRecord:
        self.records[record.shard] = record
        if self.learnt.add(self.plan, (record,)) and self.sees_all:
            self.desk.calibrate(self.learnt.calibration.scale)
        self.desk.follow(record, *self.size(record.shard))
        return record


def still_fits(record: ShardRecord, event: events.Event) -> bool:
    """Whether the event can still be recorded."""
    try:
        lifecycle.apply(record, event)
    except IllegalTransition:
        return False
    return True
