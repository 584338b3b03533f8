"""Both dialects of a response schema brought into one.

In: a `responseSchema` (OpenAPI subset: types in either case, `nullable`, int64 as strings, both spellings of a name) or
a `responseJsonSchema`, as parsed JSON. Out: a `Document` in JSON Schema 2020-12 of known keywords, checked for shape.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from gemini_batch.emulator.wire import snake_case

Schema = dict[str, Any] | bool
"""True is always written `{}`."""

_MOST_SCHEMAS = 20_000
_DEEPEST = 64  # schemas within schemas; a chain of references is as long as it likes

_ONE_SCHEMA = (
    "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then", "unevaluatedItems",
    "unevaluatedProperties",
)  # fmt: skip
_SCHEMA_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_SCHEMA_TABLES = ("dependentSchemas", "patternProperties", "properties")
_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")


class SchemaError(ValueError):
    """A schema that no instance can be made for."""


class Document:
    """`root` and the `defs` that it refers to, as "#/$defs/<key>"."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._left = _MOST_SCHEMAS
        self._keys: dict[str, str] = {}
        self.defs: dict[str, Schema] = {}
        self.root = self._schema(raw, 0)
        while len(self.defs) < len(self._keys):  # in turn, not within each other: chains may be long
            ref = list(self._keys)[len(self.defs)]
            self.defs[self._keys[ref]] = self._schema(self._target(ref), 0)

    def _schema(self, raw: Any, depth: int) -> Schema:
        if isinstance(raw, bool):
            return {} if raw else False
        if not isinstance(raw, dict):
            raise SchemaError(f"not a schema: {str(raw)[:80]!r}")
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST:
            raise SchemaError("the schema is too large" if self._left < 0 else "the schema is nested too deeply")
        found: dict[str, Any] = {}
        for spelled, value in raw.items():
            name = _SPELLINGS.get(spelled)
            if name is not None and (value is not None or name == "const"):
                found[name] = self._value(name, value, depth)
        return _settled(found, raw)

    def _value(self, name: str, value: Any, depth: int) -> Any:
        if name == "$ref":
            return self._ref(_text(value))
        if name in _ONE_SCHEMA:
            return self._schema(value, depth + 1)
        if name in _SCHEMA_LISTS:
            return [self._schema(one, depth + 1) for one in _list(value)]
        if name in _SCHEMA_TABLES:
            return {key: self._schema(one, depth + 1) for key, one in _table(value).items()}
        return _READ[name](value)

    def _ref(self, ref: str) -> str:
        if ref not in self._keys:
            self._target(ref)
            self._keys[ref] = str(len(self._keys))
        return f"#/$defs/{self._keys[ref]}"

    def _target(self, ref: str) -> Any:
        found = self._raw
        if re.fullmatch(r"#[^/]+", ref):
            return next(self._anchored(ref[1:]), None) or _nowhere(ref)
        if not ref.startswith(("#/", "/")) and ref != "#":
            _nowhere(ref)
        for step in ref.lstrip("#").split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and name in found:
                found = found[name]
            elif isinstance(found, list) and re.fullmatch("[0-9]{1,5}", name) and int(name) < len(found):
                found = found[int(name)]
            else:
                _nowhere(ref)
        return found

    def _anchored(self, anchor: str) -> Iterator[Any]:
        waiting = [self._raw]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict) and value.get("$anchor") == anchor:
                yield value
            if isinstance(value, dict | list):
                waiting.extend(value.values() if isinstance(value, dict) else value)


def _nowhere(ref: str) -> Any:
    raise SchemaError(f"{ref} points nowhere")


def _settled(found: dict[str, Any], raw: Mapping[str, Any]) -> Schema:
    """What only one of the dialects says, said in JSON Schema."""
    for name in ("type", "enum", "anyOf", "oneOf", "allOf"):
        if found.get(name, True) in ([], ""):  # an empty proto field is an absent one
            del found[name]
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(found.get(exclusive), bool) and found.pop(exclusive) and bound in found:  # draft 4
            found[exclusive] = found.pop(bound)
    numeric = found.get("type") in ("integer", "number")
    if numeric and "enum" in found and (str(raw.get("type")).isupper() or found.get("format") == "enum"):
        found["enum"] = [_number(one) for one in found["enum"]]  # a proto enum holds strings alone
    if (tag := found.pop("discriminator", None)) is not None:
        # A tag that may be left out, having a default, tells nobody which branch is meant.
        for name in found.keys() & {"anyOf", "oneOf"}:
            found[name] = [{"allOf": [branch, {"required": [tag]}]} for branch in found[name]]
    return {"anyOf": [found, {"type": "null"}]} if found.pop("nullable", False) else found


def _wrong(value: Any, wanted: str) -> SchemaError:
    return SchemaError(f"expected {wanted}, found {str(value)[:80]!r}")


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(value, "a list")
    return value


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(value, "an object")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(value, "a string")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(value, "true or false")
    return value


def _number(value: Any) -> int | float:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,19}", value):  # proto-JSON may write an int64 as a string
        return int(value) if -(1 << 63) <= int(value) < 1 << 63 else float(value)
    try:
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        raise _wrong(value, "a number") from None
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise _wrong(value, "a number")
    return number


def _whole(value: Any) -> int:
    number = _number(value)
    if number != int(number) or number < 0:
        raise _wrong(value, "a whole number")
    return min(int(number), 1 << 53)


def _factor(value: Any) -> int | float:
    number = _number(value)
    if number <= 0:
        raise _wrong(value, "a number above zero")
    return number


def _names(value: Any) -> list[str]:
    return list(dict.fromkeys(map(_text, _list(value))))


def _type(value: Any) -> str | list[str]:
    spelled = [_text(one) for one in (value if isinstance(value, list) else [value])]
    kinds = list(dict.fromkeys(one.lower() for one in spelled if one.lower() not in ("", "type_unspecified")))
    if not set(kinds) <= set(_TYPES):
        raise SchemaError(f"unknown type {next(one for one in spelled if one.lower() not in _TYPES)!r}")
    return kinds[0] if len(kinds) == 1 else kinds


_READ: Mapping[str, Callable[[Any], Any]] = {
    "const": lambda value: value,
    "dependentRequired": lambda value: {name: _names(names) for name, names in _table(value).items()},
    "discriminator": lambda value: _text(_table(value).get("propertyName", _table(value).get("property_name"))),
    "enum": _list,
    "exclusiveMaximum": lambda value: value if isinstance(value, bool) else _number(value),
    "exclusiveMinimum": lambda value: value if isinstance(value, bool) else _number(value),
    "format": lambda value: _text(value).lower(),
    "maxContains": _whole,
    "maxItems": _whole,
    "maxLength": _whole,
    "maxProperties": _whole,
    "maximum": _number,
    "minContains": _whole,
    "minItems": _whole,
    "minLength": _whole,
    "minProperties": _whole,
    "minimum": _number,
    "multipleOf": _factor,
    "nullable": _flag,
    "pattern": _text,
    "propertyOrdering": _names,
    "required": _names,
    "type": _type,
    "uniqueItems": _flag,
}
_KNOWN = ("$ref", *_ONE_SCHEMA, *_SCHEMA_LISTS, *_SCHEMA_TABLES, *_READ)
_SPELLINGS = {snake_case(name): name for name in _KNOWN} | {name: name for name in _KNOWN} | {"ref": "$ref"}
