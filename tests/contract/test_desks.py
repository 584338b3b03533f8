"""The quota desk, wherever its book lies: a pilot first, then up to the limits, by what the ledger says."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import fakeredis
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from made import make_asked, make_limits, make_run

from gemini_batch.quota.desk import Desk, MemoryBooks
from gemini_batch.quota.redis_books import RedisBooks
from gemini_batch.quota.words import ListedJob
from gemini_batch.records import IN_FLIGHT, Job, Send, ShardRecord, ShardState, Upload

S = ShardState
JOB = Job(name="batches/1", display_name="d")
TOKEN = "gemini-batch:test-token"


def redis_books(client):
    client.flushall()
    client.set(TOKEN, "1")
    books = RedisBooks(client, "http://127.0.0.1:1", "p")
    books.restore((), TOKEN, b"1")
    return books


@pytest.fixture(params=["memory", "fakeredis", "valkey"])
def fresh_books(request):
    """Makes an empty, believed book of each kind."""
    if request.param == "memory":
        return MemoryBooks
    if request.param == "valkey":
        client = request.getfixturevalue("valkey").client
        return lambda: redis_books(client)
    return lambda: redis_books(fakeredis.FakeRedis())


def said(wait):
    return wait and wait.reason


class Records:
    """Histories of shards, so that every record has the version that follows."""

    def __init__(self, desk):
        self.desk = desk
        self.last = {}

    def ask(self, shard, tokens=1, request_bytes=0):
        return said(self.desk.ask(self.of(shard), tokens, request_bytes))

    def may_send(self, shard, tokens=1):
        return said(self.desk.may_send(self.of(shard), tokens))

    def refused(self, shard, tokens=1):
        return self.desk.refused(self.of(shard), tokens)

    def follow(self, shard, state, tokens=1, job=None, **changes):
        record = self.of(shard)
        changes = {"version": record.version + 1, "state": state, "job": job, **changes}
        self.last[shard] = record.model_copy(update=changes)
        self.desk.follow(self.last[shard], tokens)

    def of(self, shard):
        return self.last.get(shard) or ShardRecord(shard=shard)


def sent(number, hours):
    """A send of so many hours ago."""
    began = datetime.now(UTC) - timedelta(hours=hours)
    return Send(number=number, display_name="d", sha256="", lines=1, requests="", owner="o", began_at=began)


def upload(size_bytes):
    return Upload(name="files/1", size_bytes=size_bytes, sha256="", lines=1, uploaded_at=datetime.now(UTC))


@pytest.fixture
def desk(fresh_books):
    def make(books=None, run="run", **limits):
        return Records(Desk(books or fresh_books(), make_run(run), make_limits(**limits)))

    return make


@pytest.fixture
def proven(desk):
    """A desk of a run whose pilot was accepted and has been collected."""

    def make(*args, **limits):
        made = desk(*args, **limits)
        made.follow(999, S.COLLECTED, job=JOB)
        return made

    return make


def test_until_a_job_is_accepted_one_shard_goes_ahead_alone(desk):
    """What the service finds wrong with the first job it will find wrong with every one."""
    desk = desk()
    assert (desk.desk.room()[0], desk.ask(0)) == (1, None)
    assert "first job" in desk.ask(1)
    assert desk.desk.room()[0] == 0
    desk.follow(0, S.SUBMITTED, job=JOB)
    assert desk.ask(1) is None
    assert desk.desk.room()[0] == 98


def test_a_pilot_that_fails_gives_its_place_to_the_next(desk):
    desk = desk()
    desk.ask(0)
    desk.follow(0, S.ENDED)
    assert desk.ask(1) is None
    assert "first job" in desk.ask(2)


def test_no_more_jobs_than_the_limit_are_let_in(proven):
    desk = proven(max_live_jobs=2)
    assert [desk.ask(shard) is None for shard in range(3)] == [True, True, False]
    assert "--max-live-jobs" in desk.ask(2)


def test_asking_again_with_a_lease_is_granted(proven):
    """A worker that died after its lease must not wait for itself."""
    desk = proven(max_live_jobs=1)
    assert [desk.ask(0), desk.ask(0)] == [None, None]
    assert desk.ask(1)


def test_no_more_tokens_than_the_limit_are_let_in(proven):
    desk = proven(max_enqueued_tokens=100)
    assert [desk.ask(0, 60), desk.ask(1, 40)] == [None, None]
    assert "--max-enqueued-tokens" in desk.ask(2, 1)
    desk.follow(1, S.ENDED)
    assert desk.ask(2, 40) is None


def test_a_shard_over_the_token_limit_is_let_in_alone(proven):
    """Waiting for room that can never be would be waiting for ever."""
    desk = proven(max_enqueued_tokens=100)
    assert desk.ask(0, 500) is None
    assert desk.ask(1)
    desk.follow(0, S.COLLECTED)
    assert desk.ask(1) is None
    assert desk.ask(2, 500)


@pytest.mark.parametrize("state", ShardState)
def test_leases_follow_the_ledger_after_a_restart(proven, state):
    """Jobs of a process that died still fill the service's queue."""
    desk = proven(max_live_jobs=1)
    desk.follow(0, state)
    assert (desk.ask(1) is None) is (state not in IN_FLIGHT)


