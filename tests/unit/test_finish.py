"""Merging, while others merge or plan."""

import orjson
from audited import drive, findings_in, shop_in_rounds
from shops import make_shop
from test_rounds import rows

from gemini_batch import rundir
from gemini_batch.coordinator.rounds import Chosen, plan_round
from gemini_batch.finish import finish
from gemini_batch.ledger.posix import PosixStore
from gemini_batch.ledger.run import RunFiles


class Interrupted(PosixStore):
    """Somebody else acts right after the first read, or the first publishing, of an object."""

    def after(self, what, name, act):
        self._what, self._name, self._act = what, name, act

    def _tell(self, what, name):
        if getattr(self, "_act", None) and (what, name) == (self._what, self._name):
            act, self._act = self._act, None
            act()

    def read(self, name):
        body = super().read(name)
        self._tell("read", name)
        return body

    def publish(self, name, scratch):
        super().publish(name, scratch)
        self._tell("publish", name)

    def delete(self, name):
        assert name != rundir.SUCCESS
        super().delete(name)


def unmerged(folder, asked, limits):
    """A collected run without its dataset, as two processes know it."""
    first = drive(shop_in_rounds(folder, asked, limits))
    first.files.store.delete(rundir.SUCCESS)
    terms = limits(max_requests_per_shard=2)
    second = make_shop(folder, asked, terms, first.remote, first.clock, store=Interrupted, rows=10)
    second.load()
    return first, second


def test_who_finds_the_dataset_made_meanwhile_lets_it_be(tmp_path, asked, limits):
    """A fleet has let go of the run by then, so nobody would mend a `_SUCCESS` that is gone."""
    first, second = unmerged(tmp_path, asked, limits)
    second.files.store.after("read", rundir.SUCCESS, lambda: finish(first))
    finish(second)
    assert first.files.is_finished()
    assert findings_in(first) == []


def test_a_round_that_is_planned_during_the_merge_is_not_in_it(tmp_path, asked, limits):
    first, second = unmerged(tmp_path, asked, limits)
    known = list(second.plan)

    def plan():
        chosen = [Chosen((0,), iter([(0, rows(1, prompt=["a"]))]), 4)]
        assert plan_round(RunFiles(first.files.store), first.run, first.limits, chosen, "repair", known)
        second.files.reread_plan()

    second.files.store.after("publish", rundir.REPORT, plan)
    finish(second)
    assert len(second.plan) == len(known) + 1
    assert orjson.loads(second.files.store.read(rundir.SUCCESS))["round"] == known[-1].round
    assert not second.files.is_finished()


def test_a_part_that_an_earlier_release_wrote_is_made_again_in_the_bytes_of_this_one(tmp_path, asked, limits):
    """Deleted because it was damaged; what writes Parquet may have changed since."""
    shop, _ = unmerged(tmp_path, asked, limits)
    record = shop.last(0)
    shop.records[0] = record.model_copy(update={"tally": record.tally.model_copy(update={"part_sha256": "another"})})
    (tmp_path / "run" / rundir.part_of(0)).unlink()
    finish(shop)
    assert shop.files.is_finished()
