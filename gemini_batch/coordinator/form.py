"""How the columns of one file of a manifest become ours.

In: its schema, and what the user calls the columns. Out: which columns have to be read, and blocks of `key` (if there
is one), `prompt` or `parts`, and `system_instruction` (if there). Whatever is wrong with the file as a whole is a
`BadInput` that names it, the column and the row; whatever is wrong with one row is left to that row.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gemini_batch.coordinator.columns import Columns
from gemini_batch.coordinator.pictured import is_binary, is_picture, is_text, with_pictures
from gemini_batch.coordinator.views import plain, without_views
from gemini_batch.errors import BadInput
from gemini_batch.parquet import BLOCK_BYTES, UNREADABLE
from gemini_batch.parts import FIELDS, KEPT, PART

MOST_BYTES = 4 * BLOCK_BYTES
"""Of the rendered prompts of a block."""


class Form:
    """The columns a manifest has, and how a block of it becomes ours."""

    def __init__(
        self,
        name: str,
        schema: pa.Schema,
        columns: Columns,
        shown: list[str] | None = None,
        kept_as: Mapping[str, str] | None = None,
    ) -> None:
        """
        Args:
            shown: the columns as the user sees them, where the schema has others.
            kept_as: where the schema has the columns that are kept, if not under their names.
        """
        self.name = name
        self.empty = Counter[str]()
        """Of columns that a template names, rows in which they were null."""
        self._shown = schema.names if shown is None else shown
        self._columns = columns
        self._template = columns.template
        self._image = self._named(columns.image, schema, "--image-column")
        self._rendered = [self._named(column, schema, "--template") for column in columns.rendered]
        self.content = None if self._template else self._content_column(set(schema.names))
        self.key = columns.key if columns.key in schema.names else None
        if self.key is None and columns.key != Columns.key:
            self._named(columns.key, schema, "--key-column")
        self._system = "system_instruction" if "system_instruction" in schema.names else None
        places = kept_as or {name: name for name in columns.keep}
        self._kept = {kept: self._named(places.get(kept, kept), schema, "--keep") or "" for kept in columns.keep}
        used = [self.key, self.content, *self._rendered, self._image, self._system, *self._kept.values()]
        self.needed = list(dict.fromkeys(column for column in used if column)) or schema.names[:1]
        for column in self.needed:
            if schema.names.count(column) > 1:
                raise BadInput(f"manifest {name} has {schema.names.count(column)} columns named {column!r}; keep one")
        self._check_types(schema)
        kept = [schema.field(place).with_name(KEPT + name) for name, place in self._kept.items()]
        self.kept = pa.schema([field.with_type(without_views(field.type)) for field in kept])
        """Columns that are kept, as blocks have them. May be given a common type of several files."""
        refuse_unstorable(name, self.kept)

    def pieces(self, block: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """A block in pieces whose prompts are not too much for one."""
        size = self._template.bytes_of(block.num_rows, block.nbytes) if self._template else 0
        most = max(1, min(block.num_rows, block.num_rows * MOST_BYTES // max(size, 1))) if size > MOST_BYTES else 0
        for start in range(0, block.num_rows, most or block.num_rows or 1):
            yield block.slice(start, most or block.num_rows)

    def normalised(self, block: pa.RecordBatch, first_row: int) -> pa.RecordBatch:
        made: dict[str, pa.Array] = {}
        if self.key:
            made["key"] = self._keys(block, first_row)
        if self.content == "parts":
            made["parts"] = self._readable(block, "parts", _canonical_parts, first_row)
        else:
            texts = self._texts(block, first_row)
            if self._image:
                pictures = self._readable(block, self._image, self._picture_as, first_row)
                made["parts"] = with_pictures(texts, pictures)
            else:
                made["prompt"] = texts
        if self._system:
            made["system_instruction"] = self._readable(block, self._system, _as_text, first_row)
        for field, place in zip(self.kept, self._kept.values(), strict=True):
            made[field.name] = self._readable(block, place, partial(pa.Array.cast, target_type=field.type), first_row)
        return pa.record_batch(made)

    def _texts(self, block: pa.RecordBatch, first_row: int) -> pa.Array:
        if self._template is None:
            return self._readable(block, self.content or "", _as_text, first_row)
        values = {column: self._readable(block, column, _as_text, first_row) for column in self._columns.rendered}
        self.empty.update({column: value.null_count for column, value in values.items()})
        return self._template.render(values, block.num_rows)

    def _named(self, column: str | None, schema: pa.Schema, option: str) -> str | None:
        """A column that an option names."""
        if column is not None and column not in schema.names:
            raise BadInput(f"manifest {self.name} has no column {column!r} ({option}); it has {listed(self._shown)}")
        return column

    def _readable(
        self, block: pa.RecordBatch, column: str, read: Callable[[pa.Array], pa.Array], first_row: int
    ) -> pa.Array:
        """The column as ours, every byte of it looked at: writers do not check that text is UTF-8."""
        values = block.column(column)
        try:
            return _validated(read(plain(values)))
        except UNREADABLE as error:
            at = next((row for row in range(len(values)) if not _reads(read, values.slice(row, 1))), 0)
            raise BadInput(
                f"manifest {self.name}, row {first_row + at}: column {column!r} cannot be read: {error}"
            ) from None

    def _content_column(self, present: set[str]) -> str:
        prompt = self._columns.prompt
        found = [column for column in dict.fromkeys((prompt, "parts")) if column in present]
        if len(found) > 1:
            raise BadInput(f"manifest {self.name} has both {prompt!r} and 'parts'; keep one of them")
        if not found:
            raise BadInput(
                f"manifest {self.name} has no column {prompt!r} and no 'parts'; it has {listed(self._shown)}. Name the "
                "column of prompts with --prompt-column, or make prompts of columns with --template."
            )
        if found == ["parts"] and self._image:
            raise BadInput(f"manifest {self.name} has 'parts', which hold the pictures; --image-column goes with text")
        return found[0]

    def _check_types(self, schema: pa.Schema) -> None:
        if self.content == "parts":
            self._check_parts(schema.field("parts").type)
        elif self.content:
            self._require(schema, self.content, is_text, "text")
        for column in self._columns.rendered:
            self._require(schema, column, lambda kind: not pa.types.is_nested(kind), "a scalar")
        if self._image:
            self._require(schema, self._image, is_picture, "text (a path or URI) or binary")
            named = is_text(schema.field(self._image).type)  # of a CSV the block itself has only bytes
            self._picture_as = _as_text if named else _as_bytes
        if self._system:
            self._require(schema, self._system, is_text, "text")
        if self.key:
            self._require(schema, self.key, lambda kind: not pa.types.is_nested(kind), "a scalar")

    def _require(self, schema: pa.Schema, column: str, fits: Any, what: str) -> None:
        kind = schema.field(column).type
        if not fits(kind):
            raise BadInput(f"manifest {self.name}: column {column!r} has the type {kind}, it must be {what}")

    def _check_parts(self, kind: pa.DataType) -> None:
        where = f"manifest {self.name}: column 'parts'"
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        if not is_list or not pa.types.is_struct(kind.value_type):
            raise BadInput(f"{where} has the type {kind}, it must be a list of structs")
        for field in kind.value_type:
            if field.name not in FIELDS:
                raise BadInput(f"{where} has the unknown field {field.name!r}; known are {', '.join(FIELDS)}")
            if not (is_binary(field.type) if field.name == "data" else is_text(field.type)):
                raise BadInput(f"{where}: the field {field.name!r} cannot be {field.type}")

    def _keys(self, block: pa.RecordBatch, first_row: int) -> pa.Array:
        keys = self._readable(block, self.key or "", _as_text, first_row)
        if keys.null_count:
            row = first_row + pc.index(keys.is_null(), True).as_py()
            raise BadInput(f"manifest {self.name}, row {row}: column {self.key!r} is empty; every row needs a key")
        return keys


def refuse_unstorable(where: str, kept: pa.Schema) -> None:
    """
    Raises:
        BadInput: a column that no Parquet file can hold.
    """
    for field in kept:
        try:
            pq.write_table(pa.schema([field]).empty_table(), pa.BufferOutputStream())
        except pa.ArrowException as error:
            name = field.name.removeprefix(KEPT)
            raise BadInput(f"manifest {where}: column {name!r} has the type {field.type}, not kept: {error}") from None


def _as_bytes(column: pa.Array) -> pa.Array:
    return column.cast(pa.binary())


def _as_text(column: pa.Array) -> pa.Array:
    return column.cast(pa.string())


def _validated(column: pa.Array) -> pa.Array:
    column.validate(full=True)
    return column


def _reads(read: Callable[[pa.Array], pa.Array], column: pa.Array) -> bool:
    try:
        _validated(read(plain(column)))
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


def listed(names: list[str]) -> str:
    return ", ".join(names[:20]) or "no columns"
