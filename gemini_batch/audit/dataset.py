"""The dataset's files, held against `_SUCCESS` and against the parts, block by block.

In: the store of a run that has finished. Out: what each listed file is. Parts that are not what they should be are
findings of their own, and nothing is held against them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch import rundir
from gemini_batch.audit.compare import differing, file_sha256, in_a_line, indices, more, or_damaged
from gemini_batch.audit.facts import DatasetFile, Seen, Spot, Success, Unreadable
from gemini_batch.ledger.store import Store
from gemini_batch.parquet import BLOCK_ROWS, read_blocks
from gemini_batch.records import RunRecord, ShardPlan
from gemini_batch.reducer.assemble import Parts, later_of

COLUMNS = ["index", "key", "status", "text", "n_valid", "attempts", "round", "cost_usd", "request_digest"]
"""By these a row of the dataset is known for a row of its part; the rest of a file stands on its sha256."""


def read_success(store: Store) -> Success | Unreadable | None:
    """What `_SUCCESS` lists; the files are not looked at yet."""
    body = store.read(rundir.SUCCESS)
    if body is None:
        return None
    try:
        said = orjson.loads(body)
        files = tuple(
            DatasetFile(str(f["name"]), int(f["rows"]), str(f["sha256"]), None, str(f["made_of"]), *_counts(f))
            for f in said["files"]
        )
        return Success(str(said["run_id"]), str(said["endpoint"]), int(said["round"]), files)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        return Unreadable(in_a_line(error))


def _counts(said: dict[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """By status and by kind of failure."""
    status, failed = ({str(name): int(said[of][name]) for name in said[of]} for of in ("by_status", "failed"))
    return status, failed


@dataclass(frozen=True)
class Digest:
    """Of a part, as the ledger has it."""

    sha256: str
    is_sound: bool
    """Whether the part is that file."""


def see_files(
    store: Store, run: RunRecord, success: Success, plan: list[ShardPlan], digests: Mapping[int, Digest]
) -> Iterator[DatasetFile]:
    """Every listed file as it is.

    Args:
        digests: of all parts that were recorded.
    """
    plan = [shard for shard in plan if shard.round <= success.round]
    recorded = {shard: digest.sha256 for shard, digest in digests.items()}
    parts, sound = Parts(store, run, plan, recorded), _Sound(plan, digests)
    first = 0
    for file in success.files:
        shards = [shard for shard in plan if not shard.round and first <= shard.first_index < first + file.rows]
        seen = _see(store, file.name, first, shards, parts, sound)
        if isinstance(seen, Seen) and shards and all(sound.is_recorded(shard) for shard in shards):
            seen = replace(seen, made_of=parts.made_of(shards))
        yield replace(file, seen=seen)
        first += file.rows


class _Sound:
    """Which shards of round 0 can be held against their parts, of all rounds."""

    def __init__(self, plan: list[ShardPlan], digests: Mapping[int, Digest]) -> None:
        self._later, self._digests = later_of(plan), digests

    def later(self, shard: ShardPlan) -> list[ShardPlan]:
        return self._later.get(shard.shard, [])

    def is_recorded(self, shard: ShardPlan) -> bool:
        return all(entry.shard in self._digests for entry in (shard, *self.later(shard)))

    def is_sound(self, shard: ShardPlan) -> bool:
        entries = (shard, *self.later(shard))
        return self.is_recorded(shard) and all(self._digests[entry.shard].is_sound for entry in entries)


def _see(
    store: Store, name: str, first: int, shards: list[ShardPlan], parts: Parts, sound: _Sound
) -> Seen | Unreadable | None:
    if name.startswith("/") or ".." in name or not store.exists(name):
        return None
    with store.local(name) as path:
        comparing = _Comparing(path, first)
        for shard in shards:
            with ExitStack() as here:
                theirs: Iterator[pa.RecordBatch] | None = None
                if sound.is_sound(shard) and sound.later(shard):
                    theirs = (block.select(COLUMNS) for block in parts.rows_of(shard))
                elif sound.is_sound(shard):
                    theirs = read_blocks(here.enter_context(store.local(rundir.part_of(shard.shard))), COLUMNS)
                held = or_damaged(partial(comparing.hold, shard, theirs))
            if held is not None:
                return held
        return or_damaged(comparing.end)


class _Comparing:
    """One pass over a file and the parts it was made from."""

    def __init__(self, path: Path, first: int) -> None:
        self._path = path
        self._first = self._at = first
        self._rows = _Cursor(read_blocks(path, (*COLUMNS, "error")))
        self._misplaced, self._unlike_part = Spot(), Spot()
        self._statuses, self._kinds = Counter[str](), Counter[str]()

    def hold(self, shard: ShardPlan, theirs: Iterator[pa.RecordBatch] | None) -> None:
        """Look at a shard's rows, and hold them against what its parts say."""
        if theirs is None:
            self._hold(shard.rows, None)
            return
        for block in theirs:
            self._hold(block.num_rows, block)

    def end(self) -> Seen:
        while self._hold(BLOCK_ROWS, None):
            pass
        rows = self._at - self._first
        return Seen(
            rows,
            file_sha256(self._path),
            by_status=dict(self._statuses),
            failed=dict(self._kinds),
            misplaced=self._misplaced,
            unlike_part=self._unlike_part,
        )

    def _hold(self, count: int, theirs: pa.RecordBatch | None) -> bool:
        """Look at the next rows. Returns whether there are any."""
        ours = self._rows.take(count)
        if ours is None:
            return False
        self._statuses.update(ours["status"].to_pylist())
        self._kinds.update(kind for kind in pc.struct_field(ours["error"], "kind").to_pylist() if kind)
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
