"""Result lines onto the samples they answer, by key alone. Pure.

In: the lines of a result file in any order, some missing, doubled, foreign or broken. Out: at most one answer per
sample of a row, and a count of everything else. Position never matters (python-genai #1909: shuffled results).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gemini_batch.gemini.wire import Answer, line_key, read_answer

Line = tuple[int, int]
"""Place of the row in the shard, and sample."""


@dataclass
class Aligned:
    """What a result file holds for the rows of a shard; line counts."""

    answers: list[list[Answer | None]]
    """`answers[place][sample]`: the row at that place of the shard; None where no line came, or none was sent."""
    received: int = 0
    duplicate: int = 0
    conflicting: int = 0
    foreign: int = 0
    broken: int = 0


def align(lines: Iterable[bytes], nonce: str, indices: Sequence[int], sent: Sequence[Sequence[int]]) -> Aligned:
    """Place every line that answers a sample that was sent.

    Args:
        nonce: the run's; a key without it is foreign.
        indices: of the shard's rows.
        sent: per row of the shard, the numbers of the samples that a request was sent for.

    Of two lines for one sample the first is kept; if they differ, that is counted as conflicting too.
    """
    width = 1 + max((samples[-1] for samples in sent if samples), default=-1)
    found = Aligned([[None] * width for _ in sent])
    expected = _keys(nonce, indices, sent)
    kept: dict[Line, int] = {}
    for line in lines:
        if not line.strip():
            continue
        found.received += 1
        entry = parsed_line(line)
        if entry is None:
            found.broken += 1
            continue
        key = entry.get("key")
        named = expected.get(key) if type(key) is str else None
        if named is None:
            found.foreign += 1
        elif named in kept:
            found.duplicate += 1
            found.conflicting += kept[named] != hash(line)
        else:
            kept[named] = hash(line)
            found.answers[named[0]][named[1]] = read_answer(entry)
    return found


def _keys(nonce: str, indices: Sequence[int], sent: Sequence[Sequence[int]]) -> dict[str, Line]:
    """The keys of all lines that were sent."""
    run = nonce.encode()
    rows = enumerate(zip(indices, sent, strict=True))
    return {
        line_key(run, index, sample).decode(): (place, sample) for place, (index, samples) in rows for sample in samples
    }


def parsed_lines(lines: Sequence[bytes]) -> list[dict[str, Any] | None]:
    """What `parsed_line` makes of each; where none is broken, at half the cost."""
    try:
        entries: list[dict[str, Any] | None] = list(map(orjson.loads, lines))
        if set(map(type, entries)) <= {dict}:
            return entries
    except orjson.JSONDecodeError:
        pass
    return [parsed_line(line) for line in lines]


def parsed_line(line: bytes) -> dict[str, Any] | None:
    """The object on a line; None for one that is broken."""
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) else None
