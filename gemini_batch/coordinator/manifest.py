"""A manifest as a stream of blocks with known columns.

In: files of one kind, one after the other, or an Arrow table. Out: record batches of `key` (string, if the manifest has
keys), `prompt` or `parts`, and `system_instruction` (if there). Whatever is wrong with the manifest as a whole is a
`BadInput` that names file, column and row; whatever is wrong with one row is left to that row.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from gemini_batch.coordinator.columns import Columns
from gemini_batch.coordinator.form import Form, refuse_unstorable
from gemini_batch.coordinator.found import local_files
from gemini_batch.coordinator.sources import Source, TableSource, open_source_file
from gemini_batch.errors import BadInput


class Manifest(Protocol):
    name: str
    """For messages: the path, or what it is."""
    columns: Columns

    @property
    def root(self) -> Path | None:
        """Relative paths of pictures start here; None where no picture can be named by path."""

    def blocks(self) -> Iterator[pa.RecordBatch]:
        """Every row in order. May be called again and gives the same."""

    @property
    def empty(self) -> Counter[str]:
        """Of columns that a template names, rows of the last reading in which they were null."""

    def place_of(self, row: int) -> str:
        """Where a row that was read stands, for messages: its number, and of several files the one it is in."""


def open_manifest(path: Path, columns: Columns) -> Manifest:
    """The manifest at `path`: a file, a directory or a glob.

    Raises:
        BadInput: missing, empty, unreadable, or without a column of prompts.
    """
    root, paths = local_files(path)
    return FileManifest(str(path), root, [File(str(file), file.absolute) for file in paths], columns)


@dataclass(frozen=True)
class File:
    """A file of a manifest."""

    name: str
    """For messages."""
    fetch: Callable[[], Path]
    """A local path that holds it for as long as the manifest is used."""


class FileManifest:
    """Files, one after the other. Each is opened when its rows are due, the first at once."""

    def __init__(self, name: str, root: Path | None, files: Sequence[File], columns: Columns) -> None:
        self.name, self.root = name, root
        self._files, self.columns = files, columns
        self._starts: list[int] = []
        self.empty = Counter[str]()
        self._kept: pa.Schema | None = None
        self._first = self._open(files[0])
        if columns.keep:
            self._kept = self._common()
            self._first.form.kept = self._kept

    def blocks(self) -> Iterator[pa.RecordBatch]:
        row, self._starts, self.empty = 0, [], Counter()
        for file in self._files:
            self._starts.append(row)
            source = self._first if file is self._files[0] else self._open(file)
            source.form.empty = self.empty
            for block in read(source, self._left(row)):
                if row == self._starts[-1]:
                    refuse_other_keys(self._first.form, source.form, file.name)
                yield block
                row += block.num_rows
            if self._left(row) == 0:
                return

    def place_of(self, row: int) -> str:
        if len(self._files) == 1:
            return str(row)
        file = bisect_right(self._starts, row) - 1
        return f"{row} (row {row - self._starts[file]} of {self._files[file].name})"

    def _left(self, row: int) -> int | None:
        return None if self.columns.limit is None else self.columns.limit - row

    def _open(self, file: File) -> Source:
        source = open_source_file(file.fetch(), file.name, self.columns)
        if self._kept is not None:
            source.form.kept = self._kept
        return source

    def _common(self) -> pa.Schema:
        """The kept columns with types that hold those of every file."""
        common = self._first.form.kept
        for file in self._files[1:]:
            kept = self._open(file).form.kept
            try:
                common = pa.unify_schemas([common, kept], promote_options="permissive")
            except pa.ArrowException as error:
                raise BadInput(
                    f"manifest {file.name}: --keep columns have other types than in the files before: {error}"
                ) from None
        refuse_unstorable(self.name, common)
        return common


class TableManifest:
    """An Arrow table in memory."""

    def __init__(self, table: pa.Table, name: str, root: Path, columns: Columns) -> None:
        self.name = name
        self.root = root
        self.columns = columns
        self.empty = Counter[str]()
        self._source = TableSource(table, name, columns)

    def blocks(self) -> Iterator[pa.RecordBatch]:
        self._source.form.empty = self.empty = Counter()
        return read(self._source, self.columns.limit)

    def place_of(self, row: int) -> str:
        return str(row)


def read(source: Source, limit: int | None) -> Iterator[pa.RecordBatch]:
    """Blocks of a source as ours, at most `limit` rows."""
    row = 0
    for block in source.blocks():
        for piece in source.form.pieces(block if limit is None else block.slice(0, limit - row)):
            try:
                normalised = source.form.normalised(piece, row)
            except KeyError as error:  # a column that was there when the file was opened
                raise BadInput(f"manifest {source.form.name} changed while it was being read: {error}") from None
            yield normalised
            row += piece.num_rows
        if row == limit:
            return


def refuse_other_keys(first: Form, form: Form, name: str) -> None:
    """
    Raises:
        BadInput: some files have keys and others none: row numbers would stand among the keys.
    """
    if (form.key is None) != (first.key is None):
        missing, other = (name, first.name) if form.key is None else (first.name, name)
        raise BadInput(f"manifest {missing} has no column {form.key or first.key!r}, which {other} has")
