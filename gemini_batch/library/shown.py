"""How a run is shown to who waits for it in a program, and to who looks at its handle in a notebook."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

from gemini_batch.clock import SystemClock
from gemini_batch.logs import FIELDS
from gemini_batch.progress import LiveProgress, LoggedProgress, line, progress_in_python, rows_done
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
    last: list[Status] = []
    with LoggedProgress(_log, SystemClock()) if as_logs else progress_in_python() as told:

        def show(status: Status) -> None:
            last[:] = [status]
            told(status)

        yield show
    if isinstance(told, LiveProgress):  # leaves nothing on the terminal
        for status in filter(is_over, last):
            tell(line(status))


def _log(text: str, level: int = logging.INFO, **fields: Any) -> None:
    log.log(level, text, extra={FIELDS: fields})


def tell(text: str) -> None:
    """Words to a person."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def as_html(status: Status) -> str:
    """A status as a bar and two or three lines."""
    total = max(status["rows"]["total"], 1)
    said = [f"<b>run {escape(status['run_id'])}</b> in {escape(status['run'])}"]
    said.append(f'<progress value="{rows_done(status)}" max="{total}"></progress> {escape(line(status))}')
    if status["dataset"]:
        said.append(f"dataset: {escape(status['dataset'])}")
    said += [escape(f"{problem['what']}: {problem['fix']}") for problem in status["problems"]]
    return f"<div>{'<br>'.join(said)}</div>"
