"""The parts become one dataset: as many rows as the manifest, in its order.

In: a run whose shards are all COLLECTED. Out: `dataset/part-….parquet`, `report.json`, and `_SUCCESS` last, which
lists what readers may trust. May be repeated after any crash.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from gemini_batch import rundir
from gemini_batch.clock import Clock
from gemini_batch.dataset import dataset_schema
from gemini_batch.errors import RunStopped
from gemini_batch.ledger.store import Store
from gemini_batch.parquet import UNREADABLE, Writer, read_blocks
from gemini_batch.records import RunRecord, ShardPlan, ShardRecord

FILE_ROWS = 1_000_000
"""Shards are put together up to this many rows a file: few enough files to handle, small enough to rewrite one."""


def merge(store: Store, run: RunRecord, plan: list[ShardPlan], records: list[ShardRecord], clock: Clock) -> None:
    """Write the dataset, the report and `_SUCCESS`. Touches nothing once `_SUCCESS` is there: one that was suspended
    in the middle may wake up after another has finished.

    Raises:
        RunStopped: a part is damaged.
        OSError: the store cannot take them now.
    """
    began = clock.boottime()
    digests = {record.shard: record.tally.part_sha256 for record in records if record.tally}
    files = [_write_file(store, run, number, group, digests) for number, group in enumerate(_groups(plan))]
    report = make_report(run, plan, records, clock.boottime() - began)
    with store.scratch(rundir.REPORT) as scratch:
        scratch.write_bytes(_json(report))
        _publish(store, rundir.REPORT, scratch)
    success = {
        "format": run.format,
        "run_id": run.run_id,
        "round": 0,
        "endpoint": run.asked.endpoint,
        "files": files,
    }
    store.create(rundir.SUCCESS, _json(success))


def _groups(plan: list[ShardPlan]) -> Iterator[list[ShardPlan]]:
    """Which shards share a dataset file; depends on the plan alone."""
    group: list[ShardPlan] = []
    rows = 0
    for shard in plan:
        if group and rows + shard.rows > FILE_ROWS:
            yield group
            group, rows = [], 0
        group.append(shard)
        rows += shard.rows
    yield group


def _write_file(
    store: Store, run: RunRecord, number: int, group: list[ShardPlan], digests: dict[int, str]
) -> dict[str, Any]:
    name = rundir.dataset_file(number)
    with store.scratch(f"dataset-{number:06d}.parquet") as scratch:
        with Writer(scratch, dataset_schema(run.asked.response_schema)) as writer:
            for shard in group:
                _append(writer, store, shard, digests[shard.shard])
        digest = _sha256(scratch)
        _publish(store, name, scratch)
    return {"name": name, "rows": writer.rows, "sha256": digest}


def _append(writer: Writer, store: Store, shard: ShardPlan, digest: str) -> None:
    """Copy a part, holding it to what was recorded of it and to its place: the rows of the shard, in order."""
    name = rundir.part_of(shard.shard)
    part = f"{store.url}/{name}"
    mend = f"delete {part} and resume: it is made again from the raw results"
    following = shard.first_index
    try:
        with store.local(name) as path:
            if _sha256(path) != digest:
                raise RunStopped(f"{part} is not the file that was recorded; {mend}")
            for block in read_blocks(path):
                index = block.column("index")
                if index != pa.array(range(following, following + len(index)), pa.int64()):
                    raise RunStopped(f"{part} does not hold rows {following} and on; {mend}")
                following += len(index)
                writer.write(block)
    except UNREADABLE as error:
        raise RunStopped(f"{part} is damaged ({error}); {mend}") from None
    if following != shard.first_index + shard.rows:
        raise RunStopped(f"{part} ends at row {following}, not at {shard.first_index + shard.rows}; {mend}")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def make_report(
    run: RunRecord, plan: list[ShardPlan], records: list[ShardRecord], merge_seconds: float
) -> dict[str, Any]:
    """`report.json`: what was asked, bought and answered."""
    tallies = [record.tally for record in records if record.tally]
    statuses, kinds = Counter[str](), Counter[str]()
    for tally in tallies:
        statuses.update(tally.by_status)
        kinds.update(tally.by_kind)
    tokens = {
        name: sum(getattr(tally, f"{name}_tokens") for tally in tallies) for name in ("prompt", "output", "thoughts")
    }
    estimated = sum(shard.tokens for shard in plan)
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
        "rounds": 1,
        "requests_bought": sum(_lines_bought(record) for record in records),
        "tokens": tokens,
        "estimate_error": estimated / tokens["prompt"] - 1 if tokens["prompt"] else None,
        "lines": lines,
        "cost_usd": None,
        "seconds": {"jobs": _seconds(run.created_at, records), "merge": round(merge_seconds, 3)},
    }


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


def publish_json(store: Store, name: str, value: dict[str, Any]) -> None:
    with store.scratch(name) as scratch:
        scratch.write_bytes(_json(value))
        store.publish(name, scratch)


def _publish(store: Store, name: str, scratch: Path) -> None:
    if not store.exists(rundir.SUCCESS):
        store.publish(name, scratch)


def _json(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
