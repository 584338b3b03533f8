"""The service's own time: real time at any speed, with steps ahead. It drives every instant a reply shows."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from gemini_batch.clock import Clock

LONGEST_STEP = timedelta(days=3650)
LAST_MOMENT = datetime(9000, 1, 1, tzinfo=UTC)
"""Room for the times of jobs and files behind it: dates end in 9999."""


class VirtualClock:
    """Goes back only by `set_to`. `changed` is called after each change: whoever waits must look again."""

    def __init__(self, real: Clock, speed: float = 1.0) -> None:
        self._real = real
        self._lock = threading.Lock()
        self._speed = speed
        self._real_zero, self._zero = real.boottime(), real.now()
        self.changed: Callable[[], None] = lambda: None

    def now(self) -> datetime:
        with self._lock:
            return self._now()

    def _now(self) -> datetime:
        return self._zero + timedelta(seconds=(self._real.boottime() - self._real_zero) * self._speed)

    def boottime(self) -> float:
        return self._real.boottime()

    @property
    def speed(self) -> float:
        return self._speed

    def advance(self, step: timedelta) -> None:
        """Raises ValueError."""
        if not timedelta(0) <= step <= LONGEST_STEP:
            raise ValueError(f"The clock goes ahead by 0 to {LONGEST_STEP.days} days at once.")
        with self._lock:
            if self._now() + step > LAST_MOMENT:
                raise ValueError(f"The clock ends with the year {LAST_MOMENT.year}.")
            self._zero += step
        self.changed()

    def set_speed(self, speed: float) -> None:
        with self._lock:
            self._zero, self._real_zero = self._now(), self._real.boottime()
            self._speed = speed
        self.changed()

    def set_to(self, moment: datetime) -> None:
        """Go on from there: a restart, or a reset."""
        with self._lock:
            self._zero, self._real_zero = moment, self._real.boottime()
        self.changed()

    def real_seconds_until(self, moment: datetime) -> float:
        return max(0.0, (moment - self.now()).total_seconds() / self._speed)
