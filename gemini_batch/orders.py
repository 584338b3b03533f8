"""What people tell a run that is there: other limits, pause, cancel, buy these rows again."""

import warnings
from dataclasses import replace as with_fields
from itertools import islice
from pathlib import Path
from typing import Any

from gemini_batch.access import record_of, refuse_stranger
from gemini_batch.budget import refuse_uncappable
from gemini_batch.clock import SystemClock, new_nonce
from gemini_batch.config import Options, resolve_account
from gemini_batch.coordinator.columns import Columns, columns_again
from gemini_batch.coordinator.fetched import open_source
from gemini_batch.coordinator.retry import STATUSES, Choice, retry
from gemini_batch.errors import BadInput
from gemini_batch.gemini.generation import generation_config
from gemini_batch.inputs import read_text
from gemini_batch.kinds import KINDS
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


def limits_in_force(files: RunFiles, options: Options) -> Limits:
    """The limits of a run from now on. What is given now, and that a person says to go on, is recorded: that lifts a
    pause, and ends no cancelling."""
    controls, stopped, record = files.controls(), why_stopped(files) is not None, record_of(files)
    while True:
        last = controls.last()
        before, order = (last.limits, last.order) if last else (record.limits, "run")
        paused = order == "pause"
        limits = limits_given(options, record.asked.model, before)
        refuse_uncappable(record.asked, limits, SystemClock().now())
        if limits == before and not stopped and not paused:
            return limits
        version, cause = last.version + 1 if last else 1, "resumed" if stopped or paused else "limits"
        goes_on: Order = "run" if paused else order
        if controls.append(_said(version, cause, limits, goes_on)):
            return limits


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
    rows = retry(files, record, limits, choice, settings)
    if rows:
        _give(files, record, "run", "retried", over=frozenset({"cancel"}))
    return rows


def read_choice(
    run: RunRecord, statuses: list[str], kinds: list[str], keys: Path | None, replace: str | None, key: str | None
) -> Choice:
    """Which rows to buy again, as the command is told.

    Args:
        keys: a file of one key a line.
        replace: path or URL of a manifest of rows with new content: with the columns of the run's own manifest, which
            its template is for, or with plain ones. Its column of keys, or else `index`, names the rows.
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


def _replacing(choice: Choice, source: str, run: RunRecord, key: str | None) -> Choice:
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
    raise BadInput(f"--replace {source}: it needs a column {key or own.key!r} or 'index' that names the rows")


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
        last = controls.last()
        now: Order = last.order if last else "run"
        if now not in over:
            return now
        limits, version = (last.limits, last.version + 1) if last else (record.limits, 1)
        if controls.append(_said(version, cause, limits, order)):
            return order


def _said(version: int, cause: str, limits: Limits, order: Order) -> ControlRecord:
    at = SystemClock().now()
    return ControlRecord(version=version, nonce=new_nonce(), cause=cause, at=at, limits=limits, order=order)
