"""Each row gets its own answer or none, whatever happened to the lines."""

from dataclasses import dataclass
from zlib import crc32

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.gemini.keys import line_keys
from gemini_batch.gemini.lines import to_answers
from gemini_batch.gemini.wire import line_key, read_answer
from gemini_batch.jobs import align as tested


def key(nonce, index, sample=0):
    return line_key(nonce.encode(), index, sample).decode()


@dataclass
class Found:
    """Answers as a list per row, one or None per sample, and the counts."""

    answers: list
    counts: tested.Aligned

    def __getattr__(self, name):
        return getattr(self.counts, name)


def place(lines, nonce, indices, sent):
    """Align lines, all of them in one stretch, onto the samples that were sent of each row."""
    rows = [
        (place, index, sample)
        for place, (index, samples) in enumerate(zip(indices, sent, strict=True))
        for sample in samples
    ]
    indices, samples = ([row[at] for row in rows] for at in (1, 2))
    keys = line_keys(nonce.encode(), pa.array(indices, pa.int64()), pa.array(samples, pa.int32()))
    body = b"\n".join(lines)
    found = tested.align([body], keys, lambda: [body])
    answers = to_answers(found.answers)
    width = 1 + max((samples[-1] for samples in sent if samples), default=-1)
    placed = [[None] * width for _ in sent]
    for (row, _, sample), at in zip(rows, found.places.to_pylist(), strict=True):
        placed[row][sample] = None if at is None else answers[at]
    return Found(placed, found)


def align(lines, nonce, first, sent):
    """Rows that follow one another and have one sample each: `answers` has one entry per row."""
    found = place(lines, nonce, range(first, first + len(sent)), [(0,) if was_sent else () for was_sent in sent])
    found.answers = [row[0] if row else None for row in found.answers]
    return found


NONCE, OTHER = "00c0ffee00c0ffee", "00c0ffee00c0ffef"
FIRST = 8

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def result(index, nonce=NONCE, sample=0, text=None):
    """The line that answers a row, in a text only this row has."""
    content = {"parts": [{"text": f"answer {index}" if text is None else text}]}
    return orjson.dumps(
        {
            "response": {"candidates": [{"content": content, "finishReason": "STOP"}]},
            "key": key(nonce, index, sample),
        }
    )


def key_span(line):
    """Where the key's value stands: a changed digit there is another row's key, which no reader can tell."""
    start = line.index(b'"key":"') + len(b'"key":"')
    return start, line.index(b'"', start)


@st.composite
def damaged(draw, line):
    """The line with bytes put in, taken out, or cut off, but not within its key."""
    start, stop = key_span(line)
    how = draw(st.sampled_from(["insert", "delete", "cut", "whole"]))
    if how == "cut":
        return line[: draw(st.integers(0, len(line)))]
    at = draw(st.integers(0, len(line) - 1).filter(lambda at: not start <= at <= stop))
    if how == "insert":
        return line[:at] + draw(st.binary(min_size=1, max_size=3).filter(lambda b: b"\n" not in b)) + line[at:]
    return line[:at] + line[at + 1 :] if how == "delete" else line


@st.composite
def result_files(draw):
    """(lines, sent): a file shuffled, with lines dropped, doubled, damaged, foreign and of wrong shapes."""
    sent = draw(st.lists(st.booleans(), min_size=1, max_size=8))
    own = [FIRST + at for at in range(len(sent))]
    lines = [result(index) for index in draw(st.lists(st.sampled_from(own), max_size=12))]
    lines += [draw(damaged(result(draw(st.sampled_from(own))))) for _ in range(draw(st.integers(0, 4)))]
    lines += [result(draw(st.sampled_from(own)), nonce=OTHER, text="foreign") for _ in range(draw(st.integers(0, 2)))]
    lines += [result(draw(st.sampled_from(own)), sample=3, text="sample") for _ in range(draw(st.integers(0, 2)))]
    lines += [result(draw(st.sampled_from([0, 7, 999])), text="outside") for _ in range(draw(st.integers(0, 2)))]
    lines += [orjson.dumps({"key": draw(JSON), "response": draw(JSON)}) for _ in range(draw(st.integers(0, 2)))]
    lines += [orjson.dumps(draw(JSON)) for _ in range(draw(st.integers(0, 2)))]
    lines += [b"", b" \t\r"][: draw(st.integers(0, 2))]
    return draw(st.permutations(lines)), sent


@given(result_files())
def test_a_row_gets_its_own_answer_or_none_never_another_rows(file):
    """The one promise of the whole project."""
    lines, sent = file
    found = align(lines, NONCE, FIRST, sent)
    assert len(found.answers) == len(sent)
    for at, answer in enumerate(found.answers):
        if answer is not None:
            assert sent[at]
            assert answer in [read_answer(entry) for entry in entries(lines, FIRST + at)]