def test_an_unknown_create_holds_its_place(proven):
    """It may be a live job."""
    desk = proven(max_enqueued_tokens=10)
    desk.follow(0, S.UNKNOWN, tokens=10)
    assert desk.ask(1)


def test_an_old_record_says_nothing_of_a_newer_lease(proven):
    """A sweep that read the ledger a moment ago must not give back what a worker holds by now."""
    desk = proven(max_live_jobs=1)
    old = desk.of(0)
    desk.follow(0, S.CLAIMED)
    desk.desk.follow(old, 1)
    assert desk.ask(1)


def test_a_lease_that_was_granted_and_is_not_recorded_yet_outlives_a_sweep(proven):
    """Between the desk's word and the ledger's a sweep may look."""
    desk = proven(max_live_jobs=1)
    assert desk.ask(0) is None
    desk.desk.follow(desk.of(0), 1)
    assert desk.ask(1)


@pytest.fixture
def no_pause(monkeypatch):
    """A refusal is followed by no pause."""
    monkeypatch.setattr("gemini_batch.quota.belief.PAUSE_SECONDS", 0.0)


def ready(desk, shards, tokens=1):
    """Let shards in, up to where they may send."""
    for shard in shards:
        assert desk.ask(shard, tokens) is None
        desk.follow(shard, S.READY, tokens)


def submitted(desk, shards, tokens=1):
    ready(desk, shards, tokens)
    for shard in shards:
        desk.follow(shard, S.SUBMITTED, tokens, job=JOB)


def test_after_a_429_nobody_sends_for_a_moment(proven):
    """The service gives no time to come back; a fleet that asks again at once gets the same answer a hundred times."""
    desk = proven()
    ready(desk, (0, 1))
    assert desk.may_send(0) is None
    desk.refused(0)
    assert "429" in desk.may_send(0)
    assert "429" in desk.may_send(1)
    assert desk.desk.may_send(desk.of(0), 1).until is not None


def test_after_a_429_one_shard_asks_again_for_all(proven, no_pause):
    desk = proven()
    ready(desk, (0, 1))
    desk.refused(0)
    assert desk.may_send(0) is None
    desk.follow(0, S.SENDING)
    assert "shard 0" in desk.may_send(1)
    desk.follow(0, S.SUBMITTED, job=JOB)
    desk.follow(0, S.COLLECTED, job=JOB)
    assert desk.may_send(1) is None


def test_a_shard_whose_create_is_lost_asks_for_nobody(proven, no_pause):
    """After a 429 it asked again for all and got no answer; under `wait` it may stay lost for ever."""
    desk = proven()
    ready(desk, (0, 1))
    desk.refused(0)
    assert desk.may_send(0) is None
    desk.follow(0, S.UNKNOWN)
    desk.follow(0, S.COLLECTED)
    assert desk.may_send(1) is None


