"""Runs by what the user calls them: plan, start or find again, drive. The command and the library are thin over
this."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace as with_fields
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any

import pyarrow as pa
from loky import cpu_count

from gemini_batch import rundir
from gemini_batch.access import record_of, refuse_schema, refuse_stranger
from gemini_batch.budget import refuse_uncappable, sized
from gemini_batch.clock import SystemClock, new_nonce
from gemini_batch.config import Account, Options, resolve_account
from gemini_batch.coordinator.columns import Columns, read_columns
from gemini_batch.coordinator.confirm import Ask, refuse_unconfirmed
from gemini_batch.coordinator.fetched import open_source
from gemini_batch.coordinator.manifest import Manifest, TableManifest
from gemini_batch.coordinator.plan import grow
from gemini_batch.coordinator.retry import STATUSES, Choice, retry
from gemini_batch.coordinator.start import (
    Plan,
    begin,
    identity_digest,
    other_columns,
    refuse_foreign,
    refuse_other,
    scan,
)
from gemini_batch.cpu import InProcess, ProcessPool
from gemini_batch.errors import BadInput
from gemini_batch.fleet.broker import Broker, read_broker
from gemini_batch.fleet.hints import Hints
from gemini_batch.fleet.registry import Registry
from gemini_batch.fleet.watch import Watcher, hand_over, see, take_back
from gemini_batch.gemini.estimate import CostEstimate, estimate_plan
from gemini_batch.gemini.generation import generation_config
from gemini_batch.gemini.remote import Remote
from gemini_batch.gemini.roots import media_roots
from gemini_batch.inputs import read_text
from gemini_batch.kinds import KINDS
from gemini_batch.ledger.places import is_url, join, newest, open_store
from gemini_batch.ledger.probe import probe
from gemini_batch.ledger.run import RunFiles
from gemini_batch.quota.tiers import GROWN_SHARE, effective, known_limit, published, share
from gemini_batch.records import Asked, ControlRecord, Limits, RunRecord
from gemini_batch.schema.load import load_schema
from gemini_batch.solo import JOIN_SECONDS, Solo
from gemini_batch.standing import read_status, why_stopped
from gemini_batch.status import Status

ID_DIGITS = 12
"""48 bits of the identity's digest: two of ten thousand runs meet with a chance of 2 in 10 million."""


SMALL_ROWS = 100_000
"""A run of no more rows is audited in this process: making others takes longer."""

READERS = 8
"""Shards of a run in an object store that are fetched at once."""


@dataclass(frozen=True)
class Request:
    """Something to be asked, read and weighed; nothing is written yet."""

    manifest: Manifest
    roots: tuple[Path, ...]
    options: Options
    account: Account
    asked: Asked
    limits: Limits
    plan: Plan


def read_request(
    source: str | Path | pa.Table,
    options: Options,
    account: Account,
    schema: Any = None,
    roots: tuple[Path, ...] | None = None,
) -> Request:
    """Read a manifest and everything that is asked of it.

    Args:
        source: path or URL of a manifest, or a table whose relative paths start in the current directory.
        schema: wins over the options' own.
        roots: where pictures may lie; by default the manifest's directory, nowhere for one at a URL.

    Raises:
        BadInput: whatever is wrong with any of it.
    """
    _refuse_samples(options)
    columns = read_columns(options)
    manifest = (
        open_source(source, columns)
        if isinstance(source, str | Path)
        else TableManifest(source, "the table", Path.cwd(), columns)
    )
    spec = load_schema(options.schema_ if schema is None else schema, options.validate_)
    asked = Asked(
        rows=0,
        rows_digest="",
        model=options.model,
        response_schema=spec,
        generation_config=generation_config(options, spec),
        system_instruction=options.system_instruction,
        media=options.media,
        n_samples=options.n_samples,
        min_valid=options.min_valid,
        endpoint=account.endpoint,
        project=account.project,
    )
    roots = media_roots(roots or ((manifest.root,) if manifest.root else ()), options.media_root)
    limits = limits_given(options, options.model, Options().limits())
    now = SystemClock().now()
    refuse_uncappable(asked, limits, now)
    plan = _grown(scan(manifest, asked, roots, sized(limits, asked, now)), options, limits)
    asked = asked.model_copy(update={"rows": plan.rows, "rows_digest": plan.rows_digest})
    return Request(manifest, roots, options, account, asked, limits, plan)


def limits_given(options: Options, model: str, before: Limits) -> Limits:
    """`before` with what is given now, its tier looked up. Warns of a limit that is not the published one."""
    given = options.given_limits()
    creates = published().project.creates_a_day if options.tier else None
    if not options.tier or options.tier == before.tier or "max_enqueued_tokens" in given:
        return effective(before, given, None, creates)
    known = known_limit(published(), options.tier, model)
    if known.doubt:
        warnings.warn(known.doubt, stacklevel=2)
    return effective(before, given, known.tokens, creates)


