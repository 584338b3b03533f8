"""Raw results become a part: every row in order, in the contract's columns."""

import hashlib
import json
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gemini_batch.dataset import dataset_schema
from gemini_batch.gemini.wire import line_key
from gemini_batch.jobs.asked import NoAnswer
from gemini_batch.jobs.encode import REQUESTS
from gemini_batch.jobs.parse import PackTask, ParseTask, pack, parse
from gemini_batch.records import SchemaSpec
from gemini_batch.schema.load import load_schema


def key(nonce, index, sample=0):
    return line_key(nonce.encode(), index, sample).decode()


NONCE = "00c0ffee00c0ffee"
FIRST = 40
EVERYTHING = {
    "text": "ü\u2028", "colour": "red", "word": "a", "uid": "12345678-1234-5678-1234-567812345678", "price": "1.50",
    "whole": 2**62, "real": 0.5, "flag": True, "day": "2026-11-22", "moment": "2026-11-22T12:00:00.25+02:00",
    "words": ["x", ""], "days": ["2026-01-01"], "inner": {"name": "n"}, "inners": [{"name": "m", "count": 3}],
    "maybe": None, "maybe_inner": None, "maybe_day": None, "table": {"a": 1}, "either": "b", "anything": [1, None],
}  # fmt: skip
READ = EVERYTHING | {
    "day": date(2026, 11, 22), "moment": datetime(2026, 11, 22, 10, 0, 0, 250_000, UTC), "days": [date(2026, 1, 1)],
    "inner": {"name": "n", "count": None}, "table": '{"a":1}', "either": '"b"', "anything": "[1,null]",
}  # fmt: skip


def file_of(spec):
    """The same spec as a worker sees it that may not import the model."""
    return SchemaSpec(ref=None, json_schema=spec.json_schema, validate_by="json-schema")


def line(index, text="fine", nonce=NONCE, **response):
    candidate = {"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 2, "thoughtsTokenCount": 1}
    found = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "v", **response}
    return json.dumps({"key": key(nonce, index), "response": found}, ensure_ascii=False).encode()


def collected(folder, lines, count, spec=None, bad=(), raw=True):
    """The part's rows and the tally of a shard of `count` rows, some of which were not sent."""
    index = list(range(FIRST, FIRST + count))
    rows = pa.table({"index": pa.array(index, pa.int64()), "key": [f"k{at}" for at in index], "prompt": ["p"] * count})
    pq.write_table(rows, folder / "rows")
    outcomes = [
        {"index": at, "error_kind": "bad_row", "error_message": "why"}
        if at - FIRST in bad
        else {"index": at, "request_digest": f"d{at}"}
        for at in index
    ]
    pq.write_table(pa.Table.from_pylist(outcomes, REQUESTS), folder / "requests")
    (folder / "plain").write_bytes(b"\n".join(lines))
    packed = pack(PackTask(folder / "plain", folder / "raw"))
    assert packed.sha256 == hashlib.sha256((folder / "plain").read_bytes()).hexdigest()
    task = ParseTask(
        NONCE,
        spec,
        folder / "rows",
        folder / "requests",
        folder / "raw" if raw else None,
        folder / "part",
        NoAnswer("missing", "no line"),
    )
    tally = parse(task)
    part = pq.read_table(folder / "part", page_checksum_verification=True)
    assert part.schema.equals(dataset_schema(spec))
    assert part["index"].to_pylist() == index
    assert part["key"].to_pylist() == [f"k{at}" for at in index]
    assert tally.part_sha256 == hashlib.sha256((folder / "part").read_bytes()).hexdigest()
    assert sum(tally.by_status.values()) == tally.rows == count
    return part.to_pylist(), tally


