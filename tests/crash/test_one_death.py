"""Death at every effect of a run, one at a time, and a new process that goes on."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.crash.lab import STOPPED, At
from tests.crash.stories import ALL_COLLECTED, PLAIN

WRITES = {"store.create", "store.publish"}

HARMS = {
    "emptied": lambda whole: b"",
    "cut in half": lambda whole: whole[: len(whole) // 2],
    "flipped": lambda whole: whole[:100] + bytes([whole[100] ^ 1]) + whole[101:],
}

WITH_A_POOL = (
    At("before", "remote.upload", ""),
    At("after", "remote.create_job", ""),
    At("before", "store.publish", "parts"),
    At("before", "store.publish", "dataset"),
)


def test_whatever_effect_it_dies_at_the_next_process_finishes_and_buys_nothing_twice(lab: Any, told: Any) -> None:
    """Before each effect, and after each call of the service, whose answer is lost then."""
    cases = [at for at in told(PLAIN).seen if at.counts]
    assert len(cases) > 100
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


@pytest.mark.parametrize("until", [At("before", "store.publish", "parts"), ALL_COLLECTED], ids=str)
def test_a_damaged_object_is_reported_and_never_read_as_data(until: At, lab: Any) -> None:
    """What no death of a process leaves, and a bad disk may. Whoever does as the message says, goes on."""
    story, troubles = replace(PLAIN, do="resume", until=until), {}
    told, kinds = lab.tell(story), newest_of_each_folder(lab.new(story))
    for folder, (how, harm) in product(kinds, HARMS.items()):
        case = lab.new(story)
        damaged = newest_of_each_folder(case)[folder]
        whole = damaged.read_bytes()
        damaged.write_bytes(harm(whole))
        trouble = []
        if (ended := case.again()).code != 0:
            trouble += [] if ended.code == STOPPED and str(damaged) in ended.said else [str(ended)]
            damaged.unlink() if f"delete {damaged}" in ended.said else damaged.write_bytes(whole)
            trouble += [] if case.again().code == 0 else ["it does not go on"]
        if trouble := trouble + lab.differences(told, case):
            troubles[f"{folder}, {how}"] = trouble
    assert not troubles


def newest_of_each_folder(case: Any) -> dict[str, Path]:
    return {name.partition("/")[0]: case.run / name for name in case.objects() if name != ".lock"}
