"""A block of result lines reads as its lines do one by one, whatever stands in it."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.gemini.lines import parsed_line, read_lines, to_answers
from gemini_batch.gemini.wire import read_answer

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**33) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
PART = st.fixed_dictionaries(
    {}, optional={"text": st.none() | st.text(max_size=5), "thought": st.booleans(), "x": JSON}
)
REASONS = st.sampled_from([None, "", "STOP", "FINISH_REASON_UNSPECIFIED", "MAX_TOKENS", "SAFETY", "NEW"])
COUNTS = st.dictionaries(
    st.sampled_from(["promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "cachedContentTokenCount", "x"]),
    st.integers(-1, 2**31) | st.none(),
)
CANDIDATE = st.fixed_dictionaries(
    {}, optional={"content": st.fixed_dictionaries({"parts": st.lists(PART, max_size=3)}), "finishReason": REASONS}
)
RESPONSE = st.fixed_dictionaries(
    {},
    optional={
        "candidates": st.lists(CANDIDATE, max_size=2),
        "usageMetadata": COUNTS,
        "modelVersion": st.none() | st.text(max_size=3),
        "promptFeedback": st.sampled_from([None, {}, {"blockReason": "SAFETY"}]),
    },
)


def line(key="k", **response):
    return orjson.dumps({"key": key, "response": response})


def said(*parts, reason="STOP", **response):
    return line(candidates=[{"content": {"parts": list(parts)}, "finishReason": reason}], **response)


PLAIN = said({"text": "x"}, modelVersion="m", usageMetadata={"promptTokenCount": 3})
LINES = st.lists(
    st.just(PLAIN)
    | st.builds(lambda response: line(**response), RESPONSE)
    | st.builds(
        lambda member, value: orjson.dumps({"key": "k", member: value}), st.sampled_from(["response", "error"]), JSON
    )
    | st.builds(orjson.dumps, JSON),
    min_size=1,
    max_size=5,
)


def reads_as_its_lines(lines):
    found = read_lines(b"\n".join(lines))
    entries = [entry for line in lines if (entry := parsed_line(line)) is not None]
    assert to_answers(found.answers) == [read_answer(entry) for entry in entries]
    assert found.keys.to_pylist() == [key if type(key := entry.get("key")) is str else None for entry in entries]
    assert found.received == sum(bool(line.strip()) for line in lines)
    assert found.broken == found.received - len(entries)


@given(LINES)
def test_any_lines(lines):
    reads_as_its_lines(lines)


@given(st.data(), LINES)
def test_damaged_lines(data, lines):
    body = b"\n".join(lines)
    at = data.draw(st.integers(0, len(body)))
    put = data.draw(st.binary(max_size=2) | st.sampled_from([b"\n", b"{", b"}\n{", b"\\ud800", b"\0", b"\xff", b"1e9"]))
    reads_as_its_lines((body[:at] + put + body[at + data.draw(st.integers(0, 2)) :]).split(b"\n"))


@pytest.mark.parametrize(
    "lines",
    [
        [PLAIN + PLAIN, b" "],  # as many values as lines, but not one each
        [PLAIN[:-1], b"}" + PLAIN],
        [b'{"key":"k","x":NaN}'],  # Arrow takes it for a number
        [b'{"key":"k","x":-Infinity}'],
        [PLAIN, b'{"key":"\\udc00"}'],
        [PLAIN, said({"text": "thought", "thought": True}, {"text": "said"})],
        [PLAIN, said({"text": "one"}, None), PLAIN],
        [PLAIN, said({"text": "one"}, {"text": "two"}), said({"functionCall": {}}, {"text": "three"})],
        [PLAIN, b'{"key":"k","key":"l"}'],
        [PLAIN, said({"text": "x"}, usageMetadata={"promptTokenCount": "30"})],
        [b"\xef\xbb\xbf" + PLAIN, PLAIN],
        [PLAIN + b"\r", PLAIN],
    ],
)
def test_what_arrow_reads_otherwise(lines):
    reads_as_its_lines(lines)
