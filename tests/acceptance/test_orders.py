"""Pause and cancel: what is not bought yet is not bought, what is paid for is kept, whoever works on the run."""

from pathlib import Path
from typing import Any

import pytest

ROWS, SHARDS = 40, 4
QUICK = ("--yes", "--poll-interval", "1", "--settle", "2", "--json")
HERE = ("--max-requests-per-shard", ROWS // SHARDS, "--max-live-jobs", 1, "--out", "runs/run")
HOURS = 3600.0


@pytest.fixture
def run(folder: Path) -> Path:
    return folder / "runs" / "run"


@pytest.fixture
def manifest(look: Any, folder: Path) -> Any:
    return look.prompts(folder / "m.parquet", ROWS)


@pytest.fixture
def begun(cli: Any, emulator: Any, manifest: Path, look: Any, run: Path) -> Any:
    """A submit whose first job runs for hours; the other three wait for it."""
    emulator.settings(job_seconds=4 * HOURS)
    running = cli.start("submit", manifest, *QUICK, *HERE)
    look.until(lambda: _in_state(run, "SUBMITTED"), "the first job is recorded")
    return running


def _in_state(run: Path, state: str) -> bool:
    return any(f'"state":"{state}"' in path.read_text() for path in (run / "ledger").glob("*/*.json"))


def _kinds(rows: list[dict[str, Any]]) -> list[str]:
    return [row["error"]["kind"] if row["error"] else row["status"] for row in rows]


# --- pause ------------------------------------------------------------------------------------------------------------


def test_a_paused_run_collects_what_runs_buys_nothing_and_goes_on_by_resume(
    cli: Any, emulator: Any, begun: Any, run: Path, look: Any
) -> None:
    paused = cli("pause", run, "--json")
    assert (paused.code, paused.json["state"], paused.json["exit_code"]) == (0, "paused", 4)
    assert cli("pause", run).code == 0, "again is fine"
    emulator.advance(5 * HOURS)
    left = begun.ended()
    assert (left.code, left.json["state"]) == (4, "paused")
    assert left.json["rows"] == {"total": ROWS, "ok": ROWS // SHARDS, "failed": 0, "pending": ROWS - ROWS // SHARDS}
    assert emulator.creates == 1
    checked = cli("status", run, "--check", "--json")
    assert (checked.code, checked.json["state"], checked.json["stalled"]) == (0, "paused", False)
    emulator.settings(job_seconds=0)
    assert cli("resume", run).code == 0
    assert (emulator.creates, emulator.bought, emulator.bought_twice()) == (SHARDS, ROWS, [])
    assert [row["text"] for row in look.rows(run)] == [look.answer(f"Prompt number {i}") for i in range(ROWS)]


def test_a_pause_outlives_the_process_and_a_resume_elsewhere_lets_the_first_process_go_on(
    cli: Any, emulator: Any, begun: Any, run: Path
) -> None:
    assert cli("pause", run).code == 0
    begun.kill()
    killed = cli("status", run, "--check", "--json")
    assert (killed.code, killed.json["state"]) == (4, "paused"), "a job runs, and nobody is there to collect it"
    emulator.settings(job_seconds=0)
    emulator.advance(5 * HOURS)
    assert cli("resume", run).code == 0
    assert (emulator.creates, emulator.bought_twice()) == (SHARDS, [])


# --- cancel -----------------------------------------------------------------------------------------------------------


def test_a_cancelled_run_ends_its_jobs_buys_nothing_more_and_has_a_dataset_that_retry_completes(
    cli: Any, emulator: Any, begun: Any, run: Path, look: Any
) -> None:
    done = cli("cancel", run, "--json")
    assert (done.code, done.json["state"], done.json["exit_code"]) == (3, "cancelled", 3)
    assert begun.ended().code == 3, "who drove it sees it to its end"
    assert emulator.creates == 1
    rows = look.rows(run)
    assert {row["status"] for row in rows} == {"failed"}
    assert set(_kinds(rows)) == {"cancelled"}
    unsent = [row for row in rows if row["attempts"] == 0]
    assert len(unsent) == ROWS - ROWS // SHARDS
    assert {row["cost_usd"] for row in unsent} == {None}
    assert emulator.files() == []
    audited = cli("audit", run)
    assert audited.code == 0, audited.words
    assert cli("cancel", run).code == 3, "again is fine"
    emulator.settings(job_seconds=0)
    again = cli("retry", run, "--json")
    assert (again.code, again.json["state"]) == (0, "finished"), again.err
    assert emulator.bought == ROWS + ROWS // SHARDS
    assert [row["text"] for row in look.rows(run)] == [look.answer(f"Prompt number {i}") for i in range(ROWS)]
    assert cli("audit", run).code == 0


def test_what_a_cancelled_job_leaves_is_kept(cli: Any, emulator: Any, manifest: Path, run: Path, look: Any) -> None:
    emulator.settings(job_seconds=4 * HOURS)
    emulator.fault("cancelled_with_output")
    running = cli.start("submit", manifest, *QUICK, *HERE)
    look.until(lambda: _in_state(run, "SUBMITTED"), "the first job is recorded")
    running.kill()
    assert cli("pause", run).code == 0
    done = cli("cancel", run, "--json")
    assert (done.code, done.json["state"]) == (3, "cancelled"), "a cancel ends a pause, with nobody else there"
    assert emulator.creates == 1
    rows = look.rows(run)
    assert [row["text"] for row in rows if row["status"] == "ok"] == [
        look.answer(f"Prompt number {row['index']}") for row in rows if row["status"] == "ok"
    ]
    assert cli("pause", run).code == 0, "it has finished: there is nothing to hold back"


def test_a_cancel_is_carried_on_by_resume_and_cannot_be_paused(cli: Any, emulator: Any, begun: Any, run: Path) -> None:
    begun.kill()
    left = cli("cancel", run, "--detach", "--json")
    assert (left.code, left.json["state"], left.json["exit_code"]) == (0, "running", 4)
    assert cli("pause", run).code == 2
    assert cli("resume", run).code == 3
    assert emulator.creates == 1
    assert cli("status", run, "--json").json["state"] == "cancelled"
