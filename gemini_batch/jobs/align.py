"""Result lines onto the samples they answer, by key alone. Pure.

In: a result file in stretches, its lines in any order, some missing, doubled, foreign or broken. Out: at most one
answer per line that was sent, and a count of everything else. Position never matters (python-genai #1909: shuffled).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch.gemini.lines import ANSWERS, Lines, parsed_line, read_lines


@dataclass(frozen=True)
class Aligned:
    """What a result file holds for the lines that were sent; line counts."""

    answers: pa.Table
    """In the columns of `ANSWERS`: of every line of the file that has a key."""
    places: pa.Array
    """Per line that was sent, its row in `answers`; null where none came."""
    received: int = 0
    duplicate: int = 0
    conflicting: int = 0
    foreign: int = 0
    broken: int = 0


def align(bodies: Iterable[bytes], sent: pa.Array, again: Callable[[], Iterable[bytes]]) -> Aligned:
    """Place every line that answers a sample that was sent.

    Args:
        bodies: the file; each ends where a line does.
        sent: the key of each line that was sent (`gemini.keys.line_keys`). Any other is foreign.
        again: gives the file once more, for lines that came twice.

    Of two lines for one sample the first is kept; if they differ, that is counted as conflicting too.
    """
    found = [read_lines(body) for body in bodies]
    keys = pa.chunked_array([lines.keys for lines in found], pa.string()).combine_chunks()
    places = pc.index_in(sent, value_set=keys) if len(keys) else pa.nulls(len(sent), pa.int32())  # the first of equals
    received, broken = sum(lines.received for lines in found), sum(lines.broken for lines in found)
    placed, ours = len(places) - places.null_count, len(keys)
    if placed < ours:
        ours = pc.sum(pc.is_in(keys, value_set=sent), min_count=0).as_py()
    return Aligned(
        answers=_answers(found),
        places=places,
        received=received,
        duplicate=ours - placed,
        conflicting=_conflicting(again(), keys, sent) if ours > placed else 0,
        foreign=received - broken - ours,
        broken=broken,
    )


def _answers(found: Iterable[Lines]) -> pa.Table:
    return pa.Table.from_batches([lines.answers for lines in found], ANSWERS).combine_chunks()


def _conflicting(bodies: Iterable[bytes], keys: pa.Array, sent: pa.Array) -> int:
    """Lines that are not the first of their key, and differ from it."""
    counts = pc.value_counts(keys.filter(pc.is_in(keys, value_set=sent)))
    doubled = set(counts.field("values").filter(pc.greater(counts.field("counts"), 1)).to_pylist())
    first, differing = dict[str, int](), 0
    for key, line in _keyed(bodies):
        if key in doubled:
            differing += first.setdefault(key, hash(line)) != hash(line)
    return differing


def _keyed(bodies: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    for body in bodies:
        for line in body.split(b"\n"):
            entry = parsed_line(line)
            if entry is not None and type(key := entry.get("key")) is str:
                yield key, line
