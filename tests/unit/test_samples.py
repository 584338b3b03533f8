"""Several samples become a row, shards hold any rows, and several rounds become one row."""

import json
from decimal import Decimal

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parsed import answer, error, parsed, write_requests, write_rows

from gemini_batch.dataset import as_dataset, dataset_schema
from gemini_batch.gemini.lines import to_columns
from gemini_batch.gemini.prices import BatchPrice
from gemini_batch.gemini.wire import Answer
from gemini_batch.jobs.sent import place_of_line, row_of_line
from gemini_batch.records import Failed, SchemaSpec
from gemini_batch.reducer.rounds import overlay, patched, read_rows
from gemini_batch.reducer.rows import RowMaker
from gemini_batch.reducer.used import costs_of, sum_usage
from gemini_batch.schema.load import load_schema

PRICE = BatchPrice(input_usd=Decimal("0.1"), output_usd=Decimal(1), cached_usd=Decimal("0.01"))
LINE_USD = 10 * 0.1 + 3 * 1
"""Of a line of `answer`: ten tokens in, two out, one thought."""

KINDS = {"type": "object", "properties": {"kind": {"type": "string"}, "count": {"type": "integer"}}}
OBJECT = SchemaSpec(ref=None, json_schema=KINDS, validate_by="json-schema")


def said(index, sample, kind, count):
    return answer(index, sample, json.dumps({"kind": kind, "count": count}))


# --- one shard --------------------------------------------------------------------------------------------------------


def test_a_row_is_what_most_of_its_samples_say_in_every_column_of_the_contract(tmp_path):
    lines = [said(7, 2, "b", 1.0), said(7, 1, "b", 2), said(7, 0, "a", 1)]
    (row,), tally = parsed(tmp_path, [{"index": 7}], lines, 3, OBJECT, round=2, price=PRICE)
    samples = row.pop("samples")
    assert row == {
        "index": 7, "key": "k7", "status": "ok", "result": {"kind": "b", "count": 1}, "error": None,
        "text": '{"kind": "b", "count": 1.0}', "n_valid": 3, "agreement": pytest.approx(2 / 3),
        "disagreements": ["kind", "count"], "attempts": 1, "round": 2, "cost_usd": pytest.approx(3 * LINE_USD),
        "usage": {"prompt_tokens": 30, "cached_tokens": None, "output_tokens": 6, "thoughts_tokens": 3},
        "finish_reason": "STOP", "model_version": "v2", "request_digest": "d7",
    }  # fmt: skip
    assert [(one["sample"], one["status"], one["model_version"]) for one in samples] == [
        (0, "ok", "v0"),
        (1, "ok", "v1"),
        (2, "ok", "v2"),
    ]
    assert (tally.by_status, tally.failed, tally.unpriced) == ({"ok": 1}, (), 0)
    assert (tally.prompt_tokens, tally.cost_usd) == (30, pytest.approx(3 * LINE_USD))


def test_failed_samples_do_not_vote_and_cost_what_is_not_known(tmp_path):
    lines = [error(1, 0), said(1, 1, "b", 1), answer(1, 2, "no JSON")]
    (row,), tally = parsed(tmp_path, [{"index": 1}], lines, 3, OBJECT, price=PRICE)
    assert (row["status"], row["n_valid"], row["agreement"], row["disagreements"]) == ("ok", 1, 1.0, [])
    assert (row["model_version"], row["cost_usd"]) == ("v1", None)
    assert [one["error_kind"] for one in row["samples"]] == ["transient", None, "schema_invalid"]
    assert (row["samples"][0]["code"], row["samples"][0]["message"]) == (13, "said so")
    assert tally.failed == (
        Failed(kind="schema_invalid", attempts=1, rows=1, requests=1),
        Failed(kind="transient", attempts=1, rows=1, requests=1),
    )
    assert (tally.cost_usd, tally.unpriced, tally.by_kind) == (pytest.approx(2 * LINE_USD), 1, {})


@pytest.mark.parametrize(("min_valid", "status"), [(1, "ok"), (2, "ok"), (3, "failed")])
def test_a_row_with_too_few_valid_samples_is_what_the_first_failed_one_is(tmp_path, min_valid, status):
    lines = [answer(5, 0, "x"), error(5, 1), answer(5, 2, "x")]
    (row,), _ = parsed(tmp_path, [{"index": 5}], lines, 3, min_valid=min_valid)
    assert (row["status"], row["n_valid"], row["text"]) == (status, 2, "x")
    assert (row["result"], row["agreement"]) == (("x", 1.0) if status == "ok" else (None, None))
    assert (row["error"] and row["error"]["message"]) == (None if status == "ok" else "said so")


