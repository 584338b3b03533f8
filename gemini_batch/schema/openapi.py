"""A JSON Schema as the service is asked to keep to it: `responseSchema` (OpenAPI subset of `types.Schema`, references
inlined), or `responseJsonSchema` as it is.

`responseSchema` is the default: the other gave degenerate answers in batch jobs (ruby_llm #894, 2026-08-27).
"""

import math
from typing import Any, Literal

from gemini_batch.schema.shape import Json, alternatives, resolve_ref

KEPT = (
    "description",
    "format",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "pattern",
)

LEVELS = 3
"""Of a type within itself that are written out. Each level multiplies a schema by its recursive fields."""

NODES = 2_000
"""Of a schema with several levels: types that hold one another are written out to fewer where that gives more."""

RANGES = 20
"""Most alternatives that an enumeration of numbers becomes; the service refuses schemas that are too complex."""


def response_schema(schema: Json) -> Json:
    """The `responseSchema` to send. Types in capitals, `nullable` for null, `propertyOrdering` as the properties stand.

    What the subset cannot say (multiples, defaults, types of map values, deeper recursion) is left out here and still
    checked on the answer.
    """
    for levels in range(LEVELS, 0, -1):
        try:
            return _Writer(schema, levels, NODES).whole()
        except _TooLargeError:
            continue
    return _Writer(schema, 1, math.inf).whole()


def response_json_schema(schema: Json) -> Json:
    """The `responseJsonSchema` to send: the schema itself, as far as the service's documentation asks otherwise.

    It knows `enum` and not `const`, and nothing may stand beside a `$ref` (`response_json_schema` of google-genai).
    """
    sent: Json = _respelled(schema)
    return sent


def _respelled(node: Json) -> Json:
    if isinstance(node.get("$ref"), str):
        node = {name: value for name, value in node.items() if name.startswith("$")}
    if "const" in node and "enum" not in node:
        node = {"enum": [node["const"]], **node}
    return {name: _respelled_member(name, value) for name, value in node.items()}


def _respelled_member(name: str, value: Any) -> Any:
    if name in VALUES:
        return value
    if name in TABLES and isinstance(value, dict):
        return {key: _respelled(child) if isinstance(child, dict) else child for key, child in value.items()}
    if isinstance(value, list):
        return [_respelled(child) if isinstance(child, dict) else child for child in value]
    return _respelled(value) if isinstance(value, dict) else value


VALUES = {"const", "enum", "default", "examples"}
"""Members of a JSON Schema that hold values."""

TABLES = {"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"}
"""Members that hold schemas by name."""


class _TooLargeError(Exception):
    """More than `NODES`."""


class _Writer:
    """Writes one schema out, so many levels deep."""

    def __init__(self, root: Json, levels: int, nodes: float) -> None:
        self._root = root
        self._levels = levels
        self._left = nodes

    def whole(self) -> Json:
        return self._convert(self._root, ()) or {"type": "OBJECT"}

    def _convert(self, node: Json | Literal[True], within: tuple[str, ...]) -> Json | None:
        """The node in the subset; None where it goes deeper into itself than is written out."""
        self._left -= 1
        if self._left < 0:
            raise _TooLargeError
        if node is True:
            return {"type": "OBJECT"}
        if ref := node.get("$ref"):
            if within.count(ref) == self._levels:
                return None
            target = self._convert(resolve_ref(self._root, ref), (*within, ref))
            return {**target, "description": node["description"]} if target and "description" in node else target
        if len(node.get("allOf", ())) == 1:
            return self._convert({**node["allOf"][0], **{k: node[k] for k in ("description",) if k in node}}, within)
        branches = alternatives(node)
        if branches is not None:
            return self._choice(node, branches, within)
        values = node.get("enum", [node["const"]] if "const" in node else None)
        return _enumeration(node, values) if values else self._plain(node, within)

    def _choice(self, node: Json, branches: list[Json], within: tuple[str, ...]) -> Json | None:
        total = len(node.get("anyOf") or node.get("oneOf") or node["type"])
        options = [made for branch in branches if (made := self._convert(branch, within)) is not None]
        if not options:
            return None
        if tag := (node.get("discriminator") or {}).get("propertyName"):
            options = [_tagged(option, tag) for option in options]
        made = _any_of(options)
        if "description" in node:
            made = {**made, "description": node["description"]}
        return {**made, "nullable": True} if len(branches) < total else made

    def _plain(self, node: Json, within: tuple[str, ...]) -> Json | None:
        made: Json = {"type": str(node.get("type", "object")).upper()}
        made |= {name: node[name] for name in KEPT if name in node} | _bounds(node)
        if properties := node.get("properties"):
            required = node.get("required", [])
            children = {name: self._convert(child, within) for name, child in properties.items()}
            kept = {
                name: child or _end(properties[name]) for name, child in children.items() if child or name in required
            }
            made |= {"properties": kept, "propertyOrdering": list(kept)} if kept else {}
            made |= {"required": named} if (named := [name for name in required if name in kept]) else {}
        items = node.get("items")
        if node.get("prefixItems"):
            items = {"anyOf": [*node["prefixItems"], *([items] if isinstance(items, dict) else [])]}
        if isinstance(items, dict):
            item = self._convert(items, within)
            if item is None:
                return None
            made["items"] = _any_of(_different(item["anyOf"])) if node.get("prefixItems") and "anyOf" in item else item
        return made


