"""Several rounds of a row become one row: of each sample the latest valid answer, else the latest. Once a row has new
content, only the answers to that count.

In: parts, of round 0 and of later ones, which hold only the rows and samples that they bought again. Out: `Rows`, or
rows of a part that say what all rounds know.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch.dataset import ERROR, PART_SAMPLE, like_lists
from gemini_batch.gemini.lines import ANSWERS, TOKENS, to_answers, to_columns
from gemini_batch.gemini.wire import Answer
from gemini_batch.reducer.rows import RowMaker, Rows
from gemini_batch.reducer.used import Usage, sum_cost, sum_usage, usage_column

_SAID = ("status", "text", "kind", "code", "message", "finish_reason", "model_version")
"""What a part says of an answer: all but its tokens, which are its row's."""


def read_rows(part: pa.RecordBatch | pa.Table) -> Rows:
    """Rows of a part as they were before they were put together. What did not fit the schema stays `invalid`."""
    whole = pa.Table.from_batches([part]) if isinstance(part, pa.RecordBatch) else part
    block = whole.combine_chunks().to_batches()[0] if len(whole) else pa.RecordBatch.from_pylist([], whole.schema)
    single = not block.schema.field("samples").type.value_type.equals(PART_SAMPLE)
    samples, said = _single_answers(block) if single else _sample_answers(block)
    columns = [said.get(field.name, pa.nulls(len(said["status"]), field.type)).cast(field.type) for field in ANSWERS]
    names = ("index", "key", "attempts", "round", "usage", "cost_usd", "request_digest")
    return Rows(
        samples=samples,
        answers=pa.RecordBatch.from_arrays(columns, schema=ANSWERS),
        **{name: block.column(name) for name in names},
    )


def _single_answers(part: pa.RecordBatch) -> tuple[pa.ListArray, dict[str, pa.Array]]:
    offsets = pa.array(range(part.num_rows + 1), pa.int32())
    every = pa.ListArray.from_arrays(offsets, pa.repeat(pa.scalar(0, pa.int32()), part.num_rows))
    errors = {field.name: pc.struct_field(part.column("error"), field.name) for field in ERROR}
    return every, errors | {name: part.column(name) for name in _SAID if name not in errors}


def _sample_answers(part: pa.RecordBatch) -> tuple[pa.ListArray, dict[str, pa.Array]]:
    samples = part.column("samples")
    held = pc.list_flatten(samples)
    said = {name: pc.struct_field(held, "error_kind" if name == "kind" else name) for name in _SAID}
    return like_lists(samples, pc.struct_field(held, "sample")), said


@dataclass(slots=True)
class Seen:
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
    named = pa.chunked_array([rows.index for rows in later], pa.int64())
    touched = pc.is_in(part.column("index"), named)
    if not touched.true_count:
        return part
    first = read_rows(part.filter(touched))
    made = maker.make(overlay([first, *later], set(first.index.to_pylist()))).table.combine_chunks().to_batches()[0]
    order = pc.add(pc.cumulative_sum(touched.cast(pa.int64())), part.num_rows - 1)
    order = pc.if_else(touched, order, pa.array(range(part.num_rows), pa.int64()))
    both = pa.Table.from_batches([part, made.cast(part.schema)])
    return both.take(order).combine_chunks().to_batches()[0]


def overlay(rounds: Sequence[Rows], only: Container[int] | None = None) -> Rows:
    """Every row that any of the rounds holds, by rising index: of each sample the latest valid answer, else the latest;
    of a row with new content, since it has it.

    Usage and cost are the sums over the rounds; a cost that is not known makes the sum unknown. `RowMaker.make` checks
    all texts against the schema again.

    Args:
        rounds: in the order in which they were bought.
        only: indices of the rows that are wanted.
    """
    found: dict[int, Seen] = {}
    for rows in rounds:
        for index, now in _seen(rows, only):
            before = found.get(index)
            found[index] = now if before is None else _after(before, now, rows.replaced)
    return _rows(found)


def _seen(rows: Rows, only: Container[int] | None) -> Iterator[tuple[int, Seen]]:
    """The index of each row that is wanted, and what is there of it."""
    answers, samples, spans = to_answers(rows.answers), rows.samples.to_pylist(), rows.spans()
    names = ("index", "key", "attempts", "round", "cost_usd", "request_digest")
    columns = [getattr(rows, name).to_pylist() for name in names]
    used = zip(*(pc.struct_field(rows.usage, name).to_pylist() for name in TOKENS), strict=True)
    for place, (usage, index, key, attempts, number, cost, digest) in enumerate(zip(used, *columns, strict=True)):
        if only is None or index in only:
            start, stop = spans[place]
            here = {
                sample: (answer, number, digest)
                for sample, answer in zip(samples[place] or (), answers[start:stop], strict=True)
            }
            yield index, Seen(key, here, attempts, usage, cost)


def _after(before: Seen, now: Seen, replaced: bool) -> Seen:
    chosen = {} if replaced else dict(before.samples)
    for sample, later in now.samples.items():
        earlier = chosen.get(sample)
        if earlier is None or later[0].status == "ok" or earlier[0].status != "ok":
            chosen[sample] = later
    bought = [row for row, was in ((before, before.attempts > 0), (now, now.attempts > before.attempts)) if was]
    return Seen(
        before.key,
        chosen,
        max(before.attempts, now.attempts),
        sum_usage((before.usage, now.usage)),
        sum_cost([row.cost_usd for row in bought]),
    )


def _rows(found: dict[int, Seen]) -> Rows:
    indices = sorted(found)
    rows = [found[index] for index in indices]
    samples = [sorted(row.samples) for row in rows]
    held = [[row.samples[sample] for sample in numbers] for row, numbers in zip(rows, samples, strict=True)]
    usage = list(zip(*(row.usage for row in rows), strict=True)) or [()] * len(TOKENS)
    return Rows(
        index=pa.array(indices, pa.int64()),
        key=pa.array([row.key for row in rows], pa.string()),
        samples=pa.array(samples, pa.list_(pa.int32())),
        answers=to_columns([answer for of_row in held for answer, _, _ in of_row]),
        attempts=pa.array([row.attempts for row in rows], pa.int32()),
        round=pa.array([max((number for _, number, _ in of_row), default=0) for of_row in held], pa.int32()),
        usage=usage_column([pa.array(counts, pa.int64()) for counts in usage]),
        cost_usd=pa.array([row.cost_usd for row in rows], pa.float64()),
        request_digest=pa.array([_digest(of_row) for of_row in held], pa.string()),
    )


def _digest(held: Sequence[tuple[Answer, int, str | None]]) -> str | None:
    """Of the latest request among those whose answers stand."""
    sent = [(number, digest) for _, number, digest in held if digest is not None]
    return max(sent)[1] if sent else None
