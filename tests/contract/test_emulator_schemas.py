"""Whatever schema a request carries, its answer is an instance of it."""

import base64
import ipaddress
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import orjson
import pytest
from schema_answers import NULL, TEXT, WHOLE, answers, check, closed, dice, to

JSON_SCHEMAS: dict[str, Any] = {
    "anything": {},
    "true": True,
    "types": {"type": ["integer", "string", "null", "array"], "minimum": 5, "minLength": 12, "minItems": 2},
    "types implied": {"allOf": [{"properties": {"a": WHOLE}}, {"required": ["a"]}]},
    "nullable": {"anyOf": [TEXT, NULL]},
    "enum and type": {"enum": [1, "x", None, 2.5, True, [1], {"a": 1}], "type": ["string", "number", "array"]},
    "enum and bounds": {"enum": [1, 5, 9, "x"], "minimum": 4, "maxLength": 0},
    "const null": {"const": None},
    "const object": closed(tag={"const": {"a": [1, 2]}}),
    "required beyond properties": {"type": "object", "properties": {"a": WHOLE}, "required": ["b", "a"]},
    "required by additional": {"type": "object", "additionalProperties": {"type": "boolean"}, "required": ["b"]},
    "impossible option": {"type": "object", "properties": {"a": False, "b": WHOLE}, "required": ["b"]},
    "additional": {"type": "object", "additionalProperties": WHOLE, "minProperties": 4, "maxProperties": 6},
    "few members": {**closed([], **dict.fromkeys("abcdef", WHOLE)), "minProperties": 2, "maxProperties": 3},
    "optional for the least": {**closed(["a"], a=TEXT, b=TEXT, c=TEXT), "minProperties": 3},
    "keys": {"type": "object", "propertyNames": {"pattern": "^[a-z]{2,5}$"}, "minProperties": 3},
    "keys of an enum": {"type": "object", "propertyNames": {"enum": ["a", "b", "c"]}, "minProperties": 3},
    "named keys": {"properties": {"ab": WHOLE, "abc": WHOLE}, "propertyNames": {"maxLength": 2}, "type": "object"},
    "patterned": {
        "type": "object",
        "properties": {"s_1": {"minLength": 30}},
        "patternProperties": {"^s_": TEXT, "^i_": WHOLE, "_1$": {"maxLength": 40, "maximum": 5}},
        "additionalProperties": False,
        "minProperties": 3,
    },
    "tuple": {"type": "array", "prefixItems": [WHOLE, TEXT], "items": False, "minItems": 2},
    "tuple with a tail": {"type": "array", "prefixItems": [WHOLE], "items": NULL, "minItems": 3},
    "tuple cut short": {"type": "array", "prefixItems": [WHOLE, False], "items": TEXT},
    "long": {"type": "array", "items": WHOLE, "minItems": 300, "maxItems": 1000},
    "unique strings": {"type": "array", "items": TEXT, "uniqueItems": True, "minItems": 40},
    "unique letters": {"type": "array", "items": {**TEXT, "maxLength": 1}, "uniqueItems": True, "minItems": 20},
    "unique numbers": {"type": "array", "items": {"type": "number"}, "uniqueItems": True, "minItems": 20},
    "unique and few": {
        "type": "array",
        "items": {"anyOf": [{"enum": ["a", 1, 1.0, True]}, {"type": ["boolean", "null"]}, {"const": "a"}]},
        "uniqueItems": True,
        "minItems": 5,
    },
    "unique integers": {"items": {**WHOLE, "minimum": 1, "maximum": 9}, "uniqueItems": True, "minItems": 9},
    "unique objects": {"items": closed(name=TEXT), "uniqueItems": True, "minItems": 20},
    "unique formats": {"items": {**TEXT, "format": "email"}, "uniqueItems": True, "minItems": 20},
    "unique in unique": {"items": {"items": WHOLE, "uniqueItems": True}, "uniqueItems": True, "minItems": 5},
    "contains": {"type": "array", "items": WHOLE, "contains": {"minimum": 900}, "minContains": 2, "maxContains": 4},
    "multiples": {**WHOLE, "multipleOf": 7, "minimum": -20, "maximum": 20},
    "multiples of a fraction": {**WHOLE, "multipleOf": 1.5, "exclusiveMinimum": 3},
    "cents": {"type": "number", "multipleOf": 0.01, "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "two factors": {"allOf": [{"multipleOf": 0.4}, {"multipleOf": 0.6}], "type": "number", "minimum": 5},
    "far multiples": {**WHOLE, "multipleOf": 100_000, "minimum": 5},
    "between neighbours": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 5e-324 * 2},
    "very wide": {"type": "number", "minimum": -1.7e308, "maximum": 1.7e308},
    "very large": {**WHOLE, "minimum": 9_000_000_000_000_000_000},
    "open below": {"type": "number", "exclusiveMaximum": -5},
    "only zero": {**WHOLE, "exclusiveMinimum": -1, "exclusiveMaximum": 1},
    "length": {**TEXT, "minLength": 3, "maxLength": 3},
    "empty string": {**TEXT, "maxLength": 0},
    "format and length": {**TEXT, "format": "uri", "minLength": 100, "maxLength": 120},
    "short email": {**TEXT, "format": "email", "maxLength": 9},
    "format and pattern": {**TEXT, "format": "date", "pattern": "^2024-"},
    "pattern and length": {**TEXT, "pattern": "^[a-f]+-[0-9]+$", "minLength": 20, "maxLength": 22},
    "two patterns": {"allOf": [{"pattern": "^[a-z0-9]+$"}, {"pattern": "7"}, {"minLength": 6}], "type": "string"},
    "all of objects": {
        "allOf": [closed(["a"], a=WHOLE, b=TEXT), {"properties": {"a": {"minimum": 990}}}, {"required": ["b"]}]
    },
    "all of unions": {"allOf": [{"type": ["string", "integer"]}, {"type": ["integer", "null"]}]},
    "all of choices": {
        "type": "object",
        "properties": {"c": WHOLE},
        "allOf": [
            {
                "anyOf": [
                    {"required": ["a"], "properties": {"a": TEXT}},
                    {"required": ["b"], "properties": {"b": WHOLE}},
                ]
            },
            {"anyOf": [{"required": ["c"]}, {"required": ["d"], "properties": {"d": {"type": "boolean"}}}]},
        ],
    },
    "siblings of a reference": {
        "$defs": {"A": {"type": "object", "properties": {"x": WHOLE}, "required": ["x"]}},
        **to("A"),
        "properties": {"x": {"minimum": 5000}, "y": TEXT},
    },
    "reference chain": {
        "$defs": {"A": to("B"), "B": to("C"), "C": WHOLE},
        **to("A"),
    },
    "anchor": {"$defs": {"A": {"$anchor": "here", **WHOLE}}, "type": "array", "items": {"$ref": "#here"}},
    "reference into a list": {"anyOf": [WHOLE, {"type": "array", "items": {"$ref": "#/anyOf/0"}, "minItems": 1}]},
    "escaped reference": {"$defs": {"a/b c%": WHOLE}, "$ref": "#/$defs/a~1b%20c%25"},
    "recursive": {
        "type": "object",
        "properties": {
            "v": WHOLE,
            "next": {"anyOf": [{"$ref": "#"}, NULL]},
            "all": {"items": {"$ref": "#"}},
        },
        "required": ["v", "next", "all"],
    },
    "mutually recursive": {
        "$defs": {
            "A": {**closed(["b", "n"], b={"type": "array", "items": to("B")}, n=WHOLE)},
            "B": {"anyOf": [to("A"), closed(c=to("C")), TEXT]},
            "C": {"type": "object", "additionalProperties": to("A")},
        },
        **to("A"),
    },
    "recursion by all of": {
        "$defs": {"N": {"type": "object", "properties": {"n": {"allOf": [to("N"), {"required": ["m"]}]}}}},
        **to("N"),
    },
    "one of, tagged": {
        "oneOf": [closed(kind={"const": "a"}, n=WHOLE), closed(kind={"enum": ["b", "c"]}, n={"type": "number"})]
    },
    "one of, by type": {"oneOf": [TEXT, WHOLE, {"type": "array", "items": TEXT}]},
    "one of, overlapping": {"oneOf": [{**WHOLE, "minimum": 0}, {**WHOLE, "maximum": 500}]},
    "one of, wide and narrow": {"oneOf": [{"type": "number"}, {**WHOLE, "minimum": 10}]},
    "one of, optional tags": {"oneOf": [closed([], a=WHOLE, b=WHOLE), closed([], b=WHOLE, c=WHOLE)]},
    "one of, recursive": {
        "$defs": {"E": {"oneOf": [closed(neg=to("E")), closed(add={"items": to("E")}), WHOLE]}},
        **to("E"),
    },
    "one of in a list": {"items": {"oneOf": [{"minimum": 100}, {"maximum": 800}], **WHOLE}, "minItems": 20},
    "not": {"type": ["integer", "string"], "not": {"type": "string"}},
    "not alone": {"not": {"type": "string"}},
    "if": {
        **closed(["kind"], kind={"enum": ["a", "b"]}, x=WHOLE),
        "if": {"properties": {"kind": {"const": "a"}}},
        "then": {"required": ["x"]},
        "else": {"not": {"required": ["x"]}},
    },
    "dependent": {**closed([], a=WHOLE, b=WHOLE), "dependentRequired": {"a": ["b"]}, "minProperties": 1},
    "unevaluated": {"allOf": [{"properties": {"a": WHOLE}}], "type": "object", "unevaluatedProperties": False},
    "unknown keywords": {**TEXT, "title": "x", "default": 3, "examples": [1], "x-order": 2, "format": "colour"},
}