def test_rows_answered_missing_bad_and_failed_stand_in_order_each_with_its_reason(tmp_path):
    """A dataset without a row, or with a row that does not say why, is of no use."""
    failed = json.dumps({"key": key(NONCE, 43), "error": {"code": 13, "message": "internal"}}).encode()
    rows, tally = collected(tmp_path, [failed, line(41), b"{broken", line(40), line(9), line(41), b""], 5, bad={4})
    assert [row["status"] for row in rows] == ["ok", "ok", "failed", "failed", "failed"]
    assert [row["error"] and row["error"]["kind"] for row in rows] == [None, None, "missing", "transient", "bad_row"]
    assert rows[3]["error"] == {"kind": "transient", "code": 13, "message": "internal"}
    assert [row["attempts"] for row in rows] == [1, 1, 1, 1, 0]
    assert [row["request_digest"] for row in rows] == ["d40", "d41", "d42", "d43", None]
    counts = (tally.received, tally.missing, tally.duplicate, tally.foreign, tally.broken)
    assert counts == (6, 1, 1, 1, 1)
    assert tally.by_kind == {"missing": 1, "transient": 1, "bad_row": 1}
    assert (tally.prompt_tokens, tally.output_tokens, tally.thoughts_tokens, tally.counted) == (20, 4, 2, 2)
    assert tally.raw_sha256 == hashlib.sha256((tmp_path / "plain").read_bytes()).hexdigest()


def test_an_ok_row_has_every_column_of_the_contract(tmp_path):
    (row,), _ = collected(tmp_path, [line(40, "the answer")], 1)
    assert row == {
        "index": 40, "key": "k40", "status": "ok", "result": "the answer", "text": "the answer", "error": None,
        "n_valid": 1, "agreement": 1.0, "disagreements": [], "samples": None, "attempts": 1, "round": 0,
        "usage": {"prompt_tokens": 10, "cached_tokens": None, "output_tokens": 2, "thoughts_tokens": 1},
        "cost_usd": None, "finish_reason": "STOP", "model_version": "v", "request_digest": "d40",
    }  # fmt: skip


def test_without_raw_results_every_sent_row_has_the_jobs_reason(tmp_path):
    rows, tally = collected(tmp_path, [], 3, bad={0}, raw=False)
    assert [row["error"]["message"] for row in rows] == ["why", "no line", "no line"]
    assert (tally.raw_sha256, tally.received, tally.missing) == (None, 0, 2)


def test_a_line_separator_inside_a_text_does_not_end_the_line(tmp_path):
    """U+2028 and U+0085 are line ends for str.splitlines, not for JSON lines."""
    (row,), tally = collected(tmp_path, [line(40, "a\u2028b\u2029c\u0085d\x0b")], 1)
    assert (row["text"], tally.broken) == ("a\u2028b\u2029c\u0085d\x0b", 0)


def test_lines_longer_than_a_read_are_put_together(tmp_path):
    long = "x" * 3_000_000
    rows, _ = collected(tmp_path, [line(41, long), line(40)], 2)
    assert [row["text"] for row in rows] == ["fine", long]


@pytest.mark.parametrize("by", ["model", "json-schema"])
def test_every_type_of_the_contract_is_read(tmp_path, by):
    spec = load_schema("schemas:Everything")
    assert spec.validate_by == "model"
    rows, _ = collected(tmp_path, [line(40, json.dumps(EVERYTHING))], 1, spec if by == "model" else file_of(spec))
    assert (rows[0]["status"], rows[0]["error"]) == ("ok", None)
    price = READ["price"] if by == "model" else json.dumps(READ["price"])  # a union, as far as a JSON Schema tells
    assert rows[0]["result"] == READ | {"price": price}


@pytest.mark.parametrize("by", ["model", "json-schema"])
@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "{", "null", "[]", '{"number": "x"}', '{"number": 1.5}', "{}", '{"number": NaN}', '{"number":1}x',
     f'{{"number": {2**63}}}', f'{{"number": {2**64}}}', f'{{"number": -{2**70}}}', '{"number": 1e400}',
     '{"number": ' + "[" * 400 + "]" * 400 + "}", "[" * 2000],
)  # fmt: skip
def test_an_answer_that_does_not_fit_is_invalid_alone_and_keeps_its_text(tmp_path, by, text):
    spec = load_schema("schemas:Number")
    lines = [line(40, '{"number": 1}'), line(41, text), line(42, '{"number": -3}')]
    rows, tally = collected(tmp_path, lines, 3, spec if by == "model" else file_of(spec))
    assert [row["result"] for row in rows] == [{"number": 1}, None, {"number": -3}]
    if text:
        assert (rows[1]["status"], rows[1]["text"]) == ("invalid", text)
        assert rows[1]["error"]["kind"] == "schema_invalid"
        assert rows[1]["error"]["message"]
    assert tally.by_status["ok"] == 2


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
@pytest.mark.parametrize("by", ["model", "json-schema"])
def test_a_moment_that_has_no_utc_is_invalid_alone(tmp_path, by, moment):
    """Models write year 1 for "no date"; one of them must not stop the shard."""
    spec = load_schema("schemas:Everything")
    texts = [json.dumps(EVERYTHING), json.dumps(EVERYTHING | {"moment": moment})]
    rows, _ = collected(
        tmp_path, [line(40 + at, text) for at, text in enumerate(texts)], 2, spec if by == "model" else file_of(spec)
    )
    assert [row["status"] for row in rows] == ["ok", "invalid"]