def _any_of(options: list[Json]) -> Json:
    return options[0] if len(options) == 1 else {"anyOf": options}


def _tagged(option: Json, tag: str) -> Json:
    """A tag with a default may be left out by the schema, and then nobody can tell which branch is meant."""
    required = option.get("required", [])
    known = tag in option.get("properties", {}) and tag not in required
    return {**option, "required": [*required, tag]} if known else option


def _different(options: list[Json]) -> list[Json]:
    return [option for at, option in enumerate(options) if option not in options[:at]]


def _end(node: Json) -> Json:
    """Where a required member would go deeper than is written out: an empty list, or null."""
    if node.get("type") == "array":
        return {"type": "ARRAY", "items": {"type": "STRING"}, "maxItems": 0}
    return {"type": "OBJECT" if alternatives(node) is None else "NULL"}


def _bounds(node: Json) -> Json:
    """Exclusive bounds as inclusive ones: exactly for whole numbers, for others as near as the subset has it."""
    step = 1 if node.get("type") == "integer" else 0
    made: Json = {}
    for name, exclusive, inward in (("minimum", "exclusiveMinimum", step), ("maximum", "exclusiveMaximum", -step)):
        bound = node.get(exclusive)
        if isinstance(bound, int | float) and not isinstance(bound, bool) and name not in node:
            made[name] = bound + inward
    return made


def _enumeration(node: Json, values: list[Any]) -> Json:
    """Enumerated values by type, null aside.

    Strings are an `enum`. Numbers are ranges of one or more: the service takes an `enum` of strings only, and only for
    the type STRING (OmniRoute #760, hermes-agent #15082).
    """
    texts = [value for value in values if isinstance(value, str)]
    numbers = [value for value in values if type(value) in (int, float)]
    others = [sent for kind, sent in OTHERS.items() if any(isinstance(value, kind) for value in values)]
    options: list[Json] = [*([{"type": "STRING", "enum": texts}] if texts else []), *_ranges(numbers), *others]
    made = _any_of(options or [{"type": "NULL"}])
    said = [node["description"]] if "description" in node else []
    if numbers and len(set(numbers)) != max(numbers) - min(numbers) + 1:
        said.append("One of " + ", ".join(map(str, values)))
    if said:
        made = {**made, "description": ". ".join(said)}
    return {**made, "nullable": True} if None in values and options else made


OTHERS: dict[type, Json] = {
    bool: {"type": "BOOLEAN"},
    list: {"type": "ARRAY", "items": {"type": "STRING"}},
    dict: {"type": "OBJECT"},
}
"""Of enumerated values that are neither text nor number, only the type can be said."""


def _ranges(numbers: list[int | float]) -> list[Json]:
    """Runs of whole numbers that follow one another, and single others; one range over all where that are too many."""
    runs: list[list[int | float]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1 and isinstance(number, int):
            runs[-1].append(number)
        else:
            runs.append([number])
    if len(runs) > RANGES:
        runs = [[min(numbers), max(numbers)]]
    return [
        {"type": "INTEGER" if all(isinstance(n, int) for n in run) else "NUMBER", "minimum": run[0], "maximum": run[-1]}
        for run in runs
    ]
