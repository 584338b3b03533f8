"""The dataset's files, held against `_SUCCESS` and against the parts, block by block.

In: the store of a run that has finished. Out: what each listed file is. Parts that are not what they should be are
findings of their own, and nothing is held against them.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch import rundir
from gemini_batch.audit.compare import differing, file_sha256, in_a_line, indices, more, or_damaged
from gemini_batch.audit.facts import DatasetFile, Seen, Spot, Success, Unreadable
from gemini_batch.ledger.store import Store
from gemini_batch.parquet import BLOCK_ROWS, read_blocks
from gemini_batch.records import ShardPlan

COLUMNS = ("index", "key", "status", "text", "request_digest")
"""By these a row of the dataset is known for a row of its part; the rest of a file stands on its sha256."""


def read_success(store: Store) -> Success | Unreadable | None:
    """What `_SUCCESS` lists; the files are not looked at yet."""
    body = store.read(rundir.SUCCESS)
    if body is None:
        return None
    try:
        said = orjson.loads(body)
        files = tuple(DatasetFile(str(f["name"]), int(f["rows"]), str(f["sha256"]), None) for f in said["files"])
        return Success(str(said["run_id"]), str(said["endpoint"]), files)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        return Unreadable(in_a_line(error))


def see_files(store: Store, success: Success, plan: list[ShardPlan], sound: set[int]) -> Iterator[DatasetFile]:
    """Every listed file as it is.

    Args:
        sound: shards whose part is what was recorded of it.
    """
    first = 0
    for file in success.files:
        shards = [shard for shard in plan if first <= shard.first_index < first + file.rows]
        yield DatasetFile(file.name, file.rows, file.sha256, _see(store, file.name, first, shards, sound))
        first += file.rows


def _see(store: Store, name: str, first: int, shards: list[ShardPlan], sound: set[int]) -> Seen | Unreadable | None:
    if name.startswith("/") or ".." in name or not store.exists(name):
        return None
    with store.local(name) as path:
        comparing = _Comparing(path, first)
        for shard in shards:
            with store.local(rundir.part_of(shard.shard)) if shard.shard in sound else nullcontext() as part:
                held = or_damaged(partial(comparing.hold, shard, part))
            if held is not None:
                return held
        return or_damaged(comparing.end)


class _Comparing:
    """One pass over a file and the parts it was made from."""

    def __init__(self, path: Path, first: int) -> None:
        self._path = path
        self._first = self._at = first
        self._rows = _Cursor(read_blocks(path, COLUMNS))
        self._misplaced, self._unlike_part = Spot(), Spot()

    def hold(self, shard: ShardPlan, part: Path | None) -> None:
        """Look at a shard's rows, and hold them against its part."""
        if part is None:
            self._hold(shard.rows, None)
            return
        for block in read_blocks(part, COLUMNS):
            self._hold(block.num_rows, block)

    def end(self) -> Seen:
        while self._hold(BLOCK_ROWS, None):
            pass
        rows = self._at - self._first
        return Seen(rows, file_sha256(self._path), self._misplaced, self._unlike_part)

    def _hold(self, count: int, theirs: pa.RecordBatch | None) -> bool:
        """Look at the next rows. Returns whether there are any."""
        ours = self._rows.take(count)
        if ours is None:
            return False
        self._misplaced = more(self._misplaced, differing(ours["index"], indices(self._at, ours.num_rows)), self._at)
        if theirs is not None:
            differs = differing(ours[COLUMNS[0]], theirs[COLUMNS[0]])
            for name in COLUMNS[1:]:
                differs = pc.or_(differs, differing(ours[name], theirs[name]))
            self._unlike_part = more(self._unlike_part, differs, self._at)
        self._at += ours.num_rows
        return True


class _Cursor:
    """Rows of blocks of any size, as many at a time as are asked for."""

    def __init__(self, blocks: Iterator[pa.RecordBatch]) -> None:
        self._blocks = blocks
        self._rest: pa.RecordBatch | None = None

    def take(self, count: int) -> pa.RecordBatch | None:
        """The next `count` rows, fewer at the end, None behind it."""
        taken: list[pa.RecordBatch] = []
        while count:
            block = next(self._blocks, None) if self._rest is None else self._rest
            if block is None:
                break
            self._rest = block.slice(count) if block.num_rows > count else None
            taken.append(block.slice(0, count))
            count -= taken[-1].num_rows
        return pa.concat_batches(taken) if taken else None
