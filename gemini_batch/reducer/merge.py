"""The parts become one dataset: as many rows as the manifest, in its order.

In: a run whose shards are all COLLECTED. Out: `dataset/part-….parquet`, `report.json`, and `_SUCCESS` last, which
lists what readers may trust. May be repeated after any crash.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch import rundir
from gemini_batch.budget import lines_of_twins
from gemini_batch.clock import Clock
from gemini_batch.gemini.calibrate import Calibration, read_shard
from gemini_batch.gemini.estimate import estimate_error, estimate_plan
from gemini_batch.ledger.store import Store
from gemini_batch.parquet import Writer
from gemini_batch.records import RunRecord, ShardPlan, ShardRecord
from gemini_batch.reducer.assemble import Parts, file_sha256

FILE_ROWS = 1_000_000
"""Shards are put together up to this many rows a file: few enough files to handle, small enough to rewrite one."""


def merge(
    store: Store,
    run: RunRecord,
    plan: list[ShardPlan],
    records: list[ShardRecord],
    clock: Clock,
    cap_usd: float | None = None,
) -> None:
    """Write the dataset, the report and `_SUCCESS`. Touches nothing once `_SUCCESS` is there: one that was suspended
    in the middle may wake up after another has finished. Files that no later round changes stay as they are.

    Args:
        cap_usd: in force now, for the report.

    Raises:
        RunStopped: a part is damaged.
        OSError: the store cannot take them now.
    """
    began = clock.boottime()
    digests = {record.shard: record.tally.part_sha256 for record in records if record.tally}
    parts, known = Parts(store, run, plan, digests), _merged_before(store)
    files = [
        _reused(store, known.get(rundir.dataset_file(number)), parts.made_of(group))
        or _write_file(store, run, number, group, parts)
        for number, group in enumerate(groups_of(plan))
    ]
    report = make_report(run, plan, records, files, clock.boottime() - began, cap_usd)
    _publish_json(store, rundir.REPORT, report)
    success = {
        "format": run.format,
        "run_id": run.run_id,
        "round": plan[-1].round,
        "endpoint": run.asked.endpoint,
        "files": files,
    }
    _publish_json(store, rundir.MERGED, success)
    store.create(rundir.SUCCESS, _json(success))


def groups_of(plan: list[ShardPlan]) -> Iterator[list[ShardPlan]]:
    """Which shards of round 0 share a dataset file; depends on the plan alone."""
    group: list[ShardPlan] = []
    rows = 0
    for shard in plan:
        if shard.round:
            break
        if group and rows + shard.rows > FILE_ROWS:
            yield group
            group, rows = [], 0
        group.append(shard)
        rows += shard.rows
    yield group


def _merged_before(store: Store) -> dict[str, dict[str, Any]]:
    """What an earlier round said of the files that it made, by name."""
    merged = read_json(store, rundir.MERGED) or {}
    return {file["name"]: file for file in merged.get("files", ())}


def _reused(store: Store, before: dict[str, Any] | None, made_of: str) -> dict[str, Any] | None:
    """A file as an earlier round left it, if it is made of the same parts and whole."""
    if before is None or before["made_of"] != made_of or not store.exists(before["name"]):
        return None
    with store.local(before["name"]) as path:
        return before if file_sha256(path) == before["sha256"] else None


def _write_file(store: Store, run: RunRecord, number: int, group: list[ShardPlan], parts: Parts) -> dict[str, Any]:
    name = rundir.dataset_file(number)
    statuses, kinds = Counter[str](), Counter[str]()
    with store.scratch(f"dataset-{number:06d}.parquet") as scratch:
        with Writer(scratch, parts.schema()) as writer:
            for shard in group:
                for block in parts.rows_of(shard):
                    statuses.update(_counted(block.column("status")))
                    kinds.update(_counted(pc.struct_field(block.column("error"), "kind")))
                    writer.write(block)
        digest = file_sha256(scratch)
        _publish(store, name, scratch)
    return {
        "name": name,
        "rows": writer.rows,
        "sha256": digest,
        "made_of": parts.made_of(group),
        "by_status": dict(statuses),
        "failed": dict(kinds),
    }


def _counted(column: pa.Array) -> dict[str, int]:
    counts = pc.value_counts(column.drop_null())
    return dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))


def make_report(
    run: RunRecord,
    plan: list[ShardPlan],
    records: list[ShardRecord],
    files: list[dict[str, Any]],
    merge_seconds: float,
    cap_usd: float | None,
) -> dict[str, Any]:
    """`report.json`: what was asked, bought and answered.

    Args:
        files: of the dataset, as `_SUCCESS` lists them.
    """
    tallies = [record.tally for record in records if record.tally]
    statuses, kinds = Counter[str](), Counter[str]()
    for file in files:
        statuses.update(file["by_status"])
        kinds.update(file["failed"])
    tokens = {
        name: sum(getattr(tally, f"{name}_tokens") for tally in tallies) for name in ("prompt", "output", "thoughts")
    }
    unpriced = sum(tally.unpriced for tally in tallies) + sum(map(lines_of_twins, records))
    lines = {
        name: sum(getattr(tally, name) for tally in tallies)
        for name in ("received", "missing", "duplicate", "conflicting", "foreign", "broken")
    }
    return {
        "format": run.format,
        "run_id": run.run_id,
        "model": run.asked.model,
        "endpoint": run.asked.endpoint,
        "rows": run.asked.rows,
        "ok": statuses["ok"],
        "by_status": dict(statuses),
        "failed": dict(kinds),
        "shards": len(plan),
        "jobs": sum(record.job is not None for record in records),
        "twins": sum(len(record.twins) for record in records),
        "rounds": plan[-1].round + 1,
        "requests_bought": sum(_lines_bought(record) for record in records),
        "tokens": tokens,
        "estimate_error": _estimate_error(run, plan, records),
        "lines": lines,
        "cost_usd": round(sum(tally.cost_usd for tally in tallies), 6),
        "cap_usd": cap_usd,
        "lines_of_unknown_cost": unpriced,
        "estimate": _estimate(run, plan),
        "seconds": {"jobs": _seconds(run.created_at, records), "merge": round(merge_seconds, 3)},
    }


def _estimate(run: RunRecord, plan: list[ShardPlan]) -> dict[str, float] | None:
    """What the first round looked like costing on the day the run began; None if nobody knows a price."""
    first = [shard for shard in plan if not shard.round]
    estimate = estimate_plan(run.asked, first, run.created_at, run.limits.price)
    return estimate.as_json() if estimate else None


def _estimate_error(run: RunRecord, plan: list[ShardPlan], records: list[ShardRecord]) -> dict[str, Any] | None:
    """The same, held against what came back."""
    seen, cost_usd = Calibration(), 0.0
    for record in records:
        if record.tally and (reading := read_shard(plan[record.shard], record.tally)):
            seen, cost_usd = seen.add(reading), cost_usd + record.tally.cost_usd
    return estimate_error(run.asked, seen, cost_usd, run.created_at, run.limits.price)


def _lines_bought(record: ShardRecord) -> int:
    """Lines of every create of the shard that the service took."""
    lines = {send.display_name: send.lines for send in record.sends}
    return sum(lines.get(job.display_name, 0) for job in (record.job, *record.twins) if job)


def _seconds(began: datetime, records: list[ShardRecord]) -> float:
    return round(max((record.at - began).total_seconds() for record in records if record.at), 3)


def read_json(store: Store, name: str) -> dict[str, Any] | None:
    """A JSON object of the run directory, None when it is not there."""
    body = store.read(name)
    return None if body is None else orjson.loads(body)


def _publish_json(store: Store, name: str, value: dict[str, Any]) -> None:
    with store.scratch(name) as scratch:
        scratch.write_bytes(_json(value))
        _publish(store, name, scratch)


def publish_json(store: Store, name: str, value: dict[str, Any]) -> None:
    with store.scratch(name) as scratch:
        scratch.write_bytes(_json(value))
        store.publish(name, scratch)


def _publish(store: Store, name: str, scratch: Path) -> None:
    if not store.exists(rundir.SUCCESS):
        store.publish(name, scratch)


def _json(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
