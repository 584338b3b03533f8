"""Whether a value follows a schema, asked of a library, whose work is bounded beforehand.

In: schemas of a `Document`. Out: predicates. For what sampling can miss: `oneOf`, `not`, several patterns at once.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jsonschema_rs

from gemini_batch.emulator.dialects import Schema, SchemaError

Accepts = Callable[[Any], bool]

_MOST_VISITS = 4096
_PATTERNS = jsonschema_rs.FancyRegexOptions(backtrack_limit=10_000)
_SAME_PLACE = ("if", "then", "else", "not")
_BELOW = ("additionalProperties", "contains", "items", "propertyNames", "unevaluatedItems", "unevaluatedProperties")


def acceptance(schema: Schema, defs: Mapping[str, Schema]) -> Accepts:
    """Raises SchemaError for what the library refuses, such as a pattern that is none."""
    document = {"allOf": [schema], "$defs": defs} if defs else schema
    try:
        valid = jsonschema_rs.Draft202012Validator(document, validate_formats=True, pattern_options=_PATTERNS).is_valid
    except ValueError as e:
        raise SchemaError(str(e).partition("\n")[0][:200]) from None

    def accepts(value: Any) -> bool:
        try:
            return valid(value)
        except ValueError:  # a pattern that backtracks without end
            return False

    return accepts


class Visits:
    """How often a validator may come by at one place of an instance: twice a level is a thousandfold in ten."""

    def __init__(self, defs: Mapping[str, Schema]) -> None:
        self._defs = defs
        self._known: dict[tuple[int, int], int] = {}
        self._kept: list[Schema] = []  # so that no id is used twice

    def bearable(self, schema: Schema, levels: int) -> bool:
        try:
            return self._count(schema, levels) <= _MOST_VISITS
        except RecursionError:
            return False

    def _count(self, schema: Schema, levels: int) -> int:
        if not isinstance(schema, dict) or levels < 0:
            return 1
        key = (id(schema), levels)
        if key not in self._known:
            self._kept.append(schema)
            self._known[key] = _MOST_VISITS  # for a schema that leads to itself in the same place
            here = [schema[name] for name in _SAME_PLACE if name in schema]
            here += [one for name in ("allOf", "anyOf", "oneOf") for one in schema.get(name, ())]
            here += list(schema.get("dependentSchemas", {}).values())
            if "$ref" in schema:
                here.append(self._defs[schema["$ref"].removeprefix("#/$defs/")])
            below = [schema[name] for name in _BELOW if name in schema] + list(schema.get("prefixItems", ()))
            below += [one for name in ("properties", "patternProperties") for one in schema.get(name, {}).values()]
            total = 1 + sum(self._count(one, levels) for one in here)
            self._known[key] = total + max((self._count(one, levels - 1) for one in below), default=0)
        return self._known[key]
