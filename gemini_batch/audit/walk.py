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

from gemini_batch import rundir
from gemini_batch.access import record_of
from gemini_batch.audit.account import Account, account_of, as_file, audit_of
from gemini_batch.audit.again import Looking
from gemini_batch.audit.compare import or_damaged
from gemini_batch.audit.dataset import Digest, read_success, see_files
from gemini_batch.audit.facts import (
    Chain,
    Files,
    Finding,
    Requests,
    RunFacts,
    ShardFacts,
    Success,
    Unreadable,
    Version,
)
from gemini_batch.audit.files import FilesTask, examine
from gemini_batch.audit.judge import judge_run, judge_shard
from gemini_batch.audit.money import Telling, see_chain
from gemini_batch.audit.plans import read_plans
from gemini_batch.audit.replay import left_out_of
from gemini_batch.clock import Clock
from gemini_batch.coordinator.start import identity_digest
from gemini_batch.errors import NotFound, RemoteError, RunStopped
from gemini_batch.gemini.names import OUR_PREFIX, read_job_name
from gemini_batch.gemini.remote import Listing, Remote, list_whole
from gemini_batch.jobs.shop import CpuPool
from gemini_batch.ledger.run import RunFiles
from gemini_batch.ledger.store import Store
from gemini_batch.records import Asked, Job, RunRecord, ShardPlan, ShardRecord, ShardState, most_bytes

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
    plan = plan_of(facts)
    accounts, findings, unmade = list[Account](), list[Finding](), 0
    for shard in walk.see_shards(facts):
        findings += judge_shard(facts, shard)
        accounts.append(account_of(facts, shard))
        unmade += _is_unmade(shard.files)
        if watch:
            watch(len(accounts), len(plan))
    facts = walk.see_dataset(facts)
    findings = [*judge_run(facts), *findings]
    now = means.clock.now()
    made = audit_of(facts, accounts, findings, now, unmade)
    unwritten = _leave(files.store, as_file(made))
    return audit_of(facts, accounts, [*findings, unwritten], now, unmade) if unwritten else made


def plan_of(facts: RunFacts) -> list[ShardPlan]:
    """The shards that can be looked at."""
    return list(facts.plan) if isinstance(facts.plan, tuple) else []