def test_a_row_without_any_line_names_its_reason_once_per_sample(tmp_path):
    rows = [{"index": 2}, {"index": 9, "bad": "bad_row"}]
    found, tally = parsed(tmp_path, rows, [], 2, price=PRICE)
    assert [(row["status"], row["error"]["kind"], row["attempts"]) for row in found] == [
        ("failed", "missing", 1),
        ("failed", "bad_row", 0),
    ]
    assert [(row["usage"], row["cost_usd"]) for row in found] == [(None, None)] * 2
    assert tally.failed == (
        Failed(kind="bad_row", attempts=0, rows=1, requests=2),
        Failed(kind="missing", attempts=1, rows=1, requests=2),
    )
    assert (tally.missing, tally.unpriced) == (2, 2)


def test_rows_that_were_bought_before_count_on_and_say_when_they_are_mended(tmp_path):
    rows = [
        {"index": 4, "attempts": 1, "was": "failed"},
        {"index": 40, "attempts": 2, "was": "truncated"},
        {"index": 41, "attempts": 1, "was": "ok"},
    ]
    found, tally = parsed(tmp_path, rows, [answer(4), error(40), answer(41)], round=1)
    assert [(row["attempts"], row["round"]) for row in found] == [(2, 1), (3, 1), (2, 1)]
    assert tally.mended == 1
    assert tally.failed == (Failed(kind="transient", attempts=3, rows=1, requests=1),)


def test_what_was_valid_before_counts_for_what_is_mended(tmp_path):
    rows = [{"index": at, "samples": [1], "attempts": 1, "was": "failed", "valid": at} for at in range(3)]
    found, tally = parsed(tmp_path, rows, [answer(at, 1) for at in range(3)], 3, min_valid=2, round=1)
    assert [[one["sample"] for one in row["samples"]] for row in found] == [[1]] * 3
    assert tally.mended == 2


def test_what_no_job_ever_held_was_not_bought(tmp_path):
    rows = [{"index": 1, "attempts": 1, "was": "failed"}, {"index": 2}]
    found, tally = parsed(tmp_path, rows, [], raw=False, bought=False, price=PRICE)
    assert [(row["attempts"], row["cost_usd"]) for row in found] == [(1, None), (0, None)]
    assert (tally.cost_usd, tally.unpriced, tally.missing) == (0.0, 0, 2)


def test_without_a_price_no_cost_is_known(tmp_path):
    (row,), tally = parsed(tmp_path, [{"index": 1}], [answer(1)])
    assert (row["cost_usd"], tally.cost_usd, tally.unpriced) == (None, 0.0, 1)


@pytest.mark.parametrize(
    ("counts", "cost"),
    [
        ((10, None, 2, 1), 4.0),
        ((10, 4, 2, None), 0.6 + 0.04 + 2),
        ((10, 99, 0, 0), 0.1),
        ((10, None, None, None), None),
        ((None, None, 2, 1), None),
    ],
)
def test_cached_tokens_are_part_of_the_prompt_and_thoughts_are_output(counts, cost):
    prompt, cached, output, thoughts = counts
    told = Answer("ok", "x", prompt_tokens=prompt, cached_tokens=cached, output_tokens=output, thoughts_tokens=thoughts)
    blocked = Answer("blocked", prompt_tokens=10)
    costs = costs_of(to_columns([told, blocked, Answer("failed")]), PRICE).to_pylist()
    assert costs == [None if cost is None else pytest.approx(cost), pytest.approx(1.0), None]


def test_texts_and_lists_vote_as_one_value_and_unions_too(tmp_path):
    """A mix of two answers that are no objects with known fields would be an answer that nobody gave."""
    (row,), _ = parsed(tmp_path, [{"index": 1}], [answer(1, 0, "a"), answer(1, 1, "b"), answer(1, 2, "b")], 3)
    assert (row["result"], row["agreement"], row["disagreements"]) == ("b", pytest.approx(2 / 3), [])
    union = {"anyOf": [KINDS, {"type": "object", "properties": {"x": {"type": "integer"}}}]}
    spec = SchemaSpec(ref=None, json_schema=union, validate_by="json-schema")
    lines = [said(1, 0, "a", 1), said(1, 1, "b", 2), answer(1, 2, '{"count": 2, "kind": "b"}')]
    (row,), _ = parsed(tmp_path, [{"index": 1}], lines, 3, spec)
    assert (json.loads(row["result"]), row["agreement"]) == ({"kind": "b", "count": 2}, pytest.approx(2 / 3))
    spec = load_schema("schemas:Numbers")
    lines = [
        answer(1, at, json.dumps([{"number": n} for n in numbers])) for at, numbers in enumerate([[1], [2, 3], [2, 3]])
    ]
    (row,), _ = parsed(tmp_path, [{"index": 1}], lines, 3, spec)
    assert row["result"] == [{"number": 2}, {"number": 3}]


