"""Schemas: the Arrow shape by the contract's table, what the service is sent, and where they come from."""

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from many_types import Chain, Pet, Tree
from pydantic import BaseModel, TypeAdapter

from gemini_batch.errors import BadInput
from gemini_batch.records import SchemaSpec
from gemini_batch.schema.check import Invalid, checker
from gemini_batch.schema.load import load_schema
from gemini_batch.schema.openapi import response_json_schema, response_schema
from gemini_batch.schema.shape import shape_of

UTC_MICROS = pa.timestamp("us", tz="UTC")
INNER = pa.struct([("name", pa.string()), ("count", pa.int64())])


def test_every_type_has_the_column_of_the_contract():
    fields = {field.name: field.type for field in shape_of(load_schema("schemas:Everything").json_schema).type}
    assert fields == {
        "text": pa.string(), "colour": pa.string(), "word": pa.string(), "uid": pa.string(), "price": pa.string(),
        "whole": pa.int64(), "real": pa.float64(), "flag": pa.bool_(), "day": pa.date32(), "moment": UTC_MICROS,
        "words": pa.list_(pa.string()), "days": pa.list_(pa.date32()), "inner": INNER, "inners": pa.list_(INNER),
        "maybe": pa.int64(), "maybe_inner": INNER, "maybe_day": pa.date32(), "table": pa.string(),
        "either": pa.string(), "anything": pa.string(),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (int | str, '"1"', '"1"'),
        (int | str, "1", "1"),
        (float | str, '"1.5"', '"1.5"'),
        (float | str, "1.5", "1.5"),
        (dict[str, int], '{"a": 1}', '{"a":1}'),
        (list[dict[str, int]], '[{"a": 1}]', ['{"a":1}']),
        (list[int | None], "[1, null]", [1, None]),
        (bool, "true", True),
        (str, '"a"', "a"),
        (float, "1", 1.0),
    ],
)
def test_unions_and_maps_are_json_text_and_scalars_are_themselves(kind, text, expected):
    """From JSON text 1 and "1" can still be told apart."""
    schema = TypeAdapter(kind).json_schema()
    check = checker(SchemaSpec(ref=None, json_schema=schema, validate_by="json-schema"))
    assert pa.array([check(text)], shape_of(schema).type).to_pylist() == [expected]


def test_a_recursive_model_ends_as_json_text():
    fields = {field.name: field.type for field in shape_of(load_schema("schemas:Tree").json_schema).type}
    assert fields["value"] == pa.int64()
    assert "struct<" not in str(fields["children"]) or str(fields["children"]).count("children") < 3


# --- what the service is sent -----------------------------------------------------------------------------------------

KNOWN = {
    "type", "description", "format", "minimum", "maximum", "minItems", "maxItems", "minLength", "maxLength", "pattern",
    "enum", "properties", "propertyOrdering", "required", "items", "anyOf", "nullable",
}  # fmt: skip
TYPES = {"STRING", "INTEGER", "NUMBER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"}  # `types.Type` of google-genai


def hold(node):
    """Every node of a responseSchema keeps to the subset of `types.Schema`."""
    assert set(node) <= KNOWN, node
    assert node.get("type") in TYPES or "anyOf" in node, node
    for branch in node.get("anyOf", ()):
        assert branch.get("type") in TYPES or "anyOf" in branch
    assert set(node.get("required", ())) <= set(node.get("properties", ()))
    assert node.get("propertyOrdering", list(node.get("properties", ()))) == list(node.get("properties", ()))
    for child in (
        *node.get("properties", {}).values(),
        *node.get("anyOf", ()),
        *([node["items"]] if "items" in node else []),
    ):
        hold(child)


@pytest.mark.parametrize("name", ["Everything", "Tree", "Number", "Bounded", "Picky", "Aliased", "Numbers"])
def test_nothing_is_sent_that_the_subset_does_not_know(name):
    """An unknown field is a 400 for the whole file (inspect_ai #3257)."""
    hold(response_schema(load_schema(f"schemas:{name}").json_schema))


def test_optional_is_nullable_and_bounds_and_descriptions_stay():
    sent = response_schema(load_schema("schemas:Bounded").json_schema)["properties"]
    assert sent["ratio"] == {"type": "NUMBER", "nullable": True, "minimum": 0, "maximum": 1}
    assert sent["positive"] == {"type": "INTEGER", "description": "above zero", "minimum": 1}
    assert sent["kind"] == {"type": "STRING", "enum": ["fixed"]}


def test_one_of_several_types_is_any_of_without_null():
    sent = response_schema(TypeAdapter(int | str | None).json_schema())
    assert sent == {"anyOf": [{"type": "INTEGER"}, {"type": "STRING"}], "nullable": True}
    assert response_schema({"type": ["string", "null"]}) == {"type": "STRING", "nullable": True}


