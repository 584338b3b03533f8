"""What a shard asked for, and the rows that its answers come to.

In: its frozen rows and the record of its requests; then what its result file holds. Out: the key of each line that was
sent; then blocks of `Rows`. The rows are any rows of the manifest; of those that were bought before, only what this
shard asked for is in them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch.errors import RunStopped
from gemini_batch.gemini.keys import line_keys
from gemini_batch.gemini.lines import ANSWERS, TOKENS
from gemini_batch.gemini.prices import BatchPrice
from gemini_batch.jobs.align import Aligned
from gemini_batch.jobs.sent import asked_samples
from gemini_batch.parquet import block_rows, read_own_columns, read_own_table, row_numbers
from gemini_batch.reducer.rows import Rows
from gemini_batch.reducer.used import costs_of, sums_of_all, sums_of_known, usage_column


@dataclass(frozen=True)
class NoAnswer:
    """What to say of a row that was sent and has no line: `kind` and `message` of its error."""

    kind: str
    message: str


@dataclass(frozen=True)
class Taken:
    """How the answers are to be taken."""

    n_samples: int
    round: int
    bought: bool
    """Whether there was a job: what was only sent in vain was not bought."""
    no_answer: NoAnswer
    price: BatchPrice | None


@dataclass(frozen=True)
class Block:
    """Some rows of a shard."""

    rows: Rows
    of: pa.Array
    """Per sample that was asked for, the place of its row in the block."""
    costs: pa.Array
    """Per line that was bought, its cost; null where it is not known."""
    prompt_tokens: pa.Array
    """Per line that was sent."""
    was: pa.Table
    """What the shard's rows say of earlier rounds, if they do: `was`, `valid`."""


class Shard:
    """The rows and requests of a shard.

    Raises:
        RunStopped: a file is damaged.
        OSError: not now.
    """

    def __init__(self, rows: Path, requests: Path, taken: Taken) -> None:
        self._taken = taken
        self._rows = read_own_columns(rows, ["index", "key"], ["samples", "attempts", "was", "valid"])
        self._record = read_own_table(requests)
        if len(self._rows) != len(self._record):
            raise RunStopped(f"{requests} does not have the rows of {rows}; restore both")
        self._asked = pa.array(asked_samples(self._rows, taken.n_samples), pa.list_(pa.int32()))
        self._of = pc.list_parent_indices(self._asked).cast(pa.int64())
        self._sent = pc.is_null(self._record["error_kind"]).combine_chunks().take(self._of)

    def keys(self, nonce: str) -> pa.Array:
        """Of the lines that were sent, in the order of the request file."""
        indices = self._rows["index"].combine_chunks().take(self._of.filter(self._sent))
        return line_keys(nonce.encode(), indices, self._asked.flatten().filter(self._sent))

    def blocks(self, aligned: Aligned) -> Iterator[Block]:
        """All rows in order; never none, so that a shard without rows has a part too."""
        at = pc.subtract(pc.cumulative_sum(self._sent.cast(pa.int64())), 1)
        places = aligned.places.take(pc.if_else(self._sent, at, None))
        ends = [0, *pc.cumulative_sum(pc.list_value_length(self._asked)).to_pylist()]
        total, size = len(self._rows), aligned.answers.get_total_buffer_size()
        step = max(1, block_rows(size, total) // self._taken.n_samples)
        for start in range(0, total, step):
            stop = min(start + step, total)
            first, count = ends[start], ends[stop] - ends[start]
            found = _taken(aligned.answers, places.slice(first, count))
            yield self._block(start, stop - start, first, count, found)

    def _block(self, start: int, rows: int, first: int, count: int, came: pa.RecordBatch) -> Block:
        """`rows` rows from `start` on, and the answers to their `count` samples, from `first` on."""
        mine, record = self._rows.slice(start, rows), self._record.slice(start, rows)
        of, sent = pc.subtract(self._of.slice(first, count), start), self._sent.slice(first, count)
        bought = pc.and_(_has(of.filter(sent), rows), self._taken.bought)
        costs = costs_of(came, self._taken.price) if self._taken.price else pa.nulls(count, pa.float64())
        used = [came.column(name) for name in TOKENS]
        if self._taken.n_samples == 1:
            cost = pc.if_else(bought, costs, None)
        else:
            used = [sums_of_known(counts, of, rows) for counts in used]
            cost = pc.if_else(bought, sums_of_all(costs, of, rows), None)
        before = pc.fill_null(mine["attempts"], 0) if "attempts" in mine.column_names else 0
        made = Rows(
            index=mine["index"],
            key=mine["key"],
            samples=self._asked.slice(start, rows),
            answers=self._complete(came, of, record),
            attempts=pc.add(bought.cast(pa.int32()), before).cast(pa.int32()),
            round=pa.repeat(pa.scalar(self._taken.round, pa.int32()), rows),
            usage=usage_column(used),
            cost_usd=cost,
            request_digest=record["request_digest"],
        )
        paid = costs.filter(pc.and_(sent, self._taken.bought))
        was = mine.select([name for name in ("was", "valid") if name in mine.column_names])
        return Block(made, of, paid, came.column("prompt_tokens").filter(sent), was)

    def _complete(self, came: pa.RecordBatch, of: pa.Array, record: pa.Table) -> pa.RecordBatch:
        """An answer for each sample that was asked for: its line's, or why there is none."""
        absent = pc.is_null(came.column("status"))
        if not absent.true_count:
            return came
        no_answer = self._taken.no_answer
        kinds, messages = (record[name].combine_chunks().take(of) for name in ("error_kind", "error_message"))
        whys = {
            "status": pa.repeat("failed", len(of)),
            "kind": pc.fill_null(kinds, no_answer.kind),
            "message": pc.if_else(pc.is_null(kinds), no_answer.message, messages),
        }
        for name, why in whys.items():
            filled: Any = pc.if_else(absent, why, came.column(name))
            came = came.set_column(came.schema.get_field_index(name), name, filled)
        return came


def _taken(answers: pa.Table, places: pa.Array) -> pa.RecordBatch:
    """The answers at some places, rows of nulls where there is none."""
    if not len(answers) or places.null_count == len(places):
        return pa.RecordBatch.from_arrays([pa.nulls(len(places), field.type) for field in ANSWERS], schema=ANSWERS)
    columns = [answers[name].combine_chunks().take(places) for name in ANSWERS.names]
    return pa.RecordBatch.from_arrays(columns, schema=ANSWERS)


def _has(of: pa.Array, rows: int) -> pa.Array:
    """Per row, whether it is named."""
    return pc.is_in(row_numbers(0, rows), value_set=of)
