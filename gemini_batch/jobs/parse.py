"""A shard's raw results become its part. Runs in a process of the CPU pool.

In: a `ParseTask`. Out: the part under the given scratch path, every row of the shard in index order, and a `Tally`.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gemini_batch.dataset import dataset_schema, result_type
from gemini_batch.gemini.wire import Answer
from gemini_batch.jobs.align import Aligned, align
from gemini_batch.parquet import Writer
from gemini_batch.records import SchemaSpec, Tally
from gemini_batch.schema.check import Check, Invalid, checker

CHUNK_BYTES = 1 << 20

NO_SUCH_VALUE = (pa.ArrowException, OverflowError, ValueError, TypeError, AttributeError)
"""What Arrow raises for a value that a column cannot hold; a model may serialise to anything."""


@dataclass(frozen=True)
class NoAnswer:
    """What to say of a row that was sent and has no line: `kind` and `message` of its error."""

    kind: str
    message: str


@dataclass(frozen=True)
class ParseTask:
    nonce: str
    response_schema: SchemaSpec | None
    rows: Path
    requests: Path
    raw: Path | None
    part: Path
    no_answer: NoAnswer


@dataclass(frozen=True)
class Packed:
    """A result file after compression: of its plain bytes."""

    sha256: str
    size_bytes: int
    lines: int
    ends_line: bool
    """Whether the last line has its line feed: one that has not may be cut."""


@dataclass(frozen=True)
class PackTask:
    plain: Path
    packed: Path


def pack(task: PackTask) -> Packed:
    """Compress a downloaded result file (zstd) and say what it was."""
    digest, size, lines, last = hashlib.sha256(), 0, 0, b"\n"
    with task.plain.open("rb") as source, pa.CompressedOutputStream(str(task.packed), "zstd") as out:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            out.write(chunk)
            size, lines, last = size + len(chunk), lines + chunk.count(b"\n"), chunk[-1:]
    return Packed(digest.hexdigest(), size, lines + (last != b"\n"), last == b"\n")


def parse(task: ParseTask) -> Tally:
    """Write the part of a shard.

    Raises:
        BadInput: the schema of the run cannot be used here.
        OSError: a scratch file cannot be written.
    """
    rows = pq.read_table(task.rows, columns=["index", "key"], page_checksum_verification=True)
    outcomes = pq.read_table(task.requests, page_checksum_verification=True).to_pylist()
    sent = [outcome["error_kind"] is None for outcome in outcomes]
    digest = hashlib.sha256()
    lines = _lines(task.raw, digest) if task.raw else ()
    aligned = align(lines, task.nonce, rows["index"][0].as_py(), sent)
    answers = _every_row(aligned, outcomes, task.no_answer)
    results, answers = _checked(answers, checker(task.response_schema), result_type(task.response_schema))
    table = _table(rows, answers, results, outcomes, task.response_schema)
    with Writer(task.part, table.schema) as writer:
        writer.write(table)
    return _tally(answers, aligned, sent, digest.hexdigest() if task.raw else None, _sha256(task.part))


def _lines(raw: Path, digest: Any) -> Iterator[bytes]:
    """Lines of a packed result file, split at line feeds only: texts may hold U+2028."""
    rest = b""
    with pa.CompressedInputStream(str(raw), "zstd") as source:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            *whole, rest = (rest + chunk).split(b"\n")
            yield from whole
    yield rest


def _every_row(aligned: Aligned, outcomes: list[dict[str, Any]], no_answer: NoAnswer) -> list[Answer]:
    """An answer for each row: its line's, or why there is none."""
    absent = Answer("failed", kind=no_answer.kind, message=no_answer.message)
    return [
        answer or absent
        if outcome["error_kind"] is None
        else Answer("failed", kind=outcome["error_kind"], message=outcome["error_message"])
        for answer, outcome in zip(aligned.answers, outcomes, strict=True)
    ]


