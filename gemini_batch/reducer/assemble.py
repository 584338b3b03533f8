"""The parts of all rounds, put together: the rows of a shard of round 0 as they are in the dataset.

In: parts, each held against the digest that was recorded of it. Out: blocks of rows in order. A row is what its samples
come to, of each the latest valid answer of any round since the row has its content.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch import rundir
from gemini_batch.dataset import as_dataset, dataset_schema
from gemini_batch.errors import RunStopped
from gemini_batch.ledger.store import Store
from gemini_batch.parquet import UNREADABLE, own_schema, read_blocks, read_own_blocks, row_numbers
from gemini_batch.parts import KEPT
from gemini_batch.records import RunRecord, ShardPlan
from gemini_batch.reducer.rounds import patched, read_rows
from gemini_batch.reducer.rows import RowMaker, Rows

OPEN_PARTS = 4
"""Parts of later rounds that are held in memory; each has the rows of many shards, which come one after the other."""


class Parts:
    """The parts of a run. Reads each of round 0 once; of later rounds, those that hold a row of it."""

    def __init__(self, store: Store, run: RunRecord, plan: list[ShardPlan], digests: dict[int, str]) -> None:
        self._store, self._run, self._digests = store, run, digests
        self._later = later_of(plan)
        self._open: OrderedDict[int, pa.Table] = OrderedDict()
        self._maker: RowMaker | None = None

    def schema(self) -> pa.Schema:
        """The columns of the dataset: the fixed ones, and behind them those that are kept, typed as in the manifest.

        Raises:
            RunStopped: the rows of the first shard are damaged.
        """
        fixed = dataset_schema(self._run.asked.response_schema)
        if not self._run.keep:
            return fixed
        with self._store.local(rundir.rows_of(0)) as path:
            frozen = own_schema(path)
        return pa.schema([*fixed, *(frozen.field(KEPT + name).with_name(name) for name in self._run.keep)])

    def made_of(self, group: list[ShardPlan]) -> str:
        """A digest of all parts that the rows of these shards are made of."""
        digest = hashlib.sha256()
        for shard in group:
            for entry in (shard, *self._later.get(shard.shard, ())):
                digest.update(f"{entry.shard} {self._digests[entry.shard]}\n".encode())
        return digest.hexdigest()

    def rows_of(self, shard: ShardPlan) -> Iterator[pa.RecordBatch]:
        """The rows of a shard of round 0, in order.

        Raises:
            RunStopped: a part is damaged, or does not hold what it should.
            OSError: not now.
        """
        found = (self._rows_in(entry, shard) for entry in self._later.get(shard.shard, ()))
        later = [rows for rows in found if rows is not None]
        made = (
            as_dataset(patched(block, later, self._row_maker()) if later else block) for block in self._blocks(shard)
        )
        yield from self._with_kept(shard, made) if self._run.keep else made

    def _with_kept(self, shard: ShardPlan, made: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of the dataset and, behind their columns, what was frozen with them to be kept."""
        columns, count = ["index", *(KEPT + name for name in self._run.keep)], 0
        with self._store.local(rundir.rows_of(shard.shard)) as path:
            for rows, kept in paired(made, read_own_blocks(path, columns)):
                if rows.column("index") != kept.column("index"):
                    break
                count += rows.num_rows
                fields = [kept.schema.field(KEPT + name).with_name(name) for name in self._run.keep]
                schema = pa.schema([*rows.schema, *fields])
                yield pa.RecordBatch.from_arrays([*rows.columns, *kept.columns[1:]], schema=schema)
        if count != shard.rows:
            raise RunStopped(f"{self._store.url}/{rundir.rows_of(shard.shard)} does not hold the rows of its shard")

    def _row_maker(self) -> RowMaker:
        if self._maker is None:
            asked = self._run.asked
            self._maker = RowMaker(asked.response_schema, asked.n_samples, asked.min_valid)
        return self._maker

    def _rows_in(self, entry: ShardPlan, shard: ShardPlan) -> Rows | None:
        """What a later part says of the rows of a shard."""
        table = self._part(entry)
        index = table["index"]
        inside = pc.and_(pc.greater_equal(index, shard.first_index), pc.less(index, shard.first_index + shard.rows))
        chosen = table.filter(inside)
        return replace(read_rows(chosen), replaced=entry.replaced) if chosen.num_rows else None

    def _part(self, entry: ShardPlan) -> pa.Table:
        if entry.shard not in self._open:
            if len(self._open) >= OPEN_PARTS:
                self._open.popitem(last=False)
            self._open[entry.shard] = pa.Table.from_batches(list(self._read(entry)))
        self._open.move_to_end(entry.shard)
        return self._open[entry.shard]

    def _blocks(self, shard: ShardPlan) -> Iterator[pa.RecordBatch]:
        """A part of round 0, held to its place: the rows of the shard, in order."""
        following = shard.first_index
        for block in self._read(shard):
            index = block.column("index")
            if index != row_numbers(following, len(index)):
                raise self._wrong(shard, f"does not hold rows {following} and on")
            following += len(index)
            yield block
        if following != shard.first_index + shard.rows:
            raise self._wrong(shard, f"ends at row {following}, not at {shard.first_index + shard.rows}")

    def _read(self, entry: ShardPlan) -> Iterator[pa.RecordBatch]:
        """A part, held to what was recorded of it."""
        try:
            with self._store.local(rundir.part_of(entry.shard)) as path:
                if file_sha256(path) != self._digests[entry.shard]:
                    raise self._wrong(entry, "is not the file that was recorded")
                yield from read_blocks(path)
        except UNREADABLE as error:
            raise self._wrong(entry, f"is damaged ({error})") from None

    def _wrong(self, entry: ShardPlan, what: str) -> RunStopped:
        part = f"{self._store.url}/{rundir.part_of(entry.shard)}"
        return RunStopped(f"{part} {what}; delete {part} and resume: it is made again from the raw results")


def paired(
    left: Iterator[pa.RecordBatch], right: Iterator[pa.RecordBatch]
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Two streams of the same rows, cut into blocks at the same places; ends with the shorter one."""
    one, other = next(left, None), next(right, None)
    while one is not None and other is not None:
        rows = min(one.num_rows, other.num_rows)
        yield one.slice(0, rows), other.slice(0, rows)
        one = one.slice(rows) if one.num_rows > rows else next(left, None)
        other = other.slice(rows) if other.num_rows > rows else next(right, None)


def later_of(plan: list[ShardPlan]) -> dict[int, list[ShardPlan]]:
    """Shard of round 0 -> shards of later rounds that may hold rows of it, in the order of the rounds."""
    roots: dict[int, set[int]] = {}
    later: dict[int, list[ShardPlan]] = {}
    for entry in plan:
        roots[entry.shard] = {root for source in entry.sources for root in roots[source]} or {entry.shard}
        if entry.round:
            for root in roots[entry.shard]:
                later.setdefault(root, []).append(entry)
    return later


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