def _is_unmade(files: Files) -> bool:
    """Whether the shard's request lines could not be made again, for the pictures in them."""
    return isinstance(files.requests, Requests) and files.requests.remade is None and files.requests.lines != 0


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
        self._digests: dict[int, Digest] = {}
        self._was_cancelled = False
        self._telling = Telling()
        self._caps = set[float]()
        self._allow_http = False

    # --- the run

    def see_run(self) -> RunFacts:
        """What there is beside the shards, and what `_SUCCESS` lists; its files come last, by `see_dataset`."""
        success = read_success(self._store)
        unseen = self._look()
        here = self._here()  # before the plans: a round that begins meanwhile is no stray
        plans = read_plans(self._store)
        planned, is_whole = {shard.shard for shard in plans.shards or ()}, plans.is_whole
        controls, faults = self._controls()
        self._was_cancelled = "cancel" in controls
        listing = self._listing
        self._theirs, nobodys = _by_shard(self._run.run_id, listing, planned, is_whole) if listing else ({}, ())
        return RunFacts(
            where=self._store.url,
            run=self._run,
            plan=plans.shards if plans.why is None else Unreadable(plans.why),
            rounds=plans.rounds,
            plan_faults=plans.faults,
            is_of_question=plans.identity in (None, identity_digest(self._run.asked)),
            may_resubmit="resubmit" in controls,
            success=success,
            is_repeated=success is None or self._is_repeated(),
            reported_rows=self._reported() if success else None,
            strays=tuple(_strays(here, planned, success)) if is_whole else (),
            control_faults=tuple(faults),
            chain=self._chain(),
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

    def _chain(self) -> Chain:
        return see_chain(self._files.spend(), self._caps)

    def _controls(self) -> tuple[set[str], list[str]]:
        """What was ever ordered, and said of lost creates; and what is wrong with it. Remembers the caps."""
        log, limits, faults = self._files.controls(), [self._run.limits], list[str]()
        orders = set[str]()
        for version in range(1, log.end() + 1):
            try:
                control = log.at(version)
            except RunStopped as error:
                faults.append(str(error))
                continue
            if control is None:
                faults.append(f"{rundir.CONTROL} version {version} is missing")
            else:
                limits.append(control.limits)
                orders.add(control.order)
        self._caps = {one.max_cost for one in limits if one.max_cost is not None}
        self._allow_http = any(one.allow_http for one in limits)
        return orders | {str(one.on_unknown) for one in limits}, faults

    def _reported(self) -> int | Unreadable | None:
        body = self._store.read(rundir.REPORT)
        return None if body is None else or_damaged(lambda: int(orjson.loads(body)["rows"]))

    def _is_repeated(self) -> bool:
        """Whether `merged.json` says what `_SUCCESS` does; damage is told of `_SUCCESS` alone."""
        merged, success = (self._store.read(name) for name in (rundir.MERGED, rundir.SUCCESS))
        return success is None or merged == success

    def _here(self) -> list[str]:
        """All objects of the folders in which only planned ones belong."""
        folders = (rundir.LEDGER, "raw", rundir.PARTS, "dataset")
        return [f"{folder}/{name}" for folder in folders for name in self._store.names(folder) if name[0] != "."]

    # --- shards

    def see_dataset(self, facts: RunFacts) -> RunFacts:
        """The dataset's files too, held against the parts that are as recorded. Comes after `see_shards`. A dataset
        that was taken away meanwhile, for a new round, is not looked at."""
        facts = replace(facts, told=self._telling.told())
        if not facts.finished:  # what was sent meanwhile was reserved before
            self._controls()
            facts = replace(facts, chain=self._chain())
        if not isinstance(facts.success, Success):
            return facts
        plan = [] if facts.plan_faults or facts.success.round > len(facts.rounds) else plan_of(facts)
        files = tuple(see_files(self._store, self._run, facts.success, plan, self._digests))
        again = read_success(self._store)
        if again != facts.success:
            return replace(facts, success=None)
        return replace(facts, success=replace(facts.success, files=files))

    def see_shards(self, facts: RunFacts) -> Iterator[ShardFacts]:
        """Every shard in order, some at once."""
        plan, causes = plan_of(facts), {number: one.cause for number, one in enumerate(facts.rounds, 1)}
        looking = Looking(self._store, self._run, plan, causes)
        for shard in self._see_shards(plan):
            seen = looking.note(shard)
            self._telling.add(shard.plan, shard.history)
            if record := shard.record.tally:
                is_sound = looking.is_sound(shard.plan.shard)
                self._digests[shard.plan.shard] = Digest(record.part_sha256, is_sound)
            yield seen

    def _see_shards(self, plan: list[ShardPlan]) -> Iterator[ShardFacts]:
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
            facts = replace(facts, files=self._files_of(facts))
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

    def _files_of(self, facts: ShardFacts) -> Files:
        entry, record = facts.plan, facts.record
        with ExitStack() as here:
            scratch = Path(here.enter_context(tempfile.TemporaryDirectory(prefix="gemini-batch-audit-")))
            task = FilesTask(
                plan=entry,
                asked=_asked(self._run, entry),
                nonce=self._run.nonce,
                max_bytes=most_bytes(self._run, entry),
                rows=self._local(here, entry.frozen or rundir.rows_of(entry.shard)),
                requests=self._local(here, record.requests),
                raw=self._local(here, rundir.raw_of(entry.shard)),
                part=self._local(here, rundir.part_of(entry.shard)),
                scratch=scratch,
                left_out=left_out_of(facts.history, record.requests),
                was_bought=record.refused is None,
                was_cancelled=self._was_cancelled,
                allow_http=self._allow_http,
            )
            return self._means.pool.run(examine, task)

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


def _asked(run: RunRecord, entry: ShardPlan) -> Asked:
    """What is asked for a shard's rows. Settings that nobody can ask for are a finding, and change nothing here."""
    if entry.settings is None:
        return run.asked
    found = or_damaged(lambda: Asked.model_validate({**run.asked.model_dump(), **orjson.loads(entry.settings or "")}))
    return run.asked if isinstance(found, Unreadable) else found


def _strays(here: list[str], planned: set[int], success: Success | Unreadable | None) -> Iterator[str]:
    """Objects where only planned ones belong. Rows frozen for a plan that another replaced are harmless debris."""
    belong = {form(shard) for shard in planned for form in (rundir.ledger_of, rundir.raw_of, rundir.part_of)}
    dataset = {file.name for file in success.files} if isinstance(success, Success) else None
    for name in here:
        if name.startswith("dataset/"):
            if dataset is not None and name not in dataset:
                yield name
        elif name not in belong:
            yield name


def _by_shard(
    run_id: str, listing: Listing, planned: set[int], is_whole: bool
) -> tuple[dict[int, list[Job]], tuple[Job, ...]]:
    """The run's jobs by shard, and those under its name that are of none.

    Args:
        is_whole: `planned` is all that was.
    """
    theirs, nobodys = defaultdict[int, list[Job]](list), list[Job]()
    for job in listing.every:
        made = read_job_name(job.display_name)
        if made and made.run == run_id and made.shard in planned:
            theirs[made.shard].append(job)
        elif made and made.run == run_id and not is_whole:
            continue
        elif (made.run == run_id) if made else job.display_name.startswith(f"{OUR_PREFIX}{run_id}-"):
            nobodys.append(job)
    return theirs, tuple(nobodys)
