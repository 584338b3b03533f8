"""What a fleet remembers in a real Valkey, and that nothing breaks when it forgets, fills up or goes away."""

import math
import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest

from gemini_batch.fleet import hints as module
from gemini_batch.fleet.broker import read_broker
from gemini_batch.fleet.due import Wake
from gemini_batch.fleet.hints import Hints
from gemini_batch.fleet.messages import PREFIX
from gemini_batch.quota.gates import Pause

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)

CALLS = {
    "held": (lambda hints: hints.held("run", [1, 2]), frozenset()),
    "rest": (lambda hints: hints.rest("run", 1, SECOND, "why"), None),
    "rest_all": (lambda hints: hints.rest_all("run", [1, 2], SECOND, "why"), None),
    "forget_rest": (lambda hints: hints.forget_rest("run", 1), None),
    "wakes": (lambda hints: hints.wakes("run"), ({}, 0.0)),
    "failures": (lambda hints: hints.failures("run", 1), 0),
    "take": (lambda hints: hints.take("sweep", seconds=5), False),
    "pace": (lambda hints: hints.pace("list", "project", seconds=5), None),
    "hasten": (lambda hints: hints.hasten("list", "project", seconds=5), None),
    "claimed": (lambda hints: hints.claimed("root"), None),
    "claim": (lambda hints: hints.claim("root", "me"), None),
    "count": (lambda hints: hints.count("passed-on", "run", seconds=1), math.inf),
    "waiting": (lambda hints: hints.waiting("gemini-batch:gemini-batch"), 0),
    "beat": (lambda hints: hints.beat("celery@a", "a", "1"), None),
    "complain": (lambda hints: hints.complain("celery@a", "run", "no schema"), None),
    "workers": (lambda hints: hints.workers("run"), []),
    "explain": (lambda hints: hints.explain("run", "the desk is full"), None),
    "explanation": (lambda hints: hints.explanation("run"), (None, None)),
    "pause": (lambda hints: hints.pause("lists", "project"), (None, 0.0)),
    "keep_pause": (lambda hints: hints.keep_pause("lists", "project", Pause(throttled=1, until=1.0)), None),
    "looked": (lambda hints: hints.looked("run"), None),
    "looked_at": (lambda hints: hints.looked_at("run"), None),
    "blind": (lambda hints: hints.blind("run", "503"), None),
    "blinded": (lambda hints: hints.blinded("run"), None),
    "forget": (lambda hints: hints.forget("run"), None),
}
"""Every call of `Hints` but `hold`, and what it answers when Redis does not."""

WRITES = ["rest", "rest_all", "pace", "beat", "complain", "explain", "looked", "blind"]


@pytest.fixture
def hints(valkey):
    client = read_broker(valkey.url).connect()
    yield Hints(client)
    client.close()


@pytest.fixture
def other(valkey):
    """Another worker's view of the same server."""
    client = read_broker(valkey.url).connect()
    yield Hints(client)
    client.close()


@pytest.fixture
def lonely():
    """A worker that reaches no server."""
    client = read_broker("redis://127.0.0.1:1/0").connect()
    yield Hints(client)
    client.close()


@pytest.fixture
def full(valkey):
    """The same server while it takes nothing more."""

    @contextmanager
    def filled():
        valkey.client.config_set("maxmemory", "1")
        try:
            yield
        finally:
            valkey.client.config_set("maxmemory", "0")

    return filled


def holders():
    """Threads that keep a hold."""
    return [thread for thread in threading.enumerate() if thread.name == "hold"]


# --- holds ------------------------------------------------------------------------------------------------------------


def test_what_one_worker_holds_no_other_gets_until_it_lets_go(hints, other):
    """Two that work on one shard do everything twice."""
    with hints.hold("run", 1) as mine:
        assert mine
        with other.hold("run", 1) as theirs, hints.hold("run", 1) as again:
            assert (theirs, again) == (None, None)
        with other.hold("run", 2) as elsewhere:
            assert elsewhere
    with other.hold("run", 1) as theirs:
        assert theirs


