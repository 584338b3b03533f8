"""Death at every effect of a run, one at a time, and a new process that goes on."""

from typing import Any

import pytest

from tests.crash.lab import At
from tests.crash.stories import PLAIN

WRITES = {"store.create", "store.publish"}

WITH_A_POOL = (
    At("before", "remote.upload", ""),
    At("after", "remote.create_job", ""),
    At("before", "store.publish", "parts"),
    At("before", "store.publish", "dataset"),
)


def test_whatever_effect_it_dies_at_the_next_process_finishes_and_buys_nothing_twice(lab: Any, told: Any) -> None:
    """Before each effect, and after each call of the service, whose answer is lost then. Of reads and looks the first
    of each kind: death there is death before the next change, and how many there are is chance."""
    cases = [at for at in told(PLAIN).seen if at.changes or (at.counts and at.n == 1)]
    assert len(cases) > 50
    troubles = {str(at): trouble for at in cases if (trouble := lab.trouble(told(PLAIN), at))}
    assert not troubles


def test_what_a_death_leaves_half_written_is_never_read(lab: Any, told: Any) -> None:
    """Every object that is written, with half of its bytes in the temporary file."""
    cases = [at for at in told(PLAIN).seen if at.phase == "before" and at.point in WRITES]
    assert len(cases) > 30
    troubles = {str(at): trouble for at in cases if (trouble := lab.trouble(told(PLAIN), at, torn=True))}
    assert not troubles


@pytest.mark.parametrize("at", WITH_A_POOL, ids=str)
def test_a_death_takes_the_processes_of_its_pool_along_and_they_hold_up_nobody(at: At, lab: Any, told: Any) -> None:
    assert lab.trouble(told(PLAIN), at, pool=True) == []
