"""Death, and another one while the run is being resumed.

`CRASH_PAIRS=all` takes every pair of effects there is, which is an hour's work.
"""

import os
import random
from collections import defaultdict
from typing import Any

from tests.crash.lab import At
from tests.crash.stories import PLAIN

SEED = 20261128
ALL = os.environ.get("CRASH_PAIRS") == "all"


def test_a_second_death_during_the_resume_loses_nothing_and_buys_nothing_twice(lab: Any, told: Any) -> None:
    """One pair for every two kinds of change: death before what changes nothing is death before the next that does."""
    dice, troubles, count = random.Random(SEED), {}, 0
    for first in firsts(told(PLAIN).seen):
        again = lab.died(told(PLAIN), first).again(observe=True)
        assert again.code == 0, again.said
        for second in seconds(again.seen, dice):
            count += 1
            if trouble := lab.trouble(told(PLAIN), first, second):
                troubles[f"{first}; then {second}"] = trouble
    print(f"{count} pairs, seed {SEED}")
    assert not troubles
    assert count > 300


def firsts(seen: Any) -> list[At]:
    """The first of each kind."""
    return [at for at in seen if at.counts and (ALL or (at.changes and at.n == 1))]


def seconds(seen: Any, dice: random.Random) -> list[At]:
    """Any of each kind."""
    kinds = defaultdict(list)
    for at in seen:
        kinds[at.name].append(at)
    return (
        [at for at in seen if at.counts] if ALL else [dice.choice(same) for same in kinds.values() if same[0].changes]
    )
