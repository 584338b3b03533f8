"""A store that refuses any one write for a while: the shard rests with the reason and goes on once there is room."""

import errno
from datetime import timedelta
from itertools import count

import pytest
from audited import findings_in
from shops import Clock, make_shop
from test_crash_points import Announced

from gemini_batch import effects, rundir
from gemini_batch.finish import finish
from gemini_batch.jobs.advance import advance
from gemini_batch.jobs.verdicts import Rest, Stop
from gemini_batch.ledger.posix import PosixStore

WRITES = {"store.create", "store.publish"}
REFUSALS = 3
LOOKS = 60

FULL = OSError(errno.ENOSPC, "No space left on device")
DENIED = PermissionError(errno.EACCES, "Permission denied")
UNAVAILABLE = OSError(errno.EIO, "s3://bucket/runs: 503 Service Unavailable")


@pytest.fixture(autouse=True)
def _no_hook_stays():
    yield
    effects.observe(None)


def refuse(number, error):
    """Refuse the write of that number and the next ones; returns the refused points."""
    passed, refused = count(1), []

    def hook(point, phase):
        if phase == "before" and point in WRITES and number <= next(passed) < number + REFUSALS:
            refused.append(point)
            raise error

    effects.observe(hook)
    return refused


def advanced(shop, reasons):
    """Every shard to its end; reasons of all rests are noted."""
    for _ in range(LOOKS):
        shop.clock.passed += timedelta(minutes=30)
        verdicts = [advance(shop, entry.shard) for entry in shop.plan]
        reasons.update(verdict.reason for verdict in verdicts if isinstance(verdict, Rest))
        if verdicts == [Stop()] * len(shop.plan):
            return
    raise AssertionError(f"not finished: {reasons}")


@pytest.mark.parametrize("error", [FULL, DENIED, UNAVAILABLE], ids=["full", "denied", "unavailable"])
def test_whatever_write_is_refused_for_a_while_the_run_goes_on_and_buys_nothing_twice(tmp_path, asked, limits, error):
    """Each write of the pay path and around it is refused three times in a row, then there is room again."""
    terms = limits(max_requests_per_shard=2)
    for number in count(1):
        folder = tmp_path / str(number)
        folder.mkdir()
        service = Announced(Clock())
        shop = make_shop(folder, asked, terms, service, service.clock, store=PosixStore, rows=4)
        refused, reasons = refuse(number, error), set()
        advanced(shop, reasons)
        if not refused:
            break
        assert any(error.strerror in reason for reason in reasons), f"write {number} rested without its reason"
        assert (number, len(service.jobs)) == (number, 2)
        effects.observe(None)
        finish(shop)
        assert shop.files.store.exists(rundir.SUCCESS)
        assert findings_in(shop) == []
    assert number > 15


@pytest.mark.parametrize("error", [FULL, DENIED], ids=["full", "denied"])
def test_whatever_write_of_the_merge_is_refused_the_next_merge_ends_well(tmp_path, asked, limits, error):
    """A dataset half written must never be taken for one."""
    service = Announced(Clock())
    for number in count(1):
        folder = tmp_path / str(number)
        folder.mkdir()
        service = Announced(Clock())
        shop = make_shop(folder, asked, limits(), service, service.clock, store=PosixStore, rows=4)
        advanced(shop, set())
        refused = refuse(number, error)
        try:
            finish(shop)
        except OSError as caught:
            assert caught is error
            assert not shop.files.store.exists(rundir.SUCCESS)
        effects.observe(None)
        if not refused:
            break
        finish(shop)
        assert shop.files.store.exists(rundir.SUCCESS)
        assert findings_in(shop) == []
    assert number > 2
