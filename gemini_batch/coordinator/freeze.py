"""The rows of shards, frozen: later changes of the manifest cannot matter.

In: rows as they are placed. Out: one Parquet object per shard.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from gemini_batch.coordinator.plan import Cut
from gemini_batch.ledger.store import Store
from gemini_batch.parquet import Writer, row_numbers
from gemini_batch.parts import PARTS, is_kept


class Freezer:
    """Writes the rows of each shard to an object of its own. Use as a context manager."""

    def __init__(self, store: Store, name_of: Callable[[int], str]) -> None:
        """`name_of` says the object of the n-th shard that is filled."""
        self._store = store
        self._name_of = name_of
        self._shard = 0
        self._file = ExitStack()
        self._writer: Writer | None = None
        self._scratch = Path()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        self._file.close()

    def take(self, frozen: pa.RecordBatch, cut: Cut) -> None:
        """Add rows to the open shard, and close it if the cut does. All have the columns of the first."""
        if self._writer is None:
            self._scratch = self._file.enter_context(self._store.scratch(f"rows-{self._shard:06d}.parquet"))
            self._writer = self._file.enter_context(Writer(self._scratch, frozen.schema))
        if frozen.num_rows:
            self._writer.write(frozen)
        if cut.full:
            self.close()

    def close(self) -> None:
        """Publish the open shard, if there is one."""
        if self._writer is None:
            return
        self._writer.close()
        self._store.publish(self._name_of(self._shard), self._scratch)
        self._file.close()
        self._shard += 1
        self._writer = None


def frozen(rows: pa.RecordBatch, first_index: int) -> pa.RecordBatch:
    """Rows of a manifest under the fixed columns of a shard; without a key column the index is the key."""
    count, have = rows.num_rows, rows.schema.names
    index = row_numbers(first_index, count)
    return pa.record_batch(
        {
            "index": index,
            "key": rows.column("key") if "key" in have else index.cast(pa.string()),
            "prompt": rows.column("prompt") if "prompt" in have else pa.nulls(count, pa.string()),
            "parts": rows.column("parts") if "parts" in have else pa.nulls(count, PARTS),
            "system_instruction": rows.column("system_instruction")
            if "system_instruction" in have
            else pa.nulls(count, pa.string()),
            **{name: rows.column(name) for name in have if is_kept(name)},
        }
    )
