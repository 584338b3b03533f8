"""Progress for people: a live block at a terminal, a line a minute elsewhere, one line over itself in a notebook.

In: statuses, as often as whoever drives a run has one. Out: the same facts as `status --json`, in words.
"""

import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from math import ceil
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.control import Control
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import ControlType, Segment
from rich.table import Table
from rich.text import Text

from gemini_batch.clock import Clock, SystemClock
from gemini_batch.eta import in_words
from gemini_batch.gemini.prices import in_usd
from gemini_batch.logs import printable
from gemini_batch.status import Status, is_over

PLAIN_SECONDS = 60.0
"""Between two lines where there is no terminal: a run may take two days, and logs are kept."""

NOTEBOOK_SECONDS = 1.0
"""Between two lines that overwrite each other."""

WIDEST = 80
"""Columns of the live block. A terminal that gets narrower breaks lines that no longer fit: the fewer, the better."""

BAR = 50
"""Columns of the bar, where there is room for them."""

REASONS, PROBLEMS = 3, 3
"""To wait, and that something is wrong: so many are told, the rest is in `status --json`."""

LOGGED = (
    "state", "reason", "rows", "rows_per_s", "eta", "failed_by_kind", "shards", "waiting", "jobs", "cost_usd",
)  # fmt: skip
"""Of a status, what a line of a log holds."""

Error = type[BaseException] | None


class Progress(Protocol):
    def __enter__(self) -> Self: ...
    def __exit__(self, kind: Error, error: BaseException | None, trace: TracebackType | None) -> None: ...
    def __call__(self, status: Status) -> None: ...


def progress_for(console: Console, clock: Clock) -> Progress:
    """What suits the console of a command."""
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveProgress(console)
    return PlainProgress(console, clock)


def progress_in_python(clock: Clock | None = None) -> Progress:
    """What suits a program that calls the library: in a notebook one line on stdout, without widgets; elsewhere as the
    command, on stderr, with a last line of its own."""
    console, clock = Console(stderr=True), clock or SystemClock()
    if console.is_jupyter:
        return NotebookProgress(sys.stdout, clock)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveProgress(console)
    return PlainProgress(console, clock, tells_end=True)


class _Frame:
    """Lines of a block without the spaces behind them, which a terminal that gets narrower would break off."""

    def __init__(self, console: Console, block: RenderableType) -> None:
        options = console.options.update(width=min(console.width, WIDEST), height=None)
        self._lines = [list(_trimmed(line)) for line in console.render_lines(block, options, pad=False)]
        self.texts = ["".join(part.text for part in line) for line in self._lines]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for at, parts in enumerate(self._lines):
            if at:
                yield Segment.line()
            yield from parts


def _trimmed(line: list[Segment]) -> Iterator[Segment]:
    length = len("".join(part.text for part in line).rstrip())
    for part in line:
        if length > 0:
            yield Segment(part.text[:length], part.style)
        length -= len(part.text)


