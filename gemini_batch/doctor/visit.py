"""Looks at every run below a root, and at all that the service holds for the key at hand.

The service comes first: what it shows was made after the record that allows it, so a record read later is never too
old to explain it. Changes nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

import orjson

from gemini_batch import rundir
from gemini_batch.access import is_ours
from gemini_batch.clock import Clock
from gemini_batch.config import Account
from gemini_batch.doctor.judge import Finding, RunSeen, Seen
from gemini_batch.errors import BadInput, RemoteError, RunStopped
from gemini_batch.fleet.hints import Hints
from gemini_batch.fleet.registry import Registry
from gemini_batch.fleet.watch import see
from gemini_batch.gemini.names import read_file_name, read_job_name
from gemini_batch.gemini.remote import Listing, Remote, StoredFile, list_whole
from gemini_batch.ledger.places import join, open_store
from gemini_batch.ledger.run import RunFiles
from gemini_batch.records import FORMAT, RunRecord, ShardRecord
from gemini_batch.standing import Drivers, read_status


@dataclass
class Visit:
    root: str
    account: Account
    remote: Remote
    clock: Clock
    hints: Hints | None = None
    """Of the broker, if one is given."""
    _trouble: list[Finding] = field(default_factory=list)
    _strangers: int = 0

    def go(self) -> Seen:
        """Look at everything.

        Raises:
            OSError: the runs root cannot be read.
        """
        jobs, files = self._jobs(), self._files()
        held = _held(jobs, files)
        runs = [run for folder in self._folders() if (run := self._run(folder, held))]
        now = jobs.at if jobs else self.clock.now()
        return Seen(tuple(runs), jobs, files, now, tuple(self._trouble), self._strangers)

    def _complain(self, kind: str, run: str | None, what: str, fix: str) -> None:
        self._trouble.append(Finding(kind, run, None, what, fix))

    # --- the service

    def _jobs(self) -> Listing | None:
        try:
            return list_whole(self.remote)
        except RemoteError as error:
            self._complain("jobs_unseen", None, f"the jobs could not be listed: {error}", "mend the key or wait")
        return None

    def _files(self) -> tuple[StoredFile, ...] | None:
        try:
            return self.remote.list_files()
        except RemoteError as error:
            self._complain("files_unseen", None, f"the files could not be listed: {error}", "mend the key or wait")
        return None

    # --- runs

    def _folders(self) -> Iterator[str]:
        """Where runs may be: right below the root, and wherever a fleet was told of one."""
        here = [name for name in open_store(self.root).names("") if not name.startswith(".")]
        yield from here
        registry = Registry(open_store(self.root))
        for run_id in registry.ids():
            fix = f"restore the run, or delete {self.root}/.active/{run_id}.json: it is no longer worked on"
            try:
                folder = registry.where(run_id)
            except BadInput as error:
                self._complain("registry", run_id, str(error), fix)
                continue
            if folder is None:
                continue
            if not open_store(join(self.root, folder)).exists(rundir.RUN):
                self._complain("registry", run_id, f"workers are told of a run in {folder}, and none is there", fix)
            elif folder not in here:
                yield folder

    def _run(self, folder: str, held: dict[str, set[int]]) -> RunSeen | None:
        """One run; None for what is none, or none that can be looked at. One that cannot be read hides no other."""
        files = RunFiles(open_store(join(self.root, folder)))
        try:
            record = files.record()
            if record is None:
                self._look_for_a_ledger(folder, files)
                return None
            if is_ours(record, files.limits(record), self.account):
                return self._seen(files, record, held.get(record.run_id, set()))
            self._stranger(files, record)
        except (BadInput, RunStopped, OSError) as error:
            kind = "newer_run" if _is_newer(files) else "unreadable_run"
            self._complain(kind, folder, str(error), "upgrade" if kind == "newer_run" else "restore it from a copy")
        return None

    def _look_for_a_ledger(self, folder: str, files: RunFiles) -> None:
        """A directory without `run.json` is debris, or none of ours; one with a ledger has lost it."""
        if files.store.names(rundir.LEDGER):
            what = f"{files.store.url} has a ledger and no {rundir.RUN}: jobs may have been paid for there"
            self._complain("unreadable_run", folder, what, f"restore {rundir.RUN} from a copy")

    def _stranger(self, files: RunFiles, record: RunRecord) -> None:
        """A run of another service or project. Nothing of it is visible here; one that is finished needs nothing."""
        if files.is_finished():
            self._strangers += 1
            return
        asked, own = record.asked, self.account
        what = (
            f"was made for the project {asked.project} at {asked.endpoint}; the key at hand is of {own.project} at "
            f"{own.endpoint}: nothing of it was looked at"
        )
        fix = "run doctor with the key (or --project, or GOOGLE_GEMINI_BASE_URL) that the run was made with"
        self._complain("wrong_key", record.run_id, what, fix)

    def _seen(self, files: RunFiles, record: RunRecord, held: set[int]) -> RunSeen:
        finished, plan = files.is_finished(), files.plan()
        known: dict[int, ShardRecord] = {}
        files.refresh([entry for entry in plan if entry.shard in held] if finished else plan, known)
        began: datetime = record.created_at
        problems = () if finished else self._problems(files, record, list(known.values()))
        said = files.controls().last()
        paused = said is not None and said.order == "pause"
        return RunSeen(record.run_id, files.store.url, began, finished, len(plan), known, problems, paused)

    def _problems(self, files: RunFiles, record: RunRecord, records: list[ShardRecord]) -> tuple[dict[str, str], ...]:
        """What `status` says needs doing."""
        drivers = see(record.run_id, Registry(open_store(self.root)), self.hints)
        if drivers.unseen:
            drivers = Drivers(working=True, handed_over=True)  # without a broker nothing is said of workers
        status = read_status(files, self.clock, drivers, records)
        return tuple(status["problems"]) if status else ()


def _is_newer(files: RunFiles) -> bool:
    try:
        return bool(orjson.loads(files.store.read(rundir.RUN) or b"")["format"] > FORMAT)
    except (ValueError, LookupError, TypeError):
        return False


def _held(jobs: Listing | None, files: tuple[StoredFile, ...] | None) -> dict[str, set[int]]:
    """The shards that the service holds something of, by run."""
    found: dict[str, set[int]] = {}
    made = [read_job_name(job.display_name) for job in (jobs.every if jobs else ())]
    made += [read_file_name(file.display_name) for file in files or ()]
    for one in filter(None, made):
        found.setdefault(one.run, set()).add(one.shard)
    return found
