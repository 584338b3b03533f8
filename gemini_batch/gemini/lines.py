"""Result lines as columns. Pure.

In: a stretch of a result file. Out: its keys and answers, a row for each line that is a JSON object, in order. Plain
answers are read by Arrow a block at a time; every other line, and every line of a stretch in which Arrow finds anything
odd, by `wire.read_answer`, so both ways say the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from gemini_batch.gemini.wire import FINISHED, Answer, read_answer

TOKENS = ("prompt_tokens", "cached_tokens", "output_tokens", "thoughts_tokens")

ANSWERS = pa.schema(
    [
        ("status", pa.string()),
        ("text", pa.large_string()),
        ("kind", pa.string()),
        ("code", pa.int32()),
        ("message", pa.string()),
        ("finish_reason", pa.string()),
        ("model_version", pa.string()),
        *((name, pa.int64()) for name in TOKENS),
    ]
)
"""The fields of `Answer`. A row of nulls is an answer that did not come."""

_COUNTS = ("promptTokenCount", "cachedContentTokenCount", "candidatesTokenCount", "thoughtsTokenCount")

_PART = pa.struct([("text", pa.large_string()), ("thought", pa.bool_())])
_CANDIDATE = pa.struct([("content", pa.struct([("parts", pa.list_(_PART))])), ("finishReason", pa.string())])
_RESPONSE = pa.struct(
    [
        ("candidates", pa.list_(_CANDIDATE)),
        ("usageMetadata", pa.struct([(name, pa.int64()) for name in _COUNTS])),
        ("modelVersion", pa.string()),
        ("promptFeedback", pa.struct([])),
    ]
)
_PARSE = pj.ParseOptions(
    explicit_schema=pa.schema([("key", pa.string()), ("response", _RESPONSE)]), unexpected_field_behavior="ignore"
)
_ANSWERED = pa.array([reason for reason, kind in FINISHED.items() if kind is None])
_FIRST_BYTE, _LAST_BYTE = itemgetter(0), itemgetter(-1)


@dataclass(frozen=True, slots=True)
class Lines:
    """What a stretch of a result file holds."""

    keys: pa.Array
    """Of each line that is an object; null where it has no key, or one that is no text."""
    answers: pa.RecordBatch
    """In the columns of `ANSWERS`, to each of those."""
    received: int = 0
    """Lines that are not blank."""
    broken: int = 0
    """Lines that are no JSON object."""


def read_lines(body: bytes) -> Lines:
    """The lines of a stretch, which ends where a line does; the last line feed may be missing."""
    lines = body.split(b"\n")
    if not lines[-1]:
        lines.pop()
    table = _table(body, lines)
    return _one_by_one(lines) if table is None else _by_block(table, lines)


def parsed_lines(lines: Sequence[bytes]) -> list[dict[str, Any] | None]:
    """What `parsed_line` makes of each; where none is broken, at half the cost."""
    try:
        entries: list[dict[str, Any] | None] = list(map(orjson.loads, lines))
        if set(map(type, entries)) <= {dict}:
            return entries
    except orjson.JSONDecodeError:
        pass
    return [parsed_line(line) for line in lines]


def parsed_line(line: bytes) -> dict[str, Any] | None:
    """The object on a line; None for one that is broken."""
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) else None


def to_columns(answers: Sequence[Answer]) -> pa.RecordBatch:
    """Answers in the columns of `ANSWERS`."""
    columns = [pa.array([getattr(answer, field.name) for answer in answers], field.type) for field in ANSWERS]
    return pa.RecordBatch.from_arrays(columns, schema=ANSWERS)


def to_answers(columns: pa.RecordBatch | pa.Table) -> list[Answer]:
    """The other way round; the tokens may be left out."""
    names = columns.schema.names
    rows = zip(*(columns.column(name).to_pylist() for name in names), strict=True)
    return [Answer(**dict(zip(names, row, strict=True))) for row in rows]


def _one_by_one(lines: Sequence[bytes]) -> Lines:
    held = [line for line in lines if line.strip()]
    entries = [entry for line in held if (entry := parsed_line(line)) is not None]
    keys = [key if type(key := entry.get("key")) is str else None for entry in entries]
    answers = to_columns([read_answer(entry) for entry in entries])
    return Lines(pa.array(keys, pa.string()), answers, len(held), len(held) - len(entries))


def _table(body: bytes, lines: Sequence[bytes]) -> pa.RecordBatch | None:
    """The lines as Arrow reads them, one row each; None where it reads them otherwise than `parsed_line`.

    A value never runs on from a line that ends with `}` into one that begins with `{`, so as many rows as lines are one
    row a line. Arrow takes NaN for a number, and texts that are no UTF-8.
    """
    if not lines or b"\0" in body or any(_holds(body, token) for token in (b"NaN", b"Inf")):
        return None
    try:
        if set(map(_FIRST_BYTE, lines)) != {ord("{")} or set(map(_LAST_BYTE, lines)) != {ord("}")}:
            return None
        body.decode()
        read = pj.ReadOptions(use_threads=False, block_size=len(body) + 1)
        table = pj.read_json(pa.py_buffer(body), read_options=read, parse_options=_PARSE)
        table.validate(full=True)
    except (IndexError, UnicodeDecodeError, pa.ArrowException):
        return None
    return table.combine_chunks().to_batches()[0] if table.num_rows == len(lines) else None


def _holds(body: bytes, token: bytes) -> bool:
    return token[:1] in body and token in body  # a single byte is looked for much faster


def _by_block(table: pa.RecordBatch, lines: Sequence[bytes]) -> Lines:
    rows, texts = _plain(table.column("response"))
    responses = table.column("response")
    if len(rows) == len(lines):
        answers = _answers(responses, texts)
    else:
        answers = _with_others(_answers(responses.take(rows), texts), rows, lines)
    return Lines(table.column("key"), answers, len(lines))


def _with_others(plain: pa.RecordBatch, rows: pa.Array, lines: Sequence[bytes]) -> pa.RecordBatch:
    """Plain answers, which are those to `rows`, and every other line's in its place."""
    taken = set(rows.to_pylist())
    odd = [at for at in range(len(lines)) if at not in taken]
    others = to_columns([read_answer(parsed_line(lines[at]) or {}) for at in odd])
    order = pc.sort_indices(pa.concat_arrays([rows, pa.array(odd, pa.int64())]))
    both = pa.Table.from_batches([plain, others]).combine_chunks().to_batches()[0]
    return both.take(order)


