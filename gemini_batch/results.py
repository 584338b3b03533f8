"""Rows of a run as one file: Parquet, CSV or JSONL, by the name's ending; JSONL on a stream.

In: a finished dataset, or with `partial` what is collected so far. Out: the rows in order, a block in memory at a time.
Nested columns are JSON text in CSV; bytes are base64 in JSON.
"""

import base64
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from gemini_batch import rundir
from gemini_batch.access import record_of
from gemini_batch.coordinator.retry import CONTENT, STATUSES, earlier_content
from gemini_batch.dataset import dataset_schema
from gemini_batch.errors import BadInput, RunStopped
from gemini_batch.ledger.places import is_url
from gemini_batch.ledger.run import RunFiles
from gemini_batch.parquet import Writer, read_own_blocks
from gemini_batch.records import RunRecord, ShardPlan, ShardState
from gemini_batch.reducer.assemble import Parts
from gemini_batch.reducer.merge import read_json

Blocks = Iterator[pa.RecordBatch]

JSONL = (".jsonl", ".ndjson")
ENDINGS = (".parquet", ".csv", *JSONL)
PENDING = "pending"


@dataclass(frozen=True)
class Wanted:
    """Which rows, and what of them."""

    statuses: frozenset[str] = frozenset()
    """Rows of these; empty for all."""
    with_input: bool = False
    """With the columns of the manifest that made the request."""
    partial: bool = False
    """Of a run that has not finished as well: rows without an outcome yet are `pending`."""


def write_results(files: RunFiles, target: str, wanted: Wanted, stream: BinaryIO | None = None) -> int:
    """Write rows to a file, which is there whole or not at all, or with `-` to a stream. Returns how many.

    Raises:
        BadInput: an ending that is not known, a file that cannot be written, and as `rows_of`.
        RunStopped: a file of the run is damaged.
    """
    ending, to_stream = Path(target).suffix.lower(), target == "-" and stream is not None
    if not to_stream and (is_url(target) or ending not in ENDINGS):
        raise BadInput(f"--to {target}: - for stdout, or a local file that ends in {', '.join(ENDINGS)}")
    blocks = rows_of(files, wanted)
    if stream is not None and to_stream:
        return write_jsonl(blocks, stream)
    with _whole(Path(target)) as scratch:
        if ending in JSONL:
            with scratch.open("wb") as out:
                return write_jsonl(blocks, out)
        write = _write_parquet if ending == ".parquet" else _write_csv
        return write(blocks, schema_of(files, wanted), scratch)


# --- rows -------------------------------------------------------------------------------------------------------------


def rows_of(files: RunFiles, wanted: Wanted) -> Blocks:
    """The rows of a run in order.

    Raises:
        BadInput: a status that is not known; it has not finished, and `partial` was not asked for.
        RunStopped: a file of the run is damaged.
    """
    known = (*STATUSES, PENDING)
    if unknown := next((name for name in sorted(wanted.statuses) if name not in known), None):
        raise BadInput(f"--status {unknown}: none of {', '.join(known)}")
    run, plan = record_of(files), files.plan()
    success = read_json(files.store, rundir.SUCCESS) if files.is_finished() else None
    if success is None and not wanted.partial:
        raise BadInput(f"{files.store.url} has not finished; wait for it, or take what there is with --partial")
    blocks = _collected(files, run, plan) if success is None else _dataset(files, success)
    if wanted.with_input:
        blocks = beside(blocks, _inputs(files, plan))
    return _chosen(blocks, wanted.statuses)


def schema_of(files: RunFiles, wanted: Wanted) -> pa.Schema:
    """The columns of `rows_of`, also where there is no row."""
    first = next(rows_of(files, Wanted(frozenset(), wanted.with_input, wanted.partial)), None)
    return dataset_schema(record_of(files).asked.response_schema) if first is None else first.schema


def _chosen(blocks: Blocks, statuses: frozenset[str]) -> Blocks:
    for block in blocks:
        rows = block
        if statuses:
            rows = block.filter(pc.is_in(block.column("status"), value_set=pa.array(sorted(statuses))))
        if rows.num_rows:
            yield rows


def _dataset(files: RunFiles, success: dict[str, Any]) -> Blocks:
    for entry in success["files"]:
        with files.store.local(entry["name"]) as path:
            yield from read_own_blocks(path)


