"""A job that runs for days: told of, and cancelled and bought again if that is asked for. The emulator's clock is stepped."""

import signal
from pathlib import Path
from typing import Any

import pytest

HOUR = 3600
QUICK = ("--poll-interval", "0.2", "--settle", "1", "--out", "run", "--json")


@pytest.fixture
def begin(cli: Any, emulator: Any, look: Any, folder: Path) -> Any:
    """Submit eight prompts in two shards, the second of which does not end."""

    def begun(*more: str) -> Any:
        emulator.fault("job_stuck", after=1)
        manifest = look.prompts(folder / "manifest.parquet", 8)
        running = cli.start("submit", manifest, "--max-requests-per-shard", "4", *QUICK, *more)
        look.until(lambda: waits(cli, "jobs are running") and shards(cli).get("COLLECTED") == 1, "one job is stuck")
        return running

    return begun


def status(cli: Any) -> dict[str, Any]:
    done = cli("status", "run", "--json")
    return done.json if done.code == 0 and done.out else {}


def shards(cli: Any) -> dict[str, int]:
    return status(cli).get("shards", {})


def waits(cli: Any, reason: str) -> bool:
    return any(reason in waiting["reason"] for waiting in status(cli).get("waiting", ()))


def test_a_job_that_runs_for_a_day_is_told_of_and_left_alone(cli: Any, emulator: Any, look: Any, begin: Any) -> None:
    running = begin()
    emulator.advance(37 * HOUR)
    running.signal(signal.SIGINT)
    again = cli.start("resume", "run", "--json", "--poll-interval", "0.2")
    told = "a job has been PENDING for more than 24 hours"
    look.until(lambda: told in again.said, "it is told of")
    assert emulator.calls("POST batches.cancel") == 0
    again.signal(signal.SIGINT)


def test_a_stuck_job_is_cancelled_on_request_and_its_rows_are_bought_again(
    cli: Any, emulator: Any, look: Any, folder: Path, begin: Any
) -> None:
    running = begin("--stuck", "cancel")
    emulator.advance(37 * HOUR)
    done = running.ended()
    assert done.code == 0, done.err
    found = look.rows(folder / "run")
    assert [row["text"] for row in found] == [look.answer(f"Prompt number {i}") for i in range(8)]
    assert emulator.calls("POST batches.cancel") >= 1
    assert sorted(row["round"] for row in found) == [0, 0, 0, 0, 1, 1, 1, 1]
    assert cli("audit", "run", "--json").json["findings"] == []
