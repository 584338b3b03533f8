"""Answers that wrap their JSON: what is taken out, and that nothing cut or ambiguous ever is."""

import json

import orjson
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from gemini_batch.schema.check import Invalid, checker, instance_of
from gemini_batch.schema.load import load_schema
from gemini_batch.schema.recover import wrapped

A = '{"number": 1}'
B = '{"number": 2}'
PRETTY = '{\n  "number": 1\n}'
BY = pytest.mark.parametrize("by", ["model", "json-schema"])


def read(text, source="schemas:Number", by="model"):
    """The result, or None where it is invalid."""
    try:
        return checker(load_schema(source, by))(text)
    except Invalid:
        return None


@BY
@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{A}\n```", f"```\n{PRETTY}\n```", f"```JSON\r\n{A}\r\n```\r\n",
        f"Sure!\n```json\n{PRETTY}\n```\nBye.",
        f"```json\n{A}", f"```json\n{A}```", f"```json {A} ```", f"Here: ```json\n{A}\n```", f"{A}\n```",
        f"Here is the JSON: {A}", f"{A}\n\nI hope this helps {{}}.",
        f"Sure! {A} Anything else?", f"THOUGHT: The note says one [1].\n\n{A}", f"THOUGHT:\nLet me think.\n{PRETTY}\n",
        f"{A}\n{A}", f"{A}.", f"({A})", f"first {{\"other\": 1}}, then {A}",
        f"```python\nx = {{y}}\n```\n```json\n{A}\n```",
        f"As {{name}} said:\n```json\n{A}\n```", f"\ufeff{A}", f"{A};", f"{A},", f"json\n{A}",
    ],
)  # fmt: skip
def test_json_in_a_fence_or_in_prose_is_the_answer(text, by):
    assert read(text, by=by) == {"number": 1}


@BY
@pytest.mark.parametrize(
    "text",
    [
        f"{A}\n{B}", f"Draft: {A}\nFinal: {B}", f"```json\n{A}\n```\n```json\n{B}\n```",  # which?
        '{"number": 1', '```json\n{"number": 1\n```', '```json\n{"number":', 'Here: {"number": 1',  # cut
        f"{A}x", f"{A}}}", f"{A}]", f"]{A}", f'"outer": {A}',  # a piece of something
        f"[{A}", f'{{"outer": {A}', f'{{"outer": {A}, oops}}', f"{{outer: {A}}}", f"Answers: [{A}, {B}",
        f"```json\n[{A}\n```", f"```json\n{A} and {B}\n```", f'"{A}', f'"see {A} there',  # part of something else
        '{"number": 1,}', "{'number': 1}", '{"number": 01}', '{"number": NaN} .', "1 is the number", "", "```json\n```",
        '{"number": "\\ud800"} .', '{"other": 1} .',
    ],
)  # fmt: skip
def test_nothing_is_made_of_what_is_cut_broken_or_ambiguous(text, by):
    assert read(text, by=by) is None


@BY
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Days: [1, 2]", [1, 2]), ("Days:\n\n  [1, 2]\nDone.", [1, 2]), ("```json\n[]\n```", []), ("Found: []", []),
        ("I cannot say, see [1].", None), ("See [1] and [2]", None), ("As of [1]:\n[2, 3]", [2, 3]),
        ('{"days": [1, 2]} .', None), ('{"days": [1, 2]', None), ("[1, 2], [3]", None),
    ],
)  # fmt: skip
def test_a_list_is_taken_where_a_line_or_a_colon_begins_it(tmp_path, monkeypatch, text, value, by):
    """A number in brackets may be a footnote."""
    (tmp_path / "listing.py").write_text("Days = list[int]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert read(text, "listing:Days", by) == value


@pytest.mark.parametrize(("text", "value"), [("```json\n12\n```", 12), ("It is 12.", None), ("```json\n12", None)])
def test_a_bare_number_is_taken_from_a_closed_fence_alone(tmp_path, text, value):
    """Of a number that was cut, nobody can tell."""
    (tmp_path / "s.json").write_text('{"type": "integer"}')
    assert read(text, str(tmp_path / "s.json"), "json-schema") == value


def test_a_class_comes_back_from_the_same_text():
    adapter = TypeAdapter(list[int])
    assert instance_of(adapter, "Days: [1, 2]") == [1, 2]
    for text in ("Days: [1, 2", "[1]\n[2]", '["a"]'):
        with pytest.raises(ValueError, match="validation error"):
            instance_of(adapter, text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
HOSTILE = ['{"a": 1}', "\n```json\n{}\n```\n", "[1]", ": [1]\n[2]", '"', "\\", "```"]
NESTED = st.recursive(
    st.sampled_from(HOSTILE) | JSON,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3) | st.dictionaries(st.sampled_from(HOSTILE), inner, min_size=1)
    ),
    max_leaves=8,
)


@given(value=NESTED, cut=st.integers(0, 10_000), indent=st.sampled_from([None, 2]), ascii_only=st.booleans())
@example(value="see [1]", cut=7, indent=None, ascii_only=True)
@example(value={"a": [1, {"b": 2}]}, cut=16, indent=None, ascii_only=True)
def test_no_prefix_of_a_json_answer_is_ever_taken_for_another_value(value, cut, indent, ascii_only):
    """What stands inside something cut must not pass for the whole. A number may be cut into a number, which is JSON:
    that is for the finish reason to say."""
    whole = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    piece = whole[: cut % len(whole)]
    try:
        orjson.loads(piece)
    except orjson.JSONDecodeError:
        assert wrapped(piece) == []
    else:
        assert isinstance(value, int | float)


@given(value=NESTED, before=st.text(max_size=20), after=st.text(max_size=20), indent=st.sampled_from([None, 2]))
def test_what_is_taken_from_around_prose_is_the_value_itself(value, before, after, indent):
    """In a fence any value, whatever stands around it and in it."""
    assume("```" not in before + after and '"' not in before.lstrip()[:1])
    whole = json.dumps(value, indent=indent)
    assert wrapped(f"{before}\n```json\n{whole}\n```\n{after}") == [whole]


@given(text=st.text(st.sampled_from('{}[]":,`\n1a \\'), max_size=60) | st.text())
def test_every_piece_is_a_complete_json_value_of_the_text(text):
    for piece in wrapped(text):
        json.loads(piece)
        assert piece in text or "```" in text


def test_a_megabyte_of_brackets_is_looked_at_once():
    """A look at everything from each bracket on would take minutes."""
    assert wrapped("[" * 1_000_000) == []
    assert wrapped("x [1]" * 200_000) == []
    assert len(wrapped('{"a":1}' * 150_000)) == 1
