"""Death, and another one while the run is being resumed.

Every kind of change as the first death, with a twelfth of the kinds as the second, in turn. `CRASH_PAIRS=kinds` takes
all pairs of kinds, as `make chaos` does; `CRASH_PAIRS=all` every pair of effects there is, which is an hour's work.
"""

import os
import random
from collections import defaultdict
from typing import Any

from tests.crash.lab import At, NotComeTo
from tests.crash.stories import PLAIN

SEED = 20261128
PAIRS = os.environ.get("CRASH_PAIRS")
SHARE = 1 if PAIRS else 12


def test_a_second_death_during_the_resume_loses_nothing_and_buys_nothing_twice(lab: Any, told: Any) -> None:
    """Death before what changes nothing is death before the next that does."""
    dice, troubles, missed, count = random.Random(SEED), {}, 0, 0
    for turn, first in enumerate(firsts(told(PLAIN).seen)):
        again = lab.died(told(PLAIN), first).again(observe=True)
        assert again.code == 0, again.said
        for second in seconds(again.seen, dice)[turn % SHARE :: SHARE]:
            count += 1
            try:
                if trouble := lab.trouble(told(PLAIN), first, second):
                    troubles[f"{first}; then {second}"] = trouble
            except NotComeTo:  # how often something is done on a resume is chance
                missed += 1
    print(f"{count} pairs, {missed} of them missed, seed {SEED}")
    assert not troubles
    assert count > 300 / SHARE
    assert missed < count / 20


def firsts(seen: Any) -> list[At]:
    """The first of each kind."""
    return [at for at in seen if at.counts and (PAIRS == "all" or (at.changes and at.n == 1))]


def seconds(seen: Any, dice: random.Random) -> list[At]:
    """Any of each kind."""
    if PAIRS == "all":
        return [at for at in seen if at.counts]
    kinds = defaultdict(list)
    for at in seen:
        kinds[at.name].append(at)
    return [dice.choice(same) for same in kinds.values() if same[0].changes]
