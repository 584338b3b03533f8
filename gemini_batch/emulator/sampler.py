"""A schema compiled once into a sampler of valid instances.

In: a `responseSchema` (OpenAPI subset, type in either case) or a `responseJsonSchema` ($ref, type lists).
Out: `Sampler`, dice to instance. `pattern`, `uniqueItems` and `allOf` of several schemas are not understood.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import orjson

from gemini_batch.emulator.dice import Dice
from gemini_batch.emulator.wire import member

Sampler = Callable[[Dice, int], Any]
"""Dice and the depth so far; past `_DEEP` only what is required is made, so that recursive schemas end."""

_DEEP = 6
_BOTTOM = 40
_MOST_MORE = 16
"""Items beyond `minItems`, whatever `maxItems` allows."""
_LARGEST = 1 << 20
"""Items and demanded characters of one instance: about what a model's longest output has room for."""
_WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron")
_EPOCH = datetime(2024, 1, 1, tzinfo=UTC)


class SchemaError(ValueError):
    """A schema that no instance can be made for."""


@lru_cache(maxsize=256)
def compile_schema(schema: bytes) -> Sampler:
    """The sampler of a schema given as JSON; raises SchemaError."""
    root = orjson.loads(schema)
    return _Compiler(root).compile(root)


class _Compiler:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._by_ref: dict[str, Sampler] = {}

    def compile(self, schema: Any) -> Sampler:
        if schema is True or schema == {}:
            return _string({})
        if not isinstance(schema, dict):
            raise SchemaError(f"not a schema: {schema!r}")
        sampler = self._not_null(schema)
        return _one_of([sampler] * 7 + [_null], [_null]) if member(schema, "nullable") else sampler

    def _not_null(self, schema: Mapping[str, Any]) -> Sampler:
        if "$ref" in schema:
            return self._ref(schema["$ref"])
        if "const" in schema:
            return _constant(schema["const"])
        if schema.get("enum"):
            return _one_of([_constant(value) for value in schema["enum"]])
        if branches := member(schema, "anyOf") or member(schema, "oneOf"):
            return self._choice(branches)
        match member(schema, "allOf"):
            case [only]:
                return self.compile(only)
            case [_, *_]:
                raise SchemaError("allOf of several schemas is not supported")
        return self._typed(schema)

    def _choice(self, schemas: Sequence[Any]) -> Sampler:
        finite = [schema for schema in schemas if b'"$ref"' not in orjson.dumps(schema)]
        return _one_of([self.compile(one) for one in schemas], [self.compile(one) for one in finite])

    def _ref(self, ref: str) -> Sampler:
        """Found in the table when it is sampled: a definition may refer to itself."""
        if ref not in self._by_ref:
            self._by_ref[ref] = _null
            self._by_ref[ref] = self.compile(self._resolve(ref))

        def sample(dice: Dice, depth: int) -> Any:
            if depth > _BOTTOM:
                raise SchemaError(f"{ref} has no finite instance")
            return self._by_ref[ref](dice, depth + 1)

        return sample

    def _resolve(self, ref: str) -> Any:
        found = self._root
        for step in ref.removeprefix("#").strip("/").split("/") if ref != "#" else ():
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or name not in found:
                raise SchemaError(f"{ref} points nowhere")
            found = found[name]
        return found

    def _typed(self, schema: Mapping[str, Any]) -> Sampler:
        kind = schema.get("type")
        if isinstance(kind, list):
            return self._choice([{**schema, "type": one} for one in kind])
        match str(kind or _implied_type(schema)).lower():
            case "object":
                return self._object(schema)
            case "array":
                return self._array(schema)
            case "string" | "type_unspecified":
                return _string(schema)
            case "integer":
                return _integer(schema)
            case "number":
                return _number(schema)
            case "boolean":
                return _one_of([_constant(False), _constant(True)])
            case "null":
                return _null
        raise SchemaError(f"unknown type {kind!r}")

    def _object(self, schema: Mapping[str, Any]) -> Sampler:
        properties: Mapping[str, Any] = schema.get("properties") or {}
        required: Sequence[str] = schema.get("required") or ()
        extra = member(schema, "additionalProperties")
        if not properties and isinstance(extra, dict):
            return _string_keyed(self.compile(extra))
        listed = member(schema, "propertyOrdering") or ()
        names = dict.fromkeys([name for name in listed if name in properties] + [*properties, *required])
        if not all(isinstance(name, str) for name in names):
            raise SchemaError("required must be a list of names")
        fields = [(name, name in required, self.compile(properties.get(name, True))) for name in names]

        def sample(dice: Dice, depth: int) -> Any:
            return {
                name: field(dice, depth + 1)
                for name, always, field in fields
                if always or (dice.below(4) and depth < _DEEP)
            }

        return sample

    def _array(self, schema: Mapping[str, Any]) -> Sampler:
        first = [self.compile(item) for item in member(schema, "prefixItems") or ()]
        rest = self.compile(schema.get("items") or True)
        least = _int(schema, "minItems", 0)
        most = _int(schema, "maxItems", max(least, len(first)) + 3)
        if schema.get("items") is False:
            most = min(most, len(first))
        if least > most:
            raise SchemaError(f"no array of {least} to {most} items")

        def sample(dice: Dice, depth: int) -> Any:
            size = least if depth >= _DEEP else least + dice.below(min(most - least, _MOST_MORE) + 1)
            _spend(dice, size)
            return [(first[i] if i < len(first) else rest)(dice, depth + 1) for i in range(size)]

        return sample


