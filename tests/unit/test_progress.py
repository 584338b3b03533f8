"""The same facts for people: a line, a block at a terminal of any width, a line in a notebook."""

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from made import make_asked, make_run
from rich.console import Console
from screen import Screen

from gemini_batch.progress import (
    LiveProgress,
    LoggedProgress,
    NotebookProgress,
    PlainProgress,
    line,
    progress_for,
    summary,
)
from gemini_batch.records import Job, Send, ShardPlan, ShardRecord, ShardState, Tally
from gemini_batch.status import summarise

S = ShardState
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PLAN = [ShardPlan(shard=n, first_index=n * 10, rows=10, requests=10, request_bytes=1, tokens=1) for n in range(3)]
RUN = make_run("reviews-3f2a", created_at=NOW - timedelta(seconds=100), asked=make_asked(rows=30), shards=3)


def shard(number, state=S.PLANNED, **changes):
    return ShardRecord(shard=number, state=state, **changes)


def ended(number, invalid=0):
    """A collected shard, whose job took 40 seconds."""
    tally = Tally(
        rows=10, by_status={"ok": 10 - invalid}, by_kind={"schema_invalid": invalid} if invalid else {}, received=10,
        cost_usd=0.1, part_sha256="p",
    )  # fmt: skip
    at = NOW - timedelta(seconds=50)
    job = Job(name="batches/1", display_name="d", created_at=at, ended_at=at + timedelta(seconds=40))
    sends = (Send(number=1, display_name="d", sha256="s", lines=10, requests="r", owner="o", began_at=at),)
    return shard(number, S.COLLECTED, version=9, job=job, sends=sends, tally=tally, at=NOW)


def running(number):
    return shard(number, S.SUBMITTED, version=5, job=Job(name="b", display_name="d", created_at=NOW), sends=())


def status(*records, finished=False, **more):
    return summarise("/runs/r", RUN, PLAN, list(records), finished, NOW, **more)


def under_way(reason="jobs are running, here and there and everywhere, and somebody has to wait for all of them"):
    return status(ended(0, invalid=2), running(1), shard(2), waiting={1: reason}, desk_says="2 of 2 jobs are in flight")


class Clock:
    def __init__(self):
        self.seconds = 1000.0

    def boottime(self):
        return self.seconds

    def now(self):
        return NOW


# --- in words ---------------------------------------------------------------------------------------------------------


def test_a_line_tells_state_rows_failures_speed_time_cost_shards_and_reasons():
    assert line(under_way("jobs are running")) == (
        "running: 10 of 30 rows, 2 not ok (schema_invalid 2), 6.0 rows/min, about 20 s to 60 s left, "
        "0.10 USD of about 0.13 USD, shards COLLECTED 1 PLANNED 1 SUBMITTED 1, "
        "1 wait: jobs are running, 1 wait: 2 of 2 jobs are in flight"
    )


def test_a_line_before_anything_is_known_says_so_and_guesses_nothing():
    assert line(status()).startswith("running: 0 of 30 rows, 0.00 USD of about ")
    assert "none looked at yet" in line(status())
    assert "left" not in line(status())


def test_a_few_lines_tell_the_same():
    told = "\n".join(summary(under_way()))
    for text in ("10 of 30 rows", "schema_invalid 2", "left", "USD of about", "1 live", "2 of 2 jobs"):
        assert text in told


def test_until_when_is_told_with_the_reason():
    at = NOW + timedelta(hours=2)
    found = status(shard(0), shard(1), shard(2), desk_says="50 of 50 jobs a day", until={"50 of 50 jobs a day": at})
    assert "50 of 50 jobs a day, until 2026-11-22 14:00:00 UTC" in line(found)


@pytest.mark.parametrize(
    ("speed", "words"),
    [(1234.4, "1,234 rows/s"), (3.21, "3.2 rows/s"), (0.05, "3.0 rows/min"), (0.01, "36.0 rows/h"), (None, "")],
)
def test_a_speed_has_a_unit_in_which_it_can_be_read(speed, words):
    found = line({**status(running(0)), "rows_per_s": speed})
    assert ("rows/" in found) is bool(words)
    assert words in found


def test_what_the_service_says_is_shown_as_it_is_and_cannot_write_on_the_terminal():
    """Paths and answers may look like console markup, and may hold control characters."""
    out, stopped = io.StringIO(), status(shard(0), stopped="[red]x[/red] [/] \x1b[2J\n!")
    PlainProgress(Console(file=out), Clock())(stopped)
    assert "[red]x[/red] [/]" in out.getvalue()
    assert len(out.getvalue().splitlines()) == 1
    screen = Screen(100)
    with LiveProgress(Console(file=screen, force_terminal=True, width=100)) as watch:
        watch(stopped)
        assert any("[red]x[/red] [/]" in row for row in screen.shown)
        assert not any("\x1b" in row for row in screen.shown)


# --- without a terminal -----------------------------------------------------------------------------------------------