def test_a_block_that_fails_lets_go_all_the_same(hints, other):
    """A worker that stumbles over a shard must not keep it."""
    with pytest.raises(ZeroDivisionError), hints.hold("run", 1):
        raise ZeroDivisionError
    with other.hold("run", 1) as theirs:
        assert theirs
    assert holders() == []


def test_who_holds_what_is_seen_by_all(hints, other):
    """Nobody rings for a shard that somebody is busy with."""
    with hints.hold("run", 1), hints.hold("run", 3), hints.hold("another", 2):
        assert other.held("run", [1, 2, 3]) == {1, 3}
    assert other.held("run", [1, 2, 3]) == frozenset()
    assert other.held("run", []) == frozenset()


def test_a_hold_proves_itself_by_what_lies_in_redis(hints, valkey):
    """The desk is rebuilt only while the hold it began under is still there."""
    with hints.hold("sweeping") as mine:
        assert valkey.client.get(mine.key) == mine.value
    assert not valkey.client.exists(mine.key)


def test_a_worker_that_is_not_heard_of_loses_its_hold(hints, valkey):
    """A frozen or killed one must not keep a shard for ever."""
    with hints.hold("run", 1) as mine:
        assert 0 < valkey.client.pttl(mine.key) <= module.HOLD_SECONDS * 1000


def test_a_hold_lasts_as_long_as_its_block(hints, valkey, look, monkeypatch):
    """Encoding and uploading 2 GB takes longer than any expiry that would be worth having."""
    monkeypatch.setattr(module, "HOLD_SECONDS", 6.0)
    with hints.hold("run", 1) as mine:
        least = [valkey.client.pttl(mine.key)]

        def renewed():
            least.append(min(least[-1], valkey.client.pttl(mine.key)))
            return valkey.client.pttl(mine.key) > least[-1] + 500

        look.until(renewed, "the hold is renewed", 20)
        assert valkey.client.get(mine.key) == mine.value


def test_a_hold_that_was_lost_in_a_flush_stays_lost(hints, other, valkey, look, monkeypatch):
    """Somebody else may have it by now, and lets go of it when they want to."""
    monkeypatch.setattr(module, "HOLD_SECONDS", 3.0)
    with hints.hold("run", 1) as mine:
        valkey.client.flushall()
        look.until(lambda: not holders(), "the holder gives up", 20)
        assert not valkey.client.exists(mine.key)
        monkeypatch.undo()
        with other.hold("run", 1) as theirs:
            assert theirs
            with hints.hold("run", 1) as again:
                assert again is None
            assert valkey.client.get(mine.key) == theirs.value != mine.value


def test_a_block_that_hangs_gives_up_its_hold(hints, other, look, monkeypatch):
    """A sweep on a dead mount never returns; another worker must be able to take over."""
    monkeypatch.setattr(module, "HOLD_SECONDS", 1.0)
    with hints.hold("sweeping", longest=0.5) as mine:
        assert mine

        def taken():
            with other.hold("sweeping") as theirs:
                return theirs

        assert look.until(taken, "the hold is given up", 20)


def test_who_lost_a_hold_does_not_end_that_of_the_next(hints, other, valkey):
    """The one that lost it does not know, and leaves its block later."""
    with hints.hold("run", 1):
        valkey.client.flushall()
        theirs = other.hold("run", 1)
        hold = theirs.__enter__()
    assert valkey.client.get(hold.key) == hold.value
    theirs.__exit__(None, None, None)
    assert not valkey.client.exists(hold.key)


def test_nobody_gets_a_hold_that_redis_cannot_keep(hints, full):
    """One that is not written down is none: another worker would get it too."""
    with full(), hints.hold("run", 1) as mine:
        assert mine is None
    with hints.hold("run", 1) as mine:
        assert mine


