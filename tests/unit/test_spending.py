"""Money is reserved by whoever sends, whatever it knew when it began."""

from dataclasses import replace
from datetime import timedelta

import pytest
from audited import Failing
from shops import Clock, make_shop
from test_paying import Service

from gemini_batch.errors import Unavailable
from gemini_batch.finish import begin_round
from gemini_batch.jobs.advance import advance
from gemini_batch.jobs.spending import may_spend, settle_all
from gemini_batch.jobs.twins import learn_listed
from gemini_batch.ledger.posix import PosixStore
from gemini_batch.ledger.run import RunFiles
from gemini_batch.records import ControlRecord, ShardState

CAP, JOB = 1.0, 0.1
"""USD. A job of one row costs at most a tenth of the cap, and some input."""


@pytest.fixture
def bounded(asked):
    return lambda **changes: asked(generation_config={"maxOutputTokens": 100}, **changes)


@pytest.fixture
def cheap(limits):
    return lambda **changes: limits(**{"price": (0.001, 1000.0), "max_requests_per_shard": 1} | changes)


def say(store, limits):
    """As a `resume` in another process does."""
    log = RunFiles(store).controls()
    assert log.append(ControlRecord(version=log.end() + 1, nonce=str(log.end()), cause="limits", limits=limits))


def chain(shop):
    log = shop.files.spend()
    return [log.at(version) for version in range(1, log.end() + 1)]


def test_a_cap_that_was_set_while_a_process_works_holds_for_what_it_sends_from_then_on(tmp_path, bounded, cheap):
    service = Service(Clock())
    service.state = "BATCH_STATE_RUNNING"
    shop = make_shop(tmp_path, bounded, cheap(), service, service.clock)
    advance(shop, 0)
    say(shop.files.store, cheap(max_cost=CAP))
    advance(shop, 1)
    assert [shop.last(shard).sends[-1].reserved_usd for shard in (0, 1)] == [None, pytest.approx(JOB, rel=0.01)]
    assert [held.shard for held in chain(shop)[-1].held] == [0, 1]


class SaidBetween(PosixStore):
    """Another process sets a cap, and counts what is sent, between a look for one and the record of a send."""

    other = None

    def create(self, name, body):
        if self.other and name.startswith("ledger/") and b'"SENDING"' in body:
            self.other, count = None, self.other
            count()
        return super().create(name, body)


def test_what_is_about_to_be_sent_when_a_cap_is_set_is_not_sent_without_a_reservation(tmp_path, bounded, cheap):
    """Whoever begins the chain then has not seen it in the ledger."""
    service = Service(Clock())
    service.state = "BATCH_STATE_RUNNING"
    shop = make_shop(tmp_path, bounded, cheap(), service, service.clock, store=SaidBetween)
    other = make_shop(tmp_path, bounded, cheap(max_cost=CAP), service, service.clock)

    def count():
        say(other.files.store, other.limits)
        settle_all(other)

    shop.files.store.other = count
    advance(shop, 0)
    record = shop.last(0)
    assert (record.state, service.asked) == (ShardState.SUBMITTED, 1)
    assert record.sends[-1].reserved_usd == pytest.approx(JOB, rel=0.01)
    assert [held.shard for held in chain(shop)[-1].held] == [0]


def test_a_send_that_turns_up_after_it_was_given_up_is_paid_for_by_the_cap(tmp_path, bounded, cheap):
    service = Service(Clock())
    service.script, service.hidden = [Unavailable("cut")], True
    shop = make_shop(tmp_path, bounded, cheap(max_cost=CAP, settle=0.0), service, service.clock, rows=1)
    while shop.last(0).cause != "Settled":
        shop.closing.clear()
        shop.clock.passed += timedelta(minutes=1)
        advance(_leaving_at(shop, "Settled"), 0)
    settle_all(shop)
    assert chain(shop)[-1].held == ()
    service.hidden = False
    other = replace(shop, records={}, book=None)
    other.closing.clear()
    learn_listed(other, service.list_jobs())
    settle_all(other)
    assert [(held.shard, held.usd) for held in chain(other)[-1].held] == [(0, pytest.approx(JOB, rel=0.01))]


def _leaving_at(shop, cause):
    """The shop of a process that leaves when the shard has come so far."""
    inner = shop.files.store.create

    def create(name, body):
        created = inner(name, body)
        if f'"cause":"{cause}"'.encode() in body:
            shop.closing.set()
        return created

    shop.files.store.create = create
    return shop


def test_a_worker_that_has_not_heard_of_a_round_counts_what_is_reserved_in_it(tmp_path, bounded, cheap):
    service = Failing(Clock())
    service.failing[0, 0] = 1
    shop = make_shop(tmp_path, bounded, cheap(max_cost=CAP), service, service.clock)
    late = make_shop(tmp_path, bounded, cheap(max_cost=CAP), service, service.clock)
    late = replace(late, files=RunFiles(PosixStore(tmp_path / "run")))
    late.plan = late.files.plan()
    while shop.last(0).state is not ShardState.COLLECTED:
        shop.clock.passed += timedelta(minutes=1)
        advance(shop, 0)
    shop.last(1)
    shop.clock.passed += timedelta(hours=2)
    assert begin_round(shop) and len(shop.plan) == 3 and len(late.plan) == 2
    service.state = "BATCH_STATE_RUNNING"
    advance(shop, 2)
    late.limits = cheap(max_cost=JOB * 1.5)
    assert "reserved" in (may_spend(late, late.last(1)) or "")
    assert len(late.plan) == 3
