"""What was seen of the runs and of the service becomes findings and counts. Pure.

In: the last records of every run that can be read with the key at hand, all jobs and files of the project. What is
not of such a run is counted and never named: it may be anybody's.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gemini_batch.gemini.names import OUR_PREFIX, Made, read_file_name, read_job_name
from gemini_batch.gemini.remote import Listing, StoredFile
from gemini_batch.jobs.lifecycle import is_live
from gemini_batch.records import FORMAT, Job, ShardRecord, ShardState

S = ShardState

LONG = timedelta(hours=24)
"""The service means to answer within 24 hours (Batch API guide); what has not moved for longer needs a look."""

BEING_MADE = timedelta(minutes=3)
"""A job this young may be one whose create is still being answered."""

OVER = (S.ENDED, S.COLLECTED)

UNSENT = (S.PLANNED, S.CLAIMED, S.READY)
"""What a pause holds back."""


@dataclass(frozen=True)
class Finding:
    """Something that needs a person."""

    kind: str
    run: str | None
    shard: int | None
    what: str
    fix: str


@dataclass(frozen=True)
class RunSeen:
    """A run that the key at hand can see."""

    run_id: str
    where: str
    began: datetime
    finished: bool
    shards: int
    records: Mapping[int, ShardRecord]
    """Last records: all of a run that has not finished, of another those that the service still holds something of."""
    problems: tuple[Mapping[str, str], ...] = ()
    """What `status` says needs doing."""
    paused: bool = False
    """Somebody said that nothing is to be sent."""


@dataclass(frozen=True)
class Seen:
    """Everything that was looked at. A listing is None where it could not be had."""

    runs: tuple[RunSeen, ...]
    jobs: Listing | None
    files: tuple[StoredFile, ...] | None
    now: datetime
    """The provider's time, or ours for want of it."""
    trouble: tuple[Finding, ...] = ()
    """What was in the way of looking."""
    strangers: int = 0
    """Runs of another key that have finished."""


def judge(seen: Seen) -> list[Finding]:
    """Everything that needs a person."""
    runs = {run.run_id: run for run in seen.runs}
    return [
        *seen.trouble,
        *(Finding("problem", run.run_id, None, one["what"], one["fix"]) for run in seen.runs for one in run.problems),
        *(finding for run in seen.runs for finding in _stuck(run, seen.now)),
        *(_jobs(runs, seen.jobs) if seen.jobs else ()),
        *_files(runs, seen.files or ()),
    ]


# --- shards that do not move ------------------------------------------------------------------------------------------


def _stuck(run: RunSeen, now: datetime) -> Iterator[Finding]:
    """One finding for all shards of a state that have been in it for long."""
    if run.finished:
        return
    found = defaultdict[ShardState, list[tuple[datetime, ShardRecord]]](list)
    for record in run.records.values():
        since, meant = _since(record), run.paused and record.state in UNSENT
        if record.state is not S.COLLECTED and not meant and since is not None and now - since > LONG:
            found[record.state].append((since, record))
    for state, shards in found.items():
        oldest, record = min(shards, key=lambda entry: entry[0])
        what = f"{len(shards):,} shards are {state} for up to {_hours(now - oldest)}{_told(record)}"
        yield Finding("stuck", run.run_id, record.shard, what, _mend(state, run.where))
    if not found and not run.paused and now - _last_progress(run) > LONG:
        done = sum(record.state is S.COLLECTED for record in run.records.values())
        idle = _hours(now - _last_progress(run))
        what = f"nothing has happened for {idle}, and {done:,} of {run.shards:,} shards are collected"
        yield Finding("stuck", run.run_id, None, what, _mend(S.PLANNED, run.where))


def _since(record: ShardRecord) -> datetime | None:
    """Since when a shard stands where it does; of a job, in the provider's time."""
    if record.state is S.SUBMITTED and record.job and record.job.created_at:
        return record.job.created_at
    return record.at


def _last_progress(run: RunSeen) -> datetime:
    return max((record.at for record in run.records.values() if record.at), default=run.began)


def _told(record: ShardRecord) -> str:
    if record.state is S.SUBMITTED and record.job:
        return f", the oldest with {record.job.name}"
    return f" ({record.problem})" if record.problem else ""


def _mend(state: ShardState, where: str) -> str:
    if state is S.SUBMITTED:
        return "look at the job at the service: it expires 48 h after its create; cancelled there, its place is free"
    if state is S.UNKNOWN:
        return "with --on-unknown wait it waits for ever: look for the job of its last send by name at the service"
    return f"gemini-batch-dist resume {where}, or see why no worker takes it: gemini-batch-dist status {where}"


def _hours(age: timedelta) -> str:
    return f"{age.total_seconds() / 3600:,.0f} h"


# --- jobs -------------------------------------------------------------------------------------------------------------


