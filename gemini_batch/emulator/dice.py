"""Dice that are a function of the seed and a request's canonical JSON, nothing else."""

from hashlib import blake2b
from typing import Any

import orjson

_MASK = (1 << 64) - 1


def canonical(request: Any) -> bytes:
    return orjson.dumps(request, option=orjson.OPT_SORT_KEYS)


def fingerprint(seed: int, body: bytes) -> bytes:
    """16 bytes; `body` is canonical JSON."""
    return blake2b(body, digest_size=16, key=b"%d" % seed).digest()


class Dice:
    """A 64-bit linear congruential generator (Knuth's MMIX constants) started from a fingerprint."""

    __slots__ = ("_state", "digest", "spent")

    def __init__(self, start: bytes) -> None:
        self.digest = start[:4].hex()
        self.spent = 0
        """Kept by those who roll them to make something of bounded size."""
        self._state = int.from_bytes(start[8:16], "big")

    def below(self, n: int) -> int:
        """0 <= result < n, for n up to 2**31; the high bits are the good ones."""
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) & _MASK
        return (self._state >> 33) * n >> 31
