"""Any schema, any type, any answer: a value of the column that is the answer's, or `Invalid`; never anything else."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

import many_types
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError, create_model
from schema_answers import answers
from test_emulator_any_schema import SATISFIABLE

from gemini_batch.records import SchemaSpec
from gemini_batch.schema.check import Check, Invalid, checker, instance_of
from gemini_batch.schema.load import load_schema
from gemini_batch.schema.openapi import response_json_schema, response_schema
from gemini_batch.schema.shape import shape_of

CANNOT_HOLD = (pa.ArrowException, OverflowError, ValueError, TypeError, AttributeError)
"""What Arrow raises for a value that a column cannot hold; parsing then marks the row invalid."""


def by_schema(schema: dict[str, Any]) -> SchemaSpec:
    return SchemaSpec(ref=None, json_schema=schema, validate_by="json-schema")


def same(kept: Any, said: Any, kind: pa.DataType) -> bool:
    """Whether what an Arrow column holds is what the JSON said, read without the code under test."""
    if said is None:
        return kept is None or json.loads(kept) is None
    if pa.types.is_struct(kind):
        return all(same(kept[field.name], said.get(field.name), field.type) for field in kind)
    if pa.types.is_list(kind):
        return len(kept) == len(said) and all(same(*pair, kind.value_type) for pair in zip(kept, said, strict=True))
    if pa.types.is_date32(kind):
        return bool(kept == date.fromisoformat(said))
    if pa.types.is_timestamp(kind):
        moment = datetime.fromisoformat(said)
        return bool(kept == (moment if moment.tzinfo else moment.replace(tzinfo=UTC)))
    if pa.types.is_string(kind):
        return bool(kept == said or json.loads(kept) == said)
    return bool(kept == said)


@given(schema=SATISFIABLE.filter(lambda schema: schema is not True))
def test_an_answer_to_any_schema_is_kept_whole(schema):
    spec = by_schema(schema)
    check, kind = checker(spec), shape_of(schema).type
    for value in answers(schema, 4):
        kept = pa.array([check(json.dumps(value))], kind).to_pylist()[0]
        assert same(kept, value, kind)


# --- any type ---------------------------------------------------------------------------------------------------------

SCALARS = st.sampled_from(
    [int, float, str, bool, date, datetime, UUID, Decimal, many_types.Colour, many_types.Level, many_types.Line]
)


@st.composite
def models(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> Any:
    fields = draw(st.dictionaries(st.sampled_from("abcd"), inner, min_size=1, max_size=3))
    optional = draw(st.sets(st.sampled_from("abcd")))
    return create_model(
        "Generated",
        **{name: (kind | None, None) if name in optional else (kind, Field()) for name, kind in fields.items()},
    )


KINDS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        models(inner),
        inner.map(lambda kind: list[kind]),
        inner.map(lambda kind: kind | None),
        inner.map(lambda kind: dict[str, kind]),
        inner.map(lambda kind: tuple[kind, ...]),
        st.tuples(inner, inner).map(lambda kinds: kinds[0] | kinds[1]),
    ),
    max_leaves=6,
)


@given(kind=KINDS)
def test_an_answer_to_any_type_is_kept_whole_and_comes_back(kind):
    """By the model: what it makes of the answer is what the column holds."""
    many_types.Generated = kind
    spec = load_schema("many_types:Generated", "model")
    check, column = checker(spec), shape_of(spec.shape_schema).type
    adapter = TypeAdapter(kind)
    for value in answers(response_json_schema(spec.json_schema), 4):
        text = json.dumps(value)
        try:
            made = adapter.dump_python(instance_of(adapter, text), mode="json")
        except ValidationError:  # a pattern that the JSON Schema left out
            with pytest.raises(Invalid):
                check(text)
            continue
        try:
            kept = pa.array([check(text)], column).to_pylist()[0]
        except CANNOT_HOLD:  # a whole number beyond 64 bits
            continue
        assert same(kept, made, column)


@given(kind=KINDS)
def test_what_the_service_is_sent_for_any_type_can_be_answered(kind):
    """A schema without an instance would refuse the whole job."""
    many_types.Generated = kind
    answers(response_schema(load_schema("many_types:Generated").json_schema), 2)


# --- any answer -------------------------------------------------------------------------------------------------------

SPECS = {name: kind for name, (kind, _) in {**many_types.TYPES, **many_types.BEYOND_THE_SUBSET}.items()}


@cache
def prepared(name: str) -> tuple[Check, pa.DataType, dict[str, Any]]:
    """Of a type by its model, if it has a name, and else by its JSON Schema."""
    spec = load_schema(SPECS[name])
    return checker(spec), shape_of(spec.shape_schema).type, spec.json_schema


def read(name: str, text: str) -> Any:
    """What the row would hold; None for an invalid one. Anything but Invalid and what Arrow says fails the test."""
    check, column, _ = prepared(name)
    try:
        value = check(text)
    except Invalid as error:
        assert str(error)
        return None
    try:
        return pa.array([value], column).to_pylist()[0]
    except CANNOT_HOLD:
        return None


ODD = [
    "", " ", "null", "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e-400", "-0", "-0.0", "9" * 5000, str(10**30),
    str(2**63), str(2**64), str(-(2**63) - 1), '"\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '{"a":1,"a":2}', '{"":0}',
    "[" * 500 + "]" * 500, "[" * 5000, "[" * 200_000, '{"a":' * 300 + "1" + "}" * 300, '{"a":' * 5000, "[1e400]",
    "[NaN]", '"9999-12-31T23:59:59-01:00"', '"0001-01-01"', '"10000-01-01"', '"2026-02-30"', '"2026-11-22T24:00:00Z"',
    "tru", "\x00", '"2026-11-22T10:00:00.123456789Z"', '"\\u2028"', "\ufeff{}", "01", "+1", ".5", "0x10",
    '{"value":1,"children":[' * 200, '{"value":1,"children":[' * 150 + "]}" * 150, '{"__class__":"x"}',
    '{"price":1e400}', '{"price":"NaN"}', '{"price":NaN}',
]  # fmt: skip


@pytest.mark.parametrize("text", ODD, ids=lambda text: f"{text[:20]!r}-{len(text)}")
def test_an_odd_answer_is_a_value_or_invalid_for_every_type(text):
    for name in SPECS:
        read(name, text)
        read(name, f"```json\n{text}\n```")


NAMES = st.sampled_from(
    ["value", "children", "next", "kind", "lives", "name", "price", "low", "high", "x", "y", "what", "due"]
)
NUMBERS = st.integers() | st.integers(-(10**30), 10**30) | st.floats()
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(name=st.sampled_from(sorted(SPECS)), text=st.text() | VALUES.map(json.dumps))
@example(name="float", text="NaN")
def test_any_answer_is_a_value_or_invalid(name, text):
    """One odd answer must not cost the ten thousand others of its shard."""
    read(name, text)


@given(
    name=st.sampled_from(sorted(SPECS)),
    seed=st.integers(0, 50),
    at=st.integers(0, 10_000),
    odd=st.sampled_from(
        ["", "null", "NaN", "1e400", "9" * 400, '"\\ud800"', "[]", "{}", "-", "\x00", "[" * 300, '"x"']
    ),
)
def test_an_answer_with_one_value_spoilt_is_a_value_or_invalid(name, seed, at, odd):
    """Near misses reach deeper than noise does."""
    _, _, schema = prepared(name)
    text = json.dumps(answers(response_json_schema(schema), seed % 4 + 1)[-1])
    at %= len(text) + 1
    read(name, text[:at] + odd + text[at + len(odd) :])


def test_a_moment_without_a_zone_is_taken_as_utc():
    assert read("datetime", '"2026-11-22T10:00:00"') == datetime(2026, 11, 22, 10, tzinfo=UTC)
    assert read("datetime", '"2026-11-22T10:00:00+02:00"') == datetime(2026, 11, 22, 10, tzinfo=UTC) - timedelta(
        hours=2
    )
