"""Answers become rows: the one place where the samples of a row are put together and a row's columns are made.

In: `Rows`, of one shard, or of several rounds put together (`rounds.overlay`). Out: the columns of a part. A sample is
valid if it came and fits the schema; a row is ok if enough of its samples are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch.dataset import ERROR, PART_SAMPLE, part_schema, result_type
from gemini_batch.records import SchemaSpec
from gemini_batch.reducer.vote import vote
from gemini_batch.schema.check import Invalid, Reader

NO_SUCH_VALUE = (pa.ArrowException, OverflowError, ValueError, TypeError, AttributeError)
"""What Arrow raises for a value that a column cannot hold; a model may serialise to anything."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows before their answers are checked and put together, as columns."""

    index: pa.Array
    key: pa.Array
    samples: pa.ListArray
    """Which samples of the row there are, rising. One that was not asked for here is not among them."""
    answers: pa.RecordBatch
    """To each of those, one row after the other (`gemini.lines.ANSWERS`): as the line said it, or why there is none."""
    attempts: pa.Array
    """Times that the row was bought, this one included."""
    round: pa.Array
    usage: pa.Array
    cost_usd: pa.Array
    """Null where nothing was bought, and where it is not known."""
    request_digest: pa.Array
    replaced: bool = False
    """Whether the rows have content that they had not in earlier rounds: what was answered there is no answer to it."""

    def spans(self) -> list[tuple[int, int]]:
        """Per row, where its answers begin and end."""
        lengths = pc.fill_null(pc.list_value_length(self.samples), 0)
        return list(pairwise([0, *pc.cumulative_sum(lengths).to_pylist()]))