def test_a_hold_may_end_while_redis_is_away(valkey, hints):
    """What the block did is in the ledger; the hold expires."""
    with hints.hold("run", 1) as mine:
        valkey.kill()
        assert mine
    assert holders() == []


# --- Redis away, full, or holding something else ----------------------------------------------------------------------


def test_no_call_of_hints_is_forgotten_here():
    """A new one must answer too."""
    assert {name for name in vars(Hints) if not name.startswith("_")} == CALLS.keys() | {"hold"}


@pytest.mark.parametrize("name", CALLS)
def test_an_unreachable_redis_has_an_answer_to_everything(name, lonely):
    """Redis may be away for minutes; the fleet goes on more slowly."""
    ask, answer = CALLS[name]
    assert ask(lonely) == answer


def test_an_unreachable_redis_lets_nobody_hold_anything(lonely):
    """The worker that cannot ask leaves the shard to one that can."""
    with lonely.hold("run", 1) as mine:
        assert mine is None


@pytest.mark.parametrize("name", WRITES)
def test_a_full_redis_forgets_and_breaks_nothing(name, hints, valkey, full):
    """Managed Redis servers of a small size are full in the end."""
    with full():
        assert CALLS[name][0](hints) == CALLS[name][1]
    assert valkey.client.keys() == []


def test_a_full_redis_lets_nothing_be_taken(hints, full):
    """What happens once in a while would happen in every worker at once."""
    with full():
        assert hints.take("sweep", seconds=5) is False
    assert hints.take("sweep", seconds=5) is True


def test_a_full_redis_still_tells_what_it_knows(hints, full):
    """It refuses only what needs memory."""
    hints.rest("run", 1, MINUTE, "why", 3)
    with full():
        assert (hints.wakes("run")[0][1].failures, hints.failures("run", 1)) == (3, 3)


@pytest.mark.parametrize("name", CALLS)
def test_a_key_of_another_type_is_no_answer(name, hints, valkey):
    """A defect of one release must not stop the sweeps of the next."""
    for key in (
        "wake:run",
        "looked:run",
        "workers",
        "problem:run:celery@a",
        "desk-says:run",
        "sweep",
        "list:project",
        "root",
        "passed-on:run",
    ):
        valkey.client.zadd(PREFIX + key, {"x": 1})
    CALLS[name][0](hints)


@pytest.mark.parametrize(
    "value",
    [b"{", b"null", b'"7x"', b"[]", b"[1,2,3]", b"[1,2,3,4,5,6]", b'{"host":"a"}', b'["a","b","c","d"]', b"\xff"],
)
@pytest.mark.parametrize("name", ["wakes", "failures", "workers", "looked_at"])
def test_a_value_that_this_release_cannot_read_is_no_answer(name, value, hints, valkey):
    """While a fleet is upgraded, workers of two releases share these keys; a sweep that fails on one rings nothing."""
    valkey.client.hset(PREFIX + "wake:run", "1", value)
    for key in ("looked:run", "workers"):
        valkey.client.set(PREFIX + key, value)
    ask, answer = CALLS[name]
    found = ask(hints)
    assert (found[0], 0.0) == answer if name == "wakes" else found == answer


def test_a_value_that_cannot_be_read_hides_no_other(hints, valkey):
    """Shards would be rung without a rest, and workers not be seen, for as long as one odd value lies there."""
    hints.rest("run", 1, MINUTE, "why")
    hints.beat("celery@a", "a", "1")
    valkey.client.hset(PREFIX + "wake:run", mapping={"2": "[1]", "x": "[1,2,3,4]"})
    valkey.client.hset(PREFIX + "workers", "celery@b", "{}")
    wakes, now = hints.wakes("run")
    assert [shard for shard, wake in wakes.items() if wake.rests(now)] == [1]
    assert [worker["host"] for worker in hints.workers("run")] == ["celery@a"]


