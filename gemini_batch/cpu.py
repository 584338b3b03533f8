"""Processes for the work that Python does one core at a time: encoding and parsing.

loky and not `concurrent.futures`: its children do not import the caller's `__main__`, so a script without a main
guard works. They leave when the process that made them dies, however it dies.
"""

import os
from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Any, TypeVar

from loky import ProcessPoolExecutor, cpu_count
from loky.backend import resource_tracker
from loky.process_executor import BrokenProcessPool, ShutdownExecutorError

from gemini_batch.errors import Unavailable

R = TypeVar("R")

PARENT_CHECK_SECONDS = 1.0


class ProcessPool:
    """A pool of spawned processes, made at first use."""

    def __init__(self, processes: int | None = None) -> None:
        self._processes = processes or cpu_count()
        self._executor: ProcessPoolExecutor | None = None
        self._lock = Lock()
        self._closed = False

    def run(self, function: Callable[[Any], R], task: Any) -> R:
        """`function(task)` in another process. Blocks.

        Raises:
            Unavailable: the process died (killed, or out of memory); the pool is made anew.
        """
        executor = self._started()
        try:
            result: R = executor.submit(function, task).result()
        except (BrokenProcessPool, ShutdownExecutorError):
            self._forget(executor)
            raise Unavailable(f"a process died while it was to {function.__name__}; out of memory?") from None
        return result

    def close(self) -> None:
        with self._lock:
            executor, self._executor, self._closed = self._executor, None, True
        if executor:
            executor.shutdown(wait=True, kill_workers=True)

    def _started(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._closed:
                raise Unavailable("this process is leaving")
            if self._executor is None:
                _start_quiet_tracker()
                self._executor = ProcessPoolExecutor(self._processes, initializer=_leave_with, initargs=(os.getpid(),))
            return self._executor

    def _forget(self, executor: ProcessPoolExecutor) -> None:
        with self._lock:
            if self._executor is executor:
                self._executor = None


def _start_quiet_tracker() -> None:
    """loky's tracker cleans up after a process that was killed, and says so on the user's terminal: it need not."""
    name = "PYTHONWARNINGS"
    before = os.environ.get(name)
    os.environ[name] = ",".join(filter(None, [before, "ignore::UserWarning:loky.backend.resource_tracker"]))
    try:
        resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _leave_with(parent: int) -> None:
    """In a child: ignore the terminal's Ctrl-C, which is for the parent, and leave when the parent is gone."""
    import signal  # noqa: PLC0415 - only children need it

    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        pause = Event()
        while os.getppid() == parent:
            pause.wait(PARENT_CHECK_SECONDS)
        os._exit(1)

    Thread(target=watch, name="leave-with-parent", daemon=True).start()


class InProcess:
    """No pool: for a process that is one of many itself, and was forked, where making processes is not safe; and for
    so little work that making them takes longer."""

    @staticmethod
    def run(function: Callable[[Any], R], task: Any) -> R:
        return function(task)

    def close(self) -> None:
        """There is nothing to close."""
