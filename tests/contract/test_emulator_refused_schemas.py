"""A schema that no answer can follow is refused at create, and none keeps the emulator busy."""

from collections.abc import Callable
from typing import Any

import jsonschema_rs
import orjson
import pytest
from schema_answers import NULL, TEXT, WHOLE, answers, closed, to

from gemini_batch.emulator.sampler import SchemaError, compile_schema

MOST_CHARACTERS = 4 * 65_536


def chained(n: int, link: Callable[[Any], Any]) -> Any:
    return {"$defs": {**{f"{i}": link(to(f"{i + 1}")) for i in range(n)}, f"{n}": TEXT}, **to("0")}


def nested(n: int, within: Callable[[Any], Any], last: Any = TEXT) -> Any:
    for _ in range(n):
        last = within(last)
    return last


DOUBLED = chained(40, lambda one: {"allOf": [one, {"allOf": [one]}]})
WITHOUT_INSTANCE: dict[str, Any] = {
    "false": False,
    "a string": "string",
    "unknown type": {"type": "colour"},
    "wrong shape": {"type": "object", "properties": []},
    "a list for items": {"type": "array", "items": [TEXT]},
    "half an item": {"type": "array", "minItems": 1.5},
    "a word for a number": {"type": "integer", "minimum": "many"},
    "no number": {"type": "integer", "minimum": "Infinity"},
    "a factor of zero": {"type": "integer", "multipleOf": 0},
    "required by name": {"type": "object", "required": "name"},
    "reference to nowhere": {"$ref": "#/nowhere"},
    "reference to elsewhere": {"$ref": "https://example.com/schema"},
    "reference to itself": {"$ref": "#"},
    "empty range": {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 4},
    "no multiple in range": {"type": "number", "multipleOf": 10, "minimum": 11, "maximum": 19},
    "above 64 bits": {"type": "integer", "minimum": 1e30},
    "empty lengths": {"type": "string", "minLength": 3, "maxLength": 2},
    "no value of the type": {"type": "integer", "enum": ["a", 1.5]},
    "types apart": {"allOf": [TEXT, WHOLE]},
    "deep inside": closed(a=closed(b={"type": "array", "items": False, "minItems": 1})),
    "required and forbidden": {**closed(a=TEXT), "required": ["b"]},
    "more required than allowed": {**closed(a=TEXT, b=TEXT), "maxProperties": 1},
    "more than there are": {**closed(a=TEXT), "minProperties": 2},
    "more than are different": {"items": {"type": "boolean"}, "uniqueItems": True, "minItems": 3},
    "never ends": closed(x={"$ref": "#"}),
    "never ends in a list": {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
    "one of the same": {"oneOf": [TEXT, TEXT]},
    "nothing but not": {"type": "string", "not": {"minLength": 0}},
    "no pattern": {"type": "string", "pattern": "("},
    "pattern of nothing": {"type": "string", "pattern": r"[^\s\S]"},
    "pattern against itself": {"type": "string", "pattern": "(?=a)b"},
    "pattern and format": {"type": "string", "pattern": "^x", "format": "date"},
    "format too long": {"type": "string", "format": "uuid", "maxLength": 35},
}
TOO_LARGE: dict[str, Any] = {
    "many items": {"type": "array", "minItems": 10**15},
    "many unique items": {"type": "array", "items": TEXT, "uniqueItems": True, "minItems": 10**5},
    "long string": {"type": "string", "minLength": 10**12},
    "many members": {"type": "object", "minProperties": 10**12},
    "many names": {"type": "object", "required": [str(i) for i in range(10**5)]},
    "long strings": {"type": "array", "minItems": 100, "items": {"type": "string", "minLength": 10**4}},
    "many contained": {"type": "array", "contains": TEXT, "minContains": 10**9},
    "doubling objects": chained(40, lambda one: closed(x=one, y=one)),
    "doubling lists": chained(40, lambda one: {"type": "array", "items": one, "minItems": 2}),
    "doubling oneOf": chained(40, lambda one: {"oneOf": [one, {"allOf": [one, {"minLength": 1}]}]}),
    "branching oneOf": {"$defs": {"E": {"oneOf": [closed([], **{k: to("E")}) for k in "abcdefgh"]}}, **to("E")},
    "long chain": chained(5000, lambda one: closed(x=one)),
    "long chain of references": chained(5000, lambda one: one),
    "very long chain": chained(30_000, lambda one: closed([], x=one)),
    "deep": nested(100, lambda one: closed(x=one)),
    "deep and unlikely": nested(30, lambda one: {**closed(["x"], x=one, y=TEXT), "not": {"required": ["y"]}}, False),
    "deep and all the same": nested(12, lambda one: {"items": one, "uniqueItems": True, "minItems": 2}, {"const": ""}),
    "doubling under an enum": {
        **chained(40, lambda one: closed(x={"allOf": [one, {"allOf": [one]}]})),
        "enum": [nested(40, lambda one: {"x": one}, "a")],
    },
    "doubling under keys": {**closed(a=TEXT), **(DOUBLED | {"$ref": None}), "propertyNames": to("0")},
    "product of unions": {**TEXT, "allOf": [{"anyOf": [{"pattern": f"{i}{k}"} for k in "abcdef"]} for i in range(10)]},
    "many patterns": closed(**{f"p{i}": {"pattern": f"^(?={i}x)b"} for i in range(300)}),
    "many patterns for many names": {
        "properties": {f"n{i}": {} for i in range(2000)},
        "patternProperties": {f"^{i}x": {} for i in range(1000)},
    },
    "many factors": {"type": "integer", "allOf": [{"multipleOf": 10**15 + i} for i in range(3000)]},
    "backtracking": {"type": "string", "pattern": r"^(?!x)((a+)+)+\b$(?<!a)"},
    "backtracking ahead": {"type": "string", "pattern": r"^(?=(a+)+$)(a|b)*c"},
    "long repetition": {"type": "string", "pattern": "(?:(?:a{1000}){1000}){1000}"},
    "long repetition of nothing": {"type": "string", "pattern": "((a?){65535}){65535}"},
    "overlong repetition": {"type": "string", "pattern": "a{99999999999999}"},
    "deep pattern": {"type": "string", "pattern": "(" * 5000 + "a" + ")" * 5000},
    "wide pattern": {"type": "string", "pattern": "|".join(f"abc{i}" for i in range(20_000))},
    "long pattern and string": {"type": "string", "pattern": "^a+$", "minLength": 100_000},
}


@pytest.mark.parametrize("name", WITHOUT_INSTANCE)
def test_a_schema_without_instances_is_refused(name):
    """At create, as the service refuses it, and not in the middle of a job."""
    with pytest.raises(SchemaError):
        compile_schema(orjson.dumps(WITHOUT_INSTANCE[name]))


@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_schema_is_refused_whose_instances_are_too_large_or_too_hard_to_find(name):
    """One request of one client must not hold up the others'."""
    with pytest.raises(SchemaError):
        compile_schema(orjson.dumps(TOO_LARGE[name]))


BOUNDED: dict[str, Any] = {
    "doubling options": chained(40, lambda one: closed([], x=one, y=one)),
    "doubling unions": chained(40, lambda one: {"anyOf": [one, {"allOf": [one, {"minLength": 1}]}]}),
    "doubling intersections": DOUBLED,
    "doubling sets": chained(40, lambda one: {"items": {"anyOf": [one, one]}, "uniqueItems": True, "minItems": 1}),
    "wide lists": chained(40, lambda one: {"type": "array", "items": one, "maxItems": 10**9}),
    "long chain of options": chained(4000, lambda one: closed([], x=one)),
    "wide recursion": {"$defs": {"N": closed([], **{f"p{i}": to("N") for i in range(200)})}, **to("N")},
    "wide recursion in lists": {
        "$defs": {"N": closed([], **{f"p{i}": {"type": "array", "items": to("N")} for i in range(50)})},
        **to("N"),
    },
    "branching oneOf that ends": {
        "$defs": {"E": {"oneOf": [NULL, *({**closed(**{k: to("E")}), "additionalProperties": True} for k in "abcd")]}},
        **to("E"),
    },
    "recursion that grows": {
        "$defs": {
            "A": {"properties": {"x": {"allOf": [to("A"), to("B")]}}},
            "B": {"properties": {"x": {"allOf": [to("B"), to("C")]}, "y": to("A")}},
            "C": {"properties": {"y": {"allOf": [to("A"), {"minProperties": 1}]}}},
        },
        **to("A"),
    },
    "product of objects": {
        "allOf": [{"anyOf": [{"properties": {f"{i}{k}": WHOLE}} for k in "abcdef"]} for i in range(10)],
        "required": ["1a", "2b"],
    },
    "many oneOf": closed(**{f"p{i}": {"oneOf": [WHOLE, {"minimum": i}]} for i in range(150)}),
    "sets in sets": nested(50, lambda one: {"items": one, "uniqueItems": True, "minItems": 1}),
    "long text": {"type": "string", "minLength": 200_000},
    "long enum": {"items": {"enum": list(range(10**5))}, "uniqueItems": True, "minItems": 1000},
    "tiny factor": {"type": "number", "multipleOf": 5e-324},
    "back references": {"type": "string", "pattern": r"^(a*)(b*)\1\2\1\2$"},
}


@pytest.mark.parametrize("name", BOUNDED)
def test_what_a_schema_only_allows_does_not_make_an_answer_large(name):
    """An answer has no more characters than the model has tokens for."""
    found = answers(BOUNDED[name], 10)
    assert max(len(orjson.dumps(value)) for value in found) < MOST_CHARACTERS
    if not name.startswith("doubling"):  # which is what a validator takes for ever over
        valid = jsonschema_rs.validator_for(BOUNDED[name])
        assert all(map(valid.is_valid, found))