def test_a_429_shrinks_what_is_believed_and_quiet_time_lets_one_try_for_more(proven, no_pause, monkeypatch):
    """Four were in flight and the fifth was refused, so four it is, until a while has passed."""
    desk = proven()
    submitted(desk, range(4), tokens=10)
    ready(desk, (4, 5), tokens=10)
    assert desk.may_send(4, 10) is None
    desk.follow(4, S.SENDING, 10)
    desk.refused(4, 10)
    desk.follow(4, S.READY, 10)
    assert "4 jobs or 45 tokens" in desk.may_send(4, 10)
    assert "4 jobs" in desk.ask(6, 10)
    desk.follow(0, S.COLLECTED, 10, job=JOB)
    assert desk.may_send(4, 10) is None
    desk.follow(4, S.SUBMITTED, 10, job=JOB)
    assert desk.may_send(5, 10)
    monkeypatch.setattr("gemini_batch.quota.belief.Belief.probe_is_due", lambda *_: True)
    assert desk.may_send(5, 10) is None
    desk.follow(5, S.SENDING, 10)
    desk.follow(5, S.SUBMITTED, 10, job=JOB)
    assert desk.ask(6, 10) is None


def test_refused_for_minutes_with_nothing_else_live_a_shard_is_to_be_split(proven, no_pause, monkeypatch):
    """It may be larger than the limit: waiting would be for ever."""
    monkeypatch.setattr("gemini_batch.quota.belief.SPLIT_SECONDS", 0.0)
    desk = proven()
    ready(desk, (0,), tokens=50)
    said = []
    for _ in range(3):
        assert desk.may_send(0, 50) is None
        said.append(desk.refused(0, 50))
    assert said == [False, False, True]


def test_a_shard_no_larger_than_one_that_was_taken_is_not_split(proven, no_pause, monkeypatch):
    """What refuses it is another limit, creates of a day perhaps: halves would take more of them."""
    monkeypatch.setattr("gemini_batch.quota.belief.SPLIT_SECONDS", 0.0)
    desk = proven()
    submitted(desk, (1,), tokens=50)
    desk.follow(1, S.COLLECTED, 50, job=JOB)
    ready(desk, (0,), tokens=50)
    assert [desk.refused(0, 50) for _ in range(4)] == [False] * 4


def test_jobs_of_others_count_as_live(proven):
    """The service counts all jobs of a project, whoever made them."""
    desk = proven(max_live_jobs=3)
    desk.desk.see([ListedJob(None, True), ListedJob("stranger", True), ListedJob("run", True), ListedJob(None, False)])
    assert desk.ask(0) is None
    assert "2 of them" in desk.ask(1)
    desk.desk.see([])
    assert desk.ask(1) is None


def test_creates_of_a_day_have_a_limit_and_those_of_ended_shards_count(proven):
    """About 700 a day, whatever has become of the jobs (sourcelibrary-v2 batch guide)."""
    desk = proven(max_creates_per_day=2)
    submitted(desk, (0,))
    desk.follow(0, S.SUBMITTED, job=JOB, sends=(sent(1, hours=1),))
    desk.follow(0, S.COLLECTED, job=JOB)
    desk.follow(0, S.COLLECTED, job=JOB)
    assert desk.ask(1) is None
    wait = desk.desk.ask(desk.of(2), 1)
    assert "2 of 2 jobs a day" in wait.reason
    assert "--max-creates-per-day" in wait.reason
    assert wait.until is not None


def test_creates_of_yesterday_count_no_more(proven):
    desk = proven(max_creates_per_day=1)
    submitted(desk, (0,))
    desk.follow(0, S.SUBMITTED, job=JOB, sends=(sent(1, hours=25),))
    desk.follow(0, S.COLLECTED, job=JOB)
    assert desk.ask(1) is None


def test_files_at_the_service_have_a_limit(proven):
    """The planned size counts from the lease on, the upload's own afterwards, until it is deleted after 48 h."""
    desk = proven(max_stored_bytes=100)
    assert desk.ask(0, request_bytes=60) is None
    assert "--max-stored-bytes" in desk.ask(1, request_bytes=60)
    desk.follow(0, S.READY, upload=upload(30))
    assert desk.ask(1, request_bytes=60) is None
    desk.follow(1, S.READY, upload=upload(60))
    desk.follow(1, S.COLLECTED)
    assert "90 of 100 bytes" in desk.ask(2, request_bytes=20)
    assert desk.ask(2, request_bytes=10) is None