def test_a_validator_that_raises_something_odd_makes_only_its_row_invalid(tmp_path):
    """The user's code runs on paid answers; a KeyError in it must not lose the others."""
    spec = load_schema("schemas:Picky")
    rows, _ = collected(tmp_path, [line(40, '{"word": "a"}'), line(41, '{"word": "c"}')], 2, spec)
    assert [row["status"] for row in rows] == ["ok", "invalid"]
    assert rows[0]["result"] == {"word": "alpha"}


@pytest.mark.parametrize("name", ["Renamed", "Aliased"])
@pytest.mark.parametrize("by", ["model", "json-schema"])
def test_a_field_with_another_name_in_json_is_not_lost(tmp_path, name, by):
    """A null result that says ok would be a silent wrong value."""
    spec = load_schema(f"schemas:{name}")
    (row,), _ = collected(tmp_path, [line(40, '{"zahl": 7}')], 1, spec if by == "model" else file_of(spec))
    assert (row["status"], list(row["result"].values())) == ("ok", [7])


def test_a_whole_number_too_fine_for_a_float_is_still_a_number(tmp_path):
    """JSON Schema's number takes every number; the column rounds, as JSON readers do."""
    schema = {"type": "object", "properties": {"x": {"type": "number"}}}
    spec = SchemaSpec(ref=None, json_schema=schema, validate_by="json-schema")
    (row,), _ = collected(tmp_path, [line(40, '{"x": 9007199254740993}')], 1, spec)
    assert (row["status"], row["result"]) == ("ok", {"x": 2.0**53})


def test_a_list_and_a_recursive_model_are_results_too(tmp_path):
    (row,), _ = collected(tmp_path, [line(40, '[{"number": 1}]')], 1, load_schema("schemas:Numbers"))
    assert row["result"] == [{"number": 1}]
    tree = '{"value": 1, "children": [{"value": 2, "children": []}]}'
    (row,), _ = collected(tmp_path, [line(40, tree)], 1, load_schema("schemas:Tree"))
    assert row["result"]["value"] == 1
    assert [json.loads(child) if isinstance(child, str) else child for child in row["result"]["children"]] == [
        {"value": 2, "children": []}
    ]


def test_only_ok_rows_have_a_result_and_the_raw_text_stays(tmp_path):
    """`text` is filled whenever an answer came, so that nothing paid for is lost."""
    spec = load_schema("schemas:Number")
    cut = line(40, candidates=[{"content": {"parts": [{"text": '{"num'}]}, "finishReason": "MAX_TOKENS"}])
    held = line(41, candidates=[{"content": {"parts": [{"text": "no"}]}, "finishReason": "SAFETY"}])
    rows, tally = collected(tmp_path, [cut, held], 2, spec)
    assert [(row["status"], row["result"], row["text"]) for row in rows] == [
        ("truncated", None, '{"num'),
        ("blocked", None, "no"),
    ]
    assert tally.by_kind == {"truncated": 1, "blocked_answer": 1}
    assert [(row["n_valid"], row["agreement"], row["disagreements"]) for row in rows] == [(0, None, None)] * 2


@pytest.mark.parametrize(
    ("body", "lines"), [(b"", 0), (b"a", 1), (b"a\n", 1), (b"a\nb", 2), (b"a\nb\n", 2), (b"\n\n", 2)]
)
def test_packing_counts_lines_with_or_without_a_last_line_feed(tmp_path, body, lines):
    """The count is one of the proofs that a download is whole."""
    (tmp_path / "plain").write_bytes(body)
    packed = pack(PackTask(tmp_path / "plain", tmp_path / "packed"))
    assert (packed.lines, packed.size_bytes) == (lines, len(body))
    with pa.CompressedInputStream(str(tmp_path / "packed"), "zstd") as stream:
        assert stream.read() == body
