"""Commands that look on: which runs there are, how one stands, when it is over. None of them needs a key."""

import signal
from pathlib import Path
from typing import Any

import pytest

QUICK = ("--yes", "--poll-interval", "1", "--settle", "2")
HOURS = 3600.0


@pytest.fixture
def manifest(look: Any, folder: Path) -> Any:
    return look.prompts(folder / "m.parquet", 4)


@pytest.fixture
def under_way(cli: Any, emulator: Any, manifest: Path, look: Any) -> Any:
    emulator.settings(job_seconds=4 * HOURS)
    running = cli.start("submit", manifest, *QUICK, "--out", "runs/first")
    look.until(lambda: emulator.creates == 1, "the job is created")
    return running


def test_runs_are_listed_the_newest_first_and_one_that_cannot_be_read_says_so(
    cli: Any, emulator: Any, manifest: Path, folder: Path
) -> None:
    assert cli("runs", "--json").json == {"runs": []}
    emulator.fault("result_line_error")
    assert cli("submit", manifest, *QUICK, "--max-attempts", 1, "--out", "runs/first").code == 3
    assert cli("submit", manifest, *QUICK, "--temperature", 1, "--out", "runs/second").code == 0
    (folder / "runs" / "broken").mkdir()
    (folder / "runs" / "broken" / "run.json").write_text("{}")
    listed = cli("runs", "--json")
    assert listed.code == 0
    second, first, broken = listed.json["runs"]
    assert [Path(entry["run"]).name for entry in (second, first, broken)] == ["second", "first", "broken"]
    assert (first["state"], first["rows"]) == ("finished", {"total": 4, "ok": 3, "failed": 1, "pending": 0})
    assert "run record" in broken["problem"]
    told = cli("runs").out
    assert told.index("second") < told.index("first") < told.index("unreadable")


def test_a_wait_ends_with_the_run_and_does_none_of_its_work(cli: Any, emulator: Any, under_way: Any) -> None:
    away = {"GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:1"}
    late = cli("wait", "runs/first", "--timeout", 0, "--json", env=away)
    assert (late.code, late.json["state"], late.json["exit_code"]) == (4, "running", 4)
    waiting = cli.start("wait", "runs/first", "--json", env=away)
    emulator.advance(5 * HOURS)
    done = waiting.ended()
    assert (done.code, done.json["state"]) == (0, "finished")
    assert under_way.ended().code == 0
    assert cli("wait", "runs/first").code == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_wait_that_is_interrupted_leaves_the_run_alone(
    number: int, code: int, cli: Any, look: Any, under_way: Any
) -> None:
    waiting = cli.start("wait", "runs/first")
    look.until(lambda: "running" in waiting.said, "it says how the run stands")
    waiting.signal(number)
    assert waiting.ended().code == code
    assert under_way.running


def test_a_watch_shows_the_run_until_it_is_over(cli: Any, emulator: Any, look: Any, under_way: Any) -> None:
    watching = cli.start("status", "runs/first", "--watch")
    look.until(lambda: "running" in watching.said, "it says how the run stands")
    emulator.advance(5 * HOURS)
    done = watching.ended()
    assert done.code == 0
    assert "finished: 4 of 4 rows" in done.out
    assert cli("status", "runs/first", "--watch", "--json").code == 2


def test_a_check_exits_4_when_nobody_works_on_a_run_and_1_when_it_is_stopped(
    cli: Any, emulator: Any, look: Any, under_way: Any
) -> None:
    assert cli("status", "runs/first", "--check").code == 0
    under_way.kill()
    stalled = cli("status", "runs/first", "--check", "--json")
    assert (stalled.code, stalled.json["stalled"]) == (4, True)
    assert cli("status", "runs/first").code == 0, "without the flag it only tells"
    emulator.fault("get_403", times="always")
    emulator.fault("list_403", times="always")
    stopped = cli("resume", "runs/first")
    assert stopped.code == 1, stopped.err
    assert cli("status", "runs/first", "--check").code == 1
    assert cli("wait", "runs/first").code == 1
