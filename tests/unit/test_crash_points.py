"""Death at every effect of a run in an object store, from the first byte of the plan to the last part, and a new
process that goes on.

In one process, where obstore's store in memory is, and over a scripted service: a `BaseException` at the effect stands
for the end of the process, since nothing catches it and everything in memory is dropped. Processes that really die, on
a disk and over the real SDK, are in tests/crash.
"""

from collections import defaultdict
from contextlib import suppress
from datetime import timedelta
from itertools import count

import pytest
from audited import findings_in
from shops import Clock, make_shop
from test_paying import Service

from gemini_batch import effects
from gemini_batch.effects import effect
from gemini_batch.finish import finish
from gemini_batch.jobs.advance import advance
from gemini_batch.jobs.verdicts import Stop
from gemini_batch.ledger.objects import ObjectStore

REMOTE = ("upload", "create_job", "get_job", "list_jobs", "get_file", "delete_file", "list_files", "download")
CHANGES = {"store.create", "store.publish", "store.delete", "remote.upload", "remote.create_job", "remote.delete_file"}
"""Death before anything else is death before the next of these."""

LOOKS = 60


class Died(BaseException):
    """The process is gone."""


class Announced(Service):
    """The scripted service behind the same port as the real one."""

    def __init__(self, clock):
        super().__init__(clock)
        for name in REMOTE:
            setattr(self, name, effect(f"remote.{name}")(getattr(self, name)))


@pytest.fixture(autouse=True)
def _no_hook_stays():
    yield
    effects.observe(None)


def die_at(number):
    """Die before the effect of that number; behind a remote call, its answer is lost. Returns what was passed."""
    passed = []

    def hook(point, phase):
        if phase == "before" or point.startswith("remote."):
            passed.append((phase, point))
            if len(passed) == number:
                raise Died

    effects.observe(hook)
    return passed


@pytest.fixture
def store():
    """Opens the store of a run, which outlives the process."""
    buckets = defaultdict(lambda: ObjectStore("memory:///"))
    return lambda folder: buckets[folder]


def begun(folder, asked, limits, service, store):
    """The run, new or found again."""
    return make_shop(folder, asked, limits, service, service.clock, store=store, rows=4)


def finished(shop):
    """Take the run to its end. Returns its dataset, file by file."""
    for _ in range(LOOKS):
        shop.clock.passed += timedelta(minutes=30)
        if [advance(shop, entry.shard) for entry in shop.plan] == [Stop()] * len(shop.plan):
            finish(shop)
            assert findings_in(shop) == []
            store = shop.files.store
            return {name: store.read(f"dataset/{name}") for name in store.names("dataset")}
    raise AssertionError(f"not finished: {[shop.last(entry.shard).state for entry in shop.plan]}")


def test_whatever_effect_it_dies_at_the_next_process_finishes_and_buys_nothing_twice(tmp_path, asked, limits, store):
    """The pay path and everything around it, at each change, and at the first of what changes nothing."""
    terms = limits(max_requests_per_shard=2)
    passed = trace(tmp_path / "whole", asked, terms)
    numbers = [number for number, at in enumerate(passed, 1) if at[1] in CHANGES or at not in passed[: number - 1]]
    assert {("before", "remote.create_job"), ("after", "remote.create_job"), ("before", "store.create")} <= {*passed}
    assert ("before", "store.publish") in passed
    assert len(numbers) > 40
    datasets = []
    for number in numbers:
        folder = tmp_path / str(number)
        folder.mkdir()
        service = Announced(Clock())
        died = die_at(number)
        with pytest.raises(Died):
            finished(begun(folder, asked, terms, service, store))
        effects.observe(None)
        datasets.append(finished(begun(folder, asked, terms, service, store)))
        assert (died[-1], len(service.jobs)) == (passed[number - 1], 2)
    assert [made == datasets[-1] for made in datasets] == [True] * len(numbers)


def test_dying_again_while_it_finds_out_what_became_of_a_create_changes_nothing(tmp_path, asked, limits):
    """Second deaths after one right before the create, and after one right behind it: at every other effect each."""
    terms, deaths = limits(), 0
    create = trace(tmp_path / "whole", asked, terms).index(("before", "remote.create_job")) + 1
    for first in (create, create + 1):
        for second in count(1 + first - create, 2):
            folder, store, service = tmp_path / f"{first}-{second}", ObjectStore("memory:///"), Announced(Clock())
            folder.mkdir()
            for death in (first, second):
                die_at(death)
                with suppress(Died):
                    finished(begun(folder, asked, terms, service, lambda _, it=store: it))
                    break
            else:
                effects.observe(None)
                assert finished(begun(folder, asked, terms, service, lambda _, it=store: it))
                assert (first, second, service.asked) == (first, second, 1)
                deaths += 1
                continue
            break
    assert deaths > 40


def trace(folder, asked, terms):
    """The effects of an undisturbed run, in order."""
    folder.mkdir()
    service, store, passed = Announced(Clock()), ObjectStore("memory:///"), die_at(0)
    finished(begun(folder, asked, terms, service, lambda _: store))
    return passed
