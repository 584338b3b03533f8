"""An emulator in a thread of this process, for tests and notebooks."""

import inspect
import socket
import threading
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from gemini_batch.emulator.admin import stats
from gemini_batch.emulator.canned import Answers, canned, read_canned
from gemini_batch.emulator.server import EmulatorError, listen, opened, server, url_of
from gemini_batch.emulator.settings import ONLY_AT_START, SettingsError, make_fault, make_settings


class LocalEmulator:
    """A Gemini Batch API on a free loopback port, as a context manager.

    Args:
        settings: as in the TOML file of `gemini-batch-dist emulator`, such as `job_seconds=60` or `max_live_jobs=2`.

    Raises:
        SettingsError: an unknown setting, or a value out of range.
        EmulatorError: it cannot start.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings = make_settings(settings)
        self._stack = ExitStack()
        self._failure: BaseException | None = None
        self.url = ""

    def __enter__(self) -> "LocalEmulator":
        with ExitStack() as stack:
            listener = stack.enter_context(listen("127.0.0.1", 0))
            self._service, self._calls = stack.enter_context(opened(self._settings, None, None))
            is_ready = threading.Event()
            self._server = server(self._service, self._calls, is_ready.set)
            self._thread = threading.Thread(target=self._run, args=(listener, is_ready), name="emulator", daemon=True)
            self._thread.start()
            stack.callback(self._stop)
            is_ready.wait()
            if not self._server.started:
                raise EmulatorError(f"The emulator did not start: {self._failure!r}.")
            self.url = url_of(listener)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _run(self, listener: socket.socket, is_ready: threading.Event) -> None:
        try:
            self._server.run([listener])
        except BaseException as error:  # told by the thread that waits
            self._failure = error
        finally:
            is_ready.set()

    def _stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    def answer(self, answers: Answers | str | Path | Iterable[Mapping[str, Any]] | None) -> None:
        """Answer with these from now on; what they do not answer is made up.

        Args:
            answers: a function of a `Prompt` that gives a text, anything JSON can say, a pydantic model, a mapping with
                `response` or `error`, or None for no answer of its own; an exception becomes an error line. Or canned
                answers: a JSONL text, the path of one, or its lines as mappings. None: made up again.

        Raises:
            SettingsError: a line of another shape, named by its number.
        """
        if answers is None:
            self._service.answers = None
        elif inspect.iscoroutinefunction(answers):
            raise SettingsError("answers must be a plain function: it is called from a thread")
        elif callable(answers):
            self._service.answers = answers
        elif isinstance(answers, Path) or (isinstance(answers, str) and not answers.lstrip().startswith("{")):
            self._service.answers = read_canned(Path(answers))
        elif isinstance(answers, str):
            self._service.answers = canned(answers.encode().split(b"\n"), "the text")
        else:
            lines = [answers] if isinstance(answers, Mapping) else answers
            self._service.answers = canned(map(orjson.dumps, lines), "the lines")

    def fault(self, name: str, **when: Any) -> None:
        """Arm a fault: `times`, `after`, `rate`, `job`, `model`, `key`, `row`, `seconds`, `lasts_seconds`.

        Raises:
            SettingsError: an unknown fault or member.
        """
        self._service.faults.arm(make_fault({"name": name, **when}))

    def settings(self, **changes: Any) -> None:
        """Change the service while it runs.

        Raises:
            SettingsError: an unknown setting, or one of the start only.
        """
        if fixed := sorted(changes.keys() & ONLY_AT_START):
            raise SettingsError(f"{fixed[0]} can be set at the start only.")
        self._service.configure(changes)

    def advance(self, step: timedelta) -> None:
        """Step the clock; returns when all jobs that have started by then are answered.

        Raises:
            ValueError: backwards, or further than ten years at once.
        """
        if not isinstance(step, timedelta):
            raise SettingsError(f"the clock advances by a timedelta (got {step!r})")
        self._service.advance(step)

    def stats(self) -> dict[str, Any]:
        """What happened since the start or the last reset, as `/admin/stats` shows it."""
        return stats(self._service, self._calls)

    def bought_more_than(self, times: int) -> list[dict[str, Any]]:
        """`{"key", "count"}` of up to 100 requests that were bought more often than that."""
        return self._service.bought.more_than(times, by_body=False)

    def reset(self) -> None:
        """As new."""
        self._service.reset()
        self._calls.clear()
