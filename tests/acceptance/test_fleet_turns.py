"""Runs that share a project with few jobs and few tokens: nothing is refused, and no run waits for all of another."""

from pathlib import Path
from typing import Any

LIVE, TOKENS, ROOM = 3, 120, 200
"""Of the desk; the service counts tokens its own way, which no estimate of so short a prompt meets, so it has more."""
OPTIONS = ("--max-live-jobs", LIVE, "--max-enqueued-tokens", TOKENS, "--max-tokens-per-shard", TOKENS // 2)
QUICK = ("--poll-interval", "1", "--settle", "5", "--detach")
SIZES = {"large": (240, 6), "middle": (24, 6), "small": (8, 4)}
"""Rows, and rows of a shard."""


def test_small_runs_end_long_before_a_large_one_with_which_they_share_a_project(
    cli: Any, emulator: Any, valkey: Any, start_worker: Any, look: Any, folder: Path
) -> None:
    emulator.settings(job_seconds=1, max_live_jobs=LIVE, max_enqueued_tokens=[str(ROOM)])

    def submit(name: str) -> Path:
        rows, a_shard = SIZES[name]
        manifest = look.prompts(folder / f"{name}.parquet", rows)
        out = ("--out", f"runs/{name}", "--max-requests-per-shard", a_shard)
        done = cli("submit", manifest, *QUICK, "--broker", valkey.url, *OPTIONS, *out)
        assert done.code == 0, done.err
        return folder / "runs" / name

    large, *others = (submit(name) for name in SIZES)  # the large one comes first
    for name in ("a@host-one", "b@host-two"):
        start_worker(name)
    look.until(lambda: emulator.creates >= 5, "all are under way")
    valkey.client.flushall()
    look.until(lambda: all((run / "_SUCCESS").exists() for run in others), "the smaller ones have finished", 120)
    done = len(list((large / "parts").iterdir()))
    assert done <= SIZES["large"][0] // SIZES["large"][1] // 2, "most of the large run is still to come"
    look.until((large / "_SUCCESS").exists, "the large one has finished", 120)
    stats = emulator.stats()
    assert stats["creates_rejected"] == 0
    assert stats["jobs"]["live_max"] <= LIVE
    assert stats["tokens"]["live_max"] <= ROOM
    assert stats["creates"] == sum(rows // a_shard for rows, a_shard in SIZES.values())
    assert emulator.bought_twice() == []
    assert [cli("audit", run).code for run in (large, *others)] == [0, 0, 0]