@pytest.mark.parametrize(
    ("values", "sent"),
    [
        (["a", "b"], {"type": "STRING", "enum": ["a", "b"]}),
        ([1, 2, 3], {"type": "INTEGER", "minimum": 1, "maximum": 3}),
        ([3, None, 2], {"type": "INTEGER", "minimum": 2, "maximum": 3, "nullable": True}),
        (["a", None], {"type": "STRING", "enum": ["a"], "nullable": True}),
        ([True], {"type": "BOOLEAN"}),
        ([0.5], {"type": "NUMBER", "minimum": 0.5, "maximum": 0.5}),
        (
            [0, 10**15],
            {
                "anyOf": [{"type": "INTEGER", "minimum": n, "maximum": n} for n in (0, 10**15)],
                "description": "One of 0, 1000000000000000",
            },
        ),
        (
            ["a", 1],
            {"anyOf": [{"type": "STRING", "enum": ["a"]}, {"type": "INTEGER", "minimum": 1, "maximum": 1}]},
        ),
        (
            [5, 1, 6],
            {
                "anyOf": [
                    {"type": "INTEGER", "minimum": 1, "maximum": 1},
                    {"type": "INTEGER", "minimum": 5, "maximum": 6},
                ],
                "description": "One of 5, 1, 6",
            },
        ),
    ],
)
def test_only_strings_are_an_enum_and_numbers_are_ranges(values, sent):
    """A number in an enum refuses the whole file: "enum: only allowed for STRING type" (OmniRoute #760)."""
    assert response_schema({"enum": values}) == sent
    hold(sent)


def test_many_scattered_numbers_are_one_range_that_lists_them():
    sent = response_schema({"enum": list(range(0, 100, 2)), "type": "integer", "description": "even"})
    assert (sent["minimum"], sent["maximum"]) == (0, 98)
    assert sent["description"].startswith("even. One of 0, 2, 4,")
    assert "anyOf" not in sent


def test_the_tag_of_a_union_is_always_asked_for():
    """It may have a default, and then nobody could tell which of the models is meant."""
    sent = response_schema(TypeAdapter(Pet).json_schema())
    assert [branch["required"] for branch in sent["anyOf"]] == [["lives", "kind"], ["kind", "name"]]


def test_recursion_is_written_out_some_levels_deep_and_ends_as_nothing():
    """An object without properties is refused: "should be non-empty for OBJECT type" (browser-use #3786)."""
    text = json.dumps(response_schema(TypeAdapter(Tree).json_schema()))
    assert text.count('"value": {"type": "INTEGER"}') == 3
    assert text.count('"maxItems": 0') == 1
    text = json.dumps(response_schema(TypeAdapter(Chain).json_schema()))
    assert text.count('"NULL"') == 1
    assert '"type": "OBJECT"}' not in text
    optional = response_schema(load_schema("schemas:Tree").json_schema)
    assert json.dumps(optional).count("children") == 4
    assert '{"type": "OBJECT"}' not in json.dumps(optional)


def test_types_that_hold_one_another_are_written_out_as_deep_as_there_is_room():
    """Three levels of five types in each other would be millions of nodes."""
    names = "ABCDE"
    fields = {name: {"type": "array", "items": {"$ref": f"#/$defs/{name}"}} for name in names}
    definitions = {name: {"type": "object", "properties": {**fields, "own": {"type": "string"}}} for name in names}
    sent = response_schema({"$ref": "#/$defs/A", "$defs": definitions})
    hold(sent)
    assert len(json.dumps(sent)) < 100_000


def test_an_item_of_a_tuple_is_one_of_its_types():
    """A list whose items nobody describes is refused."""
    sent = response_schema(TypeAdapter(tuple[int, str, int]).json_schema())
    assert sent["items"] == {"anyOf": [{"type": "INTEGER"}, {"type": "STRING"}]}
    assert (sent["minItems"], sent["maxItems"]) == (3, 3)
    assert response_schema(TypeAdapter(tuple[int, int]).json_schema())["items"] == {"type": "INTEGER"}


def test_as_json_schema_the_schema_goes_out_as_it_is():
    """But `const` is not among what the service knows, and nothing may stand beside a reference."""
    schema = {
        "properties": {"a": {"$ref": "#/$defs/A", "description": "d"}, "const": {"const": {"const": 1}}},
        "$defs": {"A": {"exclusiveMinimum": 3, "default": {"$ref": "kept", "const": 2}}},
    }
    assert response_json_schema(schema) == {
        "properties": {"a": {"$ref": "#/$defs/A"}, "const": {"enum": [{"const": 1}], "const": {"const": 1}}},
        "$defs": schema["$defs"],
    }


