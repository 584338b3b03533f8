"""Tiers all the way: the command, the plan that it records, and what the service sees of it."""

import json
from pathlib import Path
from typing import Any

import pytest

MODEL = "gemini-2.5-pro-tts"
"""The smallest limit of Tier 1: 25,000 tokens."""

LIMIT = 25_000
ROWS = 64
QUICK = ("--poll-interval", "0.5", "--settle", "2", "--out", "run", "--json")


@pytest.fixture
def manifest(look: Any, folder: Path) -> Path:
    """Some 64,000 tokens."""
    prompts = [f"{row:04}" + "word" * 1000 for row in range(ROWS)]
    return look.parquet(folder / "manifest.parquet", {"prompt": prompts})


def _limits(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run" / "run.json").read_text())["limits"]
    return found


def test_a_run_with_a_tier_stays_inside_its_token_limit_without_one_refusal(
    cli: Any, emulator: Any, look: Any, folder: Path, manifest: Path
) -> None:
    """The service holds the same limit: a create beyond it would be answered 429, and be seen here."""
    emulator.settings(job_seconds=0.3, max_enqueued_tokens={"*": LIMIT})
    done = cli("submit", manifest, "--model", MODEL, "--tier", "1", *QUICK, timeout=120)
    assert done.code == 0, done.err
    assert "warning" not in done.err
    limits = _limits(folder)
    assert (limits["tier"], limits["max_enqueued_tokens"], limits["max_tokens_per_shard"]) == ("1", LIMIT, LIMIT // 8)
    stats = emulator.stats()
    assert stats["creates"] == emulator.calls("POST batchGenerateContent") >= ROWS * 1000 // LIMIT * 8
    assert [row["status"] for row in look.rows(folder / "run")] == ["ok"] * ROWS


def test_plan_shows_the_shards_that_submit_makes(cli: Any, folder: Path, manifest: Path) -> None:
    """By the same limits, from wherever they come."""
    how = ("--model", MODEL, "--tier", "1", "--json")
    shown = json.loads(cli("plan", manifest, *how).out)
    assert max(shard["tokens"] for shard in shown["plan"]) <= LIMIT // 8
    assert cli("submit", manifest, *how, *QUICK, timeout=120).code == 0
    assert json.loads((folder / "run" / "run.json").read_text())["shards"] == shown["shards"]


def test_plan_says_how_long_it_may_take_under_the_limits_of_the_tier(cli: Any, manifest: Path) -> None:
    """Twenty-one jobs of which eight fit at once: three days, if each takes one."""
    how = ("plan", manifest, "--model", MODEL, "--tier", "1", "--simulate")
    simulated = json.loads(cli(*how, "--json").out)["simulated"]
    assert 3 * 86_400 <= simulated["seconds_at_24h_jobs"] < 3.1 * 86_400
    assert simulated["highest_enqueued_tokens"] <= LIMIT
    assert f"{LIMIT:,} tokens in flight" in simulated["assumptions"]
    assert "jobs of 2 h in the median" in cli(*how, "--job-hours", "2").out


def test_a_number_beside_a_tier_wins_and_a_later_tier_holds_from_then_on(
    cli: Any, emulator: Any, folder: Path, manifest: Path
) -> None:
    tier = ("--model", MODEL, "--tier", "1")
    emulator.fault("create_400", times="always")
    done = cli("submit", manifest, *tier, "--max-enqueued-tokens", "80000", "--max-live-jobs", "7", *QUICK, timeout=120)
    assert done.code == 1, done.err
    emulator.clear_faults()
    limits = _limits(folder)
    assert (limits["tier"], limits["max_enqueued_tokens"], limits["max_live_jobs"]) == ("1", 80_000, 7)
    controls = folder / "run" / "control"
    assert not controls.exists() or not list(controls.iterdir()), "a submit goes by the limits that it recorded"
    assert cli("resume", "run", "--tier", "2").code == 0
    (said,) = controls.iterdir()
    limits = json.loads(said.read_text())["limits"]
    assert (limits["tier"], limits["max_enqueued_tokens"], limits["max_live_jobs"]) == ("2", 100_000, 7)


def test_shards_of_the_default_size_grow_so_that_there_are_fewer_than_2000(cli: Any, look: Any, folder: Path) -> None:
    """Unless their size was given; all are still small enough for two to be in flight."""
    manifest = look.parquet(folder / "long.parquet", {"prompt": [f"{row:04}" + "word" * 1000 for row in range(6_300)]})
    how = ("plan", manifest, "--model", MODEL, "--tier", "1", "--json")
    found, asked = (json.loads(cli(*how, *more).out) for more in ((), ("--max-requests-per-shard", "9000")))
    assert found["shards"] < 2_000 <= asked["shards"]
    assert found["requests"] == asked["requests"] == 6_300
    assert LIMIT // 8 < max(shard["tokens"] for shard in found["plan"]) <= LIMIT // 2


def test_the_tier_is_no_part_of_what_is_asked(cli: Any, emulator: Any, manifest: Path) -> None:
    """A project that moves up must find its runs again, or pay for them twice."""
    quick = ("--model", MODEL, "--poll-interval", "0.5", "--settle", "2")
    assert cli("submit", manifest, *quick, timeout=120).code == 0
    assert cli("submit", manifest, *quick, "--tier", "1", timeout=120).code == 0
    assert emulator.bought == ROWS


def test_an_unknown_model_is_warned_of_by_name(cli: Any, look: Any, folder: Path) -> None:
    done = cli("plan", look.prompts(folder / "few.parquet", 3), "--model", "gemini-9-ultra", "--tier", "2")
    assert done.code == 0, done.err
    assert done.err.count("gemini-9-ultra") == 1
    assert "100,000" in done.err


@pytest.mark.parametrize("command", ["plan", "submit", "resume", "retry"])
def test_the_option_is_told_where_limits_are(cli: Any, command: str) -> None:
    told = cli(command, "--help").out
    assert "--tier" in told
    assert "free|1|2|3" in told


def test_jobs_that_others_have_in_the_project_count_as_live(cli: Any, emulator: Any, look: Any, folder: Path) -> None:
    """A run of another machine, here: the service counts them all, and has room for one more only."""
    emulator.settings(job_seconds=0.2, max_live_jobs=3)
    emulator.fault("job_stuck", times=2)
    alone = ("--max-requests-per-shard", "1", "--max-live-jobs", "3")
    other = cli.start("submit", look.prompts(folder / "theirs.parquet", 2), *alone, "--out", "theirs")
    look.until(lambda: emulator.creates == 2, "their jobs are live")
    done = cli("submit", look.prompts(folder / "ours.parquet", 6), *alone, *QUICK, timeout=120)
    other.kill()
    assert done.code == 0, done.err
    stats = emulator.stats()
    assert (stats["creates"], stats["creates_rejected"], stats["jobs"]["live_max"]) == (8, 0, 3)


def test_creates_beyond_those_of_a_day_wait_and_a_resume_counts_those_of_before(
    cli: Any, emulator: Any, look: Any, folder: Path
) -> None:
    emulator.settings(job_seconds=0.2, max_creates_per_day=2)
    manifest = look.prompts(folder / "manifest.parquet", 4)
    running = cli.start("submit", manifest, "--max-requests-per-shard", "1", "--max-creates-per-day", "2", *QUICK)
    look.until(lambda: len(list((folder / "run" / "parts").glob("*"))) == 2, "two are done")
    running.kill()
    assert (emulator.creates, emulator.stats()["creates_rejected"]) == (2, 0)
    again = cli.start("resume", "run", "--max-creates-per-day", "3", "--json")
    emulator.settings(job_seconds=0.2, max_creates_per_day=4)
    look.until(lambda: len(list((folder / "run" / "parts").glob("*"))) == 3, "one more is let in, by the ledger")
    again.kill()
    assert (emulator.creates, emulator.stats()["creates_rejected"]) == (3, 0)
