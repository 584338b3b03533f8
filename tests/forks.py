"""The command for tests that only want its answer: a child of a process that has imported the package.

A Python that starts anew for each command spends 0.3 to 1.5 s of CPU on imports, most of what tests cost. The child is
a process of its own like any: session, environment, folder, output, exit. What a test watches, signals or kills is the
installed command, and so is a command that must find its own interpreter (`Cli.start`).

This file is both sides. Into the process that forks goes a line of JSON per child, out come its process id and, when it
has ended, its exit code.
"""

import atexit
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

IMPORTED = (
    "gemini_batch.ask", "gemini_batch.audit.walk", "gemini_batch.doctor.visit", "gemini_batch.explain",
    "gemini_batch.flags", "gemini_batch.gemini.client", "gemini_batch.gemini.prices", "gemini_batch.inquiries",
    "gemini_batch.jobs.encode", "gemini_batch.jobs.parse", "gemini_batch.orders", "gemini_batch.planned",
    "gemini_batch.progress", "gemini_batch.results", "gemini_batch.runs", "genai_prices", "redis", "typer",
)  # fmt: skip
"""Not `cli` itself, where rich looks at the environment; and not obstore, which hangs in a forked child."""


class Forks:
    """Starts the process that forks when it is first asked for a command."""

    def __init__(self, command: Path, environment: Callable[[], dict[str, str]]) -> None:
        self._command = str(command)
        self._environment = environment
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, argv: list[str], env: dict[str, str], cwd: Path, files: list[Path], timeout: float) -> int | None:
        """The exit code; None, and nothing done, while another thread has a command under way.

        Raises:
            subprocess.TimeoutExpired: it did not end, and was killed.
        """
        if not self._lock.acquire(blocking=False):
            return None
        try:
            writes, reads = self._started()
            order = {"argv": [self._command, *argv], "env": env, "cwd": str(cwd), "files": [*map(str, files)]}
            writes.write(json.dumps(order).encode() + b"\n")
            child = int(reads.readline())
            if not select.select([reads], [], [], timeout)[0]:
                os.killpg(child, signal.SIGKILL)
                reads.readline()
                raise subprocess.TimeoutExpired(argv, timeout)
            return int(reads.readline())
        finally:
            self._lock.release()

    def close(self) -> None:
        assert self._process and self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _started(self) -> tuple[Any, Any]:
        """Both ends without a buffer: nothing that was said is hidden from `select`."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__], env=self._environment(), stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, start_new_session=True, bufsize=0,
            )  # fmt: skip
            atexit.register(self.close)
        return self._process.stdin, self._process.stdout


def main() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    assert "obstore" not in sys.modules
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            be_the_command(**json.loads(line))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def be_the_command(argv: list[str], env: dict[str, str], cwd: str, files: list[str]) -> None:
    """Never returns. Ends as the interpreter would, but for taking apart what it has not made."""
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    for to, file in enumerate([os.devnull, *files]):
        opened = os.open(file, os.O_RDONLY if to == 0 else os.O_WRONLY)
        os.dup2(opened, to)
        os.close(opened)
    sys.argv = argv
    try:
        importlib.import_module("gemini_batch.cli").main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    with suppress(BrokenPipeError):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