# --- rests ------------------------------------------------------------------------------------------------------------


def test_a_rest_is_remembered_with_its_reason_in_redis_s_own_time(hints, other, valkey):
    """Clocks of workers may differ by hours."""
    hints.rest("run", 1, MINUTE, "the desk is full", 2)
    wakes, now = other.wakes("run")
    assert abs(valkey.client.time()[0] - now) < 60
    assert wakes.keys() == {1}
    assert wakes[1].rests(now)
    assert (wakes[1].failures, wakes[1].reason) == (2, "the desk is full")
    assert wakes[1].until - wakes[1].began == pytest.approx(60)


def test_a_rest_is_over_when_its_time_has_passed(hints, look):
    """Nobody has to take it away."""
    hints.rest("run", 1, timedelta(milliseconds=200), "a moment")

    def over():
        wakes, now = hints.wakes("run")
        return not wakes[1].rests(now)

    look.until(over, "the rest to pass", 20)


def test_many_shards_rest_at_once_and_none_is_fine(hints):
    """A sweep rings for a hundred."""
    hints.rest_all("run", [], MINUTE, "nothing was rung")
    assert hints.wakes("run")[0] == {}
    hints.rest_all("run", [3, 1, -1], MINUTE, "waits for a worker")
    wakes, now = hints.wakes("run")
    assert wakes.keys() == {-1, 1, 3}
    assert {(wake.reason, wake.failures, wake.rests(now)) for wake in wakes.values()} == {
        ("waits for a worker", 0, True)
    }


def test_the_last_rest_holds_and_forgetting_ends_it(hints):
    """A shard that has news is due at once."""
    hints.rest("run", 1, MINUTE, "first")
    hints.rest("run", 1, MINUTE, "second")
    assert hints.wakes("run")[0][1].reason == "second"
    hints.forget_rest("run", 1)
    hints.forget_rest("run", 1)
    assert hints.wakes("run")[0] == {}


def test_failures_are_counted_by_shard_and_forgotten_with_the_rest(hints):
    """Pauses grow with every failure and start anew with every success."""
    hints.rest("run", 1, SECOND, "no answer", 4)
    assert [hints.failures("run", 1), hints.failures("run", 2), hints.failures("other", 1)] == [4, 0, 0]
    hints.forget_rest("run", 1)
    assert hints.failures("run", 1) == 0


def test_runs_do_not_see_each_other_s_rests(hints):
    """Shards of all runs have the same numbers."""
    hints.rest("one", 1, MINUTE, "why")
    assert hints.wakes("other")[0] == {}
    hints.forget("other")
    assert hints.wakes("one")[0].keys() == {1}


@pytest.mark.parametrize(
    "say",
    [
        lambda hints: hints.rest("run", 1, MINUTE, "why"),
        lambda hints: hints.rest_all("run", [1], MINUTE, "why"),
    ],
    ids=["rest", "rest_all"],
)
def test_what_is_remembered_of_a_run_that_nobody_sweeps_any_more_goes_by_itself(say, hints, valkey):
    """Directories of runs are deleted, and nobody tells Redis."""
    say(hints)
    hints.looked("run")
    assert {0 < valkey.client.ttl(key) <= module.FORGET_SECONDS for key in valkey.client.scan_iter()} == {True}


def test_a_run_that_has_ended_leaves_nothing(hints, valkey):
    """A fleet sees many runs."""
    hints.rest("run", 1, MINUTE, "why")
    hints.rest_all("run", [2], MINUTE, "why")
    hints.looked("run")
    hints.blind("run", "503")
    hints.forget("run")
    assert valkey.client.keys() == []


# --- pace -------------------------------------------------------------------------------------------------------------


