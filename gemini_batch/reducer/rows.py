"""Answers become rows: the one place where the samples of a row are put together and a row's columns are made.

In: `Rows`, of one shard, or of several rounds put together by `overlay`. Out: rows of a part, or of the dataset. A
sample is valid if it came and fits the schema; a row is ok if enough of its samples are.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch.dataset import ERROR, PART_SAMPLE, USAGE, part_schema, result_type
from gemini_batch.gemini.prices import BatchPrice
from gemini_batch.gemini.wire import Answer
from gemini_batch.records import SchemaSpec
from gemini_batch.reducer.vote import Vote, vote
from gemini_batch.schema.check import Invalid, split_checker

NO_SUCH_VALUE = (pa.ArrowException, OverflowError, ValueError, TypeError, AttributeError)
"""What Arrow raises for a value that a column cannot hold; a model may serialise to anything."""

TOKENS = ("prompt_tokens", "cached_tokens", "output_tokens", "thoughts_tokens")

Usage = tuple[int | None, int | None, int | None, int | None]
"""Counts of `TOKENS`; None for what the service did not tell."""

NO_USAGE: Usage = (None, None, None, None)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows before they are columns. Every sequence has one entry per row, but `answers`."""

    index: Sequence[int]
    key: Sequence[str]
    samples: Sequence[Sequence[int]]
    """Which samples of the row there are, rising. One that was not asked for here is not among them."""
    answers: Sequence[Answer]
    """To each of those, one row after the other: as the line said it, or why there is none."""
    attempts: Sequence[int]
    """Times that the row was bought, this one included."""
    round: Sequence[int]
    usage: Sequence[Usage]
    cost_usd: Sequence[float | None]
    """None where nothing was bought, and where it is not known."""
    request_digest: Sequence[str | None]

    def spans(self) -> list[tuple[int, int]]:
        """Per row, where its answers begin and end."""
        return list(pairwise(accumulate(map(len, self.samples), initial=0)))


@dataclass(frozen=True, slots=True)
class Made:
    """Rows as columns."""

    table: pa.Table
    """In the columns of a part."""
    answers: list[Answer]
    """Of each sample, those that do not fit the schema `invalid`."""


# --- what was used ----------------------------------------------------------------------------------------------------


def usage_of(answer: Answer) -> Usage:
    return answer.prompt_tokens, answer.cached_tokens, answer.output_tokens, answer.thoughts_tokens


def sum_usage(usages: Sequence[Usage]) -> Usage:
    """The sum of what is known; None where nothing is."""
    if len(usages) == 1:
        return usages[0]
    counts = [[count for count in of_one if count is not None] for of_one in zip(*usages, strict=True)]
    prompt, cached, output, thoughts = (sum(known) if known else None for known in counts or [[]] * len(TOKENS))
    return prompt, cached, output, thoughts


def sum_cost(costs: Sequence[float | None]) -> float | None:
    """None where one is not known, and for nothing at all."""
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known and len(known) == len(costs) else None


def cost_of(answer: Answer, prices: tuple[float, float, float]) -> float | None:
    """What a line cost, None when that is not known: a line with an error says nothing of it.

    Args:
        prices: USD a token: of input, cached input and output. Cached tokens are among those of the prompt, thoughts
            are paid as output (GenerateContentResponse reference, pricing page).
    """
    prompt, output, thoughts = answer.prompt_tokens, answer.output_tokens, answer.thoughts_tokens
    if prompt is None or (output is None and thoughts is None and answer.text):
        return None
    cached = min(answer.cached_tokens or 0, prompt)
    return (prompt - cached) * prices[0] + cached * prices[1] + ((output or 0) + (thoughts or 0)) * prices[2]


def per_token(price: BatchPrice) -> tuple[float, float, float]:
    """The prices that `cost_of` takes."""
    return float(price.input_usd), float(price.cached_usd), float(price.output_usd)


# --- answers to columns -----------------------------------------------------------------------------------------------


