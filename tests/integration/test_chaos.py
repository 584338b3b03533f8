"""A whole run while a fifth of all that the service does goes wrong: real SDK, real HTTP."""

from typing import Any

import pytest

from gemini_batch.emulator.answers import expected_answer

QUICK = ("--poll-interval", "1", "--settle", "2", "--max-requests-per-shard", "4", "--out", "run", "--json")

# Of creates, 14 loses one answer, spoils another, refuses three and lists with loops; 55 lets one hang, spoils another
# and cuts downloads in three ways.
SEEDS = (14, 55)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_in_chaos_is_right_and_buys_nothing_twice(
    seed: int, start_emulator: Any, bare_cli: Any, look: Any, folder: Any
) -> None:
    emulator = start_emulator("--chaos", "0.2", "--seed", str(seed))
    manifest = look.prompts(folder / "manifest.parquet", 12)
    done = bare_cli("submit", manifest, *QUICK, env={"GOOGLE_GEMINI_BASE_URL": emulator.url})
    assert done.code == 0, done.err
    rows = look.rows(folder / "run")
    assert [row["text"] for row in rows] == [
        expected_answer(seed, look.request(f"Prompt number {i}")) for i in range(12)
    ]
    stats = emulator.stats()
    emulator.settings(chaos=0)
    audited = bare_cli("audit", "run", env={"GOOGLE_GEMINI_BASE_URL": emulator.url})
    assert audited.code == 0, audited.words
    assert stats["creates"] == 3
    assert stats["requests"] == {"bought_total": 12, "distinct": 12, "bought_more_than_once": 0}
    assert sum(stats["faults"].values()) >= 8, stats["faults"]
    assert {name for name in stats["faults"] if "after_commit" in name or name == "create_reply_lost"}
