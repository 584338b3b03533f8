"""Columns held against columns, for those who read files again."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gemini_batch.audit.facts import Spot, Unreadable
from gemini_batch.errors import RunStopped
from gemini_batch.parquet import UNREADABLE

R = TypeVar("R")

DAMAGED = (*UNREADABLE, RunStopped, LookupError, TypeError, ValueError)
"""What a damaged file raises, or one with other columns than it should have; a run would stop on some."""


def or_damaged(read: Callable[[], R]) -> R | Unreadable:
    """What is read from local files, or why they cannot be."""
    try:
        return read()
    except DAMAGED as error:
        return Unreadable(in_a_line(error))


def in_a_line(error: Exception) -> str:
    """Why, short enough for a finding."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def read_small(path: Path, columns: list[str] | None = None, perhaps: Sequence[str] = ()) -> pa.RecordBatch:
    """A table of a shard's rows in one piece, with those of `perhaps` that it has. IndexError when it is empty, which
    no shard is."""
    if columns and perhaps:
        there = set(pq.read_schema(path).names)
        columns = [*columns, *(name for name in perhaps if name in there)]
    return pq.read_table(path, columns=columns, page_checksum_verification=True).combine_chunks().to_batches()[0]


def indices(first: int, count: int) -> pa.Array:
    return pa.array(range(first, first + count), pa.int64())


def differing(ours: pa.Array, theirs: pa.Array) -> pa.Array:
    """Where two columns differ, nulls being alike. The other's rows beyond the end of ours are not looked at."""
    if len(theirs) < len(ours):
        theirs = pa.concat_arrays([theirs, pa.nulls(len(ours) - len(theirs), theirs.type)])
    theirs = theirs.slice(0, len(ours))
    both_null = pc.and_(ours.is_null(), theirs.is_null())
    return pc.and_not(pc.fill_null(pc.not_equal(ours, theirs), True), both_null)


def more(spot: Spot, differs: pa.Array, first: int | pa.Array) -> Spot:
    """What was found so far, and what differs in the rows from `first` on, or in those of these indices."""
    count = differs.true_count
    if not count:
        return spot
    at = differs.index(True).as_py()
    index = first + at if isinstance(first, int) else first[at].as_py()
    return Spot(spot.count + count, index if spot.first is None else spot.first)


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
