"""Answers are valid, deterministic, and tell whose they are."""

import json
from typing import Any

import jsonschema_rs
import pytest

from gemini_batch.emulator.answers import Respondent, expected_answer, expected_text, short_digest
from gemini_batch.emulator.lines import checked
from gemini_batch.emulator.proto import BadLineError
from gemini_batch.emulator.sampler import SchemaError

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "born": {"type": "string", "format": "date"},
        "seen": {"type": "string", "format": "date-time"},
        "id": {"type": "string", "format": "uuid"},
        "mood": {"type": "string", "enum": ["glad", "sad"]},
        "weight": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 4},
        "code": {"type": "string", "minLength": 3, "maxLength": 5},
        "long": {"type": "string", "minLength": 40},
    },
    "required": ["name", "age", "id", "born"],
    "additionalProperties": False,
}
TREE = {
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {
                "value": {"type": ["integer", "null"]},
                "left": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
                "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
                "by/name": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Node"}},
            },
            "required": ["value", "left", "children"],
        },
        "Expression": {
            "anyOf": [
                {"type": "object", "properties": {"l": {"$ref": "#/$defs/Expression"}}, "required": ["l"]},
                {"type": "object", "properties": {"leaf": {"const": 1}}, "required": ["leaf"]},
            ]
        },
    },
    "type": "object",
    "properties": {"root": {"$ref": "#/$defs/Node"}, "e": {"$ref": "#/$defs/Expression"}},
    "required": ["root", "e"],
}
MIXED = {
    "type": "array",
    "prefixItems": [{"type": "boolean"}, {"type": "integer", "multipleOf": 5, "exclusiveMinimum": 10}],
    "items": {"anyOf": [{"type": "string"}, {"type": "number", "minimum": -1, "maximum": 1}]},
    "minItems": 4,
}
JSON_SCHEMAS = {
    "person": PERSON,
    "tree": TREE,
    "mixed": MIXED,
    "enum": {"enum": ["a", 1, None]},
    "negative": {"type": "integer", "maximum": -5},
    "one": {"type": "number", "minimum": 2, "maximum": 2},
    "anything": {},
    "only required": {"type": "object", "required": ["x"]},
    "tuple": {"type": "array", "prefixItems": [{"type": "null"}], "items": False},
    "all of one": {"allOf": [{"type": "boolean"}]},
}


def answer_line(line: dict[str, Any], model: str = "gemini-2.0-flash") -> dict[str, Any]:
    return Respondent(0, model, lambda file_id: True, lambda file_id: None).answer_line(line)


def request_of(text: str, **config: Any) -> dict[str, Any]:
    return {"contents": [{"parts": [{"text": text}]}], "generationConfig": config}


def answers(n: int, **config: Any) -> list[Any]:
    return [json.loads(expected_answer(0, request_of(f"prompt {i}", **config))) for i in range(n)]


@pytest.mark.parametrize("name", JSON_SCHEMAS)
def test_every_answer_is_valid_under_its_json_schema(name):
    schema = JSON_SCHEMAS[name]
    valid = jsonschema_rs.validator_for(schema, validate_formats=True)
    for answer in answers(400, responseJsonSchema=schema):
        valid.validate(answer)


def openapi(schema: Any) -> Any:
    """PERSON as the OpenAPI subset spells it: types in upper case, sizes as strings."""
    if isinstance(schema, list):
        return [openapi(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    spelled = {name: openapi(value) for name, value in schema.items() if name != "additionalProperties"}
    if isinstance(spelled.get("type"), str):
        spelled["type"] = spelled["type"].upper()
    return spelled | {name: str(spelled[name]) for name in ("minItems", "maxItems") if name in spelled}


def test_every_answer_is_valid_under_the_openapi_spelling_of_its_schema():
    valid = jsonschema_rs.validator_for(PERSON, validate_formats=True)
    found = answers(400, responseSchema=openapi(PERSON))
    for answer in found:
        valid.validate(answer)
    assert {len(answer) for answer in found} > {6, 9}, "optional fields should be absent now and then"


def test_a_nullable_field_is_sometimes_null():
    schema = {"type": "OBJECT", "properties": {"x": {"type": "STRING", "nullable": True}}, "required": ["x"]}
    nulls = sum(answer["x"] is None for answer in answers(400, responseSchema=schema))
    assert 20 < nulls < 100


def test_property_ordering_orders_the_answer():
    schema = {
        "type": "OBJECT",
        "properties": {name: {"type": "STRING"} for name in "abc"},
        "required": ["a", "b", "c"],
        "property_ordering": ["c", "a"],
    }
    assert list(answers(1, response_schema=schema)[0]) == ["c", "a", "b"]


def test_an_enum_mime_type_answers_with_the_bare_value():
    schema = {"type": "STRING", "enum": ["yes", "no"]}
    request = request_of("x", responseSchema=schema, responseMimeType="text/x.enum")
    assert expected_answer(0, request) in {"yes", "no"}


def test_json_without_a_schema_is_json():
    assert "answer" in answers(1, responseMimeType="application/json")[0]


def test_the_answer_carries_the_digest_of_its_request():
    text, structured = request_of("x"), request_of("x", responseJsonSchema=PERSON)
    assert short_digest(0, text) in expected_text(0, text)
    assert short_digest(0, structured) in json.loads(expected_answer(0, structured))["name"]


def test_the_answer_depends_on_seed_and_body_and_not_on_member_order():
    request = request_of("x", temperature=0)
    reordered = dict(reversed(request.items()))
    assert expected_answer(1, request) == expected_answer(1, reordered)
    assert expected_answer(1, request) != expected_answer(2, request)
    assert expected_answer(1, request) != expected_answer(1, request_of("y", temperature=0))


def test_some_texts_hold_a_line_separator():
    texts = [expected_text(0, request_of(str(i))) for i in range(1000)]
    assert 1 <= sum("\u2028" in text for text in texts) < 50


def test_usage_counts_text_and_pictures():
    request = request_of("x" * 400)
    request["contents"][0]["parts"].append({"inlineData": {"mimeType": "image/png", "data": "AAAA"}})
    line = answer_line({"key": "a", "request": request})
    usage = line["response"]["usageMetadata"]
    assert usage["promptTokenCount"] == 100 + 258
    assert usage["totalTokenCount"] == usage["promptTokenCount"] + usage["candidatesTokenCount"]
    assert line["response"]["modelVersion"] == "gemini-2.0-flash"


def test_a_line_without_contents_is_an_error_of_its_own():
    line = answer_line({"key": "a", "request": {}})
    assert line["error"]["code"] == 3 and line["key"] == "a"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"type": "array", "minItems": 3, "maxItems": 2},
        {"type": "colour"},
        {"allOf": [{"type": "string"}, {"type": "null"}]},
        {"$ref": "#/nowhere"},
    ],
)
def test_a_schema_without_an_instance_is_refused_with_its_line(schema):
    line = {"key": "a", "request": request_of("x", responseJsonSchema=schema)}
    with pytest.raises(BadLineError, match="invalid response schema"):
        checked(json.dumps(line).encode())
        answer_line(line)


def test_a_schema_that_never_ends_fails_its_line_alone():
    schema = {"type": "object", "properties": {"x": {"$ref": "#"}}, "required": ["x"]}
    request = request_of("x", responseJsonSchema=schema)
    with pytest.raises(SchemaError, match="no finite instance"):
        expected_answer(0, request)
    line = answer_line({"key": "a", "request": request})
    assert line["error"]["code"] == 3