class RowMaker:
    """Makes the rows of one run. Compiles its schema once.

    Args:
        n_samples: of the run.
        min_valid: how many samples of a row have to be valid; all that there are, where there are fewer.

    Raises:
        BadInput: the schema of the run cannot be used here.
    """

    def __init__(self, spec: SchemaSpec | None, n_samples: int, min_valid: int) -> None:
        self.schema = part_schema(spec, n_samples)
        self._one = n_samples == 1
        self._min_valid = min_valid
        self._type = result_type(spec)
        self._fieldwise = pa.types.is_struct(self._type)
        load, convert = split_checker(spec)
        self._load = load
        self._convert = convert

    def make(self, rows: Rows) -> Made:
        return self._single(rows) if self._one else self._voted(rows)

    def _single(self, rows: Rows) -> Made:
        """One sample a row: the answers are the rows."""
        _, values, answers = self._checked(rows.answers)
        ok = [answer.status == "ok" for answer in answers]
        columns = {
            "status": [answer.status for answer in answers],
            "result": values,
            "text": [answer.text for answer in answers],
            "error": _errors(answers),
            "n_valid": [int(fine) for fine in ok],
            "agreement": [1.0 if fine else None for fine in ok],
            "disagreements": [[] if fine else None for fine in ok],
            "samples": pa.nulls(len(ok), self.schema.field("samples").type),
            "finish_reason": [answer.finish_reason for answer in answers],
            "model_version": [answer.model_version for answer in answers],
        }
        return Made(self._table(rows, columns), answers)

    def _voted(self, rows: Rows) -> Made:
        loaded, values, answers = self._checked(rows.answers)
        found = [self._outcome(answers[start:stop], loaded[start:stop]) for start, stop in rows.spans()]
        voted = [one.vote and one.vote.value for one in found]
        results = voted if self._convert is None else [self._convert(value) for value in voted]
        columns = {
            "status": [one.error.status for one in found],
            "result": _storable(results, values.type),
            "text": [one.text for one in found],
            "error": _errors([one.error for one in found]),
            "n_valid": [one.n_valid for one in found],
            "agreement": [one.vote and one.vote.agreement for one in found],
            "disagreements": [one.vote and one.vote.disagreements for one in found],
            "samples": _samples(rows.samples, answers),
            "finish_reason": [one.told_by.finish_reason for one in found],
            "model_version": [one.told_by.model_version for one in found],
        }
        return Made(self._table(rows, columns), answers)

    def _outcome(self, answers: Sequence[Answer], loaded: Sequence[Any]) -> "_Outcome":
        """One row from its samples."""
        valid = [place for place, answer in enumerate(answers) if answer.status == "ok"]
        if valid and len(valid) >= min(self._min_valid, len(answers)):
            found = vote([loaded[place] for place in valid], self._fieldwise)
            winner = answers[valid[found.winner]]
            return _Outcome(len(valid), winner, winner.text, OK, found)
        failed = next(answer for answer in answers if answer.status != "ok")
        text = next((answer.text for answer in answers if answer.text is not None), None)
        return _Outcome(len(valid), answers[0], text, failed)

    def _table(self, rows: Rows, columns: dict[str, Any]) -> pa.Table:
        own = {
            "index": rows.index,
            "key": rows.key,
            "attempts": rows.attempts,
            "round": rows.round,
            "usage": _usages(rows.usage),
            "cost_usd": rows.cost_usd,
            "request_digest": rows.request_digest,
        }
        every = {**columns, **own}
        return pa.table({name: every[name] for name in self.schema.names}, self.schema)

    # --- answers against the schema ---

    def _checked(self, given: Sequence[Answer]) -> tuple[list[Any], pa.Array, list[Answer]]:
        """Each answer's value as JSON has it, and as a column holds it; one whose text does not fit is `invalid`."""
        loaded, values, answers = list[Any](), list[Any](), list[Answer]()
        for answer in given:
            raw = value = None
            if answer.status == "ok":
                try:
                    raw = self._load(answer.text or "")
                    value = raw if self._convert is None else self._convert(raw)
                except Invalid as error:
                    answer = _invalid(answer, str(error))  # noqa: PLW2901
            loaded.append(raw)
            values.append(value)
            answers.append(answer)
        try:
            return loaded, pa.array(values, self._type), answers
        except NO_SUCH_VALUE:
            return loaded, self._one_by_one(values, answers), answers

    def _one_by_one(self, values: list[Any], answers: list[Answer]) -> pa.Array:
        """Find the value that the column cannot hold, such as an integer beyond 64 bits."""
        for at, value in enumerate(values):
            try:
                values[at] = _numbers(value, self._type)
                pa.array([values[at]], self._type)
            except NO_SUCH_VALUE as error:
                values[at], answers[at] = None, _invalid(answers[at], str(error))
        return pa.array(values, self._type)


