"""What answers used and cost, per line and summed per row. Pure.

In: counts of tokens as columns, prices. Out: columns; null is what nobody knows, never 0.
"""

from collections.abc import Sequence
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch.dataset import USAGE
from gemini_batch.gemini.lines import TOKENS
from gemini_batch.gemini.prices import BatchPrice
from gemini_batch.parquet import row_numbers

Usage = tuple[int | None, int | None, int | None, int | None]
"""Counts of `TOKENS`; None for what the service did not tell."""

_KNOWN = pc.ScalarAggregateOptions(min_count=1)


def sum_usage(usages: Sequence[Usage]) -> Usage:
    """The sum of what is known; None where nothing is."""
    counts = [[count for count in of_one if count is not None] for of_one in zip(*usages, strict=True)]
    prompt, cached, output, thoughts = (sum(known) if known else None for known in counts or [[]] * len(TOKENS))
    return prompt, cached, output, thoughts


def sum_cost(costs: Sequence[float | None]) -> float | None:
    """None where one is not known, and for nothing at all."""
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known and len(known) == len(costs) else None


def usage_column(counts: Sequence[pa.Array]) -> pa.StructArray:
    """Counts of `TOKENS` as the `usage` column: null where none is known."""
    unknown = pc.is_null(counts[0])
    for count in counts[1:]:
        unknown = pc.and_(unknown, pc.is_null(count))
    return pa.StructArray.from_arrays(list(counts), fields=list(USAGE), mask=unknown)


def sums_of_known(values: pa.Array, rows: pa.Array, count: int) -> pa.Array:
    """`sum_usage` of a column, per row.

    Args:
        rows: the row of each value.
        count: of rows.
    """
    table = pa.table({"row": rows.cast(pa.int64()), "value": values})
    sums = table.group_by("row", use_threads=False).aggregate([("value", "sum", _KNOWN)]).combine_chunks()
    places = pc.index_in(row_numbers(0, count), value_set=sums["row"])
    return sums["value_sum"].combine_chunks().take(places)


def sums_of_all(values: pa.Array, rows: pa.Array, count: int) -> pa.Array:
    """`sum_cost` of a column, per row."""
    sums, unknown = sums_of_known(values, rows, count), rows.filter(pc.is_null(values)).cast(pa.int64())
    missing = pc.is_in(row_numbers(0, count), value_set=unknown)
    return pc.if_else(missing, None, sums)


def costs_of(answers: pa.RecordBatch, price: BatchPrice) -> pa.Array:
    """What each line cost in USD, null when that is not known: a line with an error says nothing of it.

    Cached tokens are among those of the prompt, thoughts are paid as output (GenerateContentResponse reference, pricing
    page).
    """
    prompt, cached, output, thoughts = (answers.column(name) for name in TOKENS)
    cached = pc.min_element_wise(pc.fill_null(cached, 0), prompt, skip_nulls=False)
    paid = pc.add(pc.fill_null(output, 0), pc.fill_null(thoughts, 0))
    read = pc.add(_times(pc.subtract(prompt, cached), price.input_usd), _times(cached, price.cached_usd))
    said = pc.greater(pc.fill_null(pc.binary_length(answers.column("text")), 0), 0)
    uncounted = pc.and_(pc.and_(pc.is_null(output), pc.is_null(thoughts)), said)
    return pc.if_else(uncounted, None, pc.add(read, _times(paid, price.output_usd)))


def _times(tokens: pa.Array, usd: Decimal) -> pa.Array:
    return pc.multiply(tokens.cast(pa.float64()), float(usd))
