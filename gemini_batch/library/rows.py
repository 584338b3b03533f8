"""Rows of a run as a program reads them, with results as instances of its own type where it asks for that."""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, PydanticUserError, TypeAdapter

from gemini_batch.coordinator.retry import CONTENT
from gemini_batch.errors import BadInput
from gemini_batch.reducer.vote import vote
from gemini_batch.schema.check import instance_of
from gemini_batch.schema.load import import_type


@dataclass(frozen=True)
class Row:
    """One row of the dataset; fields as its columns."""

    index: int
    key: str
    status: str
    """`ok`, `failed`, `blocked`, `truncated`, `invalid`; of an unfinished run also `pending`."""
    result: Any
    """As the column has it, or an instance of the type that was asked for; None unless ok."""
    text: str | None
    error: dict[str, Any] | None
    n_valid: int
    agreement: float | None
    disagreements: list[str] | None
    samples: list[dict[str, Any]] | None
    attempts: int
    round: int
    usage: dict[str, int] | None
    cost_usd: float | None
    finish_reason: str | None
    model_version: str | None
    request_digest: str | None
    kept: dict[str, Any] = field(default_factory=dict)
    """Columns of the manifest that were kept, by name."""
    input: dict[str, Any] | None = None
    """What the row asks, by column of the manifest; None unless asked for."""


FIXED = frozenset(one.name for one in dataclasses.fields(Row)) - {"kept", "input"}


def rows_in(blocks: Iterable[pa.RecordBatch], with_input: bool = False) -> Iterator[Row]:
    """The rows of blocks, a block in memory at a time."""
    for block in blocks:
        yield from (_row(values, with_input) for values in block.to_pylist())


def _row(values: dict[str, Any], with_input: bool) -> Row:
    own: dict[str, Any] = {}
    asked: dict[str, Any] = {}
    kept: dict[str, Any] = {}
    for name, value in values.items():
        place = own if name in FIXED else asked if with_input and name in CONTENT else kept
        place[name] = value
    return Row(**own, kept=kept, input=asked if with_input else None)


# --- results of a type ------------------------------------------------------------------------------------------------


def adapter_of(schema: Any) -> TypeAdapter[Any]:
    """What makes instances of a type, or of the one that `module:Name` means.

    Raises:
        BadInput: it is none that pydantic can describe.
    """
    kind = import_type(schema) if isinstance(schema, str) and ":" in schema else schema
    try:
        return TypeAdapter(kind)
    except (PydanticUserError, SyntaxError, NameError, TypeError) as error:
        raise BadInput(f"schema {schema!r:.80}: not a type that pydantic can describe: {error}") from None


def instance(row: Row, adapter: TypeAdapter[Any]) -> tuple[Any, Row]:
    """A row's result as an instance, and the row. The type may refuse what its JSON Schema let pass: the row is
    `invalid` then, and says why."""
    if row.status != "ok":
        return None, row
    try:
        if row.samples is not None:
            return _voted(row, row.samples, adapter), row
        return instance_of(adapter, row.text or ""), row
    except Exception as error:  # the class's own validators may raise anything
        reason = {"kind": "schema_invalid", "code": None, "message": str(error)}
        return None, dataclasses.replace(row, status="invalid", result=None, error=reason, n_valid=0, agreement=None)


def typed(rows: Iterable[Row], schema: Any) -> Iterator[Row]:
    """The rows with results of a type.

    Raises:
        BadInput: it is none that pydantic can describe.
    """
    adapter = adapter_of(schema)
    pairs = (instance(row, adapter) for row in rows)
    return (dataclasses.replace(row, result=result) for result, row in pairs)


def instances(rows: list[Row], schema: Any) -> tuple[list[Any], list[Row]]:
    """Results as instances of a Python type. A schema given by name or file gives what the dataset holds."""
    if schema is None or isinstance(schema, str):
        return [row.result for row in rows], rows
    adapter = adapter_of(schema)
    pairs = [instance(row, adapter) for row in rows]
    return [result for result, _ in pairs], [row for _, row in pairs]


def _voted(row: Row, samples: list[dict[str, Any]], adapter: TypeAdapter[Any]) -> Any:
    """The valid samples' instances as one, by the vote that made the row.

    Where no sample has it all, a model is a copy of the nearest one with the other samples' fields.
    """
    found = [instance_of(adapter, sample["text"]) for sample in samples if sample["status"] == "ok"]
    dumps = [adapter.dump_python(one, mode="json") for one in found]
    outcome = vote(dumps, isinstance(row.result, dict))
    nearest = found[outcome.winner]
    if outcome.value is dumps[outcome.winner]:
        return nearest
    if not isinstance(nearest, BaseModel):
        return adapter.validate_python(outcome.value)
    own = [name for name in outcome.value if name in type(nearest).model_fields]
    places = {name: next(at for at, dump in enumerate(dumps) if dump[name] == outcome.value[name]) for name in own}
    return nearest.model_copy(update={name: getattr(found[place], name) for name, place in places.items()})