def _checked(answers: list[Answer], check: Check, kind: pa.DataType) -> tuple[pa.Array, list[Answer]]:
    """The result column; an answer whose text does not fit becomes `invalid`."""
    values: list[Any] = []
    checked: list[Answer] = []
    for answer in answers:
        value = None
        if answer.status == "ok":
            try:
                value = check(answer.text or "")
            except Invalid as error:
                answer = _invalid(answer, str(error))  # noqa: PLW2901
        values.append(value)
        checked.append(answer)
    try:
        return pa.array(values, kind), checked
    except NO_SUCH_VALUE:
        return _one_by_one(values, checked, kind)


def _one_by_one(values: list[Any], answers: list[Answer], kind: pa.DataType) -> tuple[pa.Array, list[Answer]]:
    """Find the value that the column cannot hold, such as an integer beyond 64 bits."""
    for at, value in enumerate(values):
        try:
            values[at] = _numbers(value, kind)
            pa.array([values[at]], kind)
        except NO_SUCH_VALUE as error:
            values[at], answers[at] = None, _invalid(answers[at], str(error))
    return pa.array(values, kind), answers


def _numbers(value: Any, kind: pa.DataType) -> Any:
    """JSON does not tell 1 from 1.0 and Arrow does: numbers as the column's type wants them."""
    if value is None:
        return None
    if pa.types.is_struct(kind):
        return {field.name: _numbers(value.get(field.name), field.type) for field in kind}
    if pa.types.is_list(kind):
        return [_numbers(item, kind.value_type) for item in value]
    if pa.types.is_float64(kind):
        return float(value)
    return int(value) if pa.types.is_int64(kind) and value == int(value) else value


def _invalid(answer: Answer, message: str) -> Answer:
    return replace(answer, status="invalid", kind="schema_invalid", message=message)


def _table(
    rows: pa.Table,
    answers: list[Answer],
    results: pa.Array,
    outcomes: list[dict[str, Any]],
    spec: SchemaSpec | None,
) -> pa.Table:
    ok = [answer.status == "ok" for answer in answers]
    columns = {
        "index": rows["index"],
        "key": rows["key"],
        "status": [answer.status for answer in answers],
        "result": results,
        "text": [answer.text for answer in answers],
        "error": [_error(answer) for answer in answers],
        "n_valid": [int(fine) for fine in ok],
        "agreement": [1.0 if fine else None for fine in ok],
        "disagreements": [[] if fine else None for fine in ok],
        "samples": [None] * len(ok),
        "attempts": [int(outcome["error_kind"] is None) for outcome in outcomes],
        "round": [0] * len(ok),
        "usage": [_usage(answer) for answer in answers],
        "cost_usd": [None] * len(ok),
        "finish_reason": [answer.finish_reason for answer in answers],
        "model_version": [answer.model_version for answer in answers],
        "request_digest": [outcome["request_digest"] for outcome in outcomes],
    }
    return pa.table(columns, dataset_schema(spec))


def _error(answer: Answer) -> dict[str, Any] | None:
    if answer.kind is None:
        return None
    return {"kind": answer.kind, "code": answer.code, "message": answer.message}


def _usage(answer: Answer) -> dict[str, int | None] | None:
    usage = {
        "prompt_tokens": answer.prompt_tokens,
        "cached_tokens": answer.cached_tokens,
        "output_tokens": answer.output_tokens,
        "thoughts_tokens": answer.thoughts_tokens,
    }
    return usage if any(count is not None for count in usage.values()) else None


def _tally(
    answers: list[Answer], aligned: Aligned, sent: list[bool], raw_sha256: str | None, part_sha256: str
) -> Tally:
    return Tally(
        rows=len(answers),
        by_status=dict(Counter(answer.status for answer in answers)),
        by_kind=dict(Counter(answer.kind for answer in answers if answer.kind)),
        received=aligned.received,
        missing=sum(was_sent and found is None for was_sent, found in zip(sent, aligned.answers, strict=True)),
        duplicate=aligned.duplicate,
        conflicting=aligned.conflicting,
        foreign=aligned.foreign,
        broken=aligned.broken,
        prompt_tokens=sum(answer.prompt_tokens or 0 for answer in answers),
        output_tokens=sum(answer.output_tokens or 0 for answer in answers),
        thoughts_tokens=sum(answer.thoughts_tokens or 0 for answer in answers),
        raw_sha256=raw_sha256,
        part_sha256=part_sha256,
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