@pytest.mark.parametrize("by", ["model", "json-schema"])
def test_a_mixed_result_is_a_value_of_the_column(tmp_path, by):
    """Dates, numbers and JSON texts of several samples side by side, one of which no column can hold."""
    spec = load_schema("schemas:Everything")
    spec = spec if by == "model" else SchemaSpec(ref=None, json_schema=spec.json_schema, validate_by=by)
    from test_parse import EVERYTHING  # noqa: PLC0415

    told = [
        EVERYTHING | {"day": "2027-01-01", "table": {"a": 1, "b": 2}},
        EVERYTHING | {"real": 1, "table": {"b": 2, "a": 1}},
        EVERYTHING | {"real": 1.0, "word": "b", "whole": 2**63},
        EVERYTHING | {"real": 1, "word": "b", "text": "odd"},
    ]
    lines = [answer(1, at, json.dumps(one)) for at, one in enumerate(told)]
    (row,), _ = parsed(tmp_path, [{"index": 1}], lines, 4, spec)
    assert [one["status"] for one in row["samples"]] == ["ok", "ok", "invalid", "ok"]
    result = row["result"]
    assert (str(result["day"]), result["real"], json.loads(result["table"])) == ("2026-11-22", 1.0, {"a": 1, "b": 2})
    assert set(row["disagreements"]) == {"day", "real", "table", "word", "text"}


# --- parts and the dataset --------------------------------------------------------------------------------------------


def test_a_part_of_several_samples_becomes_rows_of_the_dataset(tmp_path):
    rows = [{"index": 1}, {"index": 3, "bad": "bad_row"}]
    found, _ = parsed(tmp_path, rows, [answer(1, 0, "a"), error(1, 1)], 2)
    (block,) = pq.read_table(tmp_path / "part").to_batches()
    for rows_of in (block, block.slice(1)):
        made = as_dataset(rows_of)
        assert made.schema.equals(dataset_schema(None))
        names = ("status", "text", "finish_reason", "error_kind")
        expected = [row["samples"] for row in rows_of.to_pylist()]
        assert made.column("samples").to_pylist() == [
            [{name: one[name] for name in names} for one in row] for row in expected
        ]
    parsed(tmp_path, rows, [answer(1)])
    (block,) = pq.read_table(tmp_path / "part").to_batches()
    assert as_dataset(block) is block
    assert len(found) == 2


def parts(folder, rounds, n_samples, **task):
    """Part tables of several rounds; each is (rows, lines)."""
    tables = []
    for number, (rows, lines) in enumerate(rounds):
        parsed(folder, rows, lines, n_samples, round=number, price=PRICE, **task)
        tables.append(pq.read_table(folder / "part"))
    return tables


def put_together(tables, n_samples, spec=None, min_valid=1):
    block = tables[0].combine_chunks().to_batches()[0]
    maker = RowMaker(spec, n_samples, min_valid)
    return patched(block, [read_rows(table) for table in tables[1:]], maker)


def test_the_latest_valid_answer_of_a_sample_wins_else_the_latest(tmp_path):
    again = {"index": 5, "samples": [0, 2], "attempts": 1, "was": "failed"}
    first = [error(5, 0), answer(5, 1, "one"), answer(5, 2, "old"), answer(6, 0), answer(6, 1), answer(6, 2)]
    rounds = [
        ([{"index": 5}, {"index": 6}], first),
        ([again, {"index": 9}], [answer(5, 0, "one"), error(5, 2, 3)]),
        ([again | {"attempts": 2, "samples": [1]}], [answer(5, 1, "new")]),
    ]
    found = put_together(parts(tmp_path, rounds, 3), 3).to_pylist()
    assert [row["index"] for row in found] == [5, 6]
    row = found[0]
    assert [one["text"] for one in row["samples"]] == ["one", "new", "old"]
    assert (row["result"], row["attempts"], row["round"], row["n_valid"]) == ("one", 3, 2, 3)
    assert row["usage"]["prompt_tokens"] == 40
    assert row["cost_usd"] is None  # nobody said what the error lines cost
    assert (found[1]["round"], found[1]["attempts"], found[1]["cost_usd"]) == (0, 1, pytest.approx(3 * LINE_USD))