def test_what_happens_once_in_a_while_is_taken_by_one_of_all(hints, other, look):
    """A hundred workers would list the jobs a hundred times."""
    assert [hints.take("list", "p", seconds=60), other.take("list", "p", seconds=60)] == [True, False]
    assert other.take("list", "q", seconds=60) is True
    hints.pace("list", "p", seconds=0.1)
    look.until(lambda: other.take("list", "p", seconds=60), "it may happen again", 20)


def test_what_is_paced_happens_later_whatever_was_said_before(hints, valkey):
    """The listing says itself when the next is worth while."""
    hints.take("list", seconds=1)
    hints.pace("list", seconds=100)
    assert valkey.client.pttl(PREFIX + "list") > 90_000


@pytest.mark.parametrize(("before", "hastened", "at_most"), [(100, 5, 5), (5, 100, 5)])
def test_news_bring_a_sweep_forward_and_never_put_it_off(before, hastened, at_most, hints, valkey):
    """Two doorbells with news: the later must not undo the earlier."""
    hints.pace("sweep", seconds=before)
    hints.hasten("sweep", seconds=hastened)
    assert 0 < valkey.client.pttl(PREFIX + "sweep") <= at_most * 1000


def test_what_is_due_already_stays_due_when_it_is_hastened(hints):
    """Otherwise news would put off the sweep that they ask for."""
    hints.hasten("sweep", seconds=100)
    assert hints.take("sweep", seconds=5) is True


def test_what_one_has_claimed_no_other_gets_while_he_claims_it_again(hints, other, valkey, look, monkeypatch):
    """Two runs roots on one broker would take each other's doorbells."""
    assert [hints.claim("root", "one"), other.claim("root", "two"), other.claim("root", "one")] == ["one"] * 3
    valkey.client.expire(PREFIX + "root", 5)
    hints.claim("root", "two")
    assert valkey.client.ttl(PREFIX + "root") <= 5
    hints.claim("root", "one")
    assert valkey.client.ttl(PREFIX + "root") > 5
    monkeypatch.setattr(module, "SILENT_SECONDS", 1)
    hints.claim("root", "one")
    look.until(lambda: other.claim("root", "two") == "two", "the claim is forgotten", 20)


def test_a_full_redis_takes_no_claim_and_keeps_those_it_has(hints, full):
    """None means that nobody is known to have it."""
    with full():
        assert hints.claim("root", "one") is None
    hints.claim("root", "one")
    with full():
        assert hints.claim("root", "two") in {"one", None}


def test_what_happens_is_counted_for_a_while_and_then_anew(hints, other, valkey, look):
    """What may happen fifty times in a second must not become a busy loop."""
    assert [hints.count("passed-on", "run", seconds=60), other.count("passed-on", "run", seconds=60)] == [1, 2]
    assert hints.count("passed-on", "other", seconds=60) == 1
    hints.count("passed-on", "short", seconds=1)
    look.until(lambda: not valkey.client.exists(PREFIX + "passed-on:short"), "the while is over", 20)
    assert hints.count("passed-on", "short", seconds=1) == 1


def test_a_count_without_an_end_gets_one(hints, valkey):
    """One that expires between the two commands of a count is made anew by the second, and would count for ever."""
    valkey.client.incr(PREFIX + "passed-on:run")
    hints.count("passed-on", "run", seconds=1)
    assert 0 < valkey.client.pttl(PREFIX + "passed-on:run") <= 1000


def test_messages_that_wait_are_counted(hints, valkey):
    """A sweep rings no more than the queue can hold."""
    assert hints.waiting("gemini-batch:gemini-batch") == 0
    valkey.client.lpush("gemini-batch:gemini-batch", "a", "b")
    assert hints.waiting("gemini-batch:gemini-batch") == 2


# --- what people want to know -----------------------------------------------------------------------------------------