def _implied_type(schema: Mapping[str, Any]) -> str:
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema or member(schema, "prefixItems") else "string"


def _int(schema: Mapping[str, Any], name: str, default: int) -> int:
    value = member(schema, name)  # proto-JSON may write an int64 as a string
    return default if value is None else int(value)


def _null(dice: Dice, depth: int) -> Any:
    return None


def _constant(value: Any) -> Sampler:
    return lambda dice, depth: value


def _one_of(branches: Sequence[Sampler], finite: Sequence[Sampler] = ()) -> Sampler:
    """Any branch; deep down one that is known to end."""
    if not branches:
        raise SchemaError("no type or value to choose from")

    def sample(dice: Dice, depth: int) -> Any:
        open_now = finite if finite and depth >= _DEEP else branches
        return open_now[dice.below(len(open_now))](dice, depth)

    return sample


def _string_keyed(value: Sampler) -> Sampler:
    return lambda dice, depth: {
        _WORDS[i]: value(dice, depth + 1) for i in range(1 + dice.below(3) if depth < _DEEP else 0)
    }


def _string(schema: Mapping[str, Any]) -> Sampler:
    if made := _FORMATS.get(str(schema.get("format", "")).lower()):
        return made
    least, most = _int(schema, "minLength", 0), _int(schema, "maxLength", 1 << 20)
    if least == 0 and most > 32:
        return lambda dice, depth: f"{_WORDS[dice.below(8)]}-{dice.digest}"

    def sample(dice: Dice, depth: int) -> Any:
        _spend(dice, least)
        return f"{dice.digest}-{_WORDS[dice.below(8)]}".ljust(least, "x")[:most]

    return sample


def _spend(dice: Dice, amount: int) -> None:
    """What a schema demands may be larger than any answer."""
    dice.spent += amount
    if dice.spent > _LARGEST:
        raise SchemaError("its instances are too large")


def _bounds(schema: Mapping[str, Any], step: float) -> tuple[float, float]:
    low = max(
        member(schema, "minimum") if member(schema, "minimum") is not None else -math.inf,
        member(schema, "exclusiveMinimum") + step if "exclusiveMinimum" in schema else -math.inf,
    )
    high = min(
        member(schema, "maximum") if member(schema, "maximum") is not None else math.inf,
        member(schema, "exclusiveMaximum") - step if "exclusiveMaximum" in schema else math.inf,
    )
    if low == -math.inf:
        low = 0 if high >= 0 else high - 1000
    return low, low + 1000 if high == math.inf else high


def _integer(schema: Mapping[str, Any]) -> Sampler:
    factor = _int(schema, "multipleOf", 1)
    low, high = _bounds(schema, 1)
    first, last = math.ceil(low / factor), math.floor(high / factor)
    if first > last:
        raise SchemaError(f"no integer between {low} and {high}")
    choices = min(last - first + 1, 1 << 31)
    return lambda dice, depth: (first + dice.below(choices)) * factor


def _number(schema: Mapping[str, Any]) -> Sampler:
    low, high = _bounds(schema, 0)
    if low > high:
        raise SchemaError(f"no number between {low} and {high}")

    def sample(dice: Dice, depth: int) -> Any:
        value = low + (high - low) * (1 + dice.below(998)) / 1000  # strictly inside: a bound may be exclusive
        short = round(value, 3)
        return short if low < short < high else value

    return sample


def _moment(dice: Dice) -> datetime:
    return _EPOCH + timedelta(seconds=dice.below(50_000_000))


def _uuid(dice: Dice, depth: int) -> str:
    digits = f"{dice.digest}{dice.below(1 << 31):08x}{dice.below(1 << 31):08x}{dice.below(1 << 31):08x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}"


_FORMATS: Mapping[str, Sampler] = {
    "date": lambda dice, depth: _moment(dice).strftime("%Y-%m-%d"),
    "date-time": lambda dice, depth: _moment(dice).strftime("%Y-%m-%dT%H:%M:%SZ"),
    "time": lambda dice, depth: _moment(dice).strftime("%H:%M:%SZ"),
    "duration": lambda dice, depth: f"PT{dice.below(3600)}S",
    "uuid": _uuid,
    "email": lambda dice, depth: f"{dice.digest}@example.com",
    "uri": lambda dice, depth: f"https://example.com/{dice.digest}",
}
