"""A manifest as a stream of blocks with known columns.

In: a Parquet or JSONL file, or an Arrow table. Out: record batches of `key` (string, if the manifest has keys),
`prompt` or `parts`, and `system_instruction` (if there). Whatever is wrong with the manifest as a whole is a
`BadInput` that names file, column and row; whatever is wrong with one row is left to that row.
"""

import base64
import binascii
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gemini_batch.errors import BadInput
from gemini_batch.parquet import BLOCK_BYTES, BLOCK_ROWS, UNREADABLE, block_rows, read_blocks
from gemini_batch.parts import FIELDS, PART, PARTS

JSONL_SUFFIXES = {".jsonl", ".ndjson", ".json"}
ARROW_SUFFIXES = {".arrow", ".feather", ".ipc"}


@dataclass(frozen=True)
class Columns:
    """What the user calls them."""

    prompt: str = "prompt"
    key: str = "key"


class Manifest(Protocol):
    name: str
    """For messages: the path, or what it is."""

    @property
    def root(self) -> Path | None:
        """Relative paths of pictures start here; None where no picture can be named by path."""

    def blocks(self) -> Iterator[pa.RecordBatch]:
        """Every row in order. May be called again and gives the same."""


def open_manifest(path: Path, columns: Columns, name: str | None = None) -> Manifest:
    """The manifest at `path`.

    Args:
        name: for messages, if it is known by another one.

    Raises:
        BadInput: missing, empty, unreadable, or without a column of prompts.
    """
    name = name or str(path)
    if not path.exists():
        raise BadInput(f"manifest {name} does not exist")
    if path.is_dir():
        raise BadInput(f"manifest {name} is a directory; give one Parquet, JSONL or Arrow file")
    if path.suffix.lower() in JSONL_SUFFIXES:
        return JsonlManifest(path, name, columns)
    try:
        if path.suffix.lower() in ARROW_SUFFIXES:
            return TableManifest(_read_ipc(path), name, path.parent.resolve(), columns)
        schema = pq.read_schema(path)
    except UNREADABLE as error:
        raise BadInput(f"manifest {name} cannot be read as Parquet: {error}. JSONL files end in .jsonl.") from None
    return ParquetManifest(path, name, schema, columns)


class ParquetManifest:
    def __init__(self, path: Path, name: str, schema: pa.Schema, columns: Columns) -> None:
        self.name = name
        self.root = path.parent.resolve()
        self._path = path
        self._form = _Form(self.name, schema, columns)

    def blocks(self) -> Iterator[pa.RecordBatch]:
        row = 0
        try:
            for block in read_blocks(self._path, self._form.needed):
                yield self._form.normalised(block, row)
                row += block.num_rows
        except UNREADABLE as error:
            raise BadInput(f"manifest {self.name} cannot be read from about row {row} on: {error}") from None


class TableManifest:
    """An Arrow table in memory."""

    def __init__(self, table: pa.Table, name: str, root: Path, columns: Columns) -> None:
        self.name = name
        self.root = root
        self._form = _Form(name, table.schema, columns)
        self._table = table.select(self._form.needed)

    def blocks(self) -> Iterator[pa.RecordBatch]:
        row = 0
        for block in self._table.to_batches(max_chunksize=block_rows(self._table.nbytes, self._table.num_rows)):
            yield self._form.normalised(block, row)
            row += block.num_rows