def _collected(files: RunFiles, run: RunRecord, plan: Sequence[ShardPlan]) -> Blocks:
    """The rows of each shard of round 0 as later rounds left them so far; those of one that is under way as pending."""
    digests = {
        record.shard: record.tally.part_sha256
        for record in files.last_records(list(plan))
        if record.state is ShardState.COLLECTED and record.tally
    }
    parts = Parts(files.store, run, [entry for entry in plan if entry.shard in digests], digests)
    schema = dataset_schema(run.asked.response_schema)
    for entry in plan:
        if entry.round == 0:
            rows = parts.rows_of(entry) if entry.shard in digests else _pending(files, entry, schema)
            yield from (block.cast(schema) for block in rows)


def _pending(files: RunFiles, entry: ShardPlan, schema: pa.Schema) -> Blocks:
    with files.store.local(rundir.rows_of(entry.shard)) as path:
        for block in read_own_blocks(path, ["index", "key"]):
            known = {"index": block.column("index"), "key": block.column("key")}
            known["status"] = pa.array([PENDING] * block.num_rows)
            columns = [known.get(field.name, pa.nulls(block.num_rows, field.type)) for field in schema]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)


# --- what was asked -----------------------------------------------------------------------------------------------


def _inputs(files: RunFiles, plan: Sequence[ShardPlan]) -> Blocks:
    """What the rows ask, in order: the manifest's, or what a retry put in its place."""
    replaced = earlier_content(files, plan)
    for entry in plan:
        if entry.round == 0:
            with files.store.local(entry.frozen or rundir.rows_of(entry.shard)) as path:
                for block in read_own_blocks(path):
                    rows = block if replaced is None else replaced.put_into(block)
                    yield rows.select(["index", *CONTENT])


def beside(left: Blocks, right: Blocks) -> Blocks:
    """The same rows, cut differently, as one: the columns of `left`, then those of `right` that it has not.

    Raises:
        RunStopped: they are not the same rows.
    """
    other: pa.RecordBatch | None = None
    for block in left:
        at = 0
        while at < block.num_rows:
            other = other if other is not None and other.num_rows else next(right, None)
            if other is None:
                raise RunStopped("the frozen rows end before the dataset does; restore them")
            count = min(block.num_rows - at, other.num_rows)
            rows, more, other = block.slice(at, count), other.slice(0, count), other.slice(count)
            if not rows.column("index").equals(more.column("index")):
                raise RunStopped("the frozen rows are not those of the dataset; restore them")
            yield _joined(rows, more)
            at += count


def _joined(rows: pa.RecordBatch, more: pa.RecordBatch) -> pa.RecordBatch:
    new = [name for name in more.schema.names if name not in rows.schema.names]
    fields = [*rows.schema, *(more.schema.field(name) for name in new)]
    return pa.RecordBatch.from_arrays([*rows.columns, *(more.column(name) for name in new)], schema=pa.schema(fields))


# --- formats ----------------------------------------------------------------------------------------------------------


def write_jsonl(blocks: Blocks, out: BinaryIO) -> int:
    """An object per row and line. Times are RFC 3339, bytes base64."""
    rows = 0
    for block in blocks:
        out.write(b"".join(_line(row) for row in block.to_pylist()))
        rows += block.num_rows
    return rows


def _line(row: dict[str, Any]) -> bytes:
    return orjson.dumps(row, default=_base64, option=orjson.OPT_APPEND_NEWLINE)


def _base64(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _write_parquet(blocks: Blocks, schema: pa.Schema, path: Path) -> int:
    with Writer(path, schema) as writer:
        for block in blocks:
            writer.write(block)
    return writer.rows


def _write_csv(blocks: Blocks, schema: pa.Schema, path: Path) -> int:
    rows, flat = 0, pa.schema([pa.field(field.name, _flat_type(field.type)) for field in schema])
    with pacsv.CSVWriter(str(path), flat) as writer:
        for block in blocks:
            columns = [_flat(column, field.type) for column, field in zip(block.columns, flat, strict=True)]
            writer.write(pa.RecordBatch.from_arrays(columns, schema=flat))
            rows += block.num_rows
    return rows


def _flat_type(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_nested(kind) or pa.types.is_binary(kind) else kind


def _flat(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if column.type.equals(kind):
        return column
    said = (None if value is None else orjson.dumps(value, default=_base64).decode() for value in column.to_pylist())
    return pa.array(said, kind)


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A file beside the target, which takes its name when the block has ended well."""
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield scratch
        scratch.replace(target)
    except OSError as error:
        raise BadInput(f"--to {target}: {error}") from None
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
