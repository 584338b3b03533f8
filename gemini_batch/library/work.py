"""What this process does about a run: drive it in a thread of its own, or watch a fleet that does.

The thread that waits shows what the other one sees: a notebook puts the output of other threads anywhere.
"""

from threading import Thread

from gemini_batch.agenda import GLANCE_SECONDS
from gemini_batch.clock import SystemClock
from gemini_batch.fleet.watch import Watcher
from gemini_batch.library.shown import Watch
from gemini_batch.runs import Driver
from gemini_batch.solo import Solo
from gemini_batch.status import Status


class Work:
    """Begins at once. A driver that only watches works when somebody waits."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._seen: Status | None = None
        self._failure: BaseException | None = None
        self._is_left = False
        self._thread: Thread | None = None
        self._watcher: Watcher | None = None
        if isinstance(driver, Solo):
            self._thread = Thread(target=self._drive, args=(driver,), name="gemini-batch-run", daemon=True)
            self._thread.start()
        else:
            self._watcher = driver

    @property
    def farewell(self) -> str:
        """What to say to a person who leaves."""
        return self._driver.farewell

    @property
    def is_driving(self) -> bool:
        """Whether the run goes on in this process."""
        return self._thread is not None and self._thread.is_alive() and not self._is_left

    @property
    def is_spent(self) -> bool:
        """Whether nothing more comes of it: it was left, or has ended and said how."""
        if self._is_left or self._thread is None:
            return self._is_left
        return not self._thread.is_alive() and self._failure is None

    def leave(self) -> None:
        """Begin no further step, or watch no longer."""
        self._is_left = True
        self._driver.close()

    def end(self) -> None:
        """Wait for the steps that are under way."""
        if self._thread is not None:
            self._thread.join()

    def stay(self, shown: Watch, seconds: float) -> None:
        """Wait for the end, at most so long.

        Raises:
            RunStopped: the run cannot go on without a person. Said once.
        """
        if self._watcher is not None:
            self._watcher.drive(shown, timeout=seconds)
        if self._thread is not None:
            self._stay(self._thread, shown, seconds)

    def _stay(self, thread: Thread, shown: Watch, seconds: float) -> None:
        clock, last = SystemClock(), None
        deadline = clock.boottime() + seconds
        while True:
            left = deadline - clock.boottime()
            thread.join(max(0.0, min(GLANCE_SECONDS, left)))
            if self._seen is not None and self._seen is not last:
                last = self._seen
                shown(last)
            if left <= 0 or not thread.is_alive():
                break
        if self._failure is not None and not thread.is_alive():
            said, self._failure = self._failure, None
            raise said

    def _drive(self, driver: Solo) -> None:
        try:
            driver.drive(self._see)
        except BaseException as error:  # told to who waits
            self._failure = error

    def _see(self, status: Status) -> None:
        self._seen = status
