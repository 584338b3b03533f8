"""The digest that tells whether a manifest is still the one that was weighed."""

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gemini_batch.coordinator.content import Content
from gemini_batch.parts import FIELDS, PARTS

TEXT = st.none() | st.text(max_size=4)
PART = st.none() | st.fixed_dictionaries(dict.fromkeys(FIELDS, TEXT) | {"data": st.none() | st.binary(max_size=4)})
ROW = st.tuples(TEXT, TEXT, st.none() | st.lists(PART, max_size=3), TEXT)
ROWS = st.lists(ROW, min_size=1, max_size=5)


def block(rows):
    keys, prompts, parts, systems = zip(*rows, strict=True)
    text = pa.string()
    columns = {
        "key": pa.array(keys, text),
        "prompt": pa.array(prompts, text),
        "parts": pa.array(parts, PARTS),
        "system_instruction": pa.array(systems, text),
    }
    return pa.record_batch(columns)


def digest(*blocks):
    content = Content()
    for one in blocks:
        content.add(one)
    return content.digest


@given(rows=ROWS, before=ROWS, behind=ROWS)
def test_the_same_rows_have_one_digest_wherever_they_lie_in_memory(rows, before, behind):
    """A block may be a slice of a larger one; what lies around it, and behind its last bit, is anything."""
    around = block([*before, *rows, *behind]).slice(len(before), len(rows))
    assert digest(around) == digest(block(rows)) == digest(block(rows).take(pa.array(range(len(rows)))))


@given(rows=ROWS, others=ROWS)
def test_other_rows_have_another_digest(rows, others):
    assume(rows != others)
    assert digest(block(rows)) != digest(block(others))


@given(rows=ROWS, at=st.integers(0, 4), column=st.integers(0, 3), value=TEXT)
def test_one_changed_value_changes_the_digest(rows, at, column, value):
    at %= len(rows)
    changed = list(rows[at])
    changed[column] = value if column != 2 else [{**dict.fromkeys(FIELDS), "text": value}]
    assume(tuple(changed) != rows[at])
    assert digest(block(rows)) != digest(block([*rows[:at], tuple(changed), *rows[at + 1 :]]))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([("a", None, None, None)], [(None, "a", None, None)]),
        ([("ab", "c", None, None)], [("a", "bc", None, None)]),
        ([(None, "", None, None)], [(None, None, None, None)]),
        ([(None, None, [], None)], [(None, None, None, None)]),
        ([(None, None, [None], None)], [(None, None, [], None)]),
    ],
    ids=["other column", "shifted", "empty or null", "no parts or null", "null part"],
)
def test_what_is_easily_confused_differs(one, other):
    assert digest(block(one)) != digest(block(other))


def test_a_missing_column_is_not_one_of_nulls():
    whole = block([("a", "b", None, None)])
    assert digest(whole) != digest(whole.select(["key", "prompt"]))
