"""Several rounds of a row become one row: of each sample the latest valid answer, else the latest. Once a row has new
content, only the answers to that count.

In: parts, of round 0 and of later ones, which hold only the rows and samples that they bought again. Out: `Rows`, or
rows of a part that say what all rounds know.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch.dataset import PART_SAMPLE
from gemini_batch.gemini.wire import Answer
from gemini_batch.reducer.rows import TOKENS, RowMaker, Rows, Usage, sum_cost, sum_usage


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
        for place, (start, stop) in enumerate(rows.spans()):
            if only is not None and rows.index[place] not in only:
                continue
            digest, number = rows.request_digest[place], rows.round[place]
            here = {
                sample: (answer, number, digest)
                for sample, answer in zip(rows.samples[place], rows.answers[start:stop], strict=True)
            }
            now = Seen(rows.key[place], here, rows.attempts[place], rows.usage[place], rows.cost_usd[place])
            before = found.get(rows.index[place])
            found[rows.index[place]] = now if before is None else _after(before, now, rows.replaced)
    return _rows(found)


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
