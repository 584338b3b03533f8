"""Pause and cancel where workers do the work: said once, they hold for all of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PROMPTS, SHARDS = 40, 4
QUICK = ("--poll-interval", "1", "--settle", "5", "--json")
HERE = ("--out", "runs/run", "--max-requests-per-shard", PROMPTS // SHARDS, "--max-live-jobs", 1)
HOURS = 3600.0


@pytest.fixture
def order(cli: Any, valkey: Any, run: Path) -> Callable[..., Any]:
    return lambda *words: cli(words[0], run, "--broker", valkey.url, *words[1:], "--json")


@pytest.fixture
def handed_over(cli: Any, emulator: Any, valkey: Any, start_worker: Any, look: Any, folder: Path, run: Path) -> Any:
    """A run whose first job runs for hours, with a worker; the other three shards wait for it."""
    emulator.settings(job_seconds=4 * HOURS)
    manifest = look.prompts(folder / "m.parquet", PROMPTS)
    done = cli("submit", manifest, *QUICK, *HERE, "--broker", valkey.url, "--detach")
    assert done.code == 0, done.err
    start_worker()
    look.until(lambda: emulator.creates == 1, "the first job is created")


def test_a_fleet_that_is_paused_collects_and_goes_on_when_it_is_resumed(
    handed_over: Any, order: Any, emulator: Any, look: Any, run: Path
) -> None:
    assert order("pause").json["state"] == "paused"
    emulator.advance(5 * HOURS)
    look.until(lambda: order("status").json["rows"]["ok"] == PROMPTS // SHARDS, "what ran is collected")
    assert order("wait", "--timeout", 0).code == 4
    assert emulator.creates == 1
    emulator.settings(job_seconds=0)
    assert order("resume").code == 0
    assert (emulator.creates, emulator.bought_twice()) == (SHARDS, [])


def test_a_fleet_whose_run_is_cancelled_ends_it_and_retry_buys_the_rest(
    handed_over: Any, order: Any, emulator: Any, look: Any, run: Path, cli: Any
) -> None:
    done = order("cancel")
    assert (done.code, done.json["state"]) == (3, "cancelled")
    assert emulator.creates == 1
    assert {row["error"]["kind"] for row in look.rows(run)} == {"cancelled"}
    emulator.settings(job_seconds=0)
    again = order("retry")
    assert (again.code, again.json["state"]) == (0, "finished")
    assert emulator.bought == PROMPTS + PROMPTS // SHARDS
    assert cli("audit", run).code == 0


def test_a_detached_run_is_waited_for_by_whoever_has_no_part_in_it(
    handed_over: Any, order: Any, emulator: Any, cli: Any, run: Path
) -> None:
    assert cli("wait", run, "--timeout", 0.5).code == 4
    assert order("status", "--check").code == 0
    emulator.settings(job_seconds=0)
    emulator.advance(5 * HOURS)
    done = cli("wait", run, "--json", env={"GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:1"})
    assert (done.code, done.json["state"]) == (0, "finished")