NODE = st.recursive(
    st.sampled_from(
        [
            {"type": "string"}, {"type": "integer", "exclusiveMinimum": 0}, {"const": "a"}, {"const": 1},
            {"enum": ["a"]}, {"enum": ["a", 1, None, 2.5, True]}, {"enum": [1, 7]}, {"type": "array"},
            {"type": "array", "prefixItems": [{"type": "string"}, {"$ref": "#/$defs/A"}]},
            {"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}, {}, {"type": "object", "additionalProperties": False},
            {"type": "string", "format": "date-time", "default": None, "title": "t"},
        ]
    ),
    lambda inner: st.one_of(
        inner.map(lambda node: {"type": "array", "items": node}),
        inner.map(lambda node: {"anyOf": [node, {"type": "null"}]}),
        st.lists(inner, min_size=1, max_size=2).map(lambda nodes: {"oneOf": nodes}),
        inner.map(lambda node: {"allOf": [node], "description": "d"}),
        st.dictionaries(st.sampled_from("ab"), inner, min_size=1).map(
            lambda found: {
                "type": "object",
                "properties": found,
                "required": [*sorted(found), "unlisted"],
                "additionalProperties": False,
            }
        ),
    ),
    max_leaves=6,
)  # fmt: skip


@given(NODE, NODE, NODE)
def test_any_schema_with_references_in_circles_is_shaped_and_sent(root, a, b):
    """Recursion ends, and what is sent holds no `$ref`, `const` or `additionalProperties`."""
    schema = {**root, "$defs": {"A": {"type": "object", "properties": {"x": a}}, "B": {"anyOf": [b, {"type": "null"}]}}}
    hold(response_schema(schema))
    assert pa.array([None], shape_of(schema).type).null_count == 1


# --- where schemas come from ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "no_such_module_anywhere:Name", "schemas:Absent", "schemas:Number.absent", "schemas:text", "schemas:",
        ":Number", ".schemas:Number", "json:dumps.absent", "os:path", "absent.json", "schemas",
    ],
)  # fmt: skip
def test_what_cannot_be_found_or_is_no_type_is_refused_by_its_name(source):
    with pytest.raises(BadInput) as caught:
        load_schema(source)
    assert source in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"1", b"\xff", b"", b'{"type": "nonsense"}', b'{"$ref": "#/$defs/absent"}', b'{"properties": 1}',
     b'{"anyOf": 5}', b'{"type": "object", "properties": {"a": false}}', b"[" * 100_000,
     b'{"items": ' * 5000 + b"{}" + b"}" * 5000],
)  # fmt: skip
def test_a_file_that_is_no_usable_schema_is_refused_with_its_name(tmp_path, body):
    path = tmp_path / "schema.json"
    path.write_bytes(body)
    with pytest.raises(BadInput, match=r"schema\.json"):
        load_schema(str(path))


def test_a_directory_is_no_schema_file(tmp_path):
    (tmp_path / "schema.json").mkdir()
    with pytest.raises(BadInput):
        load_schema(str(tmp_path / "schema.json"))


@pytest.mark.parametrize(
    "line", ["raise RuntimeError('kaputt')", "1 / 0", "import absent_module", "def f(:", "raise SystemExit(3)"]
)
def test_a_module_that_raises_on_import_is_refused_with_what_it_raised(tmp_path, monkeypatch, line):
    """The user sees their own mistake, not our traceback, and not a silent exit."""
    name = f"raising_{abs(hash(line))}"
    (tmp_path / f"{name}.py").write_text(line + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BadInput, match=name):
        load_schema(f"{name}:Model")


def test_a_schema_file_is_validated_as_json_schema_and_a_model_by_itself(tmp_path):
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"type": "object", "properties": {"a": {"type": "integer"}}}))
    spec = load_schema(str(path))
    assert (spec.ref, spec.validate_by) == (None, "json-schema")
    with pytest.raises(Invalid, match="a"):
        checker(spec)('{"a": "x"}')
    assert load_schema("schemas:Number").ref == "schemas:Number"


def test_a_class_that_no_other_process_can_import_is_validated_by_its_schema():
    class Local(BaseModel):
        number: int

    spec = load_schema(Local)
    assert (spec.ref, spec.validate_by) == (None, "json-schema")


def test_a_spec_survives_the_run_record():
    """The model is compared with the schema the run began with, which has been through JSON."""
    spec = SchemaSpec.model_validate_json(load_schema("schemas:Bounded").model_dump_json())
    assert checker(spec)('{"positive": 1, "pair": [1, "a"]}')["positive"] == 1


def test_a_model_that_changed_since_the_run_began_is_refused():
    """Answers must be held to what was asked."""
    old = load_schema("schemas:Number")
    changed = old.model_copy(update={"json_schema": {**old.json_schema, "title": "Other"}})
    with pytest.raises(BadInput, match="changed"):
        checker(changed)


def test_no_schema_is_no_spec():
    assert load_schema(None) is None