class JsonlManifest:
    """One JSON object a line; blank lines are skipped, `data` of a part is base64."""

    def __init__(self, path: Path, name: str, columns: Columns) -> None:
        self.name = name
        self.root = path.parent.resolve()
        self._path = path
        self._columns = columns
        self._fields: list[str] = []

    def blocks(self) -> Iterator[pa.RecordBatch]:
        form: _Form | None = None
        row = 0
        for rows in self._row_blocks():
            table = self._to_batch(rows, row, form)
            form = form or _Form(self.name, table.schema, self._columns, self._fields)
            yield form.normalised(table, row)
            row += table.num_rows

    def _row_blocks(self) -> Iterator[list[dict[str, Any]]]:
        rows: list[dict[str, Any]] = []
        size = 0
        try:
            with self._path.open("rb") as stream:
                for number, line in enumerate(stream, 1):
                    if line.isspace():
                        continue
                    rows.append(self._parsed(number, line))
                    size += len(line)
                    if len(rows) >= BLOCK_ROWS or size >= BLOCK_BYTES:
                        yield rows
                        rows, size = [], 0
            if rows:
                yield rows
        except OSError as error:
            raise BadInput(f"manifest {self.name} cannot be read: {error.strerror}") from None

    def _parsed(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise BadInput(f"manifest {self.name}, line {number}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise BadInput(f"manifest {self.name}, line {number}: a row is a JSON object, this is {line[:40]!r}")
        return row

    def _to_batch(self, rows: list[dict[str, Any]], first: int, form: "_Form | None") -> pa.RecordBatch:
        """The columns of the first block are those of the file; later rows may leave some out, but not add one."""
        if form is None:
            self._fields = sorted({name for row in rows for name in row})
        decisive = (self._columns.key, self._columns.prompt, "parts")
        names = [name for name in decisive if any(name in row for row in rows)]
        if form:
            self._refuse_new(names, form, rows, first)
            names = [name for name in form.needed if name != "system_instruction"]
        return pa.record_batch({name: self._column(name, rows, first) for name in (*names, "system_instruction")})

    def _refuse_new(self, names: list[str], form: "_Form", rows: list[dict[str, Any]], first: int) -> None:
        for name in names:
            if name not in form.needed:
                row = first + next(at for at, row in enumerate(rows) if name in row)
                raise BadInput(f"manifest {self.name}, row {row}: has {name!r}, which the first rows do not have")

    def _column(self, name: str, rows: list[dict[str, Any]], first: int) -> pa.Array:
        values = [row.get(name) for row in rows]
        if name == "parts":
            values = [self._parts(value, first + at) for at, value in enumerate(values)]
            return pa.array(values, PARTS)
        if name == self._columns.key:
            values = [_key_text(value) for value in values]
        for at, value in enumerate(values):
            if value is not None and not isinstance(value, str):
                raise BadInput(
                    f"manifest {self.name}, row {first + at}: column {name!r} holds a {type(value).__name__}, not text"
                )
        return pa.array(values, pa.string())

    def _parts(self, value: Any, row: int) -> list[dict[str, Any]] | None:
        if value is None:
            return None
        where = f"manifest {self.name}, row {row}: column 'parts'"
        if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
            raise BadInput(f"{where} is a list of objects with one of text, path, uri, data")
        return [self._part(part, where) for part in value]

    @staticmethod
    def _part(part: dict[str, Any], where: str) -> dict[str, Any]:
        for name, content in part.items():
            if PART.get_field_index(name) < 0:
                raise BadInput(f"{where} has the unknown field {name!r}; known are {', '.join(FIELDS)}")
            if content is not None and not isinstance(content, str):
                raise BadInput(f"{where}: {name} is not text")
        if part.get("data") is None:
            return part
        try:
            return {**part, "data": base64.b64decode(part["data"], validate=True)}
        except (binascii.Error, ValueError):
            raise BadInput(f"{where}: data is not base64") from None


def _key_text(value: Any) -> str | None:
    """A scalar as text, as a Parquet column of it would read."""
    if isinstance(value, bool | int | float):
        return orjson.dumps(value).decode()
    return value  # type: ignore[no-any-return]


class _Form:
    """The columns a manifest has, and how a block of it becomes ours."""

    def __init__(self, name: str, schema: pa.Schema, columns: Columns, shown: list[str] | None = None) -> None:
        self._name = name
        self._shown = schema.names if shown is None else shown
        self._content = self._content_column(set(schema.names), columns)
        self._key = columns.key if columns.key in schema.names else None
        if self._key is None and columns.key != Columns.key:
            raise BadInput(f"manifest {name} has no column {columns.key!r}; it has {_listed(self._shown)}")
        self._system = "system_instruction" if "system_instruction" in schema.names else None
        self.needed = [column for column in (self._key, self._content, self._system) if column]
        for column in self.needed:
            if schema.names.count(column) > 1:
                raise BadInput(f"manifest {name} has {schema.names.count(column)} columns named {column!r}; keep one")
        self._check_types(schema)

    def normalised(self, block: pa.RecordBatch, first_row: int) -> pa.RecordBatch:
        made: dict[str, pa.Array] = {}
        if self._key:
            made["key"] = self._keys(block, first_row)
        if self._content == "parts":
            made["parts"] = self._readable(block, "parts", _canonical_parts, first_row)
        else:
            made["prompt"] = self._readable(block, self._content, _as_text, first_row)
        if self._system:
            made["system_instruction"] = self._readable(block, self._system, _as_text, first_row)
        return pa.record_batch(made)

    def _readable(
        self, block: pa.RecordBatch, column: str, read: Callable[[pa.Array], pa.Array], first_row: int
    ) -> pa.Array:
        """The column as ours, every byte of it looked at: writers do not check that text is UTF-8."""
        values = block.column(column)
        try:
            return _validated(read(values))
        except UNREADABLE as error:
            at = next((row for row in range(len(values)) if not _reads(read, values.slice(row, 1))), 0)
            raise BadInput(
                f"manifest {self._name}, row {first_row + at}: column {column!r} cannot be read: {error}"
            ) from None

    def _content_column(self, present: set[str], columns: Columns) -> str:
        found = [column for column in dict.fromkeys((columns.prompt, "parts")) if column in present]
        if len(found) > 1:
            raise BadInput(f"manifest {self._name} has both {columns.prompt!r} and 'parts'; keep one of them")
        if not found:
            raise BadInput(
                f"manifest {self._name} has no column {columns.prompt!r} and no 'parts'; it has "
                f"{_listed(self._shown)}. Name the column of prompts with --prompt-column."
            )
        return found[0]

    def _check_types(self, schema: pa.Schema) -> None:
        if self._content == "parts":
            self._check_parts(schema.field("parts").type)
        else:
            self._require(schema, self._content, _is_text, "text")
        if self._system:
            self._require(schema, self._system, _is_text, "text")
        if self._key:
            self._require(schema, self._key, lambda kind: not pa.types.is_nested(kind), "a scalar")

    def _require(self, schema: pa.Schema, column: str, fits: Any, what: str) -> None:
        kind = schema.field(column).type
        if not fits(kind):
            raise BadInput(f"manifest {self._name}: column {column!r} has the type {kind}, it must be {what}")

    def _check_parts(self, kind: pa.DataType) -> None:
        where = f"manifest {self._name}: column 'parts'"
        listed = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        if not listed or not pa.types.is_struct(kind.value_type):
            raise BadInput(f"{where} has the type {kind}, it must be a list of structs")
        for field in kind.value_type:
            if field.name not in FIELDS:
                raise BadInput(f"{where} has the unknown field {field.name!r}; known are {', '.join(FIELDS)}")
            if not (_is_binary(field.type) if field.name == "data" else _is_text(field.type)):
                raise BadInput(f"{where}: the field {field.name!r} cannot be {field.type}")

    def _keys(self, block: pa.RecordBatch, first_row: int) -> pa.Array:
        keys = self._readable(block, self._key or "", _as_text, first_row)
        if keys.null_count:
            row = first_row + pc.index(keys.is_null(), True).as_py()
            raise BadInput(f"manifest {self._name}, row {row}: column {self._key!r} is empty; every row needs a key")
        return keys


def _as_text(column: pa.Array) -> pa.Array:
    return column.cast(pa.string())


def _validated(column: pa.Array) -> pa.Array:
    column.validate(full=True)
    return column


def _reads(read: Callable[[pa.Array], pa.Array], column: pa.Array) -> bool:
    try:
        _validated(read(column))
    except UNREADABLE:
        return False
    return True


def _canonical_parts(column: pa.Array) -> pa.Array:
    """The list with all six fields of a part, absent ones null."""
    lists = column.cast(pa.list_(column.type.value_type)) if pa.types.is_large_list(column.type) else column
    items = lists.flatten()
    have = {field.name for field in items.type}
    children = [
        pc.struct_field(items, field.name).cast(field.type) if field.name in have else pa.nulls(len(items), field.type)
        for field in PART
    ]
    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths).cast(pa.int32())])
    mask = lists.is_null() if lists.null_count else None
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(children, fields=list(PART)), mask=mask)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    )


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_null(kind)
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:20]) or "no columns"


def _read_ipc(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        try:
            return pa.ipc.open_file(source).read_all()
        except pa.ArrowInvalid:
            source.seek(0)
            return pa.ipc.open_stream(source).read_all()
