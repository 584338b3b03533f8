"""How the columns of one file of a manifest become ours.

In: its schema, and what the user calls the columns. Out: which columns have to be read, and blocks of `key` (if there
is one), `prompt` or `parts`, and `system_instruction` (if there). Whatever is wrong with the file as a whole is a
`BadInput` that names it, the column and the row; whatever is wrong with one row is left to that row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch.errors import BadInput
from gemini_batch.parquet import UNREADABLE
from gemini_batch.parts import FIELDS, PART


@dataclass(frozen=True)
class Columns:
    """What of a manifest is read, by the names the user gives."""

    prompt: str = "prompt"
    key: str = "key"
    limit: int | None = None
    """Rows to take, the first ones; None for all."""

    def decisive(self) -> list[str]:
        """Columns that say what a row asks, or whose it is."""
        return [self.key, self.prompt, "parts"]

    def least(self) -> list[str]:
        """Columns that an empty file without a header is taken to have."""
        return [self.key, self.prompt] if self.key != Columns.key else [self.prompt]


class Form:
    """The columns a manifest has, and how a block of it becomes ours."""

    def __init__(self, name: str, schema: pa.Schema, columns: Columns, shown: list[str] | None = None) -> None:
        self.name = name
        self._shown = schema.names if shown is None else shown
        self.content = self._content_column(set(schema.names), columns)
        self.key = columns.key if columns.key in schema.names else None
        if self.key is None and columns.key != Columns.key:
            raise BadInput(f"manifest {name} has no column {columns.key!r}; it has {listed(self._shown)}")
        self._system = "system_instruction" if "system_instruction" in schema.names else None
        self.needed = [column for column in (self.key, self.content, self._system) if column]
        for column in self.needed:
            if schema.names.count(column) > 1:
                raise BadInput(f"manifest {name} has {schema.names.count(column)} columns named {column!r}; keep one")
        self._check_types(schema)

    def normalised(self, block: pa.RecordBatch, first_row: int) -> pa.RecordBatch:
        made: dict[str, pa.Array] = {}
        if self.key:
            made["key"] = self._keys(block, first_row)
        if self.content == "parts":
            made["parts"] = self._readable(block, "parts", _canonical_parts, first_row)
        else:
            made["prompt"] = self._readable(block, self.content, _as_text, first_row)
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
                f"manifest {self.name}, row {first_row + at}: column {column!r} cannot be read: {error}"
            ) from None

    def _content_column(self, present: set[str], columns: Columns) -> str:
        found = [column for column in dict.fromkeys((columns.prompt, "parts")) if column in present]
        if len(found) > 1:
            raise BadInput(f"manifest {self.name} has both {columns.prompt!r} and 'parts'; keep one of them")
        if not found:
            raise BadInput(
                f"manifest {self.name} has no column {columns.prompt!r} and no 'parts'; it has "
                f"{listed(self._shown)}. Name the column of prompts with --prompt-column."
            )
        return found[0]

    def _check_types(self, schema: pa.Schema) -> None:
        if self.content == "parts":
            self._check_parts(schema.field("parts").type)
        else:
            self._require(schema, self.content, _is_text, "text")
        if self._system:
            self._require(schema, self._system, _is_text, "text")
        if self.key:
            self._require(schema, self.key, lambda kind: not pa.types.is_nested(kind), "a scalar")

    def _require(self, schema: pa.Schema, column: str, fits: Any, what: str) -> None:
        kind = schema.field(column).type
        if not fits(kind):
            raise BadInput(f"manifest {self.name}: column {column!r} has the type {kind}, it must be {what}")

    def _check_parts(self, kind: pa.DataType) -> None:
        where = f"manifest {self.name}: column 'parts'"
        listed = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        if not listed or not pa.types.is_struct(kind.value_type):
            raise BadInput(f"{where} has the type {kind}, it must be a list of structs")
        for field in kind.value_type:
            if field.name not in FIELDS:
                raise BadInput(f"{where} has the unknown field {field.name!r}; known are {', '.join(FIELDS)}")
            if not (_is_binary(field.type) if field.name == "data" else _is_text(field.type)):
                raise BadInput(f"{where}: the field {field.name!r} cannot be {field.type}")

    def _keys(self, block: pa.RecordBatch, first_row: int) -> pa.Array:
        keys = self._readable(block, self.key or "", _as_text, first_row)
        if keys.null_count:
            row = first_row + pc.index(keys.is_null(), True).as_py()
            raise BadInput(f"manifest {self.name}, row {row}: column {self.key!r} is empty; every row needs a key")
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


def listed(names: list[str]) -> str:
    return ", ".join(names[:20]) or "no columns"