@pytest.mark.parametrize("name", JSON_SCHEMAS)
def test_every_keyword_of_json_schema_is_followed(name):
    """Two libraries, so that neither's reading of the standard is ours alone."""
    check(JSON_SCHEMAS[name], answers(JSON_SCHEMAS[name]))


@pytest.mark.parametrize("name", ["all of choices", "types", "one of in a list", "few members", "if"])
def test_no_alternative_is_forgotten(name):
    """Valid answers that are all alike would leave a client's other branches untried."""
    schema = JSON_SCHEMAS[name]
    shapes = {json.dumps(value, sort_keys=True, default=str)[:4] for value in answers(schema)}
    members = {tuple(value) for value in answers(schema) if isinstance(value, dict)}
    assert len(shapes) + len(members) > 2


PATTERNS = [
    r"^\d{3}-\d{2}-\d{4}$",
    r"^(\([0-9]{3}\))?[0-9]{3}-[0-9]{4}$",
    r"^[^\s@]+@[^\s@]+\.[^\s@]+$",
    r"^(?=.*[A-Z])(?=.*\d)(?=.*[@$!%*?&])[A-Za-z\d@$!%*?&]{8,}$",
    r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$",
    r"^(foo|bar)(,(foo|bar))*$",
    r"(['\"]).*\1",
    r"\bword\b",
    r"^[\s\S]{1,10000}$",
    r"^[\u0431-\u0449]+$",
    r"^[一-龥]{2,4}$",
    r"[^\x00-\x7f]",
    r"^$",
    r"",
    r"^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}$",
    r"^https?://",
    r"\.(jpg|png)$",
    r"^a$|^b$",
    r"^(?i:abc)$",
    r"^[^a-zA-Z0-9 ]+$",
    r"^\/[a-z]\-x$",
    r"^(a+)+$",
    r"^(?!x)(a+)+b$",
    r"^(?!.*--)[a-z-]{3,20}$",
    r"^(?P<y>\d{4})(ab|c){3}$",
    r"^\W\D\S$",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_that_people_write_are_matched(pattern):
    """By two engines: a backtracking one and the one that the project checks answers with."""
    found = answers({"type": "string", "pattern": pattern})
    check({"type": "string", "pattern": pattern}, found)
    assert all(re.search(pattern, value) for value in found)


@pytest.mark.parametrize("pattern", [r"^\p{Lu}[\p{L}\s]+ \p{Nd}$", r"^(?<a>\d)\1?$", r"^[[:]a]+$"])
def test_what_python_writes_another_way_is_understood(pattern):
    """Classes and groups of ECMAScript and of Rust's engine, which is pydantic's."""
    schema = {"type": "string", "pattern": pattern}
    for value in answers(schema):
        jsonschema_rs.validate(schema, value)


OWN_FORMATS: dict[str, Callable[[str], Any]] = {
    "byte": lambda text: base64.b64decode(text, validate=True),
    "ipv4network": ipaddress.IPv4Network,
    "ipv6network": ipaddress.IPv6Network,
    "ipv4interface": ipaddress.IPv4Interface,
    "ipv6interface": ipaddress.IPv6Interface,
    "uuid1": lambda text: uuid.UUID(text).version == 1 or 1 / 0,
}
STANDARD_FORMATS = [
    "date", "date-time", "time", "duration", "uuid", "email", "idn-email", "uri", "uri-reference", "iri",
    "iri-reference", "uri-template", "hostname", "idn-hostname", "ipv4", "ipv6", "json-pointer",
    "relative-json-pointer", "regex", "binary", "password", "enum", "DATE",
]  # fmt: skip


@pytest.mark.parametrize("name", [*STANDARD_FORMATS, *OWN_FORMATS])
def test_formats_are_what_they_are_called(name):
    """A format may be an annotation only, but parsers behind it take it at its word."""
    found = answers({"type": "string", "format": name})
    check({"type": "string", "format": name.lower()}, found)
    assert len(set(found)) > 20
    for value in found:
        OWN_FORMATS.get(name, str)(value)


@pytest.mark.parametrize(("name", "bits"), [("int32", 31), ("int64", 63)])
def test_integers_fit_their_format(name, bits):
    """Whoever asks for an int32 stores it as one."""
    for low in (None, str(2**bits - 3)):
        found = answers({"type": "INTEGER", "format": name, "minimum": low})
        assert all(isinstance(value, int) and abs(value) < 2**bits for value in found)


def test_an_integer_without_a_format_may_be_beyond_int64():
    """The model may write any number, and a client has to bear it."""
    found = answers({"type": "integer", "minimum": 2**63 - 500})
    assert min(found) < 2**63 <= max(found)


OPENAPI = [
    {"type": "STRING"},
    {"type": "String", "nullable": True, "minLength": "3", "max_length": "5"},
    {"type": "STRING", "format": "enum", "enum": ["a", "b"]},
    {"type": "INTEGER", "format": "enum", "enum": ["101", "201"]},
    {"type": "STRING", "format": "date-time", "nullable": False},
    {"type": "INTEGER", "minimum": "5", "maximum": "7", "format": "int64"},
    {"type": "INTEGER", "minimum": 5, "exclusiveMinimum": True, "maximum": 7, "exclusive_maximum": True},
    {"type": "NUMBER", "format": "float", "minimum": 0.25, "maximum": 0.5},
    {"type": "BOOLEAN"},
    {"type": "NULL"},
    {"type": "ARRAY", "items": {"type": "INTEGER"}, "min_items": "2", "maxItems": "3"},
    {"type": "OBJECT", "properties": {"min_items": {"type": "STRING"}}, "required": ["min_items"]},
    {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}, "min_properties": 1, "property_ordering": ["a"]},
    {"any_of": [{"type": "STRING"}, {"type": "INTEGER"}], "nullable": True},
    {"type": "OBJECT", "nullable": True, "properties": {"a": {"anyOf": [{"type": "NUMBER"}, {"type": "BOOLEAN"}]}}},
    {"defs": {"P": {"type": "OBJECT", "properties": {"p": {"ref": "#/defs/P"}}}}, "ref": "#/defs/P"},
    {"type": "TYPE_UNSPECIFIED", "enum": ["x"], "anyOf": [], "items": None, "description": "d", "example": {"a": 1}},
]


