"""`resume --once`, as cron runs it: every call does what is due and leaves, and together they do all."""

from pathlib import Path
from typing import Any

ROWS, SHARDS = 30, 3
HOURS = 3600.0


def test_calls_that_each_do_what_is_due_finish_a_run(cli: Any, emulator: Any, look: Any, folder: Path) -> None:
    emulator.settings(job_seconds=4 * HOURS)
    manifest = look.prompts(folder / "m.parquet", ROWS)
    here = ("--yes", "--max-requests-per-shard", ROWS // SHARDS, "--poll-interval", 1, "--out", "run")
    running = cli.start("submit", manifest, *here)
    look.until((folder / "run" / "run.json").exists, "the run is planned")
    running.kill()
    codes = [cli("resume", "run", "--once").code for _ in range(2)]
    assert codes == [4, 4], "the jobs run for hours; the call does not"
    assert emulator.creates == SHARDS
    emulator.advance(5 * HOURS)
    codes = [cli("resume", "run", "--once").code for _ in range(2)]
    assert codes[-1] == 0
    assert (emulator.bought, emulator.bought_twice()) == (ROWS, [])
    assert [row["text"] for row in look.rows(folder / "run")] == [
        look.answer(f"Prompt number {i}") for i in range(ROWS)
    ]
    assert cli("resume", "run", "--once").code == 0


def test_a_call_beside_a_process_that_drives_the_run_leaves_it_alone(
    cli: Any, emulator: Any, look: Any, folder: Path
) -> None:
    emulator.settings(job_seconds=4 * HOURS)
    manifest = look.prompts(folder / "m.parquet", ROWS)
    running = cli.start("submit", manifest, "--yes", "--poll-interval", 1, "--out", "run")
    look.until(lambda: emulator.creates == 1, "the job is created")
    done = cli("resume", "run", "--once", "--json", timeout=60)
    assert (done.code, done.json["jobs"]["live"]) == (4, 1)
    assert running.running