class LiveProgress:
    """A block that is drawn over itself, only when something in it has changed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._drawn: list[str] = []
        self._width = 0

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: Error, error: BaseException | None, trace: TracebackType | None) -> None:
        self._make_up_for_resize()
        self._live.stop()

    def __call__(self, status: Status) -> None:
        frame, width = _Frame(self._console, view(status)), self._console.width
        if frame.texts == self._drawn and width == self._width:
            return
        self._make_up_for_resize()
        self._drawn, self._width = frame.texts, width
        self._live.update(frame, refresh=True)

    def _make_up_for_resize(self) -> None:
        """Erase what a narrower terminal made of long lines: more lines than were drawn."""
        width = self._console.width
        more = sum(ceil(cell_len(text) / width) - 1 for text in self._drawn if text)
        if width < self._width and more:
            up = [(ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1)] * more
            self._console.control(Control(ControlType.CARRIAGE_RETURN, *up))


class PlainProgress:
    """A line at once, then one a minute, and at the end whoever called says the last one.

    Args:
        tells_end: nobody else does.
    """

    seconds = PLAIN_SECONDS

    def __init__(self, console: Console, clock: Clock, tells_end: bool = False) -> None:
        self._console = console
        self._clock = clock
        self._tells_end = tells_end
        self._told_at: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Error, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def __call__(self, status: Status) -> None:
        now = self._clock.boottime()
        if is_over(status):
            if self._tells_end:
                self._tell(status)
        elif self._told_at is None or now - self._told_at >= self.seconds:
            self._told_at = now
            self._tell(status)

    def _tell(self, status: Status) -> None:
        self._console.print(line(status), soft_wrap=True, highlight=False, markup=False)


class LoggedProgress(PlainProgress):
    """The same for programs: the line, and what it is made of.

    Args:
        say: takes the line, and what else is known by name.
    """

    def __init__(self, say: Callable[..., None], clock: Clock) -> None:
        super().__init__(Console(quiet=True), clock, tells_end=True)
        self._say = say

    def _tell(self, status: Status) -> None:
        told = {"run": status["run_id"], **{name: status[name] for name in LOGGED}}
        self._say(line(status), **told, rows_per_second=status["rows_per_s"] or 0.0)


class NotebookProgress(PlainProgress):
    """One line that overwrites itself: carriage returns, which every notebook heeds, and no widget."""

    seconds = NOTEBOOK_SECONDS

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        super().__init__(Console(quiet=True), clock, tells_end=True)
        self._stream = stream
        self._shown = ""

    def __exit__(self, kind: Error, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._shown:
            self._stream.write("\n")
            self._stream.flush()

    def _tell(self, status: Status) -> None:
        text = line(status)
        if text != self._shown:
            self._stream.write("\r" + text.ljust(len(self._shown)))
            self._stream.flush()
            self._shown = text


# --- in words ---------------------------------------------------------------------------------------------------------


def rows_done(status: Status) -> int:
    return int(status["rows"]["ok"]) + int(status["rows"]["failed"])


def line(status: Status) -> str:
    """A status in one line."""
    rows = status["rows"]
    said = [f"{status['state']}: {rows_done(status):,} of {rows['total']:,} rows"]
    if rows["failed"]:
        kinds = failures(status)
        said.append(f"{rows['failed']:,} not ok" + (f" ({kinds})" if kinds else ""))
    said += [text for text in (rate(status), time_left(status), cost(status)) if text]
    said.append("shards " + (shard_counts(status) or "none looked at yet"))
    said += reasons(status)
    return printable(", ".join(said)).replace("\n", " ")


def summary(status: Status) -> list[str]:
    """A status in a few lines: what `status` prints and a command ends with."""
    rows, done = status["rows"], rows_done(status)
    head = f"{status['state']}: {done:,} of {rows['total']:,} rows"
    head += f", {rows['failed']:,} not ok" if rows["failed"] else ""
    facts = [f"  {name:<8}{text}" for name, text in _facts(status) if name != "rows"]
    speed = rate(status)
    return [printable(text) for text in (f"{head}, {speed}" if speed else head, *facts)]


def view(status: Status) -> Table:
    """A status as a block for a terminal of any width."""
    rows, done = status["rows"], rows_done(status)
    block = Table.grid(padding=(0, 1))
    block.add_column(style="bold", no_wrap=True)
    block.add_column(overflow="fold")
    block.add_row("run", Text.assemble(str(status["run_id"]), "  ", (str(status["state"]), _style(status))))
    block.add_row("", ProgressBar(total=max(rows["total"], 1), completed=done, width=BAR))
    for name, text in _facts(status):
        block.add_row(name, Text(printable(text), style="dim" if name == "waits" else ""))
    for problem in status["problems"][:PROBLEMS]:
        block.add_row(Text("problem", style="yellow"), Text(printable(problem["what"])))
    return block


def _style(status: Status) -> str:
    return {"stopped": "red", "paused": "yellow", "finished": "green", "cancelled": "yellow"}.get(
        status["state"], "cyan"
    )


def _facts(status: Status) -> Iterator[tuple[str, str]]:
    """What is known, each with a word for it; what is not is left out."""
    rows, done = status["rows"], rows_done(status)
    share = f" ({100 * done // rows['total']} %)" if rows["total"] else ""
    failed = f", {rows['failed']:,} not ok" if rows["failed"] else ""
    speed = rate(status)
    yield "rows", f"{done:,} of {rows['total']:,}{share}{failed}" + (f", {speed}" if speed else "")
    jobs = status["jobs"]
    live = f"{jobs['live']:,} live" if jobs["live"] else ""
    age = f", the oldest for {in_words(max(0, jobs['oldest_age_s']))}" if live and jobs["oldest_age_s"] else ""
    known = {
        "time": time_left(status),
        "cost": cost(status),
        "jobs": live + age,
        "shards": shard_counts(status) or "none looked at yet",
        "not ok": failures(status),
        "workers": ", ".join(worker["host"] for worker in status["workers"]),
    }
    yield from ((name, text) for name, text in known.items() if text)
    yield from (("waits", reason) for reason in reasons(status))


def rate(status: Status) -> str:
    """`95 rows/s`, `3.2 rows/min`; nothing while too little is known."""
    speed = status["rows_per_s"]
    if not speed:
        return ""
    if speed >= 1:
        return f"{speed:,.0f} rows/s" if speed >= 10 else f"{speed:.1f} rows/s"
    return f"{speed * 60:.1f} rows/min" if speed * 60 >= 1 else f"{speed * 3600:.1f} rows/h"


def time_left(status: Status) -> str:
    """`about 40 min to 1.2 h left`; nothing while too little is known."""
    eta = status["eta"]
    if eta is None:
        return ""
    low, high = in_words(eta["seconds_low"]), in_words(eta["seconds_high"])
    return f"about {high} left" if low == high else f"about {low} to {high} left"


def cost(status: Status) -> str:
    """`0.42 USD of about 1.05 USD, cap 5.00 USD`."""
    usd = status["cost_usd"]
    spent, expected, cap = usd["spent"], usd["expected"], usd["cap"]
    said = "" if spent is None else in_usd(spent)
    if expected is not None and not is_over(status):
        said = f"{said} of about {in_usd(expected)}" if said else f"about {in_usd(expected)} in all"
    return ", ".join(text for text in (said, "" if cap is None else f"cap {in_usd(cap)}") if text)


def failures(status: Status) -> str:
    """`transient 8, blocked_answer 4`."""
    return ", ".join(f"{kind} {rows:,}" for kind, rows in status["failed_by_kind"].items())


def shard_counts(status: Status) -> str:
    return " ".join(f"{name} {count:,}" for name, count in sorted(status["shards"].items()))


def reasons(status: Status) -> list[str]:
    """Why it waits, the most common first, and until when."""
    waiting = sorted(status["waiting"], key=lambda entry: -entry["shards"])
    said = [f"{entry['shards']:,} wait: {entry['reason']}{_until(entry)}" for entry in waiting[:REASONS]]
    if not status["reason"]:
        return said
    stopped = "stopped: " if status["state"] == "stopped" else ""
    return [f"{stopped}{status['reason']}", *(reason for reason in said if status["reason"] not in reason)]


def _until(entry: dict[str, Any]) -> str:
    return f", until {datetime.fromisoformat(entry['until']):%Y-%m-%d %H:%M:%S} UTC" if entry["until"] else ""


def overview_in_words(found: list[dict[str, Any]]) -> list[str]:
    """Many runs, a line each."""
    if not found:
        return ["no runs here"]
    lines = [("RUN", "BEGUN", "STATE", "ROWS", "NOT OK", "USD", "MODEL")]
    for entry in found:
        rows, cost = entry["rows"] or {}, (entry["cost_usd"] or {}).get("spent")
        done = f"{rows['ok'] + rows['failed']:,}/{rows['total']:,}" if rows else ""
        usd = "?" if cost is None else f"{cost:,.2f}"
        begun = (entry["created_at"] or "")[:16].replace("T", " ")
        name, state = entry["run"].rstrip("/").rpartition("/")[2], entry["state"] or f"unreadable: {entry['problem']}"
        lines.append((name, begun, state, done, f"{rows.get('failed', 0):,}", usd, entry["model"] or ""))
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]) - 1)]
    return ["  ".join([*map(str.ljust, line, widths), line[-1]]).rstrip() for line in lines]