def _grown(plan: Plan, options: Options, limits: Limits) -> Plan:
    """A plan of very many shards with larger ones, unless their size was given."""
    if "max_requests_per_shard" in options.model_fields_set:
        return plan
    default = "max_tokens_per_shard" not in options.model_fields_set
    most = share(limits.max_enqueued_tokens, GROWN_SHARE) if default else limits.max_tokens_per_shard
    return with_fields(plan, shards=grow(plan.shards, limits.max_bytes_per_shard, most))


def _refuse_samples(options: Options) -> None:
    samples, most = options.n_samples, options.max_requests_per_shard
    if options.min_valid > samples:
        raise BadInput(f"--min-valid {options.min_valid}: there are only {samples} samples of a row (--n-samples)")
    if samples > most:
        raise BadInput(f"--n-samples {samples}: all are in one job, which takes {most} (--max-requests-per-shard)")


def estimate(request: Request) -> CostEstimate | None:
    """What a request may cost, at today's price; None if nobody knows one."""
    return estimate_plan(request.asked, request.plan.shards, SystemClock().now(), request.options.price)


def start(request: Request, ask: Ask | None = None) -> RunFiles:
    """The run that answers a request: the one that is already there, or a new one.

    Args:
        ask: a person, about a new one that may cost more than `confirm_above`; None where there is none.

    Raises:
        CostNotConfirmed: nobody said yes to it.
        BadInput: the directory holds another run, or something else, or cannot hold one.
    """
    place, run_id = _place(request)
    files = RunFiles(open_store(place))
    try:
        if request.options.fresh and files.record():
            raise BadInput(f"--fresh: {place} holds a run; give a new --out, or leave --out away")
        if not files.record():
            refuse_foreign(files.store)
            refuse_unconfirmed(estimate(request), request.options, ask)
        _begin_alone(files, request, run_id)
    except OSError as error:
        raise BadInput(f"run directory {_said(place, error)}; mend it, or give another --out or --runs") from None
    return files


def _said(place: str, error: OSError) -> str:
    """The place and what is wrong with it; errors of an object store name it themselves."""
    return f"{place}: {error.strerror}" if error.strerror else str(error)


def _begin_alone(files: RunFiles, request: Request, run_id: str) -> None:
    """Plan into the directory; while another process does, wait and then find its run."""
    pause = Event()
    while not (record := files.record()):
        with files.store.held() as alone:
            if alone and not files.record():
                probe(files.store)
                plan, limits = request.plan, request.limits
                keep = request.options.keep
                begin(files, request.manifest, request.asked, plan, request.roots, limits, run_id, SystemClock(), keep)
        pause.wait(0 if alone else JOIN_SECONDS)
    refuse_other(record, request.asked, files.store.url)
    if said := other_columns(record, request.options.keep, files.store.url):
        warnings.warn(said, stacklevel=2)


def _place(request: Request) -> tuple[str, str]:
    """Path or URL, and id. Without --out or --fresh the id is the identity's digest: the same command finds its run."""
    run_id = identity_digest(request.asked)[:ID_DIGITS]
    if request.options.out is not None:
        return request.options.out, f"{run_id}-{new_nonce(4)}"
    if request.options.fresh:
        run_id = f"{run_id}-{new_nonce(4)}"
    return join(request.options.runs, run_id), run_id


def find(run: str | None, runs: str) -> RunFiles:
    """A run by path, URL or id; the newest below `runs` when not named.

    Raises:
        BadInput: there is none, or the place cannot be read.
    """
    try:
        return RunFiles(open_store(_newest(runs) if run is None else _named(run, runs)))
    except OSError as error:
        raise BadInput(f"{_said(run or runs, error)}; is that where the runs are (--runs)?") from None


def _named(run: str, runs: str) -> str:
    for place in (run,) if is_url(run) else (run, join(runs, run)):
        if open_store(place).exists(rundir.RUN):
            return place
    raise BadInput(f"no run {run!r}: neither a run directory nor a run id below {runs} (--runs)")


def _newest(runs: str) -> str:
    found = newest(runs)
    if found is None:
        raise BadInput(f"no runs below {runs}; name one, or say where they live with --runs")
    return found


Driver = Solo | Watcher


def driver(files: RunFiles, options: Options) -> Driver:
    """Who takes an existing run to its end: this process, or with `broker` a fleet that this one watches.

    Args:
        options: limits given now (and not by default) are recorded and hold from now on.

    Raises:
        BadInput: the run belongs to another endpoint or project: its jobs would all look gone.
    """
    from gemini_batch.gemini.client import GeminiClient  # noqa: PLC0415 - the SDK takes a second to import

    record = record_of(files)
    finished = files.is_finished()
    if options.broker:
        broker = read_broker(options.broker)
        if not finished:
            limits_in_force(files, options)
            hand_over(files, record.run_id, options.runs, broker)
        return watcher(files, options)
    account = resolve_account(options.project)
    refuse_stranger(record, account)
    refuse_schema(record, allowed=None)
    if not finished and take_back(record.run_id, options.runs):
        warnings.warn("the run was with a fleet; this process takes it back and finishes it", stacklevel=2)
    return Solo(files, GeminiClient(account), limits_in_force(files, options), media_root=options.media_root)


