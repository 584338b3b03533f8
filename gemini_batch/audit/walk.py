"""Walks over a run and over the service, and sees; `judge` decides what it means.

Changes nothing but `audit.json`. One shard at a time is in memory for each that is looked at at once; a run may be at
work meanwhile, so a shard whose history grew while its files were read is read again.
"""

import tempfile
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq

from gemini_batch import rundir
from gemini_batch.access import record_of
from gemini_batch.audit.account import Account, account_of, as_file, audit_of
from gemini_batch.audit.compare import or_damaged
from gemini_batch.audit.dataset import read_success, see_files
from gemini_batch.audit.facts import (
    Files,
    Finding,
    Part,
    Requests,
    RunFacts,
    ShardFacts,
    Success,
    Unreadable,
    Version,
)
from gemini_batch.audit.files import FilesTask, examine
from gemini_batch.audit.judge import judge_run, judge_shard
from gemini_batch.clock import Clock
from gemini_batch.coordinator.start import identity_digest
from gemini_batch.errors import NotFound, RemoteError, RunStopped
from gemini_batch.gemini.names import OUR_PREFIX, read_job_name
from gemini_batch.gemini.remote import Listing, Remote, list_whole
from gemini_batch.jobs.shop import CpuPool
from gemini_batch.ledger.run import RunFiles
from gemini_batch.ledger.store import Store
from gemini_batch.records import Asked, Job, RunRecord, ShardPlan, ShardRecord, ShardState

TRIES = 3
"""Looks at a shard that changes while it is looked at."""

Watch = Callable[[int, int], None]
"""Told how many shards of how many have been looked at."""


@dataclass(frozen=True)
class Means:
    """What an audit works with."""

    remote: Remote | None
    """None leaves the service out."""
    pool: CpuPool
    clock: Clock
    at_once: int = 1


def audit(files: RunFiles, means: Means, watch: Watch | None = None) -> dict[str, Any]:
    """Hold a run's ledger, files and jobs against one another, and leave `audit.json`. Returns what it holds.

    Raises:
        BadInput: there is no run.
        OSError: the store cannot be read now.
    """
    walk = Walk(files, means)
    facts = walk.see_run()
    plan = list(facts.plan) if isinstance(facts.plan, tuple) else []
    accounts, findings, sound, unmade = list[Account](), list[Finding](), set[int](), 0
    for shard in walk.see_shards(plan):
        wrong = list(judge_shard(facts, shard))
        findings += wrong
        accounts.append(account_of(shard))
        unmade += _is_unmade(shard.files)
        if isinstance(shard.files.part, Part) and not any(one.kind == "part" for one in wrong):
            sound.add(shard.plan.shard)
        if watch:
            watch(len(accounts), len(plan))
    facts = walk.see_dataset(facts, plan, sound)
    findings = [*judge_run(facts), *findings]
    now = means.clock.now()
    made = audit_of(facts, accounts, findings, now, unmade)
    unwritten = _leave(files.store, as_file(made))
    return audit_of(facts, accounts, [*findings, unwritten], now, unmade) if unwritten else made


def _is_unmade(files: Files) -> bool:
    """Whether the shard's request lines could not be made again, for the pictures in them."""
    return isinstance(files.requests, Requests) and files.requests.remade is None and files.requests.lines > 0


def _leave(store: Store, body: bytes) -> Finding | None:
    """Leave `audit.json`. What was found is told even where that cannot be."""
    try:
        with store.scratch(rundir.AUDIT) as scratch:
            scratch.write_bytes(body)
            store.publish(rundir.AUDIT, scratch)
    except OSError as error:
        return Finding("unwritten", None, f"{rundir.AUDIT} cannot be written: {error}", "make room, or mend rights")
    return None


