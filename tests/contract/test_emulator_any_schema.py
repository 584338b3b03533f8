"""Any schema at all: its answers are valid, or it is refused."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from schema_answers import NULL, answers, check, to

from gemini_batch.emulator.sampler import SchemaError, compile_schema

BOUNDS = st.integers(-20, 20)
NAMES = st.sampled_from("abcd")


@st.composite
def numbers(draw: st.DrawFn) -> dict[str, Any]:
    low, high = sorted([draw(BOUNDS), draw(BOUNDS)])
    made: dict[str, Any] = {"type": draw(st.sampled_from(["integer", "number"]))}
    made |= draw(st.sampled_from([{}, {"minimum": low}, {"exclusiveMinimum": low - 1}, {"minimum": low - 0.5}]))
    made |= draw(st.sampled_from([{}, {"maximum": high + 8}, {"exclusiveMaximum": high + 8}]))
    return made | draw(st.sampled_from([{}, {}, {"multipleOf": 3}, {"multipleOf": 0.25}, {"multipleOf": 0.1}]))


@st.composite
def texts(draw: st.DrawFn) -> dict[str, Any]:
    low, room = draw(st.integers(0, 30)), draw(st.integers(0, 30))
    made: dict[str, Any] = {"type": "string"}
    made |= draw(
        st.sampled_from([{}, {"minLength": low}, {"maxLength": room}, {"minLength": low, "maxLength": low + room}])
    )
    extra = [{"format": "date"}, {"format": "uuid"}, {"pattern": "^[a-z]*$"}, {"pattern": "[0-9]{2}"}]
    return draw(st.sampled_from([made, made, *extra]))


VALUES = st.lists(st.sampled_from([1, "a", None, True, 2.5, [1], {"a": 1}]), min_size=1)
PLAIN = st.one_of(
    numbers(),
    texts(),
    st.sampled_from([{}, True, {"type": "boolean"}, NULL, {"const": 3}, {"type": ["integer", "null"]}]),
    VALUES.map(lambda values: {"enum": values}),
)
LEAVES = st.one_of(PLAIN, NAMES.map(to))


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> dict[str, Any]:
    properties = draw(st.dictionaries(NAMES, inner, max_size=4))
    made = {"type": "object", "properties": properties, "required": draw(st.lists(NAMES, max_size=2, unique=True))}
    if draw(st.booleans()):
        made["additionalProperties"] = draw(st.one_of(st.just(False), inner))
    low = draw(st.integers(0, 3))
    return made | draw(st.sampled_from([{}, {"minProperties": low}, {"maxProperties": low + 2}]))


@st.composite
def arrays(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> dict[str, Any]:
    low = draw(st.integers(0, 3))
    made: dict[str, Any] = {"type": "array", "items": draw(inner)}
    made |= draw(st.sampled_from([{}, {"minItems": low}, {"maxItems": low}, {"minItems": low, "maxItems": low + 2}]))
    if draw(st.booleans()):
        made["prefixItems"] = draw(st.lists(inner, min_size=1, max_size=3))
    return made | draw(st.sampled_from([{}, {"uniqueItems": True}]))


def grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    joined = st.sampled_from(["anyOf", "anyOf", "oneOf", "allOf"])
    return st.one_of(
        objects(inner),
        arrays(inner),
        st.tuples(joined, several).map(lambda pair: {pair[0]: pair[1]}),
        st.tuples(objects(inner), joined, several).map(lambda parts: {**parts[0], parts[1]: parts[2]}),
        st.tuples(inner, inner).map(lambda pair: {"allOf": [pair[0]], "not": pair[1]}),
    )


SCHEMAS = st.recursive(LEAVES, grown, max_leaves=12)
DOCUMENTS = st.fixed_dictionaries({"allOf": SCHEMAS.map(lambda schema: [schema])}).flatmap(
    lambda made: st.fixed_dictionaries(dict.fromkeys("abcd", SCHEMAS)).map(lambda defs: {**made, "$defs": defs})
)


@settings(max_examples=150, deadline=None)
@given(schema=DOCUMENTS)
def test_an_answer_to_any_schema_is_valid_and_a_function_of_the_dice(schema):
    """The promise of the module; only a schema that may have no instance is refused."""
    try:
        found = answers(schema, 6)
    except SchemaError:
        return
    check(schema, found)
    compile_schema.cache_clear()
    assert answers(schema, 6) == found


@st.composite
def satisfiable_objects(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> dict[str, Any]:
    properties = draw(st.dictionaries(NAMES, inner, max_size=4))
    required = draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if properties else []
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


SATISFIABLE = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        satisfiable_objects(inner),
        st.tuples(inner, st.integers(0, 3)).map(lambda pair: {"type": "array", "items": pair[0], "minItems": pair[1]}),
        st.lists(inner, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches}),
        inner.map(lambda schema: {"allOf": [schema, {"title": "x"}, schema]}),
        inner.map(lambda schema: {"type": "object", "additionalProperties": schema, "minProperties": 1}),
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(schema=SATISFIABLE)
def test_no_schema_that_has_instances_is_refused(schema):
    """A refused job would be blamed on the client."""
    check(schema, answers(schema, 4))
