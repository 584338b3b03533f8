"""Runs by what the user calls them: plan, start or find again, drive. The command and the library are thin over
this."""

import warnings
from dataclasses import dataclass
from dataclasses import replace as with_fields
from pathlib import Path
from threading import Event
from typing import Any

import pyarrow as pa

from gemini_batch import rundir
from gemini_batch.access import is_same_project, record_of, refuse_schema, refuse_stranger
from gemini_batch.budget import refuse_uncappable, sized
from gemini_batch.clock import SystemClock, new_nonce
from gemini_batch.config import Account, Options, resolve_account
from gemini_batch.coordinator.columns import read_columns
from gemini_batch.coordinator.confirm import Ask, refuse_unconfirmed
from gemini_batch.coordinator.fetched import open_source
from gemini_batch.coordinator.manifest import Manifest
from gemini_batch.coordinator.plan import grow
from gemini_batch.coordinator.start import (
    Plan,
    begin,
    identity_digest,
    other_columns,
    refuse_foreign,
    refuse_other,
    scan,
)
from gemini_batch.errors import BadInput
from gemini_batch.fleet.broker import read_broker
from gemini_batch.fleet.hints import Hints
from gemini_batch.fleet.registry import Registry
from gemini_batch.fleet.watch import Watcher, hand_over, take_back
from gemini_batch.gemini.estimate import CostEstimate, estimate_plan
from gemini_batch.gemini.generation import generation_config
from gemini_batch.gemini.roots import media_roots
from gemini_batch.ledger.places import is_url, join, newest, open_store, why_not
from gemini_batch.ledger.probe import probe
from gemini_batch.ledger.run import RunFiles
from gemini_batch.orders import limits_given, limits_in_force
from gemini_batch.quota.tiers import GROWN_SHARE, share
from gemini_batch.records import Asked, Limits
from gemini_batch.schema.load import load_schema
from gemini_batch.solo import JOIN_SECONDS, Solo

ID_DIGITS = 12
"""48 bits of the identity's digest: two of ten thousand runs meet with a chance of 2 in 10 million."""


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
    manifest = open_source(source, read_columns(options))
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
        safety_settings=options.safety_settings,
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
        raise BadInput(f"run directory {why_not(place, error)}; mend it, or give another --out or --runs") from None
    return files


def _begin_alone(files: RunFiles, request: Request, run_id: str) -> None:
    """Plan into the directory; while another process does, wait and then find its run."""
    pause = Event()
    while not (record := files.record()):
        with files.store.held() as alone:
            if alone and not files.record():
                probe(files.store)
                plan, limits = request.plan, request.limits
                keep, broker = request.options.keep, request.options.broker
                shown = read_broker(broker).shown if broker else None
                begin(
                    files, request.manifest, request.asked, plan, request.roots, limits, run_id, SystemClock(), keep,
                    shown,
                )  # fmt: skip
        pause.wait(0 if alone else JOIN_SECONDS)
    same = is_same_project(record, files.limits(record), request.account)
    asked = request.asked.model_copy(update={"project": record.asked.project}) if same else request.asked
    refuse_other(record, asked, files.store.url)
    if said := other_columns(record, request.options.keep, files.store.url):
        warnings.warn(said, stacklevel=2)


def _place(request: Request) -> tuple[str, str]:
    """Path or URL, and id. Without --out or --fresh the id is the identity's digest: the same command finds its run,
    also one that was begun before the project was given a name."""
    run_id, root = identity_digest(request.asked)[:ID_DIGITS], request.options.runs
    if request.options.out is not None:
        return request.options.out, f"{run_id}-{new_nonce(4)}"
    if request.options.fresh:
        run_id = f"{run_id}-{new_nonce(4)}"
    elif request.asked.project != request.account.key_name:
        unnamed = request.asked.model_copy(update={"project": request.account.key_name})
        before = identity_digest(unnamed)[:ID_DIGITS]
        if not _is_run(join(root, run_id)) and _is_run(join(root, before)):
            run_id = before
    return join(root, run_id), run_id


def _is_run(place: str) -> bool:
    return open_store(place).exists(rundir.RUN)


def find(run: str | None, runs: str) -> RunFiles:
    """A run by path, URL or id; the newest below `runs` when not named.

    Raises:
        BadInput: there is none, or the place cannot be read.
    """
    try:
        return RunFiles(open_store(_newest(runs) if run is None else _named(run, runs)))
    except OSError as error:
        raise BadInput(f"{why_not(run or runs, error)}; is that where the runs are (--runs)?") from None


def _named(run: str, runs: str) -> str:
    for place in (run,) if is_url(run) else (run, join(runs, run)):
        if _is_run(place):
            return place
    raise BadInput(f"no run {run!r}: neither a run directory nor a run id below {runs} (--runs)")


def _newest(runs: str) -> str:
    found = newest(runs)
    if found is None:
        raise BadInput(f"no runs below {runs}; name one, or say where they live with --runs")
    return found


Driver = Solo | Watcher


def driver(files: RunFiles, options: Options, keep_pause: bool = False) -> Driver:
    """Who takes an existing run to its end: this process, or with `broker` a fleet that this one watches.

    Args:
        options: limits given now (and not by default) are recorded and hold from now on.
        keep_pause: a pause is not lifted.

    Raises:
        BadInput: the run belongs to another endpoint or project: its jobs would all look gone.
    """
    record = record_of(files)
    finished = files.is_finished()
    if options.broker:
        broker = read_broker(options.broker)
        if not finished:
            limits_in_force(files, options, keep_pause)
            hand_over(files, record.run_id, options.runs, broker)
        return watcher(files, options)
    from gemini_batch.gemini.client import GeminiClient  # noqa: PLC0415 - the SDK takes half a second to import

    account = resolve_account(options.project)
    limits = files.limits(record)
    refuse_stranger(record, limits, account)
    refuse_schema(record, allowed=None)
    if not finished and take_back(record.run_id, options.runs):
        warnings.warn("the run was with a fleet; this process takes it back and finishes it", stacklevel=2)
    if not finished:
        limits = limits_in_force(files, options, keep_pause)
    return Solo(files, GeminiClient(account), limits, media_root=options.media_root)


def hurry(options: Options) -> None:
    """Let a fleet hear at once what was said, if its broker is known. It hears it at its next sweep in any case."""
    if options.broker:
        Hints(read_broker(options.broker).connect()).hasten("sweep", seconds=0.1)


def is_handed_over(files: RunFiles, runs_root: str) -> bool:
    """Whether a fleet that shares `runs_root` has the run."""
    return Registry(open_store(runs_root)).where(record_of(files).run_id) is not None


def watcher(files: RunFiles, options: Options, only_looks: bool = False) -> Watcher:
    """Watches a run that others work on.

    Args:
        only_looks: for whoever did not ask for the work, and waits for the end of it whatever comes.
    """
    broker = read_broker(options.broker) if options.broker else None
    return Watcher(files, record_of(files).run_id, options.runs, broker, only_looks=only_looks)
