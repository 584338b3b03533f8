"""How a run is shown to who waits for it in a program: in a terminal, a pipe, or under the cell of a notebook.

Nothing here needs widgets. Everything but the cell's output goes to stderr.
"""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from types import TracebackType
from typing import Any, Self

from rich.console import Console

from gemini_batch.clock import SystemClock
from gemini_batch.logs import FIELDS
from gemini_batch.progress import LoggedProgress, Progress, line, progress_for, rows_done
from gemini_batch.status import Status, is_over

log = logging.getLogger(__name__)

Watch = Callable[[Status], None]


@contextmanager
def watching(on: bool, as_logs: bool = False) -> Iterator[Watch]:
    """Something to call with every new status.

    Args:
        on: it is shown.
        as_logs: to whoever reads logs (`log_format="json"`).
    """
    if not on:
        yield lambda status: None
        return
    display = _notebook()
    if as_logs or display is not None:
        told: Progress = LoggedProgress(_log, SystemClock()) if display is None else CellProgress(display)
        with told:
            yield told
        return
    last: list[Status] = []
    with progress_for(Console(stderr=True, force_jupyter=False), SystemClock()) as shown:

        def show(status: Status) -> None:
            last[:] = [status]
            shown(status)

        yield show
    for status in filter(is_over, last):
        tell(line(status))  # of the command's runs its own last words say it


def _log(text: str, level: int = logging.INFO, **fields: Any) -> None:
    log.log(level, text, extra={FIELDS: fields})


def tell(text: str) -> None:
    """Words to a person."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


# --- notebooks --------------------------------------------------------------------------------------------------------


def _notebook() -> Callable[..., Any] | None:
    """What shows something under the cell that runs; None outside of notebooks."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if ipython is None or not hasattr(shell, "kernel"):
        return None
    display: Callable[..., Any] = ipython.display.display
    return display


class CellProgress:
    """One output of a cell, drawn anew in its place: HTML, and text for who shows none."""

    def __init__(self, display: Callable[..., Any]) -> None:
        self._display = display
        self._handle: Any = None
        self._last: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def __call__(self, status: Status) -> None:
        bundle = {"text/plain": line(status), "text/html": as_html(status)}
        if bundle == self._last:
            return
        self._last = bundle
        if self._handle is None:
            self._handle = self._display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


def as_html(status: Status) -> str:
    """A status as a bar and two or three lines."""
    total = max(status["rows"]["total"], 1)
    said = [f"<b>run {escape(status['run_id'])}</b> in {escape(status['run'])}"]
    said.append(f'<progress value="{rows_done(status)}" max="{total}"></progress> {escape(line(status))}')
    if status["dataset"]:
        said.append(f"dataset: {escape(status['dataset'])}")
    said += [escape(f"{problem['what']}: {problem['fix']}") for problem in status["problems"]]
    return f"<div>{'<br>'.join(said)}</div>"
