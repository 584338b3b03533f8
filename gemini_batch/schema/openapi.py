"""A JSON Schema as the `responseSchema` of the Gemini API: the OpenAPI subset of `types.Schema`, references inlined.

`responseSchema` and not `responseJsonSchema`, which gave degenerate answers in batch jobs (ruby_llm #894, 2026-08-27).
"""

from typing import Any

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


def response_schema(schema: Json) -> Json:
    """The schema to send. Types in capitals, `nullable` for null, `propertyOrdering` as the properties stand.

    What the subset cannot say (exclusive bounds, defaults, recursion) is left out here and still checked on the answer.
    """
    return _convert(schema, schema, ())


def _convert(node: Json, root: Json, within: tuple[str, ...]) -> Json:
    if ref := node.get("$ref"):
        if ref in within:
            return {"type": "OBJECT"}
        target = _convert(resolve_ref(root, ref), root, (*within, ref))
        return {**target, "description": node["description"]} if "description" in node else target
    if len(node.get("allOf", ())) == 1:
        return _convert({**node["allOf"][0], **{k: node[k] for k in ("description",) if k in node}}, root, within)
    branches = alternatives(node)
    if branches is not None:
        return _choice(node, branches, root, within)
    return _plain(node, root, within)


def _choice(node: Json, branches: list[Json], root: Json, within: tuple[str, ...]) -> Json:
    total = len(node.get("anyOf") or node.get("oneOf") or node["type"])
    options = [_convert(branch, root, within) for branch in branches]
    made: Json = options[0] if len(options) == 1 else {"anyOf": options}
    if "description" in node:
        made = {**made, "description": node["description"]}
    return {**made, "nullable": True} if len(branches) < total else made


def _plain(node: Json, root: Json, within: tuple[str, ...]) -> Json:
    values = node.get("enum", [node["const"]] if "const" in node else None)
    made: Json = {"type": _type_of(node, values)}
    made |= {name: node[name] for name in KEPT if name in node}
    if values and all(isinstance(value, str) for value in values):
        made["enum"] = values
    if properties := node.get("properties"):
        made["properties"] = {name: _convert(child, root, within) for name, child in properties.items()}
        made["propertyOrdering"] = list(properties)
        if required := node.get("required"):
            made["required"] = required
    if isinstance(items := node.get("items"), dict):
        made["items"] = _convert(items, root, within)
    return made


def _type_of(node: Json, values: list[Any] | None) -> str:
    if kind := node.get("type"):
        return str(kind).upper()
    if values and all(type(value) is int for value in values):
        return "INTEGER"
    return "STRING" if values else "OBJECT"
