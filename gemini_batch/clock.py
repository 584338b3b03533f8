"""Time and dice, the only module that reads them.

Everything else takes a `Clock` or an instant as an argument, so that tests drive both.
"""

import secrets
import time
from datetime import UTC, datetime
from typing import Protocol

# CLOCK_BOOTTIME counts time spent suspended, so a sender that wakes from sleep sees its age. macOS has no such clock;
# its CLOCK_MONOTONIC_RAW stops in sleep, wall time is the better witness there.
_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_REALTIME)


class Clock(Protocol):
    def now(self) -> datetime:
        """The wall clock: aware, UTC. For display and hints; never decides whether something is bought."""

    def boottime(self) -> float:
        """Seconds since an arbitrary point, suspension included."""


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def boottime(self) -> float:
        return time.clock_gettime(_BOOTTIME)


def new_nonce(n_bytes: int = 8) -> str:
    """`n_bytes` of fresh randomness as lower-case hex."""
    return secrets.token_hex(n_bytes)


def fraction() -> float:
    """A random number from 0 up to 1."""
    return secrets.randbelow(1_000_000) / 1e6