def test_what_ended_shards_take_is_counted_from_the_ledger_alone(fresh_books):
    """Of a run that is resumed, or after a flush, there is nothing else."""
    books = fresh_books()
    desk = Records(Desk(books, make_run(), make_limits(max_stored_bytes=100, max_creates_per_day=1)))
    record = ShardRecord(shard=9, version=3, state=S.COLLECTED, job=JOB, upload=upload(70), sends=(sent(1, hours=2),))
    for _ in range(2):
        desk.desk.follow_run(lambda: [desk.desk.applicant(record, 1)])
    assert "1 of 1 jobs a day" in desk.ask(1)
    other = Records(Desk(books, make_run(), make_limits(max_stored_bytes=100)))
    assert "70 of 100 bytes" in other.ask(1, request_bytes=40)


def test_the_run_that_holds_least_is_next(fresh_books, proven):
    """A small run that comes late is not behind all of a large one."""
    books = fresh_books()
    large, small = (proven(books, run=run, max_live_jobs=3) for run in ("large", "small"))
    submitted(large, range(3))
    assert "--max-live-jobs" in large.ask(3)
    assert "--max-live-jobs" in small.ask(0)
    large.follow(0, S.COLLECTED, job=JOB)
    assert "the turn of shard 0 of run small" in large.ask(3)
    assert large.desk.room(large.desk.applicant(large.of(3), 1)).shards == 0
    assert small.ask(0) is None
    large.follow(1, S.COLLECTED, job=JOB)
    assert large.ask(3) is None


def test_a_shard_that_does_not_fit_lets_others_pass_until_it_has_waited(fresh_books, proven, monkeypatch):
    books = fresh_books()
    one, other = (proven(books, run=run, max_enqueued_tokens=100) for run in ("one", "other"))
    submitted(one, (0, 1), tokens=40)
    assert "80 of 100 tokens" in other.ask(0, 50)
    assert one.ask(2, 20) is None
    monkeypatch.setattr("gemini_batch.quota.turns.PATIENCE_SECONDS", 0.0)
    one.follow(0, S.COLLECTED, 40, job=JOB)
    assert "room is kept for shard 0 of run other" in one.ask(3, 20)
    one.follow(1, S.COLLECTED, 40, job=JOB)
    assert other.ask(0, 50) is None


def test_tokens_are_weighed_by_what_came_back(proven):
    """Estimates are off by a factor; what a run has learnt of it holds for all its shards."""
    desk = proven(max_enqueued_tokens=100)
    desk.desk.calibrate(0.5)
    assert [desk.ask(0, 100), desk.ask(1, 100)] == [None, None]
    assert "100 of 100 tokens" in desk.ask(2, 2)
    desk.desk.calibrate(0.25)
    assert desk.ask(2, 200) is None


def test_a_shard_may_send_once_more_while_its_own_send_is_in_the_ledger(proven):
    """The desk is asked again between SENDING and the create; its own record must not count against it."""
    desk = proven(max_live_jobs=1)
    desk.ask(0)
    desk.follow(0, S.SENDING)
    assert desk.may_send(0) is None


def test_who_lost_the_lease_has_to_get_in_before_sending(proven):
    """After a flush someone else may hold the place."""
    desk = proven(max_live_jobs=1)
    desk.follow(0, S.SUBMITTED)
    assert "--max-live-jobs" in desk.may_send(1)


def test_runs_of_a_project_share_its_limits(fresh_books, proven):
    """The service counts by project, not by run."""
    books = fresh_books()
    one, other = proven(books, run="one", max_live_jobs=2), proven(books, run="other", max_live_jobs=2)
    assert [one.ask(0), other.ask(0)] == [None, None]
    assert one.ask(1)
    assert other.ask(1)
    assert (one.desk.room()[0], other.desk.room()[0]) == (0, 0)


def test_each_run_has_a_pilot_of_its_own(fresh_books, desk, proven):
    """What another run was accepted with says nothing about this one's requests."""
    books = fresh_books()
    proven(books, run="one")
    other = desk(books, run="other")
    assert other.ask(0) is None
    assert "first job" in other.ask(1)


