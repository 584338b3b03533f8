"""What people tell a run that is there: other limits, pause, cancel, buy these rows again."""

import warnings
from dataclasses import replace as with_fields
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from gemini_batch.access import projects_of, record_of, refuse_stranger
from gemini_batch.budget import refuse_uncappable
from gemini_batch.clock import SystemClock, new_nonce
from gemini_batch.config import Options, resolve_account
from gemini_batch.coordinator.columns import Columns, columns_again
from gemini_batch.coordinator.fetched import open_source
from gemini_batch.coordinator.retry import STATUSES, Choice, retry
from gemini_batch.errors import BadInput
from gemini_batch.fleet.broker import read_broker
from gemini_batch.gemini.generation import generation_config
from gemini_batch.gemini.roots import media_roots
from gemini_batch.inputs import read_text
from gemini_batch.kinds import KINDS
from gemini_batch.ledger.log import Log
from gemini_batch.ledger.run import RunFiles
from gemini_batch.quota.tiers import effective, known_limit, published
from gemini_batch.records import ControlRecord, Limits, Order, RunRecord
from gemini_batch.standing import why_stopped


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


def limits_in_force(files: RunFiles, options: Options, keep_pause: bool = False) -> Limits:
    """The limits of a run from now on. What is given now, and that a person says to go on, is recorded: that lifts a
    pause, and ends no cancelling.

    Args:
        keep_pause: nobody says to go on; a pause stays.

    Raises:
        BadInput: the project is given a name by a key that is not the run's; a cap that nobody could keep.
    """
    controls, stopped, record = files.controls(), why_stopped(files) is not None, record_of(files)
    broker = read_broker(options.broker).shown if options.broker else None
    while True:
        last = _last(controls, record)
        lifted = last.order == "pause" and not keep_pause
        _refuse_rename(record, last.limits, options)
        limits = limits_given(options, record.asked.model, last.limits)
        refuse_uncappable(record.asked, limits, SystemClock().now())
        if (limits, broker) == (last.limits, last.broker) and not stopped and not lifted:
            return limits
        cause = "resumed" if stopped or lifted else "limits" if limits != last.limits else "driver"
        order: Order = "run" if lifted else last.order
        if controls.append(_next(last, cause, limits=limits, order=order, broker=broker)):
            return limits


def _refuse_rename(record: RunRecord, before: Limits, options: Options) -> None:
    """Another name of the project is taken from who has a key that is the run's, and from nobody else: under it, more
    keys may work on the run."""
    if options.project is not None and options.project not in projects_of(record, before):
        refuse_stranger(record, before, resolve_account(options.project, key_needed=False))


def retry_rows(files: RunFiles, options: Options, choice: Choice) -> int:
    """Plan a round of rows of a finished run, for a driver to carry out. Returns how many it buys.

    Args:
        options: generation options given now hold for these rows.

    Raises:
        BadInput: the run has not finished or is another project's; a key names no row.
    """
    record = record_of(files)
    if not options.broker:
        refuse_stranger(record, files.limits(record), resolve_account(options.project))
    given = generation_config(options, None)
    settings: dict[str, Any] = {}
    if given:
        settings["generation_config"] = {**record.asked.generation_config, **given}
    if options.safety_settings:
        settings["safety_settings"] = options.safety_settings
    if options.system_instruction is not None:
        settings["system_instruction"] = options.system_instruction
    limits = limits_given(
        options, record.asked.model, files.limits(record)
    )  # recorded by the driver: a refused retry changes nothing
    for asked in (record.asked, record.asked.model_copy(update=settings)):  # what was bought before counts too
        refuse_uncappable(asked, limits, SystemClock().now())
    rows = retry(files, record, limits, choice, settings, media_roots(record.media_roots, options.media_root))
    if rows:
        _give(files, record, "run", "retried", over=frozenset({"cancel"}))
    return rows


def read_choice(
    run: RunRecord,
    statuses: list[str],
    kinds: list[str],
    keys: Path | None,
    replace: str | pa.Table | None,
    key: str | None,
) -> Choice:
    """Which rows to buy again, as the command is told.

    Args:
        keys: a file of one key a line.
        replace: path or URL of a manifest, or a table, of rows with new content: with the columns of the run's own
            manifest, which its template is for, or with plain ones. Its column of keys, or else `index`, names the
            rows.
        key: that column, if it is neither called as in the run's manifest nor `key`.

    Raises:
        BadInput: an unknown status or kind; a file that cannot be read.
    """
    for option, given, known in (("--status", statuses, STATUSES), ("--kind", kinds, KINDS)):
        if unknown := next((name for name in given if name not in known), None):
            raise BadInput(f"{option} {unknown}: none of {', '.join(known)}")
    named = None if keys is None else frozenset(filter(None, read_text("--keys", keys).splitlines()))
    choice = Choice(frozenset(statuses), frozenset(kinds), named)
    return choice if replace is None else _replacing(choice, replace, run, key)


def _replacing(choice: Choice, source: str | pa.Table, run: RunRecord, key: str | None) -> Choice:
    own, plain = columns_again(run.columns), Columns()
    refusals = []
    for columns in dict.fromkeys((own, plain)):
        for name in (key or columns.key, "index"):
            try:
                manifest = open_source(source, with_fields(columns, key=name))
            except BadInput as refusal:
                refusals.append(refusal)
                continue
            if all("key" in block.schema.names for block in islice(manifest.blocks(), 1)):
                return with_fields(choice, replace=manifest, replace_by="index" if name == "index" else "key")
    if len(refusals) == 2 * len({own, plain}):
        raise BadInput(f"--replace: {refusals[0]}")
    shown = "the table" if isinstance(source, pa.Table) else source
    raise BadInput(f"--replace {shown}: it needs a column {key or own.key!r} or 'index' that names the rows")


def pause(files: RunFiles) -> None:
    """No job of the run is created until somebody resumes it; those that run are collected. Again is fine.

    Raises:
        BadInput: there is no run, or it is being cancelled.
    """
    record = record_of(files)
    if not files.is_finished() and _give(files, record, "pause", "paused", over=frozenset({"run"})) == "cancel":
        raise BadInput(f"run {record.run_id} is being cancelled: no job is created any more")


def cancel(files: RunFiles) -> None:
    """No job of the run is created any more, those that run are cancelled, and what there is becomes the dataset, by
    whoever drives the run. `retry` may buy the rest. Again is fine; a run that has finished stays as it is.

    Raises:
        BadInput: there is no run.
    """
    record = record_of(files)
    if not files.is_finished():
        _give(files, record, "cancel", "cancelled", over=frozenset({"run", "pause"}))


def _give(files: RunFiles, record: RunRecord, order: Order, cause: str, over: frozenset[Order]) -> Order:
    """Record an order where one of `over` is in force. Returns the one that is in force then."""
    controls = files.controls()
    while True:
        last = _last(controls, record)
        if last.order not in over:
            return last.order
        if controls.append(_next(last, cause, order=order)):
            return order


def _last(controls: Log[ControlRecord], record: RunRecord) -> ControlRecord:
    """What was said last; before anything was, what the run began with."""
    return controls.last() or ControlRecord(limits=record.limits, broker=record.broker)


def _next(last: ControlRecord, cause: str, **said: Any) -> ControlRecord:
    """What is said after `last`, which stays but for `said`."""
    at, version = SystemClock().now(), last.version + 1
    return last.model_copy(update={**said, "version": version, "nonce": new_nonce(), "cause": cause, "at": at})
