"""Creates whose answer was lost, by the hundred: the whole pay path over the SDK against the emulator, in its time."""

from datetime import timedelta

import httpx2
import pytest
from audited import findings_in
from made import make_asked, make_limits
from sdk_calls import MODEL, jsonl, request_of
from shops import Clock, make_shop

from gemini_batch.config import Account
from gemini_batch.emulator.local import LocalEmulator
from gemini_batch.finish import finish
from gemini_batch.gemini.client import GeminiClient
from gemini_batch.jobs.advance import advance, look, work
from gemini_batch.jobs.verdicts import Stop
from gemini_batch.ledger.objects import ObjectStore
from gemini_batch.records import ShardState

MANY, UNRELATED = 100, 1000


class Ticking(Clock):
    """Time that passes between any two looks at it."""

    def boottime(self):
        self.passed += timedelta(microseconds=1)
        return super().boottime()


def in_memory(_):
    return ObjectStore("memory:///")


@pytest.fixture(scope="module")
def started():
    with LocalEmulator() as emulator:
        yield emulator, GeminiClient(Account(endpoint=emulator.url, project="p", key="k"))


@pytest.fixture
def emulator(started):
    started[0].reset()
    started[0].settings(max_live_jobs=UNRELATED + MANY, speed=0.001)  # time passes as the test says
    return started[0]


@pytest.fixture
def make(started, emulator, tmp_path):
    """A run of so many shards of one row each."""

    def make(shards, **changes):
        limits = make_limits(**{"max_requests_per_shard": 1, "max_live_jobs": shards, **changes})
        return make_shop(tmp_path, make_asked, limits, started[1], Ticking(), in_memory, rows=shards)

    return make


@pytest.fixture
def passes(emulator):
    """Lets time pass, here and there."""

    def passes(shop, **time):
        emulator.advance(timedelta(**time))
        shop.clock.passed += timedelta(**time)

    return passes


def round_of(shop):
    """Look at every shard once. Returns how many are done."""
    return sum(advance(shop, entry.shard) == Stop() for entry in shop.plan)


def states(shop):
    return {shop.last(entry.shard).state for entry in shop.plan}


def bought_once(emulator, shop):
    """One job and one POST for each shard, and every answer is here."""
    stats, shards = emulator.stats(), len(shop.plan)
    assert (stats["creates"], stats["calls"]["POST batchGenerateContent"]) == (shards, shards)
    assert stats["requests"]["bought_more_than_once"] == 0
    records = [shop.last(entry.shard) for entry in shop.plan]
    assert [record.tally.by_status for record in records] == [{"ok": 1}] * shards
    assert [record.twins for record in records] == [()] * shards
    assert len({record.job.name for record in records}) == shards
    finish(shop)
    assert findings_in(shop) == []


def test_a_hundred_creates_whose_answers_were_lost_are_adopted(emulator, make, passes):
    shop = make(MANY, on_unknown="wait")
    emulator.fault("create_reply_lost", times="always")
    round_of(shop)
    assert states(shop) <= {ShardState.SUBMITTED, ShardState.COLLECTED}
    passes(shop, seconds=1)
    assert round_of(shop) == MANY
    bought_once(emulator, shop)


def test_a_hundred_creates_that_land_after_the_client_gave_up_are_adopted(emulator, make, passes):
    """The request is on its way for longer than anybody waits: no list shows what is not there yet."""
    shop = make(MANY)
    emulator.fault("create_late", times="always", seconds=30)
    assert round_of(shop) == 0
    assert states(shop) == {ShardState.UNKNOWN}
    passes(shop, seconds=31)
    assert round_of(shop) == MANY
    bought_once(emulator, shop)


def test_jobs_that_lists_show_late_are_found_among_a_thousand_others(emulator, make, passes, started, tmp_path):
    """In lists of eleven pages, in no order, each list for all shards at once."""
    crowd(emulator, started[1], tmp_path)
    emulator.fault("list_shuffled", times="always")
    shop = make(20)
    for shard in range(20):
        emulator.fault("list_lag", seconds=6 * shard)
        emulator.fault("create_reply_lost")
        work(shop, shard)
    found = []
    for _ in range(7):
        before, listing = [shop.last(shard) for shard in range(20)], shop.remote.list_jobs()
        for record in before:
            look(shop, record, listing)
        found.append(sum(shop.last(shard).job is not None for shard in range(20)))
        passes(shop, seconds=20)
    assert found == [1, 4, 7, 11, 14, 17, 20]
    assert round_of(shop) == 20
    assert emulator.stats()["creates"] == UNRELATED + 20
    assert len({shop.last(shard).job.name for shard in range(20)}) == 20


@pytest.mark.parametrize("on_unknown", ["resubmit", "wait"])
def test_with_a_fifth_of_all_that_happens_going_wrong_every_row_is_bought_once(
    emulator, make, passes, monkeypatch, on_unknown
):
    """Every call and job, by every fault that leaves the answer at the service; the dice have a seed."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the SDK pauses before it repeats a piece of an upload
    shop = make(20, on_unknown=on_unknown)
    emulator.settings(chaos=0.2)
    for _ in range(60):
        round_of(shop)
        passes(shop, minutes=10)
    stats = emulator.stats()
    lost = sum(shop.last(shard).state is ShardState.UNKNOWN for shard in range(20))
    assert (on_unknown == "wait") is (lost > 0)
    assert states(shop) <= {ShardState.COLLECTED, ShardState.UNKNOWN}
    assert (stats["creates"], stats["requests"]["bought_more_than_once"]) == (20 - lost, 0)
    tallies = [shop.last(shard).tally for shard in range(20)]
    assert [tally.by_status for tally in tallies if tally] == [{"ok": 1}] * (20 - lost)
    emulator.settings(chaos=0)
    assert findings_in(shop) == []


def crowd(emulator, gemini, folder):
    """Jobs of somebody else in the same project."""
    source = folder / "part.jsonl"
    source.write_bytes(jsonl({"key": "a", "request": request_of("a")}))
    file = gemini.upload(source, "part", "jsonl")
    with httpx2.Client(base_url=emulator.url, headers={"x-goog-api-key": "k"}, trust_env=False) as http:
        for number in range(UNRELATED):
            job = {"displayName": f"other-{number % 7}", "inputConfig": {"fileName": file.name}}
            made = http.post(f"/v1/models/{MODEL}:batchGenerateContent", json={"batch": job})
            assert made.status_code == 200, made.text