OK = Answer("ok")


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What the samples of a row come to."""

    n_valid: int
    told_by: Answer
    """The sample whose answer won, else the first."""
    text: str | None
    """That of the sample that won, else the first that came."""
    error: Answer
    """The first sample that has no valid answer, where too few have."""
    vote: Vote | None = None


def _invalid(answer: Answer, message: str) -> Answer:
    return replace(answer, status="invalid", kind="schema_invalid", message=message)


def _storable(values: list[Any], kind: pa.DataType) -> pa.Array:
    """A column of values each of which is known to fit, perhaps as another kind of number."""
    try:
        return pa.array(values, kind)
    except NO_SUCH_VALUE:
        return pa.array([_numbers(value, kind) for value in values], kind)


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


def _errors(answers: Sequence[Answer]) -> pa.Array:
    kinds = pa.array([answer.kind for answer in answers], pa.string())
    columns = [kinds, [answer.code for answer in answers], [answer.message for answer in answers]]
    return _structs(columns, ERROR, kinds.is_null())


def _usages(usages: Sequence[Usage]) -> pa.Array:
    columns = list(zip(*usages, strict=True)) or [()] * len(TOKENS)
    return _structs(columns, USAGE, pa.array([usage == NO_USAGE for usage in usages], pa.bool_()))


def _structs(columns: Sequence[Any], kind: pa.StructType, null: pa.Array) -> pa.Array:
    arrays = [pa.array(column, field.type) for column, field in zip(columns, kind, strict=True)]
    return pa.StructArray.from_arrays(arrays, fields=list(kind), mask=null)


def _samples(numbers: Sequence[Sequence[int]], answers: Sequence[Answer]) -> pa.Array:
    columns = [
        [number for of_row in numbers for number in of_row],
        [answer.status for answer in answers],
        [answer.text for answer in answers],
        [answer.finish_reason for answer in answers],
        [answer.kind for answer in answers],
        [answer.code for answer in answers],
        [answer.message for answer in answers],
        [answer.model_version for answer in answers],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, PART_SAMPLE, strict=True)]
    offsets = pa.array(accumulate(map(len, numbers), initial=0), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(arrays, fields=list(PART_SAMPLE)))


# --- several rounds ---------------------------------------------------------------------------------------------------


def read_rows(part: pa.RecordBatch | pa.Table) -> Rows:
    """Rows of a part as they were before they were columns. What did not fit the schema stays `invalid`."""
    samples, answers = _single_answers(part) if _is_single(part) else _sample_answers(part)
    tokens = [pc.struct_field(part.column("usage"), name).to_pylist() for name in TOKENS]
    return Rows(
        index=part.column("index").to_pylist(),
        key=part.column("key").to_pylist(),
        samples=samples,
        answers=answers,
        attempts=part.column("attempts").to_pylist(),
        round=part.column("round").to_pylist(),
        usage=list(zip(*tokens, strict=True)),
        cost_usd=part.column("cost_usd").to_pylist(),
        request_digest=part.column("request_digest").to_pylist(),
    )


def _is_single(part: pa.RecordBatch | pa.Table) -> bool:
    return not part.schema.field("samples").type.value_type.equals(PART_SAMPLE)


def _single_answers(part: pa.RecordBatch | pa.Table) -> tuple[list[Sequence[int]], list[Answer]]:
    names = ("status", "text", "finish_reason", "model_version")
    errors = (error or {} for error in part.column("error").to_pylist())
    rows = zip(*(part.column(name).to_pylist() for name in names), errors, strict=True)
    return [(0,)] * part.num_rows, [
        Answer(status, text, **error, finish_reason=reason, model_version=version)
        for status, text, reason, version, error in rows
    ]


def _sample_answers(part: pa.RecordBatch | pa.Table) -> tuple[list[Sequence[int]], list[Answer]]:
    rows = [row or [] for row in part.column("samples").to_pylist()]
    answers = [
        Answer(
            sample["status"],
            sample["text"],
            sample["error_kind"],
            sample["code"],
            sample["message"],
            sample["finish_reason"],
            sample["model_version"],
        )
        for row in rows
        for sample in row
    ]
    return [[sample["sample"] for sample in row] for row in rows], answers


@dataclass(slots=True)
class _Row:
    """One row, as its rounds are put together."""

    key: str
    samples: dict[int, tuple[Answer, int, str | None]]
    """Sample -> its answer, and the round and digest that it is of."""
    attempts: int
    usage: Usage
    cost_usd: float | None


def patched(part: pa.RecordBatch, later: Sequence[Rows], maker: RowMaker) -> pa.RecordBatch:
    """Rows of a part of round 0, with what later rounds say of some of them.

    Args:
        later: in the order in which they were bought; may hold rows that are not in `part`.
    """
    named = pa.array({index for rows in later for index in rows.index}, pa.int64())
    touched = pc.is_in(part.column("index"), named)
    if not touched.true_count:
        return part
    first = read_rows(part.filter(touched))
    made = maker.make(overlay([first, *later], set(first.index))).table.combine_chunks().to_batches()[0]
    order = pc.add(pc.cumulative_sum(touched.cast(pa.int64())), part.num_rows - 1)
    order = pc.if_else(touched, order, pa.array(range(part.num_rows), pa.int64()))
    both = pa.Table.from_batches([part, made.cast(part.schema)])
    return both.take(order).combine_chunks().to_batches()[0]


def overlay(rounds: Sequence[Rows], only: Container[int] | None = None) -> Rows:
    """Every row that any of the rounds holds, by rising index: of each sample the latest valid answer, else the latest.

    Usage and cost are the sums over the rounds; a cost that is not known makes the sum unknown. `RowMaker.make` checks
    all texts against the schema again.

    Args:
        rounds: in the order in which they were bought.
        only: indices of the rows that are wanted.
    """
    found: dict[int, _Row] = {}
    for rows in rounds:
        for place, (start, stop) in enumerate(rows.spans()):
            if only is not None and rows.index[place] not in only:
                continue
            digest, number = rows.request_digest[place], rows.round[place]
            here = {
                sample: (answer, number, digest)
                for sample, answer in zip(rows.samples[place], rows.answers[start:stop], strict=True)
            }
            now = _Row(rows.key[place], here, rows.attempts[place], rows.usage[place], rows.cost_usd[place])
            before = found.get(rows.index[place])
            found[rows.index[place]] = now if before is None else _after(before, now)
    return _rows(found)


def _after(before: _Row, now: _Row) -> _Row:
    chosen = dict(before.samples)
    for sample, later in now.samples.items():
        earlier = chosen.get(sample)
        if earlier is None or later[0].status == "ok" or earlier[0].status != "ok":
            chosen[sample] = later
    bought = [row for row, was in ((before, before.attempts > 0), (now, now.attempts > before.attempts)) if was]
    return _Row(
        before.key,
        chosen,
        max(before.attempts, now.attempts),
        sum_usage((before.usage, now.usage)),
        sum_cost([row.cost_usd for row in bought]),
    )


def _rows(found: dict[int, _Row]) -> Rows:
    indices = sorted(found)
    rows = [found[index] for index in indices]
    samples = [sorted(row.samples) for row in rows]
    held = [[row.samples[sample] for sample in numbers] for row, numbers in zip(rows, samples, strict=True)]
    return Rows(
        index=indices,
        key=[row.key for row in rows],
        samples=samples,
        answers=[answer for of_row in held for answer, _, _ in of_row],
        attempts=[row.attempts for row in rows],
        round=[max((number for _, number, _ in of_row), default=0) for of_row in held],
        usage=[row.usage for row in rows],
        cost_usd=[row.cost_usd for row in rows],
        request_digest=[_digest(of_row) for of_row in held],
    )


def _digest(held: Sequence[tuple[Answer, int, str | None]]) -> str | None:
    """Of the latest request among those whose answers stand."""
    sent = [(number, digest) for _, number, digest in held if digest is not None]
    return max(sent)[1] if sent else None