def as_json_schema(schema: Any, name: str = "") -> Any:
    """An OpenAPI schema, said in JSON Schema by other means than the emulator's."""
    if isinstance(schema, list):
        return [as_json_schema(one) for one in schema]
    if not isinstance(schema, dict):
        return int(schema) if name.startswith(("min", "max")) and isinstance(schema, str) else schema
    if name in ("properties", "defs"):
        return {key: as_json_schema(one) for key, one in schema.items()}
    spelled = {re.sub("_([a-z])", lambda m: m[1].upper(), key): one for key, one in schema.items()}
    made = {
        {"ref": "$ref"}.get(key, key): as_json_schema(one, key) for key, one in spelled.items() if one not in (None, [])
    }
    for key in ("Minimum", "Maximum"):
        if made.get(f"exclusive{key}") is True:
            made[f"exclusive{key}"] = made.pop(key.lower())
    if made.pop("type", "TYPE_UNSPECIFIED") != "TYPE_UNSPECIFIED":
        made["type"] = schema["type"].lower()
    if made.get("type") == "integer" and "enum" in made:
        made["enum"] = [int(value) for value in made["enum"]]
    return {"anyOf": [made, NULL], "defs": made.pop("defs", {})} if made.pop("nullable", False) else made


@pytest.mark.parametrize("schema", OPENAPI, ids=range(len(OPENAPI)))
def test_the_openapi_subset_is_followed_in_all_its_spellings(schema):
    """The SDK sends camelCase, REST clients snake_case, and proto-JSON writes an int64 as a string."""
    check(as_json_schema(schema), answers(schema))


