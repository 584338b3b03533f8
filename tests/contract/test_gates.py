"""Pauses of uploads, lists and gets after a 429, in one process and through Redis."""

import fakeredis
import pytest

from gemini_batch.errors import Throttled, Unavailable
from gemini_batch.fleet.gates import HintedGates
from gemini_batch.fleet.hints import Hints
from gemini_batch.jobs.paced import Paced
from gemini_batch.quota.gates import MemoryGates, after_429, turn


@pytest.fixture
def time():
    return [1000.0]


@pytest.fixture(params=["memory", "fakeredis", "valkey"])
def gates(request, time, monkeypatch):
    if request.param == "memory":
        return MemoryGates(lambda: time[0], lambda: 0.5)
    client = request.getfixturevalue("valkey").client if request.param == "valkey" else fakeredis.FakeRedis()
    client.flushall()
    hints = Hints(client)
    monkeypatch.setattr(hints, "_now", lambda: time[0])
    monkeypatch.setattr("gemini_batch.fleet.gates.fraction", lambda: 0.5)
    return HintedGates(hints, "p")


class Service:
    """Answers as its script says."""

    def __init__(self, *script):
        self.script = list(script)
        self.asked = 0

    def list_jobs(self):
        self.asked += 1
        if error := self.script.pop(0):
            raise error
        return "listed"

    def list_files(self):
        return self.list_jobs()

    def get_job(self, name):
        return name


def test_after_a_429_no_such_call_is_made_for_a_while_and_every_other_kind_is(gates, time):
    """The service throttles each kind by itself."""
    service = Service(Throttled("429", 429), None, None)
    remote = Paced(service, gates)
    with pytest.raises(Throttled):
        remote.list_jobs()
    with pytest.raises(Throttled) as caught:
        remote.list_files()
    assert (service.asked, caught.value.wait) == (1, 1.0)
    assert remote.get_job("batches/1") == "batches/1"
    time[0] += 1.5
    assert [remote.list_jobs(), remote.list_files()] == ["listed", "listed"]


def test_after_a_pause_one_call_is_made_for_all(gates, time):
    """A fleet that all calls again at once gets the same answer a hundred times."""
    gates.throttled("uploads", trial=False)
    time[0] += 2
    first, second = gates.enter("uploads"), gates.enter("uploads")
    assert (first.wait, first.trial) == (None, True)
    assert second.wait
    gates.passed("uploads")
    assert gates.enter("uploads").wait is None


def test_each_refusal_of_such_a_call_doubles_the_pause(gates, time):
    waits = []
    gates.throttled("gets", trial=False)
    for _ in range(3):
        waits.append(gates.enter("gets").wait)
        time[0] += waits[-1] + 0.1
        assert gates.enter("gets").trial
        gates.throttled("gets", trial=True)
    assert waits == pytest.approx([1, 2, 4])


def test_a_call_that_fails_otherwise_opens_the_way_too(gates, time):
    """What is wrong with it is not that there are too many."""
    gates.throttled("lists", trial=False)
    time[0] += 2
    with pytest.raises(Unavailable):
        Paced(Service(Unavailable("503", 503)), gates).list_jobs()
    assert gates.enter("lists").wait is None


def test_refusals_of_calls_that_were_under_way_together_count_once():
    pause = after_429(None, trial=False, now=0.0, spread=0.5)
    assert after_429(pause, trial=False, now=0.5, spread=0.9) == pause
    assert turn(pause, 0.5)[0].wait == 0.5
