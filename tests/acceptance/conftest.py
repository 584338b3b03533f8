"""What acceptance tests of a fleet share: where its run is, and what a run must come to whatever befalls the fleet."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def run(folder: Path) -> Path:
    return folder / "runs" / "run"


@pytest.fixture
def answered(run: Path, look: Any, emulator: Any) -> Callable[[int, int], None]:
    """Wait for the dataset; every answer is right and was bought once, by one job for each shard."""

    def wait(prompts: int, shards: int) -> None:
        look.until((run / "_SUCCESS").exists, "the run has finished")
        assert [row["text"] for row in look.rows(run)] == [look.answer(f"Prompt number {i}") for i in range(prompts)]
        assert emulator.bought_twice() == []
        assert (emulator.bought, emulator.creates) == (prompts, shards)

    return wait
