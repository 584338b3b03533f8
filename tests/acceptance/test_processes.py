"""Processes that meet, die or are killed: nothing is bought twice, nobody is left behind."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

QUICK = ("--yes", "--poll-interval", "1", "--settle", "2", "--max-requests-per-shard", "50")

LARGE = 4_000
"""Rows that a process makes others for."""

SHARDS = ("--max-requests-per-shard", "1000")


@pytest.mark.parametrize("attempt", range(2))
def test_two_submits_at_the_same_moment_share_one_run(
    attempt: int, cli: Any, emulator: Any, look: Any, folder: Path
) -> None:
    manifest = look.prompts(folder / "m.parquet", 400)
    emulator.settings(job_seconds=0.3)
    both = [cli.start("submit", manifest, *QUICK, "--json") for _ in range(2)]
    ended = [one.ended(60) for one in both]
    assert [one.code for one in ended] == [0, 0], [one.err for one in ended]
    assert [one.json["state"] for one in ended] == ["finished", "finished"]
    assert ended[0].json["run_id"] == ended[1].json["run_id"]
    assert emulator.bought_twice() == []
    assert emulator.bought == 400
    rows = look.rows(look.only_run(folder / "runs"))
    assert [row["text"] for row in rows] == [look.answer(f"Prompt number {i}") for i in range(400)]


def test_two_submits_that_would_split_differently_share_one_run(
    cli: Any, emulator: Any, look: Any, folder: Path
) -> None:
    manifest = look.prompts(folder / "m.parquet", 400)
    emulator.settings(job_seconds=0.3)
    both = [cli.start("submit", manifest, *QUICK[:-1], size, "--out", "run", "--json") for size in ("50", "30")]
    ended = [one.ended(60) for one in both]
    assert [one.code for one in ended] == [0, 0], [one.err for one in ended]
    assert emulator.bought == 400
    rows = look.rows(folder / "run")
    assert [row["text"] for row in rows] == [look.answer(f"Prompt number {i}") for i in range(400)]


def test_a_second_process_may_resume_what_the_first_still_drives(
    cli: Any, emulator: Any, look: Any, folder: Path
) -> None:
    manifest = look.prompts(folder / "m.parquet", 200)
    emulator.settings(job_seconds=1)
    first = cli.start("submit", manifest, *QUICK, "--out", "run", "--json")
    look.until(lambda: emulator.creates >= 1, "the first job is created")
    second = cli.start("resume", "run", "--json")
    ended = [one.ended(60) for one in (first, second)]
    assert [one.code for one in ended] == [0, 0], [one.err for one in ended]
    assert emulator.bought == 200
    assert len(look.rows(folder / "run")) == 200


def test_a_submit_killed_while_it_planned_leaves_debris_that_the_next_one_replaces(
    cli: Any, emulator: Any, look: Any, folder: Path
) -> None:
    manifest = look.prompts(folder / "m.parquet", 60_000)
    options = ("--yes", "--max-requests-per-shard", "500", "--out", "run")
    first = cli.start("submit", manifest, *options)
    look.until(lambda: (folder / "run" / "shards").exists() or not first.running, "the first rows are frozen")
    first.kill()
    assert not (folder / "run" / "run.json").exists(), "killed too late to be of use"
    for command in (["status", "run"], ["resume", "run"]):
        assert cli(*command).code == 2
    small = look.prompts(folder / "small.parquet", 20)
    done = cli("submit", small, *QUICK, "--out", "run", "--json")
    assert done.code == 0, done.err
    assert done.json["rows"]["total"] == 20
    assert [row["text"] for row in look.rows(folder / "run")] == [look.answer(f"Prompt number {i}") for i in range(20)]
    assert emulator.bought == 20


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_when_only_the_parent_is_ended_its_children_follow(
    number: int, cli: Any, emulator: Any, look: Any, folder: Path
) -> None:
    emulator.settings(job_seconds=30)
    running = cli.start("submit", look.prompts(folder / "m.parquet", LARGE), *QUICK, *SHARDS, "--out", "run")
    look.until(lambda: emulator.creates >= 1, "a job is created")
    assert len(cli.left()) > 1, "children encode"
    os.kill(running.pid, number)
    running.ended(20)
    cli.wait_for_nobody()


@pytest.mark.parametrize("state", ["CLAIMED", "READY", "SENDING", "ENDED"])
def test_a_run_killed_in_any_state_of_a_shard_is_finished_by_resume(
    state: str, cli: Any, emulator: Any, look: Any, folder: Path
) -> None:
    """The first sight of the state in the ledger is the moment; what it has become by the kill is chance."""
    emulator.settings(job_seconds=0.2)
    running = cli.start("submit", look.prompts(folder / "m.parquet", 100), *QUICK, "--out", "run")

    def seen() -> bool:
        records = (folder / "run" / "ledger").glob("*/*.json")
        return any(f'"state":"{state}"' in path.read_text() for path in records) or not running.running

    look.until(seen, f"a shard is {state}")
    running.kill()
    done = cli("resume", "run", timeout=60)
    assert done.code == 0, done.err
    stats = emulator.stats()
    assert stats["requests"] == {"bought_total": 100, "distinct": 100, "bought_more_than_once": 0}
    assert stats["creates"] == 2
    assert cli("audit", "run").code == 0


def test_a_finished_run_keeps_no_debris_of_those_that_were_killed(
    cli: Any, emulator: Any, look: Any, folder: Path
) -> None:
    manifest = look.prompts(folder / "m.parquet", 20_000)
    running = cli.start("submit", manifest, "--yes", "--poll-interval", "1", "--settle", "2", "--out", "run")

    def written() -> bool:
        return any((folder / "run" / ".scratch").glob("*.jsonl"))

    look.until(written, "a request file is being written")
    running.kill()
    assert written(), "killed too late to be of use"
    assert cli("resume", "run").code == 0
    assert [path.name for path in (folder / "run" / ".scratch").glob("*")] == []


def test_a_worker_child_that_is_killed_does_not_end_the_run(cli: Any, emulator: Any, look: Any, folder: Path) -> None:
    emulator.settings(job_seconds=1)
    running = cli.start("submit", look.prompts(folder / "m.parquet", LARGE), *QUICK, *SHARDS, "--out", "run")
    look.until(lambda: emulator.creates >= 1, "the first job is created")
    for pid in cli.left():
        if pid != running.pid and "resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
    done = running.ended(60)
    assert done.code == 0, done.err
    assert emulator.bought == LARGE