def _plain(responses: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Which responses are one finished candidate with one piece of text, and those texts."""
    every = _range(len(responses))
    feedback = pc.struct_field(responses, "promptFeedback")
    candidates = pc.struct_field(responses, "candidates")
    single = pc.fill_null(pc.equal(pc.list_value_length(candidates), 1), False)
    rows = every.filter(pc.and_(pc.is_null(feedback), single))
    held = pc.list_flatten(candidates if len(rows) == len(every) else candidates.take(rows))
    reasons = pc.fill_null(pc.struct_field(held, "finishReason"), "")
    finished = pc.is_in(reasons, value_set=_ANSWERED)
    if finished.false_count:
        held, rows = held.filter(finished), rows.filter(finished)
    parts = pc.struct_field(held, ["content", "parts"])
    said, of = pc.list_flatten(parts), pc.list_parent_indices(parts).cast(pa.int64())
    spoken = pc.and_(
        pc.is_valid(pc.struct_field(said, "text")), pc.invert(pc.fill_null(pc.struct_field(said, "thought"), False))
    )
    texts, of_text = pc.struct_field(said, "text"), of
    if spoken.false_count:
        texts, of_text = texts.filter(spoken), of.filter(spoken)
    if not said.null_count and of_text.equals(_range(len(rows))):
        return rows, texts
    counts = pc.value_counts(of_text)
    single = counts.field("values").filter(pc.equal(counts.field("counts"), 1))
    if said.null_count:  # a part that is none: not understood
        single = single.filter(pc.invert(pc.is_in(single, value_set=of.filter(pc.is_null(said)))))
    return rows.take(single), texts.filter(pc.is_in(of_text, value_set=single))


def _answers(responses: pa.Array, texts: pa.Array) -> pa.RecordBatch:
    """Plain responses with their texts in the columns of `ANSWERS`."""
    rows, usage = len(texts), pc.struct_field(responses, "usageMetadata")
    reasons = pc.struct_field(pc.list_flatten(pc.struct_field(responses, "candidates")), "finishReason")
    columns = {
        "status": pa.repeat("ok", rows),
        "text": texts,
        "finish_reason": pc.if_else(pc.equal(reasons, ""), None, reasons),
        "model_version": pc.struct_field(responses, "modelVersion"),
        **{name: _count(pc.struct_field(usage, count)) for name, count in zip(TOKENS, _COUNTS, strict=True)},
    }
    found = [columns[field.name] if field.name in columns else pa.nulls(rows, field.type) for field in ANSWERS]
    return pa.RecordBatch.from_arrays(found, schema=ANSWERS)


def _count(values: pa.Array) -> pa.Array:
    """As `wire._count` of a number."""
    if values.null_count == len(values):
        return values
    within = pc.and_(pc.greater_equal(values, 0), pc.less(values, 2**31))
    return values if pc.all(within, min_count=0).as_py() else pc.if_else(within, values, None)


def _range(stop: int) -> pa.Array:
    return pc.indices_nonzero(pa.repeat(True, stop)).cast(pa.int64())
