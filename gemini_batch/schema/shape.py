"""A JSON Schema read as the shape of a column: Arrow type, and how a JSON value becomes a value of it.

str, enum, UUID -> string    int -> int64    float -> float64    bool -> bool    date -> date32
datetime -> timestamp[us, UTC]    list -> list    object with properties -> struct
dict, union, recursion, anything -> string that holds JSON

A Decimal is a string as a model serialises it, and a union of number and string where only a JSON Schema is known.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

import orjson
import pyarrow as pa

Json = dict[str, Any]
Convert = Callable[[Any], Any]


@dataclass(frozen=True)
class Shape:
    """An Arrow type and the conversion into it; `convert` is None where the JSON value serves as it is."""

    type: pa.DataType
    convert: Convert | None = None


def shape_of(schema: Json) -> Shape:
    """The shape of a whole JSON Schema document (2020-12, `$defs` and `$ref` resolved)."""
    return _shape(schema, schema, ())


def resolve_ref(root: Json, ref: str) -> Json:
    """The part of the document that a local `$ref` means.

    Raises:
        KeyError: nothing is there.
    """
    node: Any = root
    for step in ref.removeprefix("#").split("/"):
        if step:
            node = node[step.replace("~1", "/").replace("~0", "~")]
    found: Json = node
    return found


def alternatives(node: Json) -> list[Json] | None:
    """The branches of `anyOf` / `oneOf` / a list of types without null; None when there is no choice."""
    branches = node.get("anyOf") or node.get("oneOf")
    if branches is None and isinstance(node.get("type"), list):
        branches = [{**node, "type": kind} for kind in node["type"]]
    return (
        None if branches is None else [branch for branch in branches if branch is True or branch.get("type") != "null"]
    )


def _shape(node: Json | Literal[True], root: Json, within: tuple[str, ...]) -> Shape:
    if node is True:  # any value at all
        return _JSON
    if ref := node.get("$ref"):
        return _JSON if ref in within else _shape(resolve_ref(root, ref), root, (*within, ref))
    if len(node.get("allOf", ())) == 1:
        return _shape(node["allOf"][0], root, within)
    branches = alternatives(node)
    if branches is not None:
        return _shape(branches[0], root, within) if len(branches) == 1 else _JSON
    match node.get("type"):
        case "object" if node.get("properties"):
            return _struct(node["properties"], root, within)
        case "array" if isinstance(node.get("items"), dict | bool) and "prefixItems" not in node:
            return _list(_shape(node["items"], root, within))
        case "string":
            return _STRINGS.get(node.get("format", ""), _STRING)
        case str(kind) if kind in _SCALARS:
            return _SCALARS[kind]
    return _of_values(node)


def _of_values(node: Json) -> Shape:
    """A schema without a type: its enum or const tells. Every column takes null."""
    values = [value for value in node.get("enum", [node["const"]] if "const" in node else []) if value is not None]
    if values and all(isinstance(value, str) for value in values):
        return _STRING
    if values and all(type(value) is int for value in values):
        return _SCALARS["integer"]
    return _JSON


def _struct(properties: dict[str, Json], root: Json, within: tuple[str, ...]) -> Shape:
    shapes = {name: _shape(node, root, within) for name, node in properties.items()}
    converts = {name: shape.convert for name, shape in shapes.items() if shape.convert}
    kind = pa.struct([pa.field(name, shape.type) for name, shape in shapes.items()])

    def convert(value: Json) -> Json:
        changed = {
            name: change(value[name]) for name, change in converts.items() if name in value and value[name] is not None
        }
        return {**value, **changed}

    return Shape(kind, convert if converts else None)


def _list(item: Shape) -> Shape:
    change = item.convert
    if change is None:
        return Shape(pa.list_(item.type))
    return Shape(pa.list_(item.type), lambda values: [None if value is None else change(value) for value in values])


def _to_datetime(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _to_json(value: Any) -> str:
    return orjson.dumps(value).decode()


_STRING = Shape(pa.string())
_JSON = Shape(pa.string(), _to_json)
_STRINGS = {
    "date": Shape(pa.date32(), date.fromisoformat),
    "date-time": Shape(pa.timestamp("us", tz="UTC"), _to_datetime),
}
_SCALARS = {
    "integer": Shape(pa.int64()),
    "number": Shape(pa.float64()),
    "boolean": Shape(pa.bool_()),
}