@dataclass(frozen=True, slots=True)
class Made:
    """Rows as columns."""

    table: pa.Table
    """In the columns of a part."""
    answers: pa.RecordBatch
    """Of each sample, those that do not fit the schema `invalid`."""


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
        self._reader = None if spec is None else Reader(spec)

    def make(self, rows: Rows) -> Made:
        loaded, values, answers = self._checked(rows.answers)
        made = _single(values, answers) if self._one else self._voted(rows, loaded, values, answers)
        own = {
            "index": rows.index,
            "key": rows.key,
            "attempts": rows.attempts,
            "round": rows.round,
            "usage": rows.usage,
            "cost_usd": rows.cost_usd,
            "request_digest": rows.request_digest,
        }
        every = {"samples": pa.nulls(len(rows.index), self.schema.field("samples").type), **made, **own}
        return Made(pa.table({name: every[name] for name in self.schema.names}, self.schema), answers)

    # --- samples against each other ---

    def _voted(self, rows: Rows, loaded: Sequence[Any], values: pa.Array, answers: pa.RecordBatch) -> dict[str, Any]:
        statuses, texts = answers.column("status").to_pylist(), answers.column("text").to_pylist()
        found = [self._outcome(range(*span), statuses, texts, loaded) for span in rows.spans()]
        told_by, error = _places(one.told_by for one in found), _places(one.error for one in found)
        return {
            "status": pc.fill_null(answers.column("status").take(error), "ok"),
            "result": self._results(found, values),
            "text": answers.column("text").take(_places(one.text for one in found)).cast(pa.string()),
            "error": _errors(answers.take(error)),
            "n_valid": [one.n_valid for one in found],
            "agreement": [one.agreement for one in found],
            "disagreements": [one.disagreements for one in found],
            "samples": _samples(rows.samples, answers),
            "finish_reason": answers.column("finish_reason").take(told_by),
            "model_version": answers.column("model_version").take(told_by),
        }

    def _outcome(
        self, places: range, statuses: Sequence[str], texts: Sequence[str | None], loaded: Sequence[Any]
    ) -> "_Outcome":
        """One row from its samples, which stand at those places."""
        said, count = texts[places.start : places.stop], len(places)
        every = statuses[places.start : places.stop].count("ok") == count
        valid = places if every else [place for place in places if statuses[place] == "ok"]
        if not valid or len(valid) < min(self._min_valid, count):
            failed = next(place for place in places if statuses[place] != "ok")
            text = next((place for place in places if texts[place] is not None), None)
            return _Outcome(len(valid), places[0], text, error=failed)
        first = valid[0]
        if said.count(texts[first]) == count and every:
            return _Outcome(len(valid), first, first, value=first, agreement=1.0, disagreements=())
        found = vote([loaded[place] for place in valid], self._fieldwise)
        winner = valid[found.winner]
        whole = found.value is loaded[winner]
        return _Outcome(
            len(valid),
            winner,
            winner,
            value=winner if whole else None,
            mixed=None if whole else (found.value,),
            agreement=found.agreement,
            disagreements=found.disagreements,
        )

    def _results(self, found: Sequence["_Outcome"], values: pa.Array) -> pa.Array:
        """The value of a sample, or one of the fields of several, which is known to fit."""
        mixed = [one.mixed[0] for one in found if one.mixed]
        if not mixed:
            return values.take(_places(one.value for one in found))
        convert = self._reader.convert if self._reader else None
        made = _storable(mixed if convert is None else [convert(value) for value in mixed], values.type)
        behind = iter(range(len(values), len(values) + len(mixed)))
        places = _places(next(behind) if one.mixed else one.value for one in found)
        return pa.concat_arrays([values, made]).take(places)

    # --- answers against the schema ---

    def _checked(self, given: pa.RecordBatch) -> tuple[Sequence[Any], pa.Array, pa.RecordBatch]:
        """Each answer's value as JSON has it, and as a column holds it; one whose text does not fit is `invalid`."""
        fine = pc.equal(given.column("status"), "ok")
        texts = pc.if_else(fine, given.column("text"), None) if fine.false_count else given.column("text")
        if self._reader is None:
            return () if self._one else texts.to_pylist(), texts.cast(pa.string()), given
        loaded, reasons = self._reader.read_all(texts.to_pylist())
        values, reasons = self._stored(loaded, reasons)
        return loaded, values, _with_invalid(given, reasons) if reasons else given

    def _stored(self, loaded: list[Any], reasons: dict[int, str]) -> tuple[pa.Array, dict[int, str]]:
        """JSON values as a column, and why some are none."""
        convert = self._reader.convert if self._reader else None
        values, reasons = loaded, dict(reasons)
        if convert is not None:
            values = list(loaded)
            for at, value in enumerate(loaded):
                try:
                    values[at] = convert(value)
                except Invalid as error:
                    values[at], reasons[at] = None, str(error)
        try:
            return pa.array(values, self._type), reasons
        except NO_SUCH_VALUE:
            return self._one_by_one(list(values), reasons), reasons

    def _one_by_one(self, values: list[Any], reasons: dict[int, str]) -> pa.Array:
        """Find the value that the column cannot hold, such as an integer beyond 64 bits."""
        for at, value in enumerate(values):
            try:
                values[at] = _numbers(value, self._type)
                pa.array([values[at]], self._type)
            except NO_SUCH_VALUE as error:
                values[at], reasons[at] = None, str(error)
        return pa.array(values, self._type)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What the samples of a row come to. A sample is named by the place of its answer."""

    n_valid: int
    told_by: int
    """The sample whose answer won, else the first."""
    text: int | None
    """That of the sample that won, else the first that came."""
    error: int | None = None
    """The first sample that has no valid answer, where too few have."""
    value: int | None = None
    """The sample that has the value."""
    mixed: tuple[Any] | None = None
    """The value, where no sample has it."""
    agreement: float | None = None
    disagreements: Sequence[str] | None = None


def _single(values: pa.Array, answers: pa.RecordBatch) -> dict[str, Any]:
    """One sample a row: the answers are the rows."""
    ok = pc.equal(answers.column("status"), "ok")
    none = pa.ListArray.from_arrays(
        pa.repeat(pa.scalar(0, pa.int32()), len(ok) + 1), pa.array([], pa.string()), mask=pc.invert(ok)
    )
    return {
        "status": answers.column("status"),
        "result": values,
        "text": answers.column("text").cast(pa.string()),
        "error": _errors(answers),
        "n_valid": ok.cast(pa.int32()),
        "agreement": pc.if_else(ok, 1.0, None),
        "disagreements": none,
        "finish_reason": answers.column("finish_reason"),
        "model_version": answers.column("model_version"),
    }


def _places(places: Any) -> pa.Array:
    return pa.array(places, pa.int64())


def _with_invalid(answers: pa.RecordBatch, reasons: Mapping[int, str]) -> pa.RecordBatch:
    """The answers, of which those at some places do not fit the schema."""
    mask = pc.is_in(_places(range(answers.num_rows)), value_set=_places(reasons))
    said = {
        "status": pa.repeat("invalid", len(reasons)),
        "kind": pa.repeat("schema_invalid", len(reasons)),
        "message": pa.array([reasons[at] for at in sorted(reasons)], pa.string()),
    }
    for name, values in said.items():
        changed = pc.replace_with_mask(answers.column(name), mask, values)
        answers = answers.set_column(answers.schema.get_field_index(name), name, changed)
    return answers


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


def _errors(answers: pa.RecordBatch) -> pa.Array:
    columns = [answers.column(field.name) for field in ERROR]
    return pa.StructArray.from_arrays(columns, fields=list(ERROR), mask=pc.is_null(answers.column("kind")))


def _samples(numbers: pa.ListArray, answers: pa.RecordBatch) -> pa.Array:
    given = {"sample": pc.list_flatten(numbers), "error_kind": answers.column("kind")}
    columns = [given[field.name] if field.name in given else answers.column(field.name) for field in PART_SAMPLE]
    held = [column.cast(field.type) for column, field in zip(columns, PART_SAMPLE, strict=True)]
    lengths = pc.fill_null(pc.list_value_length(numbers), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths).cast(pa.int32())])
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(held, fields=list(PART_SAMPLE)))
