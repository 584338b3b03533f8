"""A JSONL file of a manifest: one JSON object a line; blank lines are skipped, `data` of a part is base64.

In: a path. Out: blocks of the columns that the form needs. The columns of the first block are those of the file; later
rows may leave some out, but not add one.
"""

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from gemini_batch.coordinator.columns import Columns
from gemini_batch.coordinator.form import Form
from gemini_batch.errors import BadInput
from gemini_batch.parquet import BLOCK_BYTES, BLOCK_ROWS
from gemini_batch.parts import FIELDS, KEPT, PART, PARTS, is_kept

Row = dict[str, Any]


class JsonlSource:
    def __init__(self, path: Path, name: str, columns: Columns) -> None:
        self._path, self._name, self._columns = path, name, columns
        first = next(self._row_blocks(), [])
        fields = {field for row in first for field in row}
        there = [column for column in columns.decisive() if column in fields]
        names = [*(there if first else columns.least()), "system_instruction"]
        schema = pa.schema([(column, PARTS if column == "parts" else pa.string()) for column in dict.fromkeys(names)])
        self._types = kept = self._kept_types(fields)
        schema = pa.schema([*schema, *((KEPT + column, kept[column]) for column in kept)])
        self.form = Form(name, schema, columns, sorted(fields), {column: KEPT + column for column in kept})

    def blocks(self) -> Iterator[pa.RecordBatch]:
        first = 0
        for rows in self._row_blocks():
            self._refuse_new(rows, first)
            yield pa.record_batch({name: self._column(name, rows, first) for name in self.form.needed})
            first += len(rows)

    def _kept_types(self, fields: set[str]) -> dict[str, pa.DataType]:
        """Types that hold all values of the columns that are kept: JSON has them not, so the whole file is read."""
        types = {name: pa.null() for name in self._columns.keep if name in fields}
        first = 0
        for rows in self._row_blocks() if types else ():
            for name, known in types.items():
                values = self._inferred(name, rows, first)
                types[name] = self._unified(name, known, values.type, first)
            first += len(rows)
        return types

    def _inferred(self, name: str, rows: list[Row], first: int, kind: pa.DataType | None = None) -> pa.Array:
        try:
            return pa.array([row.get(name) for row in rows], kind)
        except (pa.ArrowException, OverflowError, ValueError, TypeError) as error:
            raise self._odd(name, first, str(error)) from None

    def _unified(self, name: str, known: pa.DataType, found: pa.DataType, first: int) -> pa.DataType:
        try:
            schemas = [pa.schema([(name, known)]), pa.schema([(name, found)])]
            return pa.unify_schemas(schemas, promote_options="permissive").field(name).type
        except pa.ArrowException as error:
            raise self._odd(name, first, str(error)) from None

    def _odd(self, name: str, first: int, why: str) -> BadInput:
        where = f"manifest {self._name}, from about row {first} on"
        return BadInput(f"{where}: the values of column {name!r} are not of one type, so it cannot be kept: {why}")

    def _row_blocks(self) -> Iterator[list[Row]]:
        rows: list[Row] = []
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
            raise BadInput(f"manifest {self._name} cannot be read: {error.strerror}") from None

    def _parsed(self, number: int, line: bytes) -> Row:
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise BadInput(f"manifest {self._name}, line {number}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise BadInput(f"manifest {self._name}, line {number}: a row is a JSON object, this is {line[:40]!r}")
        return row

    def _refuse_new(self, rows: list[Row], first: int) -> None:
        for name in self._columns.decisive():
            if name not in self.form.needed and any(name in row for row in rows):
                row = first + next(at for at, row in enumerate(rows) if name in row)
                raise BadInput(f"manifest {self._name}, row {row}: has {name!r}, which the first rows do not have")

    def _column(self, name: str, rows: list[Row], first: int) -> pa.Array:
        if is_kept(name) and (kept := name.removeprefix(KEPT)) in self._columns.keep:
            return self._inferred(kept, rows, first, self._types[kept])
        values = [row.get(name) for row in rows]
        if name == "parts":
            values = [self._parts(value, first + at) for at, value in enumerate(values)]
            return pa.array(values, PARTS)
        if name == self._columns.key or name in self._columns.rendered:
            values = [_key_text(value) for value in values]
        for at, value in enumerate(values):
            if value is not None and not isinstance(value, str):
                raise BadInput(
                    f"manifest {self._name}, row {first + at}: column {name!r} holds a {type(value).__name__}, not text"
                )
        return pa.array(values, pa.string())

    def _parts(self, value: Any, row: int) -> list[Row] | None:
        if value is None:
            return None
        where = f"manifest {self._name}, row {row}: column 'parts'"
        if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
            raise BadInput(f"{where} is a list of objects with one of text, path, uri, data")
        return [self._part(part, where) for part in value]

    @staticmethod
    def _part(part: Row, where: str) -> Row:
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
