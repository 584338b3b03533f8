"""How a schema is sent, and what of it makes two runs the same question."""

import pytest

from gemini_batch.config import resolve
from gemini_batch.gemini.generation import generation_config
from gemini_batch.records import SchemaSpec


def spec_of(schema):
    return SchemaSpec(ref=None, json_schema=schema, validate_by="json-schema")


def test_how_a_schema_is_derived_is_no_part_of_the_identity_and_the_field_is(asked):
    """A release that derives it better must not make yesterday's question a new one; the other field is another one."""
    spec = spec_of({"type": "integer"})
    old, new, other, better = (
        asked(response_schema=spec, generation_config=config).identity()
        for config in (
            {"responseSchema": {"type": "INTEGER"}},
            {"responseSchema": {"type": "INTEGER", "minimum": 1}},
            {"responseJsonSchema": {"type": "integer"}},
            {"responseJsonSchema": {"type": "integer", "enum": [1]}},
        )
    )
    assert old == new
    assert other == better
    assert old != other


@pytest.mark.parametrize("field", ["responseSchema", "responseJsonSchema"])
def test_a_schema_among_raw_fields_is_what_was_asked(asked, field):
    """Two files of --generation-config with different schemas are two questions."""
    one, two = (asked(generation_config={field: {"type": kind}}).identity() for kind in ("STRING", "INTEGER"))
    assert one != two


@pytest.mark.parametrize("field", ["responseSchema", "responseJsonSchema"])
def test_a_named_schema_takes_the_place_of_a_raw_one(tmp_path, field):
    """The service refuses both at once."""
    raw = tmp_path / "raw.json"
    raw.write_text(
        '{"responseSchema": {"type": "STRING"}, "responseJsonSchema": {"type": "string"}, "candidateCount": 1}'
    )
    options = resolve({"schema_field": field, "generation_config": str(raw)}, None, {})
    sent = generation_config(options, spec_of({"type": "integer"}))
    assert set(sent) == {field, "responseMimeType", "candidateCount"}
    assert sent[field]["type"].lower() == "integer"
    assert set(generation_config(options, None)) == {"responseSchema", "responseJsonSchema", "candidateCount"}
