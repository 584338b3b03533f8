"""How a run stands, read from its directory, with what else is known of who works on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gemini_batch import rundir
from gemini_batch.clock import Clock
from gemini_batch.errors import RunStopped
from gemini_batch.ledger.run import RunFiles
from gemini_batch.records import ShardRecord
from gemini_batch.reducer.merge import publish_json, read_json
from gemini_batch.status import Status, summarise


@dataclass(frozen=True)
class Drivers:
    """Who works on a run, as far as the asking process can see."""

    working: bool = False
    waiting: Mapping[int, str] | None = None
    """Why shards rest, by shard; None while nobody is seen to drive the run."""
    desk_says: str | None = None
    """Why shards that have not begun do not, where `waiting` does not say."""
    until: Mapping[str, datetime] | None = None
    """Of reasons to wait, when it is worth asking again, where that is known."""
    workers: tuple[dict[str, Any], ...] = ()
    looked_at: datetime | None = None
    handed_over: bool = False
    """To a fleet."""
    unseen: bool = False
    """Whether it has workers cannot be seen, for want of its broker."""
    trouble: str | None = None
    """Why the fleet cannot see how the jobs stand."""


def read_status(
    files: RunFiles, clock: Clock, drivers: Drivers, records: list[ShardRecord] | None = None
) -> Status | None:
    """How a run stands; None when there is none.

    Args:
        records: the shards' last records, if the caller has them.
    """
    run = files.record()
    if run is None:
        return None
    plan, stopped, said = files.reread_plan(), _stop_said(files), files.controls().last()
    return summarise(
        files.store.url,
        run,
        plan,
        list(files.last_records(plan)) if records is None else records,
        finished=files.is_finished(),
        now=clock.now(),
        limits=said.limits if said else run.limits,
        order=said.order if said else "run",
        waiting=drivers.waiting,
        desk_says=drivers.desk_says,
        until=drivers.until,
        stopped=stopped.get("reason"),
        resume_with=stopped.get("resume_with"),
        working=drivers.working or _is_held(files, drivers),
        handed_over=drivers.handed_over,
        unseen=drivers.unseen,
        workers=drivers.workers,
        looked_at=drivers.looked_at,
        trouble=drivers.trouble,
    )


def _is_held(files: RunFiles, drivers: Drivers) -> bool:
    """Whether a process drives the run by itself; where there are no locks it is not said that none does."""
    held = files.store.is_held()
    return not drivers.handed_over if held is None else held


def why_stopped(files: RunFiles) -> str | None:
    """Why the last driver gave up; None when it did not."""
    return _stop_said(files).get("reason")


def _stop_said(files: RunFiles) -> dict[str, Any]:
    return read_json(files.store, rundir.STOPPED) or {}


def stop(files: RunFiles, error: RunStopped, clock: Clock) -> None:
    """Leave word of why the run cannot go on without a person."""
    said = {"reason": str(error), "resume_with": error.resume_with, "at": clock.now().isoformat()}
    publish_json(files.store, rundir.STOPPED, said)


def lift_stop(files: RunFiles) -> None:
    """A person says: try again."""
    files.store.delete(rundir.STOPPED)
