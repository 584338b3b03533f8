"""Duplicate keys, found without holding the keys: 64-bit hashes in spool files, sorted a bucket at a time.

A hash that occurs twice is only a suspicion; the keys themselves are compared in a second reading.
"""

import tempfile
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice, pairwise
from types import TracebackType
from typing import IO, Self

import xxhash

BUCKETS = 64
"""100 million keys are then 12.5 MB a bucket."""

BOUNDS = tuple(number * 2**64 // BUCKETS for number in range(1, BUCKETS))
"""The first hash of each bucket but the first."""

SPOOL_BYTES = 1 << 16
"""Held in memory per bucket before it goes to disk."""


class KeySpool:
    """Collects key hashes. Use as a context manager; its files are anonymous and go with the process."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._buckets: list[IO[bytes]] = []

    def __enter__(self) -> Self:
        for _ in range(BUCKETS):
            self._buckets.append(self._stack.enter_context(tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def add(self, keys: Iterable[str]) -> None:
        marks = array("Q", sorted(map(xxhash.xxh3_64_intdigest, map(str.encode, keys))))
        ends = [bisect_left(marks, bound) for bound in BOUNDS]
        with memoryview(marks) as sorted_marks:
            for bucket, (start, stop) in zip(self._buckets, pairwise([0, *ends, len(marks)]), strict=True):
                bucket.write(sorted_marks[start:stop])

    def suspects(self) -> set[int]:
        """Hashes that were added more than once; of very many, the first thousand of each bucket."""
        found: set[int] = set()
        for bucket in self._buckets:
            bucket.seek(0)
            marks = array("Q", bucket.read())
            if len(set(marks)) < len(marks):
                found |= set(islice(_repeated(sorted(marks)), 1000))
        return found


def _repeated(marks: list[int]) -> Iterator[int]:
    return (mark for mark, following in pairwise(marks) if mark == following)


def first_duplicate(keys: Iterable[str], suspects: set[int]) -> tuple[str, int, int] | None:
    """The first key that stands on two rows, with both rows; None if the suspicion was a collision of hashes."""
    seen: dict[str, int] = {}
    for row, key in enumerate(keys):
        if xxhash.xxh3_64_intdigest(key.encode()) in suspects:
            if key in seen:
                return key, seen[key], row
            seen[key] = row
    return None