def test_null_comes_now_and_then():
    """One time in eight, in either dialect: often enough to be met, seldom enough for the other values."""
    for schema in (
        {"type": "STRING", "nullable": True},
        {"anyOf": [TEXT, NULL]},
        {"type": ["string", "null"]},
    ):
        assert 20 < sum(value is None for value in answers(schema, 400)) < 90


def test_answers_differ_from_prompt_to_prompt_and_carry_whose_they_are():
    """Tests of alignment look for the digest in free strings, wherever these stand."""
    schema = closed(
        plain=TEXT,
        listed={"type": "array", "items": TEXT, "minItems": 1},
        loose={"type": "string", "pattern": "^[A-Z]{2}"},
        worded={"type": "string", "pattern": r"^\w+(-\w+)*$"},
        mapped={"type": "object", "additionalProperties": TEXT},
        optional={"anyOf": [{"type": "string", "minLength": 40}]},
        addressed={"type": "string", "format": "email"},
        varied={"type": "array", "items": TEXT, "uniqueItems": True, "minItems": 3},
    )
    found = answers(schema)
    for i, value in enumerate(found):
        assert all(dice(i).digest in str(one) for one in value.values())
    assert len({json.dumps(value) for value in found}) == len(found)


def test_answers_are_the_same_in_every_process():
    """Sets are ordered by a seed that each process draws anew; an answer must not be."""
    names = ["patterned", "all of objects", "unique and few", "few members", "one of, recursive"]
    asked = orjson.dumps([*(JSON_SCHEMAS[name] for name in names), *({"pattern": pattern} for pattern in PATTERNS)])
    program = """
import sys, orjson
from gemini_batch.emulator.dice import Dice
from gemini_batch.emulator.sampler import compile_schema
for schema in orjson.loads(sys.stdin.buffer.read()):
    sample = compile_schema(orjson.dumps(schema))
    print([sample(Dice(bytes([i]) * 16), 0) for i in range(20)])
"""
    printed = set()
    for seed in "12":
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"}
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, input=asked, env=environment, capture_output=True, check=True)
        printed.add(done.stdout)
    assert len(printed) == 1