def _warn_of_silence(broker: Broker) -> None:
    try:
        broker.ping()
    except BadInput as error:
        warnings.warn(f"{error}; what it knows of workers is missing", stacklevel=3)


def is_handed_over(files: RunFiles, runs_root: str) -> bool:
    """Whether a fleet that shares `runs_root` has the run."""
    return Registry(open_store(runs_root)).where(record_of(files).run_id) is not None


def watcher(files: RunFiles, options: Options) -> Watcher:
    """Watches a run that others work on."""
    broker = read_broker(options.broker) if options.broker else None
    return Watcher(files, record_of(files).run_id, options.runs, broker)


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


def audit_run(
    files: RunFiles, options: Options, offline: bool, watch: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Hold a run's ledger, files and jobs against one another. Returns what `audit.json` then holds.

    Raises:
        BadInput: no run, no key, or a key that does not see the run's jobs.
    """
    from gemini_batch.audit.walk import Means, audit  # noqa: PLC0415 - only here

    record = record_of(files)
    remote = None if offline else _remote_of(record, options)
    large = record.asked.rows > SMALL_ROWS
    pool = ProcessPool() if large else InProcess()
    at_once = READERS if is_url(files.store.url) else (cpu_count() if large else 1)
    try:
        return audit(files, Means(remote, pool, SystemClock(), at_once), watch)
    finally:
        pool.close()


def _remote_of(record: RunRecord, options: Options) -> Remote:
    from gemini_batch.gemini.client import GeminiClient  # noqa: PLC0415 - the SDK takes a second to import

    try:
        account = resolve_account(options.project)
        refuse_stranger(record, account)
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
        raise BadInput(f"{_said(options.runs, error)}; is that where the runs are (--runs)?") from None


def retry_rows(files: RunFiles, options: Options, choice: Choice) -> int:
    """Plan a round of rows of a finished run, for a driver to carry out. Returns how many it buys.

    Args:
        options: generation options given now hold for these rows.

    Raises:
        BadInput: the run has not finished or is another project's; a key names no row.
    """
    record = record_of(files)
    if not options.broker:
        refuse_stranger(record, resolve_account(options.project))
    given = generation_config(options, None)
    settings: dict[str, Any] = {}
    if given:
        settings["generation_config"] = {**record.asked.generation_config, **given}
    if options.system_instruction is not None:
        settings["system_instruction"] = options.system_instruction
    limits = limits_given(
        options, record.asked.model, files.limits(record)
    )  # recorded by the driver: a refused retry changes nothing
    for asked in (record.asked, record.asked.model_copy(update=settings)):  # what was bought before counts too
        refuse_uncappable(asked, limits, SystemClock().now())
    return retry(files, record, limits, choice, settings)


def read_choice(statuses: list[str], kinds: list[str], keys: Path | None, replace: str | None, key: str) -> Choice:
    """Which rows to buy again, as the command is told.

    Args:
        keys: a file of one key a line.
        replace: path or URL of a manifest of rows with new content; its column `key`, or else `index`, names the rows.

    Raises:
        BadInput: an unknown status or kind; a file that cannot be read.
    """
    for option, given, known in (("--status", statuses, STATUSES), ("--kind", kinds, KINDS)):
        if unknown := next((name for name in given if name not in known), None):
            raise BadInput(f"{option} {unknown}: none of {', '.join(known)}")
    named = None if keys is None else frozenset(filter(None, read_text("--keys", keys).splitlines()))
    choice = Choice(frozenset(statuses), frozenset(kinds), named)
    return choice if replace is None else _replacing(choice, replace, key)


def _replacing(choice: Choice, source: str, key: str) -> Choice:
    manifest = open_source(source, Columns(key=key))
    if all("key" in block.schema.names for block in islice(manifest.blocks(), 1)):
        return with_fields(choice, replace=manifest)
    try:
        return with_fields(choice, replace=open_source(source, Columns(key="index")), replace_by="index")
    except BadInput:
        raise BadInput(f"--replace {source}: it needs a column {key!r} or 'index' that names the rows") from None


def limits_in_force(files: RunFiles, options: Options) -> Limits:
    """The limits of a run from now on. What is given now, and that a person says to go on, is recorded."""
    controls, stopped, record = files.controls(), why_stopped(files) is not None, record_of(files)
    while True:
        last = controls.last()
        before = last.limits if last else record.limits
        limits = limits_given(options, record.asked.model, before)
        refuse_uncappable(record.asked, limits, SystemClock().now())
        if limits == before and not stopped:
            return limits
        version, cause = last.version + 1 if last else 1, "resumed" if stopped else "limits"
        said = ControlRecord(version=version, nonce=new_nonce(), cause=cause, at=SystemClock().now(), limits=limits)
        if controls.append(said):
            return limits