def _jobs(runs: Mapping[str, RunSeen], listing: Listing) -> Iterator[Finding]:
    for job in listing.every:
        made = read_job_name(job.display_name)
        if made and made.run in runs:
            yield from _job(runs[made.run], made.shard, job, listing.at)


def _job(run: RunSeen, shard: int, job: Job, now: datetime) -> Iterator[Finding]:
    """What is wrong with a job of a run, if anything is."""
    record = run.records.get(shard) or ShardRecord(shard=shard)
    state = job.state.rpartition("STATE_")[2]
    if job.name in {twin.name for twin in record.twins}:
        if is_live(job):
            what = f"{job.name} is a second job of the shard, bought in vain, and {state}"
            yield Finding("live_twin", run.run_id, shard, what, "cancel it at the service: nobody will collect it")
    elif record.job and job.name == record.job.name:
        if is_live(job) and record.state in OVER:
            what = f"{job.name} is {state} at the service, and the ledger gave it up ({record.problem})"
            yield Finding("unwanted_job", run.run_id, shard, what, "cancel it at the service: nobody will collect it")
    elif not _is_being_made(record, job, now):
        what = f"{job.name} ({state}) is not in the ledger"
        fix = (
            f"gemini-batch-dist resume {run.where} records it, if no process does so already; audit says what it holds"
        )
        yield Finding("unrecorded_job", run.run_id, shard, what, fix)


def _is_being_made(record: ShardRecord, job: Job, now: datetime) -> bool:
    """Whether its sender may still be waiting for the answer to the create."""
    sent = record.state is S.SENDING and any(send.display_name == job.display_name for send in record.sends)
    return sent and job.created_at is not None and now - job.created_at < BEING_MADE


# --- files ------------------------------------------------------------------------------------------------------------


def _files(runs: Mapping[str, RunSeen], files: Iterable[StoredFile]) -> Iterator[Finding]:
    """One finding for all files of a run that nobody needs any more."""
    found = defaultdict[str, list[StoredFile]](list)
    for file in files:
        made = read_file_name(file.display_name)
        if made and made.run in runs and not _is_wanted(runs[made.run], made.shard, file):
            found[made.run].append(file)
    for run, stored in found.items():
        what = f"{len(stored):,} uploaded files of shards that are over are still stored ({_bytes(stored)})"
        fix = "a run deletes them when it ends; else they go by themselves 48 h after their upload. They cost nothing"
        yield Finding("stored_files", run, None, what, fix)


def _is_wanted(run: RunSeen, shard: int, file: StoredFile) -> bool:
    """Whether a shard may still need the file, or the run deletes it as it goes on. Of request files that is the one
    its record names."""
    record = run.records.get(shard)
    if run.finished or record is None:
        return not run.finished
    upload = record.upload
    if file.display_name.endswith("-input"):
        return file.name == upload.name and not upload.deleted if upload else record.state not in OVER
    return record.state not in OVER or bool(upload and upload.media and not upload.media_deleted)


def _bytes(files: Iterable[StoredFile]) -> str:
    return f"{sum(file.size_bytes or 0 for file in files):,} bytes"


# --- what is only counted ---------------------------------------------------------------------------------------------


def diagnosis_of(seen: Seen, root: str) -> dict[str, Any]:
    """What `doctor --json` prints."""
    findings = judge(seen)
    ours = {run.run_id for run in seen.runs}
    return {
        "format": FORMAT,
        "runs_root": root,
        "looked_at": seen.jobs.at.isoformat() if seen.jobs else None,
        "clean": not findings,
        "runs": {
            "looked_at": len(seen.runs),
            "finished": sum(run.finished for run in seen.runs),
            "finished_of_other_keys": seen.strangers,
        },
        "live_jobs": _counted_jobs(seen.jobs, ours) if seen.jobs else None,
        "files": _counted_files(seen.files, ours) if seen.files is not None else None,
        "findings": [vars(finding) for finding in findings],
    }


def _counted_jobs(listing: Listing, ours: set[str]) -> dict[str, int]:
    live = [job for job in listing.every if is_live(job)]
    here = [job for job in live if _is_of(read_job_name(job.display_name), ours)]
    return {
        "of_these_runs": len(here),
        "of_runs_not_found_here": len(live) - len(here),
        "of_other_programs": sum(is_live(job) for job in listing.others),
    }


def _counted_files(files: Sequence[StoredFile], ours: set[str]) -> dict[str, dict[str, int]]:
    here = [file for file in files if _is_of(read_file_name(file.display_name), ours)]
    elsewhere = [file for file in files if file.display_name.startswith(OUR_PREFIX) and file not in here]
    others = [file for file in files if not file.display_name.startswith(OUR_PREFIX)]
    named = {"of_these_runs": here, "of_runs_not_found_here": elsewhere, "other_and_results": others}
    return {
        name: {"files": len(some), "bytes": sum(file.size_bytes or 0 for file in some)} for name, some in named.items()
    }


def _is_of(made: Made | None, ours: set[str]) -> bool:
    return made is not None and made.run in ours
