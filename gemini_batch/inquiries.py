"""What people ask of runs that are there: how one stands, whether all is accounted for, what is wrong anywhere."""

import warnings
from collections.abc import Callable
from typing import Any

from loky import cpu_count

from gemini_batch.access import record_of, refuse_stranger
from gemini_batch.clock import SystemClock
from gemini_batch.config import Options, resolve_account
from gemini_batch.cpu import InProcess, ProcessPool
from gemini_batch.errors import BadInput, GeminiBatchError
from gemini_batch.fleet.broker import Broker, read_broker
from gemini_batch.fleet.hints import Hints
from gemini_batch.fleet.registry import Registry
from gemini_batch.fleet.watch import see
from gemini_batch.gemini.remote import Remote
from gemini_batch.ledger.places import is_url, join, open_store, why_not
from gemini_batch.ledger.run import RunFiles
from gemini_batch.records import Limits, RunRecord
from gemini_batch.standing import Drivers, read_status
from gemini_batch.status import UNSEEN, Status

BRIEF = (
    "run", "run_id", "state", "reason", "created_at", "model", "manifest", "owner", "rows", "cost_usd", "dataset",
    "problem",
)  # fmt: skip
"""What is said of each of many runs."""

SMALL_ROWS = 100_000
"""A run of no more rows is audited in this process: making others takes longer."""

READERS = 8
"""Shards of a run in an object store that are fetched at once."""


def _warn_of_silence(broker: Broker) -> None:
    try:
        broker.ping()
    except BadInput as error:
        warnings.warn(f"{error}; what it knows of workers is missing", stacklevel=3)


def standing(files: RunFiles, options: Options) -> Status:
    """How a run stands, with what the broker says of its workers, if one is given.

    Raises:
        BadInput: there is no run.
    """
    record = record_of(files)
    broker = read_broker(options.broker) if options.broker else None
    if broker:
        _warn_of_silence(broker)
    hints = Hints(broker.connect()) if broker else None
    drivers = see(record.run_id, Registry(open_store(options.runs)), hints)
    status = read_status(files, SystemClock(), drivers)
    if status is None:
        raise BadInput(f"{files.store.url}: the run has gone")
    return status


def cannot_be_told(status: Status) -> bool:
    """Whether a fleet has the run, and its workers cannot be seen from here."""
    return any(problem["what"] == UNSEEN for problem in status["problems"])


def overview(options: Options) -> list[dict[str, Any]]:
    """Every run directly below the root, the newest first: what `runs --json` lists. One that cannot be read says so.

    Raises:
        BadInput: the root cannot be read.
    """
    try:
        places = [join(options.runs, name) for name in open_store(options.runs).names("") if not name.startswith(".")]
        found = [entry for place in places if (entry := _entry(RunFiles(open_store(place))))]
    except OSError as error:
        raise BadInput(f"{why_not(options.runs, error)}; is that where the runs are (--runs)?") from None
    return sorted(found, key=lambda entry: entry["created_at"] or "", reverse=True)


def _entry(files: RunFiles) -> dict[str, Any] | None:
    """One run in brief; None for a directory that holds none."""
    where = files.store.url
    try:
        record = files.record()
        if record is None:
            return None
        status = read_status(files, SystemClock(), Drivers())
    except GeminiBatchError as error:
        return {**dict.fromkeys(BRIEF), "run": where, "problem": str(error)}
    known = {"created_at": record.created_at.isoformat(), "model": record.asked.model, "manifest": record.manifest}
    return {name: {**(status or {}), **known}.get(name) for name in BRIEF}


def audit_run(
    files: RunFiles, options: Options, offline: bool, watch: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Hold a run's ledger, files and jobs against one another. Returns what `audit.json` then holds.

    Raises:
        BadInput: no run, no key, or a key that does not see the run's jobs.
    """
    from gemini_batch.audit.walk import Means, audit  # noqa: PLC0415 - only here

    record = record_of(files)
    remote = None if offline else _remote_of(record, files.limits(record), options)
    large = record.asked.rows > SMALL_ROWS
    pool = ProcessPool() if large else InProcess()
    at_once = READERS if is_url(files.store.url) else (cpu_count() if large else 1)
    try:
        return audit(files, Means(remote, pool, SystemClock(), at_once), watch)
    finally:
        pool.close()


def _remote_of(record: RunRecord, limits: Limits, options: Options) -> Remote:
    from gemini_batch.gemini.client import GeminiClient  # noqa: PLC0415 - the SDK takes a second to import

    try:
        account = resolve_account(options.project)
        refuse_stranger(record, limits, account)
    except BadInput as error:
        raise BadInput(f"{error} Or leave the provider's jobs out: --offline.") from None
    return GeminiClient(account)


def diagnose(options: Options) -> dict[str, Any]:
    """Look at every run below the root, and at all that the service holds for the key. Returns what `doctor` prints.

    Raises:
        BadInput: no key, or the runs root cannot be read.
    """
    from gemini_batch.doctor.judge import diagnosis_of  # noqa: PLC0415 - only here
    from gemini_batch.doctor.visit import Visit  # noqa: PLC0415
    from gemini_batch.gemini.client import GeminiClient  # noqa: PLC0415

    account = resolve_account(options.project)
    broker = read_broker(options.broker) if options.broker else None
    if broker:
        _warn_of_silence(broker)
    hints = Hints(broker.connect()) if broker else None
    visit = Visit(options.runs, account, GeminiClient(account), SystemClock(), hints)
    try:
        return diagnosis_of(visit.go(), options.runs)
    except OSError as error:
        raise BadInput(f"{why_not(options.runs, error)}; is that where the runs are (--runs)?") from None
