"""Progress for people: a live block on a terminal, a plain line now and then elsewhere. Everything goes to stderr."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gemini_batch.clock import Clock
from gemini_batch.status import Status, is_over

NEWS_SECONDS = 5.0
"""Between two lines when there is a new reason to wait; an error that names another file each time is always new."""

PLAIN_SECONDS = 10.0
"""Between two plain lines; a change of state is told at once."""

RATE_SECONDS = 30.0
"""Rows/s is the mean over this long."""


LOGGED = ("state", "reason", "rows", "shards", "waiting", "jobs", "cost_usd")
"""Of a status, what a line of a log holds."""


class Progress(Protocol):
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def __call__(self, status: Status) -> None: ...


def progress_for(console: Console, clock: Clock) -> Progress:
    """What suits the console."""
    return LiveProgress(console, clock) if console.is_terminal else PlainProgress(console, clock)


class Rate:
    """Rows a second over the last while."""

    def __init__(self, clock: Clock) -> None:
        self._now: Callable[[], float] = clock.boottime
        self._marks: list[tuple[float, int]] = []

    def __call__(self, rows_done: int) -> float:
        now = self._now()
        self._marks.append((now, rows_done))
        while len(self._marks) > 2 and now - self._marks[0][0] > RATE_SECONDS:
            self._marks.pop(0)
        then, before = self._marks[0]
        return (rows_done - before) / (now - then) if now > then else 0.0


class LiveProgress:
    """A block that is drawn over itself."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._live = Live(console=console, refresh_per_second=4, transient=True)
        self._rate = Rate(clock)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, status: Status) -> None:
        self._live.update(_block(status, self._rate(rows_done(status))))


class PlainProgress:
    """One line when the state changes or something new is waited for, and every so often."""

    _tells_end = False

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._rate = Rate(clock)
        self._last: tuple[str, float] = ("", 0.0)
        self._told: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def __call__(self, status: Status) -> None:
        rate, now = self._rate(rows_done(status)), self._clock.boottime()
        state, told_at = self._last
        if is_over(status) and not self._tells_end:
            return  # the command's last words say it
        new = {entry["reason"] for entry in status["waiting"]} - self._told
        pause = NEWS_SECONDS if new else PLAIN_SECONDS
        if status["state"] != state or now - told_at >= pause:
            self._told |= new
            self._last = (status["state"], now)
            self._tell(status, rate)

    def _tell(self, status: Status, rate: float) -> None:
        self._console.print(line(status, rate), soft_wrap=True, highlight=False, markup=False)


class LoggedProgress(PlainProgress):
    """The same for programs: the line, and what it is made of.

    Args:
        say: takes the line, and what else is known by name.
    """

    _tells_end = True

    def __init__(self, say: Callable[..., None], clock: Clock) -> None:
        super().__init__(Console(quiet=True), clock)
        self._say = say

    def _tell(self, status: Status, rate: float) -> None:
        told = {"run": status["run_id"], **{name: status[name] for name in LOGGED}, "rows_per_second": round(rate, 3)}
        self._say(line(status, rate), **told)


def rows_done(status: Status) -> int:
    return int(status["rows"]["ok"]) + int(status["rows"]["failed"])


def line(status: Status, rate: float | None = None) -> str:
    """A status in one line."""
    rows = status["rows"]
    said = [f"{status['state']}: {rows_done(status):,} of {rows['total']:,} rows"]
    if rows["failed"]:
        said.append(f"{rows['failed']:,} not ok")
    if rate:
        said.append(f"{rate:,.0f} rows/s")
    said.append("shards " + (shard_counts(status) or "none looked at yet"))
    said += reasons(status)
    return ", ".join(said)


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


def shard_counts(status: Status) -> str:
    return " ".join(f"{name} {count:,}" for name, count in sorted(status["shards"].items()))


def reasons(status: Status) -> list[str]:
    """Why it waits, the most common first."""
    waiting = sorted(status["waiting"], key=lambda entry: -entry["shards"])
    said = [f"{entry['shards']:,} wait: {entry['reason']}" for entry in waiting[:3]]
    if not status["reason"]:
        return said
    stopped = "stopped: " if status["state"] == "stopped" else ""
    return [f"{stopped}{status['reason']}", *(reason for reason in said if status["reason"] not in reason)]


def _block(status: Status, rate: float) -> Table:
    rows, done = status["rows"], rows_done(status)
    block = Table.grid(padding=(0, 1))
    block.add_column(style="bold", no_wrap=True)
    block.add_column()
    block.add_row("run", Text(f"{status['run_id']}  {status['state']}", overflow="ellipsis"))
    block.add_row("", ProgressBar(total=max(rows["total"], 1), completed=done, width=50))
    failed = f", {rows['failed']:,} not ok" if rows["failed"] else ""
    block.add_row("rows", Text(f"{done:,} of {rows['total']:,}{failed}, {rate:,.0f} rows/s"))
    block.add_row("shards", Text(shard_counts(status)))
    for reason in reasons(status):
        block.add_row("", Text(reason, style="dim"))
    return block