def test_a_line_comes_at_once_and_then_once_a_minute_whatever_changes():
    clock, out = Clock(), io.StringIO()
    with PlainProgress(Console(file=out, width=20), clock) as watch:
        for seconds, records in (
            (0, [shard(0)]),
            (1, [running(0)]),
            (58, [ended(0)]),
            (1, [ended(0)]),
            (59, []),
            (1, []),
        ):
            clock.seconds += seconds
            watch(status(*records))
        watch(status(*map(ended, range(3)), finished=True))
    states = [text.partition(":")[0] for text in out.getvalue().splitlines()]
    assert states == ["waiting", "running", "running"], "the command's own last words tell the end"


def test_a_log_has_the_numbers_and_the_last_line_whenever_it_comes():
    said, clock = [], Clock()
    with LoggedProgress(lambda text, **known: said.append((text, known)), clock) as watch:
        watch(under_way())
        watch(under_way())
        watch(status(*map(ended, range(3)), finished=True))
    assert [text.partition(":")[0] for text, _ in said] == ["running", "finished"]
    known = json.loads(json.dumps(said[0][1]))
    assert known["failed_by_kind"] == {"schema_invalid": 2}
    assert known["eta"]["seconds_low"] <= known["eta"]["seconds_high"]
    assert known["rows_per_s"] == known["rows_per_second"] == 0.1
    assert known["cost_usd"]["expected"] == pytest.approx(0.13, abs=0.01)


def test_a_notebook_shows_one_line_over_itself_and_keeps_the_last():
    clock, out = Clock(), io.StringIO()
    with NotebookProgress(out, clock) as watch:
        for records, finished in (([running(0)], False), ([ended(0), running(1)], False), ([ended(0)], True)):
            clock.seconds += 1
            watch(status(*records, finished=finished))
    before, *shown = out.getvalue().split("\r")
    assert (before, len(shown)) == ("", 3)
    assert shown[-1].startswith("finished: ")
    assert len(shown[-1].rstrip("\n")) >= len(shown[-2].rstrip()), "nothing of a longer line stays"
    assert out.getvalue().endswith("\n")


# --- at a terminal ----------------------------------------------------------------------------------------------------


def test_a_terminal_gets_a_live_block_and_anything_else_lines(monkeypatch):
    assert isinstance(progress_for(Console(file=io.StringIO()), Clock()), PlainProgress)
    terminal = Console(file=io.StringIO(), force_terminal=True)
    assert isinstance(progress_for(terminal, Clock()), LiveProgress)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(progress_for(terminal, Clock()), PlainProgress), "it cannot move the cursor"


class Terminal(Console):
    """A console whose terminal may change its width."""

    def __init__(self, screen, **how):
        super().__init__(file=screen, force_terminal=True, legacy_windows=False, height=40, **how)
        self.screen = screen

    @property
    def width(self):
        return self.screen.width


def only_block(screen):
    """What is seen, in words, whatever the line breaks; and that each part of the block is there once."""
    rows = screen.shown
    for label in ("run ", "rows ", "cost ", "shards "):
        assert sum(row.startswith(label) for row in rows) == 1, rows
    assert max(map(len, rows)) <= screen.width
    return " ".join(" ".join(rows).split())


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_block_fits_the_terminal_and_is_drawn_over_itself(width):
    screen = Screen(width)
    with LiveProgress(Terminal(screen)) as watch:
        watch(under_way())
        first = only_block(screen)
        watch(status(ended(0), ended(1), running(2)))
        assert "20 of 30" in only_block(screen)
        assert "20 of 30" not in first
    assert screen.shown == [], "when it is left, nothing of it stays"


@pytest.mark.parametrize("widths", [(100, 40), (40, 100), (80, 50, 61, 40)])
def test_a_block_survives_a_terminal_that_changes_its_width(widths):
    screen = Screen(widths[0])
    with LiveProgress(Terminal(screen)) as watch:
        watch(under_way())
        for width in widths[1:]:
            screen.resize(width)
            watch(under_way())
            only_block(screen)
    assert screen.shown == []


def test_nothing_is_written_while_nothing_changes():
    screen = Screen(80)
    with LiveProgress(Terminal(screen)) as watch:
        watch(under_way())
        before = screen.writes
        for _ in range(10):
            watch(under_way())
        assert screen.writes == before


def test_without_colour_a_block_has_none(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    out = io.StringIO()
    with LiveProgress(Console(file=out, force_terminal=True, width=80, color_system="truecolor")) as watch:
        watch(under_way())
    assert "\x1b[3" not in out.getvalue()
    assert "38;" not in out.getvalue()
    assert "10 of 30" in out.getvalue()


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["submit", "finished", "fleet", "plan", "explain"])
def test_a_picture_is_small_and_tells_nothing_of_the_machine_that_drew_it(name):
    svg = (Path(__file__).parents[2] / "docs" / "img" / f"{name}.svg").read_text()
    assert len(svg) < 60_000
    for foreign in ("/tmp", "/home", "/work", "127.0.0.1", "cdnjs"):
        assert foreign not in svg