def entries(lines, index):
    """The lines that are JSON objects and carry the row's key, found without the code under test."""
    for line in lines:
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(entry, dict) and entry.get("key") == key(NONCE, index):
            yield entry


@given(st.data(), st.integers(1, 10))
def test_undamaged_lines_in_any_order_among_garbage_all_arrive(data, count):
    """Position never matters, and a bad line costs nobody else's answer."""
    lines = [result(FIRST + at) for at in range(count)]
    garbage = data.draw(st.lists(st.binary(max_size=20).filter(lambda b: b"\n" not in b), max_size=5))
    found = align(data.draw(st.permutations(lines + garbage)), NONCE, FIRST, [True] * count)
    assert [answer.text for answer in found.answers] == [f"answer {FIRST + at}" for at in range(count)]


@given(result_files())
def test_every_line_is_counted_once(file):
    """The audit must add up: received = placed + duplicate + foreign + broken."""
    lines, sent = file
    found = align(lines, NONCE, FIRST, sent)
    placed = sum(answer is not None for answer in found.answers)
    assert found.received == placed + found.duplicate + found.foreign + found.broken
    assert found.received == sum(bool(line.strip()) for line in lines)
    assert found.conflicting <= found.duplicate


@given(st.data(), st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_the_texts_are_the_rows_own_when_lines_are_shuffled_dropped_and_doubled(data, rows):
    lines = data.draw(st.permutations([result(FIRST + row) for row in rows]))
    found = align(lines, NONCE, FIRST, [True] * 6)
    expected = [f"answer {FIRST + at}" if at in rows else None for at in range(6)]
    assert [answer and answer.text for answer in found.answers] == expected
    assert (found.duplicate, found.conflicting) == (len(rows) - len(set(rows)), 0)


def test_of_two_different_lines_for_a_row_the_first_is_kept_and_the_conflict_counted():
    found = align([result(FIRST, text="one"), result(FIRST, text="two")], NONCE, FIRST, [True])
    assert (found.answers[0].text, found.duplicate, found.conflicting) == ("one", 1, 1)


def test_an_answer_to_a_row_that_was_not_sent_is_foreign():
    """A bad row has its own reason; nothing may come back for it."""
    found = align([result(FIRST), result(FIRST + 1)], NONCE, FIRST, [False, True])
    assert (found.answers[0], found.answers[1].text, found.foreign) == (None, f"answer {FIRST + 1}", 1)


def test_lines_without_a_key_are_foreign_and_not_placed_by_position():
    """Position never matters (python-genai #1909)."""
    found = align([b'{"response": {}}', b'{"custom_id": "x"}'], NONCE, FIRST, [True, True])
    assert (found.answers, found.foreign) == ([None, None], 2)


def test_a_key_of_thousands_of_digits_is_foreign():
    """One absurd line must not stop the reading of a paid file."""
    absurd = orjson.dumps({"key": f"{NONCE}-{'9' * 5000}-0"})
    found = align([absurd, result(FIRST)], NONCE, FIRST, [True])
    assert (found.foreign, found.answers[0].text) == (1, f"answer {FIRST}")


def keyed(key):
    return orjson.dumps({"key": key, "response": {}})


@given(st.integers(0, 10**12), st.integers(0, 40), st.sampled_from("0123456789abcdef-"))
def test_a_key_with_one_damaged_character_names_no_other_row(index, at, character):
    """A digit that flips on the way would otherwise put an answer on somebody else's row."""
    whole = key("abc", index)
    at %= len(whole)
    damaged = whole[:at] + character + whole[at + 1 :]
    indices = sorted({max(index + by, 0) for by in (-1, 0, 1)} | {int(f"{index}{by}") for by in range(10)})
    found = place([keyed(damaged)], "abc", indices, [(0, 1)] * len(indices))
    assert found.foreign == (damaged != whole)


@pytest.mark.parametrize(
    "other",
    [
        None, 1, [], "", "abc", "abc-", "abc-1", "abc-1-", "abc--0", "abc-1-0-0", "abc-1-x", "abc- 1-0", "abc-+1-0",
        "abc-\u0661-0", "abc-²-0", "abd-1-0", "ABC-1-0", "xabc-1-0", "abc_1-0", "abc-1.0-0", "abc--1-0", "abc-1-0\n",
        "abc-" + "9" * 5000 + "-0", "abc-1-0-00000000", "abc-01-0-" + f"{crc32(b'abc-01-0'):08x}",
    ],
)  # fmt: skip
def test_anything_else_is_no_key_of_this_run(other):
    """A foreign line must never be placed on a row of ours, nor stop the reading."""
    found = place([keyed(other)], "abc", [0, 1], [(0,), (0,)])
    assert (found.foreign, found.answers) == (1, [[None], [None]])
