"""Keep a worker running: a Celery worker exits when its broker restarts at a bad moment (5.7.0) or is out of memory."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from threading import Event
from types import FrameType

from gemini_batch.clock import Clock
from gemini_batch.errors import RunStopped

LONGEST_SECONDS = 30.0
"""Between two starts of a worker that keeps exiting."""

STEADY_SECONDS = 60.0
"""A worker that lived for so long starts anew at once."""

USAGE = 2
"""What Celery exits with when it does not understand its arguments."""


class Supervisor:
    """Runs a command again and again until it is told to leave: SIGTERM or SIGINT once lets the worker finish what it
    does, twice does not."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], clock: Clock) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._clock = clock
        self._child: subprocess.Popen[bytes] | None = None
        self._asked = 0
        self._pause = Event()

    def run(self) -> None:
        """Return once the worker has left because it was asked to.

        Raises:
            RunStopped: the worker does not understand its arguments.
        """
        before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            self._keep_running()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _keep_running(self) -> None:
        quick = 0
        while not self._asked:
            began = self._clock.boottime()
            code = self._once()
            lived = self._clock.boottime() - began
            quick = 0 if lived > STEADY_SECONDS else quick + 1
            if code == USAGE and quick == 1 and not self._asked:
                raise RunStopped("the worker does not take these arguments; see above")
            if not self._asked:
                self._pause.wait(min(2.0 ** (quick - 1), LONGEST_SECONDS) if quick else 0)

    def _once(self) -> int:
        # A session of its own: the terminal's Ctrl-C reaches only this process, which passes it on once.
        self._child = subprocess.Popen(self._command, env=self._environment, start_new_session=True)
        if self._asked:
            self._child.terminate()
        return self._child.wait()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked += 1
        self._pause.set()
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM if self._asked == 1 else signal.SIGQUIT)


def worker_command(arguments: Sequence[str]) -> list[str]:
    """A Celery worker of this installation. `-P`: a folder named `workers` in the current directory is not ours."""
    return [sys.executable, "-P", "-m", "workers", *arguments]


def worker_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment and the settings of the worker: no secret in a command line."""
    return {**os.environ, **settings, "GEMINI_BATCH_SUPERVISOR": str(os.getpid())}
