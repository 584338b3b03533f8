"""The majority of samples: by value, by field, the same for everybody."""

import json
from collections import Counter
from datetime import date
from enum import Enum
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from gemini_batch.reducer.vote import FieldVote, ListVoteConfig, ValueCount, aggregate_records, vote

SCALAR = (
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 1.5, -0.0]) | st.text("ab", max_size=2)
)
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=4,
)
OBJECT = st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUE, max_size=3)
NAN = float("nan")


def said(value):
    """A value in a spelling that is the same for equal ones and no others."""
    match value:
        case bool() | None | str():
            return json.dumps(value)
        case float() if value != value:
            return "nan"
        case int() | float():
            return str(Fraction(value))
        case dict():
            return (
                "{" + ",".join(f"{name}:{said(held)}" for name, held in sorted(value.items()) if held is not None) + "}"
            )
    return "[" + ",".join(map(said, value)) + "]"


def majority(values):
    """(the value, its share) by counting spellings."""
    counts = Counter(map(said, values))
    most = max(counts.values())
    return next(value for value in values if counts[said(value)] == most), most / len(values)


@given(st.lists(OBJECT, min_size=1, max_size=5))
def test_each_field_is_what_most_samples_have_and_agreement_is_the_mean_share(samples):
    """The contract's columns, counted in another way."""
    names = dict.fromkeys(name for sample in samples for name in sample)
    expected = {name: majority([sample.get(name) for sample in samples]) for name in names}
    found = vote(samples)
    assert list(names) == list(expected)
    assert {name: said(found.value.get(name)) for name in names} == {
        name: said(held) for name, (held, _) in expected.items()
    }
    assert set(found.disagreements) == {name for name, (_, share) in expected.items() if share < 1}
    shares = [share for _, share in expected.values()] or [1.0]
    assert found.agreement == pytest.approx(sum(shares) / len(shares))


@given(st.lists(OBJECT, min_size=1, max_size=5))
def test_every_value_of_the_outcome_is_some_samples_own(samples):
    """A vote invents nothing."""
    for name, value in vote(samples).value.items():
        assert any(name in sample and sample[name] is value for sample in samples)


@given(st.lists(VALUE, min_size=1, max_size=5), st.booleans())
def test_the_winner_is_the_sample_that_has_the_value_in_most_fields(samples, fieldwise):
    found = vote(samples, fieldwise)
    if not (fieldwise and all(isinstance(sample, dict) for sample in samples)):
        value, share = majority(samples)
        assert (said(found.value), found.agreement, found.disagreements) == (said(value), share, [])
        assert found.value is samples[found.winner]
        return
    names = {name for sample in samples for name in sample}
    agreeing = [sum(said(sample.get(name)) == said(found.value.get(name)) for name in names) for sample in samples]
    assert found.winner == agreeing.index(max(agreeing))


@given(OBJECT | VALUE, st.integers(1, 5))
def test_samples_that_say_the_same_agree_wholly(value, count):
    spelt = json.loads(json.dumps(value))
    found = vote([value] + [spelt] * (count - 1))
    assert (found.value, found.agreement, found.disagreements, found.winner) == (value, 1.0, [], 0)


@given(st.data(), st.lists(OBJECT, min_size=1, max_size=5))
def test_the_order_of_samples_decides_ties_only_and_that_of_members_nothing(data, samples):
    """Two processes that see the same samples make the same row."""
    turned = [dict(data.draw(st.permutations(list(sample.items())))) for sample in samples]
    assert said(vote(turned).value) == said(vote(samples).value)
    shuffled = data.draw(st.permutations(samples))
    for name in {name for sample in samples for name in sample}:
        counts = Counter(said(sample.get(name)) for sample in samples)
        if list(counts.values()).count(max(counts.values())) == 1:
            assert said(vote(shuffled).value.get(name)) == said(vote(samples).value.get(name))


def test_of_a_tie_the_earliest_sample_wins():
    assert vote([{"a": "z"}, {"a": "b"}, {"a": "c"}]).value == {"a": "z"}
    assert vote(["b", "a", "a", "b"]).value == "b"


@pytest.mark.parametrize(
    ("samples", "winner", "agreement"),
    [
        ([1, 1.0, 2], 0, 2 / 3),
        ([2, True, 1, 1], 2, 1 / 2),
        ([0, False, False], 1, 2 / 3),
        ([NAN, 1.0, NAN], 0, 2 / 3),
        ([[1, 2], [2, 1], [2, 1]], 1, 2 / 3),
        ([[1, [True]], [1.0, [True]], [1, [1]]], 0, 2 / 3),
        ([{"x": {"a": 1, "b": None}}, {"x": {"a": 1.0}}], 0, 1.0),
        ([{"x": None}, {}, {"x": 1}], 0, 2 / 3),
        ([None, None, {"a": 1}], 0, 2 / 3),
        (["a", "A"], 0, 1 / 2),
        ([{}, {}], 0, 1.0),
    ],
)  # fmt: skip
def test_equal_is_what_json_calls_equal(samples, winner, agreement):
    """1 is 1.0, true is not 1, the order of members does not matter, that of items does, null is like absent."""
    found = vote(samples)
    assert (found.winner, found.agreement) == (winner, pytest.approx(agreement))


def test_objects_may_vote_as_one_value():
    """Fields of a union are no fields: half a cat and half a dog is neither."""
    samples = [{"kind": "cat", "legs": 4}, {"kind": "dog", "legs": 3}, {"kind": "dog", "legs": 4}]
    assert vote(samples, fieldwise=False).value == samples[0]
    assert vote(samples).value == {"kind": "dog", "legs": 4}
    assert vote([{"a": 1, "b": 2}, {"b": 2, "a": 1}], fieldwise=False).agreement == 1


