"""Many workers at once on the same shards, each with a memory of its own: one send per shard, however they meet."""

import os
import random
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock

import pytest
from audited import findings_in
from shops import Clock, make_shop
from test_paying import Service

from gemini_batch.finish import finish
from gemini_batch.jobs.advance import advance
from gemini_batch.jobs.verdicts import Stop
from gemini_batch.ledger.objects import ObjectStore
from gemini_batch.ledger.posix import PosixStore
from gemini_batch.quota.words import Wait
from gemini_batch.records import ShardState

WORKERS = 8
RACES = int(os.environ.get("CHAOS_RACES", "40"))


class Shared(Service):
    """Counts right when many ask at once."""

    def __init__(self, clock):
        super().__init__(clock)
        self.one = Lock()

    def create_job(self, *arguments):
        with self.one:
            return super().create_job(*arguments)

    def upload(self, *arguments):
        with self.one:
            return super().upload(*arguments)


@pytest.fixture
def service():
    return Shared(Clock())


@pytest.fixture
def crew(tmp_path, asked, limits, service):
    """Workers on one run of so many shards."""

    def make(shards, store):
        terms = limits(max_requests_per_shard=1, max_live_jobs=shards)
        return [make_shop(tmp_path, asked, terms, service, service.clock, store, shards) for _ in range(WORKERS)]

    return make


def together(work, crew):
    with ThreadPoolExecutor(WORKERS) as threads:
        return list(threads.map(work, crew, range(WORKERS)))


def sent_once(service, crew):
    """Whatever is left is finished, and every shard has one send and one job."""
    for shop in crew:
        assert [advance(shop, entry.shard) for entry in shop.plan] == [Stop()] * len(shop.plan)
    records = [crew[0].last(entry.shard) for entry in crew[0].plan]
    assert {record.state for record in records} == {ShardState.COLLECTED}
    assert service.asked == len(service.jobs) == len(records)
    assert [(len(record.sends), record.twins) for record in records] == [(1, ())] * len(records)
    finish(crew[0])
    assert findings_in(crew[0]) == []


@pytest.mark.parametrize(("kind", "shards"), [("posix", 15), ("objects", RACES)])
def test_of_eight_workers_that_find_a_shard_ready_one_sends(service, crew, kind, shards):
    """No lock and no lease is held: the ledger alone says who won."""
    store = ObjectStore("memory:///")
    crew = crew(shards, PosixStore if kind == "posix" else lambda _: store)
    assert advance(crew[0], 0) == Stop()  # the pilot
    may_send, crew[0].desk.may_send = crew[0].desk.may_send, lambda *_: Wait("not yet")
    for shard in range(1, shards):
        advance(crew[0], shard)
        assert crew[0].last(shard).state is ShardState.READY
    crew[0].desk.may_send = may_send
    start = Barrier(WORKERS)

    def race(shop, _):
        for shard in range(shards):
            start.wait()
            advance(shop, shard)

    together(race, crew)
    sent_once(service, crew)


def test_of_eight_workers_that_claim_a_shard_at_once_one_sends(service, crew):
    """They take the claim from each other until one gets through; that costs time and uploads, and no money."""
    store, shards = ObjectStore("memory:///"), 2
    crew, start = crew(shards, lambda _: store), Barrier(WORKERS)

    def race(shop, _):
        for shard in range(shards):
            start.wait()
            advance(shop, shard)

    together(race, crew)
    sent_once(service, crew)


def test_doorbells_rung_ten_times_in_any_order_buy_nothing_more(service, crew):
    """A message may come twice, late, or to everybody; it only says where to look."""
    store, shards = ObjectStore("memory:///"), max(40, RACES // 4)
    crew = crew(shards, lambda _: store)

    def answer(shop, number):
        bells = list(range(shards)) * 10
        random.Random(number).shuffle(bells)
        return [advance(shop, shard) for shard in bells]

    together(answer, crew)
    sent_once(service, crew)