def test_workers_are_shown_with_what_keeps_them_from_a_run(hints, other):
    """`status` says which machine has to be mended, and for which run."""
    hints.beat("celery@b", "machine-b", "2.0")
    hints.beat("celery@a", "machine-a", "1.0")
    hints.complain("celery@a", "run", "the schema may not be imported")
    found = other.workers("run")
    assert [(w["host"], w["version"], w["problem"]) for w in found] == [
        ("celery@a", "1.0", "the schema may not be imported"),
        ("celery@b", "2.0", None),
    ]
    assert all(w["seen_at"].endswith("+00:00") for w in found)
    assert {w["problem"] for w in other.workers("another")} == {None}


def test_a_problem_is_gone_when_its_worker_takes_it_back(hints):
    """It is said again at every sweep, and mended in between."""
    hints.beat("celery@a", "a", "1")
    hints.complain("celery@a", "run", "no access")
    hints.complain("celery@a", "run", None)
    hints.complain("celery@a", "run", None)
    assert [w["problem"] for w in hints.workers("run")] == [None]


def test_a_worker_that_falls_silent_is_no_longer_shown(hints, look, monkeypatch):
    """Its last words would look like life."""
    monkeypatch.setattr(module, "SILENT_SECONDS", 1)
    hints.beat("celery@a", "a", "1")
    hints.complain("celery@a", "run", "no access")
    look.until(lambda: hints.workers("run") == [], "the silent worker is forgotten", 20)
    monkeypatch.undo()
    hints.beat("celery@a", "a", "1")
    assert [w["host"] for w in hints.workers("run")] == ["celery@a"]


def test_a_problem_nobody_repeats_goes_by_itself(hints, valkey):
    """The worker that had it may never come back."""
    hints.complain("celery@a", "run", "no access")
    (key,) = valkey.client.keys()
    assert 0 < valkey.client.ttl(key) <= module.PROBLEM_SECONDS


def test_why_shards_do_not_begin_is_known_for_as_long_as_it_is_said(hints, other, look, monkeypatch):
    """It is said at every sweep; the last word of a fleet that has gone explains nothing."""
    assert other.explanation("run") == (None, None)
    hints.explain("run", "2 of 2 places are taken", 7.5)
    assert other.explanation("run") == ("2 of 2 places are taken", 7.5)
    assert other.explanation("other") == (None, None)
    monkeypatch.setattr(module, "SILENT_SECONDS", 1)
    hints.explain("run", "3 of 3")
    look.until(lambda: other.explanation("run") == (None, None), "the explanation is forgotten", 20)


def test_when_a_run_was_last_looked_at_is_known_until_it_ends(hints, other, valkey):
    """A run that nobody looks at is stalled, whatever its ledger says."""
    assert other.looked_at("run") is None
    hints.looked("run")
    assert abs(other.looked_at("run").timestamp() - valkey.client.time()[0]) < 60
    hints.forget("run")
    assert other.looked_at("run") is None


def test_why_no_job_can_be_seen_is_known_until_one_is_or_nobody_says_it_any_more(hints, other, valkey):
    assert other.blinded("run") is None
    hints.blind("run", "503 overloaded")
    assert (other.blinded("run"), other.blinded("other")) == ("503 overloaded", None)
    (key,) = valkey.client.keys()
    assert 0 < valkey.client.ttl(key) <= module.SILENT_SECONDS
    hints.blind("run", None)
    assert other.blinded("run") is None


def test_every_key_is_the_fleet_s(hints, valkey):
    """The server may be shared, and a user of it limited to these keys."""
    with hints.hold("run", 1):
        for ask, _ in CALLS.values():
            ask(hints)
        hints.rest("run", 1, MINUTE, "why")
        assert len(valkey.client.keys()) > 4
        assert [key for key in valkey.client.scan_iter() if not key.startswith(PREFIX.encode())] == []


def test_a_rest_reads_back_as_it_was_said():
    """The order of its fields is the format."""
    assert list(Wake.__dataclass_fields__) == ["began", "until", "failures", "reason", "known"]