@pytest.mark.parametrize(("scale", "let_in"), [(0.5, 8), (1.0, 4), (2.0, 2), (100.0, 1)])
def test_what_came_back_of_a_run_weighs_what_is_let_in(proven, scale, let_in):
    """An estimate that is too low would pass the limit of the service, one that is too high would leave it unused."""
    desk = proven(max_enqueued_tokens=40)
    desk.desk.calibrate(scale)
    assert sum(desk.ask(shard, 10) is None for shard in range(9)) == let_in


def test_leases_that_are_held_weigh_by_what_is_known_now(proven):
    desk = proven(max_enqueued_tokens=40)
    assert [desk.ask(shard, 10) for shard in range(2)] == [None, None]
    desk.desk.calibrate(2.0)
    assert "--max-enqueued-tokens" in desk.ask(2, 10)
    desk.desk.calibrate(1.0)
    assert desk.ask(2, 10) is None


def test_what_came_back_of_one_run_says_nothing_of_another(fresh_books, proven):
    books = fresh_books()
    one, other = (proven(books, run=run, max_enqueued_tokens=40) for run in ("one", "other"))
    one.desk.calibrate(2.0)
    assert [one.ask(0, 10), other.ask(0, 10), other.ask(1, 10)] == [None, None, None]
    assert "--max-enqueued-tokens" in other.ask(2, 10)


def test_tokens_count_by_model(fresh_books, proven):
    """The service limits enqueued tokens per model."""
    books = fresh_books()
    one = proven(books, run="one", max_enqueued_tokens=10)
    other = Records(Desk(books, make_run("other", asked=make_asked(model="m")), make_limits(max_enqueued_tokens=10)))
    other.follow(999, S.COLLECTED, job=JOB)
    assert [one.ask(0, 10), other.ask(0, 10)] == [None, None]
    assert one.ask(1)


@pytest.mark.parametrize("kind", ["memory", "fakeredis"])
@settings(deadline=None, max_examples=100)
@given(history=st.lists(st.tuples(st.integers(0, 5), st.sampled_from([*ShardState, "ask"])), max_size=40))
def test_the_limits_hold_after_any_history_of_asks(kind, history):
    """Whatever is let in by asking keeps both limits, but for one shard alone."""
    books = MemoryBooks() if kind == "memory" else redis_books(fakeredis.FakeRedis(server=fakeredis.FakeServer()))
    desk, leases = Records(Desk(books, make_run(), make_limits(max_live_jobs=3, max_enqueued_tokens=10))), {}
    desk.follow(999, S.COLLECTED, job=JOB)
    tokens = {shard: 2 + shard * 2 for shard in range(6)}
    for shard, what in history:
        if what == "ask":
            held = shard in leases
            if desk.ask(shard, tokens[shard]) is None:
                leases[shard] = tokens[shard]
                assert held or len(leases) == 1 or (len(leases) <= 3 and sum(leases.values()) <= 10)
            else:
                assert not held
                assert leases
        else:
            desk.follow(shard, what, tokens[shard])
            leases.pop(shard, None)
            if what in IN_FLIGHT:
                leases[shard] = tokens[shard]


# --- what only a book in Redis can meet -------------------------------------------------------------------------------


@pytest.fixture
def lost(valkey):
    """A desk with one job in flight, and its books, whose Redis was flushed."""
    books = redis_books(valkey.client)
    desk = Records(Desk(books, make_run(), make_limits(max_live_jobs=1)))
    desk.follow(0, S.SUBMITTED, job=JOB)
    valkey.client.flushall()
    return desk, books


def test_after_a_flush_nobody_is_let_in_until_the_ledgers_were_read(lost, valkey):
    """An empty book would let a whole second set of jobs in."""
    desk, books = lost
    assert "rebuilt" in str(desk.ask(1))
    assert (desk.desk.room()[0], books.is_believed()) == (0, False)
    desk.follow(2, S.CLAIMED)
    assert "rebuilt" in str(desk.may_send(2))
    valkey.client.set(TOKEN, "1")
    books.restore([desk.desk.applicant(record, 1) for record in desk.last.values()], TOKEN, b"1")
    assert books.is_believed()
    assert "--max-live-jobs" in desk.ask(1)


