"""Result lines onto the rows they answer, by key alone. Pure.

In: the lines of a result file in any order, some missing, doubled, foreign or broken. Out: at most one answer per
row, and a count of everything else. Position never matters (python-genai #1909: shuffled results).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from gemini_batch.gemini.wire import Answer, parse_key, read_answer


@dataclass
class Aligned:
    """`answers[i]` is the answer to row `first_index + i`; None where no line came."""

    answers: list[Answer | None]
    received: int = 0
    duplicate: int = 0
    conflicting: int = 0
    foreign: int = 0
    broken: int = 0


def align(lines: Iterable[bytes], nonce: str, first_index: int, sent: list[bool]) -> Aligned:
    """Place every line that belongs to a row that was sent.

    Args:
        nonce: the run's; a key without it is foreign.
        sent: per row of the shard, whether a request was sent for it.

    Of two lines for one row the first is kept; if they differ, that is counted as conflicting too.
    """
    found = Aligned([None] * len(sent))
    kept: dict[int, int] = {}
    for line in lines:
        if not line.strip():
            continue
        found.received += 1
        entry = _parsed(line)
        if entry is None:
            found.broken += 1
            continue
        place = _place(entry, nonce, first_index, sent)
        if place is None:
            found.foreign += 1
        elif place in kept:
            found.duplicate += 1
            found.conflicting += kept[place] != hash(line)
        else:
            kept[place] = hash(line)
            found.answers[place] = read_answer(entry)
    return found


def _parsed(line: bytes) -> dict[str, object] | None:
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) else None


def _place(entry: dict[str, object], nonce: str, first_index: int, sent: list[bool]) -> int | None:
    parsed = parse_key(entry.get("key"), nonce)
    if parsed is None:
        return None
    index, sample = parsed
    place = index - first_index
    return place if sample == 0 and 0 <= place < len(sent) and sent[place] else None