def test_where_no_sample_has_it_all_the_outcome_is_of_several():
    found = vote([{"a": 1, "b": 1, "c": 0}, {"a": 2, "b": 1, "c": 1}, {"a": 1, "b": 2, "c": 1}])
    assert (found.value, found.disagreements, found.winner) == ({"a": 1, "b": 1, "c": 1}, ["a", "b", "c"], 0)


# --- records of any shape ---------------------------------------------------------------------------------------------


class Colour(Enum):
    red = "red"


class Place(BaseModel):
    name: str
    colours: list[Colour] = []


def test_leaves_are_voted_on_by_their_path():
    records = [{"deed": {"number": n}} for n in ("356", "356", "355")]
    found = aggregate_records(records)
    held = found.field_votes["deed", "number"]
    assert (found.aggregated, found.n_samples) == ({"deed": {"number": "356"}}, 3)
    assert (held.agreement, held.is_tie, held.total) == (pytest.approx(2 / 3), False, 3)
    assert held.counts == (ValueCount("356", 2), ValueCount("355", 1))
    assert found.disagreements() == {("deed", "number"): held}


def test_models_and_enums_vote_and_failed_samples_do_not():
    """Results of a run can be given as they are: None where a sample failed."""
    records = [Place(name="a", colours=[Colour.red]), None, Place(name="a"), Place(name="b", colours=[Colour.red])]
    found = aggregate_records(records, as_model=Place)
    assert (found.aggregated, found.n_samples) == (Place(name="a", colours=[Colour.red]), 3)
    assert found.field_votes["colours", "#count"].counts == (ValueCount(1, 2), ValueCount(0, 1))
    with pytest.raises(ValidationError):
        aggregate_records([{"name": None}], as_model=Place)


@pytest.mark.parametrize("records", [[], [None, None]])
def test_without_a_record_that_votes_there_is_no_outcome(records):
    with pytest.raises(ValueError, match="no records"):
        aggregate_records(records)


def test_items_are_matched_by_position_unless_told_otherwise():
    people = [[{"name": n, "is": "mother"} for n in names] for names in (("A", "B"), ("B", "A"), ("A", "B"))]
    records = [{"people": items} for items in people]
    by_place = aggregate_records(records)
    assert by_place.field_votes["people", "[0]", "name"].agreement == pytest.approx(2 / 3)
    matched = aggregate_records(records, list_configs={("people",): ListVoteConfig(match_on=("name",))})
    assert matched.aggregated == by_place.aggregated == records[0]
    assert matched.disagreements() == {}
    assert ("people", "[B]", "is") in matched.field_votes


def test_items_without_a_key_go_by_position_and_doubles_are_told_apart():
    config = {(): ListVoteConfig(match_on=("who.name", "is"))}
    records = [[{"who": {"name": "A"}}, {"x": 1}, "text", {"who": {"name": "A"}}]] * 2
    found = aggregate_records(records, list_configs=config)
    assert found.aggregated == records[0]
    steps = {path[0] for path in found.field_votes}
    assert steps == {"#count", "[A, ]", "[A, ]#2", "[1]", "[2]"}
    strict = {(): ListVoteConfig(match_on=("who.name", "is"), require_all_fields=True)}
    assert ("[0]", "who", "name") in aggregate_records(records, list_configs=strict).field_votes


def test_what_more_than_half_do_not_have_is_left_out():
    records = [{"items": ["a", "b"], "of": {"x": 1}}, {"items": ["a"], "of": None}, {"items": ["a"]}]
    found = aggregate_records(records)
    assert found.aggregated == {"items": ["a"], "of": None}
    assert aggregate_records([{"a": [1]}, {"a": None}]).aggregated == {"a": [1]}
    assert aggregate_records([{"a": {"b": 1}}, {"a": 1}, {"a": 1.0}]).aggregated == {"a": 1}


def test_a_tie_goes_to_the_earliest_or_to_the_callers_choice():
    records = [{"by": "Sigl"}, {"by": "Vogel"}]
    assert aggregate_records(records).aggregated == {"by": "Sigl"}
    seen = []

    def last(path, values):
        seen.append((path, list(values)))
        return values[-1]

    found = aggregate_records([*records, *records], tie_breaker=last)
    assert (found.aggregated, seen) == ({"by": "Vogel"}, [(("by",), ["Sigl", "Vogel"])])
    assert found.field_votes["by",].is_tie
    assert aggregate_records([{"by": "x"}], tie_breaker=last).aggregated == {"by": "x"}


@given(st.lists(VALUE.filter(lambda value: value is not None), min_size=1, max_size=4))
def test_every_vote_counts_every_sample_once(records):
    found = aggregate_records(records)
    for path, held in found.field_votes.items():
        assert isinstance(held, FieldVote) and held.path == path
        assert sum(counted.count for counted in held.counts) == held.total == len(records)
        assert 0 < held.agreement <= 1
        assert held.is_tie == (Counter(c.count for c in held.counts)[held.counts[0].count] > 1)


def test_values_that_json_does_not_have_are_compared_as_python_does():
    day = date(2026, 11, 22)
    assert aggregate_records([{"d": date(2026, 1, 1)}, {"d": day}, {"d": day}]).aggregated == {"d": day}


@given(VALUE.filter(lambda value: value is not None), st.integers(1, 4))
def test_one_record_however_often_comes_out_as_it_is(record, count):
    """But for what is null, which is no item of a list."""
    found = aggregate_records([record] * count)
    assert found.disagreements() == {}
    if "null" not in json.dumps(record):
        assert found.aggregated == record
