"""How often each (key, request body) was bought: the emulator's witness for "nothing is paid for twice"."""

import threading
from array import array
from collections.abc import Iterable
from pathlib import Path

import orjson

from gemini_batch.emulator.lines import key_of
from gemini_batch.emulator.wire import Json

_KEYS_SHOWN = 100
_KEYS_KEPT = 10_000


class Bought:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        self._counts: dict[int, int] = {}
        self._repeats: dict[int, str] = {}
        self._n_repeats = 0
        self._total = 0

    def add(self, digests: "array[int]", source: Path) -> None:
        """Count an accepted job; `source` is its input, read again only to name lines bought before."""
        with self._lock:
            again = self._count(digests)
            if again:
                self._repeats.update(_keys_at(source, again, digests))

    def _count(self, digests: Iterable[int]) -> list[int]:
        counts = self._counts
        again = []
        for position, digest in enumerate(digests):
            seen = counts.get(digest, 0)
            counts[digest] = seen + 1
            if seen:
                again.append(position)
            self._n_repeats += seen == 1
        self._total = self._total + position + 1
        return again[:_KEYS_KEPT]

    def stats(self) -> Json:
        return {
            "bought_total": self._total,
            "distinct": len(self._counts),
            "bought_more_than_once": self._n_repeats,
        }

    def more_than(self, times: int) -> list[Json]:
        """Up to 100 of the pairs bought more often than `times` (at least 1)."""
        named = ((self._counts.get(digest, 0), key) for digest, key in list(self._repeats.items()))
        return [{"key": key, "count": count} for count, key in named if count > times][:_KEYS_SHOWN]


def _keys_at(source: Path, positions: list[int], digests: "array[int]") -> dict[int, str]:
    wanted = set(positions)
    with source.open("rb") as lines:
        return {
            digests[position]: key_of(orjson.loads(raw)) for position, raw in enumerate(lines) if position in wanted
        }
