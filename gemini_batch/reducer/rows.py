"""Answers become rows: the one place where the samples of a row are put together and a row's columns are made.

In: `Rows`, of one shard, or of several rounds put together (`rounds.overlay`). Out: the columns of a part. A sample is
valid if it came and fits the schema; a row is ok if enough of its samples are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import pyarrow as pa

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
    replaced: bool = False
    """Whether the rows have content that they had not in earlier rounds: what was answered there is no answer to it."""

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
