"""One file of a manifest, whatever its kind, as blocks of its own columns.

In: a path and the name to use in messages. Out: the schema, and record batches of the columns that are needed. A file
that cannot be read is a `BadInput` that names it and says from which row on.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from gemini_batch.coordinator.columns import Columns
from gemini_batch.coordinator.form import Form
from gemini_batch.coordinator.jsonl import JsonlSource
from gemini_batch.errors import BadInput
from gemini_batch.parquet import UNREADABLE, block_rows, read_blocks

KINDS = {
    ".parquet": "Parquet",
    ".pq": "Parquet",
    ".jsonl": "JSONL",
    ".ndjson": "JSONL",
    ".json": "JSONL",
    ".csv": "CSV",
    ".arrow": "Arrow",
    ".feather": "Arrow",
    ".ipc": "Arrow",
    ".arrows": "Arrow",
}
"""By the end of a file's name; any other is read as Parquet."""

CSV_BYTES = 32_000_000
"""Read of a CSV file at a time: no row may be longer."""


class Source(Protocol):
    """A file, opened: its form is known and no row is read yet."""

    form: Form

    def blocks(self) -> Iterator[pa.RecordBatch]:
        """Blocks of the columns that the form needs, in order."""


def kind_of(name: str) -> str | None:
    """What a file of that name holds; None where its name does not say."""
    return KINDS.get(Path(name).suffix.lower())


def open_source_file(path: Path, name: str, columns: Columns) -> Source:
    """One file.

    Raises:
        BadInput: it cannot be read, or lacks a column.
    """
    match kind_of(name):
        case "JSONL":
            return JsonlSource(path, name, columns)
        case "CSV":
            return CsvSource(path, name, columns)
        case "Arrow":
            return ArrowSource(path, name, columns)
        case _:
            return ParquetSource(path, name, columns)


class ParquetSource:
    def __init__(self, path: Path, name: str, columns: Columns) -> None:
        self._path, self._name = path, name
        try:
            schema = pq.read_schema(path)
        except UNREADABLE as error:
            raise BadInput(
                f"manifest {name} cannot be read as Parquet: {error}. Other files end in .jsonl, .csv or .arrow."
            ) from None
        self.form = Form(name, schema, columns)

    def blocks(self) -> Iterator[pa.RecordBatch]:
        yield from _named(self._name, read_blocks(self._path, self.form.needed))


class TableSource:
    """An Arrow table in memory."""

    def __init__(self, table: pa.Table, name: str, columns: Columns) -> None:
        self.form = Form(name, table.schema, columns)
        self._table = table.select(self.form.needed)

    def blocks(self) -> Iterator[pa.RecordBatch]:
        yield from self._table.to_batches(max_chunksize=block_rows(self._table.nbytes, self._table.num_rows))


class ArrowSource:
    """An IPC file (Feather) or stream, a batch in memory at a time."""

    def __init__(self, path: Path, name: str, columns: Columns) -> None:
        self._path, self._name = path, name
        try:
            with _opened_ipc(path) as reader:
                schema = reader.schema
        except UNREADABLE as error:
            raise BadInput(f"manifest {name} cannot be read as Arrow: {error}") from None
        self.form = Form(name, schema, columns)

    def blocks(self) -> Iterator[pa.RecordBatch]:
        yield from _named(self._name, self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        with _opened_ipc(self._path) as reader:
            for batch in _every_batch(reader):
                yield from sliced(batch.select(self.form.needed))


class CsvSource:
    """Columns of text under a header; an empty cell is null, a quoted one is empty text."""

    def __init__(self, path: Path, name: str, columns: Columns) -> None:
        self._path, self._name = path, name
        try:
            with self._opened() as reader:
                names = reader.schema.names
        except UNREADABLE as error:
            raise BadInput(f"manifest {name} cannot be read as CSV: {error}") from None
        self.form = Form(name, pa.schema([(column, pa.string()) for column in names]), columns)

    def blocks(self) -> Iterator[pa.RecordBatch]:
        yield from _named(self._name, self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        with self._opened(self.form.needed) as reader:
            for batch in reader:
                yield from sliced(batch)

    def _opened(self, needed: Sequence[str] | None = None) -> csv.CSVStreamingReader:
        """Cells are read as bytes: whether they are text is the form's to say, which knows the row."""
        converting = csv.ConvertOptions(
            include_columns=needed,
            column_types=dict.fromkeys(needed or (), pa.binary()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        )
        reading = csv.ReadOptions(use_threads=False, block_size=CSV_BYTES)
        return csv.open_csv(self._path, reading, csv.ParseOptions(newlines_in_values=True), converting)


def sliced(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """A batch in pieces of the size of a block."""
    most = block_rows(batch.nbytes, batch.num_rows)
    for start in range(0, batch.num_rows, most):
        yield batch.slice(start, most)


def _named(name: str, blocks: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same blocks; what Arrow cannot read is said of the file, and from which row on."""
    row = 0
    while True:
        try:
            block = next(blocks, None)
        except UNREADABLE as error:
            raise BadInput(f"manifest {name} cannot be read from about row {row} on: {error}") from None
        if block is None:
            return
        yield block
        row += block.num_rows


@contextmanager
def _opened_ipc(path: Path) -> Iterator[pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader]:
    with pa.memory_map(str(path)) as source:
        try:
            reader = pa.ipc.open_file(source)
        except pa.ArrowInvalid:
            source.seek(0)
            reader = pa.ipc.open_stream(source)
        with reader:
            yield reader


def _every_batch(reader: pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, pa.ipc.RecordBatchFileReader):
        yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
    else:
        yield from reader