class Walk:
    """One look at a run. `see_run` comes first: neither `_SUCCESS` nor a job is then newer than the histories."""

    def __init__(self, files: RunFiles, means: Means) -> None:
        self._files = files
        self._store = files.store
        self._means = means
        self._run: RunRecord = record_of(files)
        self._theirs: Mapping[int, list[Job]] = {}
        self._listing: Listing | None = None

    # --- the run

    def see_run(self) -> RunFacts:
        """What there is beside the shards, and what `_SUCCESS` lists; its files come last, by `see_dataset`."""
        success = read_success(self._store)
        unseen = self._look()
        plan = self._plan()
        is_planned = isinstance(plan, tuple)
        planned = {shard.shard for shard in plan} if isinstance(plan, tuple) else set[int]()
        controls, faults = self._controls()
        listing = self._listing
        self._theirs, nobodys = _by_shard(self._run.run_id, listing, planned) if listing and is_planned else ({}, ())
        return RunFacts(
            where=self._store.url,
            run=self._run,
            plan=plan,
            is_of_question=is_planned and self._is_of_question(),
            may_resubmit="resubmit" in controls,
            success=success,
            reported_rows=self._reported() if success else None,
            strays=tuple(self._strays(planned, success)) if is_planned else (),
            control_faults=tuple(faults),
            unseen=unseen,
            looked_at=listing.at if listing else None,
            nobodys=nobodys,
        )

    def _look(self) -> str | None:
        """List the jobs. Returns why that cannot be."""
        if self._means.remote is None:
            return None
        try:
            self._listing = list_whole(self._means.remote)
        except RemoteError as error:
            return str(error)
        return None

    def _plan(self) -> tuple[ShardPlan, ...] | Unreadable | None:
        if not self._store.exists(rundir.PLAN):
            return None
        with self._store.local(rundir.PLAN) as path:
            return or_damaged(lambda: _read_plan(path))

    def _is_of_question(self) -> bool:
        with self._store.local(rundir.PLAN) as path:
            said = (pq.read_schema(path).metadata or {}).get(b"identity")
        return said in (None, identity_digest(self._run.asked).encode())

    def _controls(self) -> tuple[set[str], list[str]]:
        """What was ever said of lost creates, and what is wrong with what operators said."""
        log, said, faults = self._files.controls(), {str(self._run.limits.on_unknown)}, list[str]()
        for version in range(1, log.end() + 1):
            try:
                control = log.at(version)
            except RunStopped as error:
                faults.append(str(error))
                continue
            if control is None:
                faults.append(f"{rundir.CONTROL} version {version} is missing")
            else:
                said.add(control.limits.on_unknown)
        return said, faults

    def _reported(self) -> int | Unreadable | None:
        body = self._store.read(rundir.REPORT)
        return None if body is None else or_damaged(lambda: int(orjson.loads(body)["rows"]))

    def _strays(self, planned: set[int], success: Success | Unreadable | None) -> Iterator[str]:
        """Objects where only planned ones belong. Rows frozen for a plan that another replaced are harmless debris."""
        belong = {
            rundir.LEDGER: {rundir.ledger_of(shard) for shard in planned},
            "raw": {rundir.raw_of(shard) for shard in planned},
            "parts": {rundir.part_of(shard) for shard in planned},
        }
        if isinstance(success, Success):
            belong["dataset"] = {file.name for file in success.files}
        for folder, names in belong.items():
            here = (f"{folder}/{name}" for name in self._store.names(folder) if not name.startswith("."))
            yield from (name for name in here if name not in names)

    # --- shards

    def see_dataset(self, facts: RunFacts, plan: list[ShardPlan], sound: set[int]) -> RunFacts:
        """The dataset's files too, held against the parts of these shards."""
        if not isinstance(facts.success, Success):
            return facts
        seen = tuple(see_files(self._store, facts.success, plan, sound))
        return replace(facts, success=replace(facts.success, files=seen))

    def see_shards(self, plan: list[ShardPlan]) -> Iterator[ShardFacts]:
        """Every shard in order, some at once."""
        waiting = deque[Future[ShardFacts]]()
        with ThreadPoolExecutor(self._means.at_once, thread_name_prefix="audit") as threads:
            for entry in plan:
                waiting.append(threads.submit(self._shard, entry))
                if len(waiting) > 2 * self._means.at_once:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _shard(self, entry: ShardPlan) -> ShardFacts:
        log = self._files.history(entry.shard)
        for _ in range(TRIES):
            history = tuple(self._history(entry.shard))
            facts = ShardFacts(entry, history)
            facts = replace(facts, files=self._files_of(entry, facts.record))
            if log.end() == len(history):
                break
        if self._listing is None:
            return facts
        listed = tuple(self._theirs.get(entry.shard, ()))
        return replace(facts, listed=listed, gone=self._is_gone(facts.record, self._listing))

    def _history(self, shard: int) -> Iterator[Version]:
        log = self._files.history(shard)
        for number in range(1, log.end() + 1):
            try:
                yield Version(number, log.at(number))
            except RunStopped as error:
                yield Version(number, None, str(error))

    def _files_of(self, entry: ShardPlan, record: ShardRecord) -> Files:
        with ExitStack() as here:
            scratch = Path(here.enter_context(tempfile.TemporaryDirectory(prefix="gemini-batch-audit-")))
            task = FilesTask(
                plan=entry,
                asked=self._asked(entry),
                nonce=self._run.nonce,
                max_bytes=self._run.limits.max_bytes_per_shard,
                rows=self._local(here, entry.frozen or rundir.rows_of(entry.shard)),
                requests=self._local(here, record.requests),
                raw=self._local(here, rundir.raw_of(entry.shard)),
                part=self._local(here, rundir.part_of(entry.shard)),
                scratch=scratch,
                left_out={row.index: row.why for row in record.left_out},
            )
            return self._means.pool.run(examine, task)

    def _asked(self, entry: ShardPlan) -> Asked:
        """What was asked for a shard's rows: a later round may have other settings."""
        asked = self._run.asked
        return asked.model_copy(update=orjson.loads(entry.settings)) if entry.settings else asked

    def _local(self, here: ExitStack, name: str | None) -> Path | None:
        """The file, if it is there."""
        if name is None or ".." in name or name.startswith("/") or not self._store.exists(name):
            return None
        return here.enter_context(self._store.local(name))

    def _is_gone(self, record: ShardRecord, listing: Listing) -> bool:
        """Whether the ledger waits for a job that is not there. A list may lag; a get does not."""
        job = record.job
        if record.state is not ShardState.SUBMITTED or job is None or job.name in listing.names:
            return False
        if self._means.remote is None:
            return False
        try:
            self._means.remote.get_job(job.name)
        except NotFound:
            return True
        except RemoteError:
            return False
        return False


def _read_plan(path: Path) -> tuple[ShardPlan, ...]:
    table = pq.read_table(path, page_checksum_verification=True)
    return tuple(ShardPlan.model_validate(row) for row in table.to_pylist())


def _by_shard(run_id: str, listing: Listing, planned: set[int]) -> tuple[dict[int, list[Job]], tuple[Job, ...]]:
    """The run's jobs by shard, and those under its name that are of none."""
    theirs, nobodys = defaultdict[int, list[Job]](list), list[Job]()
    for job in listing.every:
        made = read_job_name(job.display_name)
        if made and made.run == run_id and made.shard in planned:
            theirs[made.shard].append(job)
        elif (made.run == run_id) if made else job.display_name.startswith(f"{OUR_PREFIX}{run_id}-"):
            nobodys.append(job)
    return theirs, tuple(nobodys)