def test_a_sweep_tells_the_desk_what_has_come_back_and_what_others_have(lost, valkey):
    """After a flush nothing else knows it."""
    desk, books = lost
    valkey.client.set(TOKEN, "1")
    ledger = [desk.desk.applicant(record, 100) for record in desk.last.values()]
    desk.desk.limits = make_limits(max_enqueued_tokens=100, max_live_jobs=3)
    books.restore(ledger, TOKEN, b"1", {"run": 0.5}, [ListedJob(None, True)])
    assert "50 of 100 tokens" in desk.ask(1, 101)
    assert desk.ask(1, 100) is None
    assert "1 of them" in desk.ask(2)
    books.renew(ledger, {"run": 0.1})
    books.see([])
    assert desk.ask(2, 100) is None


def test_a_rebuild_that_a_flush_overtakes_is_not_believed(lost, valkey):
    """What was sent between its reading and the flush it would not know."""
    _, books = lost
    with pytest.raises(Exception, match="lost its data"):
        books.restore((), TOKEN, b"1")
    assert not books.is_believed()


def test_an_unreachable_desk_lets_nobody_in_and_breaks_nothing(valkey):
    """Redis may be away for minutes; what is under way is recorded all the same."""
    books = RedisBooks(redis.Redis(port=1, socket_timeout=1), "http://127.0.0.1:1", "p")
    desk = Records(Desk(books, make_run(), make_limits()))
    assert "cannot be reached" in desk.ask(0)
    assert "cannot be reached" in desk.may_send(0)
    desk.follow(0, S.SUBMITTED)
    assert desk.refused(0) is False
    assert desk.desk.room()[0] == 0


def test_a_full_redis_lets_nobody_in(valkey):
    """Out of memory it still answers reads: a lease that could not be written is none."""
    books = redis_books(valkey.client)
    desk = Records(Desk(books, make_run(), make_limits()))
    valkey.client.config_set("maxmemory", "1")
    try:
        assert "cannot be reached" in desk.ask(0)
    finally:
        valkey.client.config_set("maxmemory", "0")
    assert desk.ask(0) is None


def test_a_sweep_tells_every_worker_how_far_estimates_are_off(valkey):
    """Each worker knows of the shards that it collected, the sweep of all."""
    books = redis_books(valkey.client)
    desk = Records(
        Desk(RedisBooks(valkey.client, "http://127.0.0.1:1", "p"), make_run(), make_limits(max_enqueued_tokens=40))
    )
    desk.follow(999, S.COLLECTED, job=JOB)
    books.renew((), {"run": 4.0})
    assert desk.ask(0, 10) is None
    assert "--max-enqueued-tokens" in desk.ask(1, 10)
    valkey.client.set(TOKEN, "1")
    books.restore((), TOKEN, b"1", {"run": 0.5})
    assert [desk.ask(shard, 10) for shard in range(1, 5)] == [None] * 4


def test_what_came_back_of_a_run_that_has_ended_is_forgotten(valkey):
    """The book is read whole at each question; a project may have thousands of runs."""
    books = redis_books(valkey.client)
    books.renew((), {"ended": 4.0, "run": 1.5})
    books.renew((), {"run": 2.0})
    assert books.change(lambda book, _: book.scales) == {"run": 2.0}


def test_a_lease_that_nobody_renews_expires(valkey, monkeypatch):
    """A worker that died between the desk's word and its record must not hold a place for ever."""
    monkeypatch.setattr("gemini_batch.quota.book.ASKED_SECONDS", -1.0)
    desk = Records(Desk(redis_books(valkey.client), make_run(), make_limits(max_live_jobs=1)))
    assert [desk.ask(0), desk.ask(1)] == [None, None]


def test_racing_asks_let_in_no_more_than_the_limit(valkey):
    """Workers on many machines ask at the same instant."""
    redis_books(valkey.client)

    def ask(shard):
        client = redis.Redis(port=valkey.port)
        desk = Records(Desk(RedisBooks(client, "http://127.0.0.1:1", "p"), make_run(), make_limits(max_live_jobs=5)))
        granted = desk.ask(shard) is None
        client.close()
        return granted

    seed = Records(Desk(RedisBooks(valkey.client, "http://127.0.0.1:1", "p"), make_run(), make_limits()))
    seed.follow(999, S.COLLECTED, job=JOB)
    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(ask, range(64))) == 5
