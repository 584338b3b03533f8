"""The one promise of the whole project, for any rows, samples and lines: a sample has its own answer or a named
failure, and never another's."""

import hashlib
import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parsed import answer, error, key, parsed

from gemini_batch.kinds import KINDS

EXAMPLES = max(500, settings().max_examples)


def token(index, sample):
    """A text that no small damage makes another's."""
    return hashlib.sha256(f"{index}/{sample}".encode()).hexdigest()


@st.composite
def shards(draw):
    """(rows, n_samples): rows anywhere in the manifest, some with samples of their own, some left out."""
    n_samples = draw(st.integers(1, 4))
    indices = sorted(draw(st.sets(st.integers(0, 30) | st.integers(0, 10**9), min_size=1, max_size=6)))
    rows = [{"index": index} for index in indices]
    for row in rows:
        if draw(st.booleans()):
            row["samples"] = sorted(draw(st.sets(st.integers(0, n_samples - 1), min_size=1)))
        if draw(st.integers(0, 4)) == 0:
            row["bad"] = draw(st.sampled_from(["bad_row", "oversized", "invalid_argument"]))
    return rows, n_samples


def result(draw, index, sample):
    """A line in one of the emulator's shapes; its text, if it has one, is the sample's own."""
    match draw(st.integers(0, 5)):
        case 0:
            return error(index, sample, draw(st.sampled_from([3, 5, 7, 13, 99])))
        case 1:
            return answer(index, sample, candidates=[], promptFeedback={"blockReason": "SAFETY"})
        case 2:
            content = {"parts": [{"text": token(index, sample)}]}
            return answer(index, sample, candidates=[{"content": content, "finishReason": "MAX_TOKENS"}])
    return answer(index, sample, token(index, sample))


def damaged(draw, line):
    """One line with bytes put in, taken out, changed or cut off, its key included."""
    at = draw(st.integers(0, len(line) - 1))
    match draw(st.sampled_from(["insert", "delete", "change", "cut", "split", "garbage"])):
        case "insert":
            return line[:at] + draw(st.binary(min_size=1, max_size=3)) + line[at:]
        case "delete":
            return line[:at] + line[at + 1 :]
        case "change":
            return line[:at] + bytes([line[at] ^ draw(st.integers(1, 255))]) + line[at + 1 :]
        case "cut":
            return line[:at]
        case "split":
            return line[:at] + b"\n" + line[at:]
    return draw(st.binary(max_size=30))


def asked(rows, n_samples):
    return [(row["index"], sample) for row in rows for sample in row.get("samples") or range(n_samples)]


@st.composite
def files(draw):
    """(rows, n_samples, whole lines by sample, all lines): shuffled, lost, doubled, damaged, joined, foreign."""
    rows, n_samples = draw(shards())
    bad = {row["index"] for row in rows if row.get("bad")}
    sent = [pair for pair in asked(rows, n_samples) if pair[0] not in bad]
    strange = [(row["index"], sample) for row in rows for sample in range(5)]
    near = [(row["index"] + by, 0) for row in rows for by in (1, -1) if row["index"] + by >= 0]
    named = draw(st.lists(st.sampled_from(sent), max_size=16)) if sent else []
    named += draw(st.lists(st.sampled_from(strange + near), max_size=3))
    whole = [(pair, result(draw, *pair)) for pair in named]
    lines = [line for _, line in whole]
    lines += [damaged(draw, line) for line in draw(st.lists(st.sampled_from(lines), max_size=4))] if lines else []
    lines += [line + other for line, other in pairwise(lines) if draw(st.integers(0, 9)) == 0]
    return rows, n_samples, whole, draw(st.permutations(lines))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("any-lines")


def held(row, n_samples):
    """{sample: (status, text, kind)} of a row of a part."""
    if n_samples == 1:
        return {0: (row["status"], row["text"], row["error"] and row["error"]["kind"])}
    return {one["sample"]: (one["status"], one["text"], one["error_kind"]) for one in row["samples"]}


@settings(max_examples=EXAMPLES)
@given(files())
def test_a_sample_has_its_own_answer_or_a_named_failure_whatever_happened_to_the_lines(folder, file):
    rows, n_samples, whole, lines = file
    found, tally = parsed(folder, rows, lines, n_samples)
    everybody = {token(*pair) for pair in [*asked(rows, n_samples), *(pair for pair, _ in whole)]}
    came = {pair for pair, _ in whole}
    for given_row, row in zip(rows, found, strict=True):
        samples = held(row, n_samples)
        assert list(samples) == list(given_row.get("samples") or range(n_samples))
        for sample, (status, text, kind) in samples.items():
            own = token(row["index"], sample)
            assert text is None or text not in everybody - {own}
            assert (kind is None) == (status == "ok") and (kind is None or KINDS[kind].status == status)
            if given_row.get("bad"):
                assert (kind, text) == (given_row["bad"], None)
            elif (row["index"], sample) in came:
                assert kind != "missing"
            elif text is not None:
                assert text == own or any(key(row["index"], sample).encode() in line for line in lines)
    placed = sum(map(len, (held(row, n_samples) for row in found))) - tally.missing
    placed -= sum(len(held(row, n_samples)) for given_row, row in zip(rows, found, strict=True) if given_row.get("bad"))
    assert tally.received == placed + tally.duplicate + tally.foreign + tally.broken


@settings(max_examples=EXAMPLES)
@given(st.data(), shards())
def test_whole_lines_in_any_order_all_arrive(folder, data, shard):
    """Position never matters, and neither do doubles and garbage."""
    rows, n_samples = shard
    sent = asked([row for row in rows if not row.get("bad")], n_samples)
    lines = [answer(*pair, token(*pair)) for pair in sent]
    doubles = data.draw(st.lists(st.sampled_from(lines), max_size=3)) if lines else []
    garbage = data.draw(st.lists(st.binary(max_size=20).filter(lambda body: b"\n" not in body), max_size=3))
    found, tally = parsed(folder, rows, data.draw(st.permutations(lines + doubles + garbage)), n_samples)
    texts = {
        (row["index"], sample): text
        for row in found
        for sample, (status, text, _) in held(row, n_samples).items()
        if status == "ok"
    }
    assert texts == {pair: token(*pair) for pair in sent}
    assert (tally.missing, tally.duplicate, tally.conflicting) == (0, len(doubles), 0)


def test_of_two_lines_for_a_sample_the_first_is_kept_and_a_line_of_another_sample_is_none(folder):
    rows = [{"index": 3, "samples": [0, 2]}]
    lines = [
        answer(3, 2, "b"),
        answer(3, 0, "a"),
        answer(3, 0, "x"),
        answer(3, 1, "not asked"),
        answer(3, 3, "no such"),
    ]
    (row,), tally = parsed(folder, rows, lines, 3)
    assert [(one["sample"], one["text"]) for one in row["samples"]] == [(0, "a"), (2, "b")]
    assert (tally.duplicate, tally.conflicting, tally.foreign) == (1, 1, 2)
    assert json.loads(lines[0])["key"] == key(3, 2)