def test_a_row_of_one_sample_keeps_its_answer_when_it_fails_later(tmp_path):
    bought = {"attempts": 1, "was": "failed"}
    rounds = [
        (
            [{"index": 1}, {"index": 2}, {"index": 3}, {"index": 4}],
            [answer(1, 0, "a"), answer(2, candidates=[]), answer(3)],
        ),
        ([{"index": at} | bought for at in (1, 2, 4)], [answer(1, candidates=[]), answer(2, 0, "b")]),
        ([{"index": 4, "bad": "invalid_argument"} | bought | {"attempts": 2}], []),
    ]
    found = put_together(parts(tmp_path, rounds, 1), 1).to_pylist()
    assert [(row["text"], row["round"], row["attempts"]) for row in found] == [
        ("a", 0, 2), ("b", 1, 2), ("fine", 0, 1), (None, 2, 2),
    ]  # fmt: skip
    assert [row["cost_usd"] for row in found] == [*[pytest.approx(2 * LINE_USD)] * 2, pytest.approx(LINE_USD), None]
    assert found[3]["error"]["kind"] == "invalid_argument"
    assert found[3]["request_digest"] is None


def test_rows_that_no_later_round_holds_stay_as_they_are(tmp_path):
    tables = parts(tmp_path, [([{"index": 1}], [answer(1)]), ([{"index": 2}], [])], 1)
    block = tables[0].combine_chunks().to_batches()[0]
    assert patched(block, [read_rows(tables[1])], RowMaker(None, 1, 1)) is block


@given(st.data(), st.integers(1, 3), st.integers(1, 3))
def test_a_part_read_back_makes_the_same_part(tmp_path_factory, data, n_samples, min_valid):
    """What the merge starts from is what parsing ended with."""
    folder = tmp_path_factory.mktemp("again")
    rows = [{"index": at} for at in sorted(data.draw(st.sets(st.integers(0, 99), min_size=1, max_size=5)))]
    shapes = [answer, lambda *of: answer(*of, '{"kind": "b"}'), error, lambda *of: b""]
    lines = [data.draw(st.sampled_from(shapes))(row["index"], at) for row in rows for at in range(n_samples)]
    parsed(folder, rows, lines, n_samples, OBJECT, min_valid=min_valid, price=PRICE)
    part = pq.read_table(folder / "part")
    maker = RowMaker(OBJECT, n_samples, min_valid)
    assert maker.make(read_rows(part)).table.equals(part)
    assert (
        maker.make(overlay([read_rows(part)]))
        .table.drop_columns("request_digest")
        .equals(part.drop_columns("request_digest"))
    )


def test_nothing_used_is_nothing_known():
    assert sum_usage([]) == sum_usage([(None,) * 4]) == (None,) * 4
    assert sum_usage([(1, None, 2, None), (3, None, None, 4)]) == (4, None, 2, 4)


# --- lines of a request file ------------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=6))
def test_each_line_of_a_request_file_is_of_one_sample(sent):
    pairs = [(place, sample) for place, samples in enumerate(sent) for sample in samples]
    assert [place_of_line(sent, line) for line in range(1, len(pairs) + 1)] == pairs
    assert place_of_line(sent, 0) is place_of_line(sent, len(pairs) + 1) is None


@pytest.mark.parametrize("own", [True, False])
def test_the_row_of_a_line_is_found_from_the_files(tmp_path, own):
    rows = [{"index": 3, "bad": "bad_row"}, {"index": 8, **({"samples": [1]} if own else {})}, {"index": 70}]
    write_rows(tmp_path / "rows", rows)
    write_requests(tmp_path / "requests", rows)
    found = [row_of_line(tmp_path / "rows", tmp_path / "requests", 2, line) for line in range(1, 6)]
    assert found == ([(8, 1)] if own else [(8, 0), (8, 1)]) + [(70, 0), (70, 1)] + [None] * (2 if own else 1)


def test_one_sample_and_one_valid_do_not_change_what_a_run_is(asked):
    """A release that adds an option must not make yesterday's question a new one."""
    assert asked().identity() == asked(n_samples=1, min_valid=1).identity()
    assert "min_valid" not in asked().identity()
    assert asked(n_samples=2).identity() != asked().identity() != asked(min_valid=2).identity()


def test_a_number_too_fine_for_a_float_votes_as_it_is_and_is_kept_rounded(tmp_path):
    """JSON Schema's number takes every number."""
    schema = {"type": "object", "properties": {"x": {"type": "number"}}}
    spec = SchemaSpec(ref=None, json_schema=schema, validate_by="json-schema")
    lines = [answer(1, at, f'{{"x": {2**53 + at}}}') for at in (0, 1)]
    (row,), _ = parsed(tmp_path, [{"index": 1, "samples": [1]}], lines[1:], 2, spec)
    assert row["result"] == {"x": 2.0**53}
