"""A second job of a shard: known, ended if it still runs, counted; and never anybody else's."""

from dataclasses import replace
from datetime import timedelta

import pytest
from shops import Clock, make_shop
from test_paying import Service, look

from gemini_batch import rundir
from gemini_batch.errors import NotFound, Unavailable
from gemini_batch.finish import finish
from gemini_batch.jobs.advance import advance
from gemini_batch.jobs.twins import learn_listed
from gemini_batch.jobs.verdicts import Stop
from gemini_batch.ledger.posix import PosixStore
from gemini_batch.quota.desk import Desk, MemoryBooks
from gemini_batch.records import Job
from gemini_batch.reducer.merge import read_json


@pytest.fixture
def service():
    return Service(Clock())


@pytest.fixture
def shop(tmp_path, asked, limits, service):
    return make_shop(tmp_path, asked, limits(), service, service.clock, PosixStore, rows=4)


def landed(service, name, display_name, state="BATCH_STATE_RUNNING"):
    service.jobs.append(Job(name=name, display_name=display_name, state=state, created_at=service.clock.now()))


def report(shop):
    return read_json(shop.files.store, rundir.REPORT)


def test_a_job_that_lands_after_its_send_was_given_up_is_a_twin_and_is_ended(shop, service):
    """What `resubmit` accepts: the list hid the first job for the whole settle time, so there are two."""
    service.script = [Unavailable("cut")]
    service.hidden = True
    look(shop)
    service.jobs.clear()  # it has not landed yet
    service.hidden = False
    verdicts = [look(shop) for _ in range(6)]
    assert (service.asked, verdicts[-1]) == (2, Stop())
    landed(service, "batches/late", shop.last(0).sends[0].display_name)
    finish(shop)
    record = shop.last(0)
    assert [(twin.name, twin.state) for twin in record.twins] == [("batches/late", "BATCH_STATE_CANCELLED")]
    assert service.cancelled == ["batches/late"]
    assert (report(shop)["twins"], report(shop)["requests_bought"]) == (1, 2 * record.sends[0].lines)


def test_a_twin_that_ended_by_itself_is_only_counted(shop, service):
    """There is nothing to save by a cancel, and nothing to be told by one."""
    assert look(shop) == Stop()
    landed(service, "batches/second", shop.last(0).sends[0].display_name, "BATCH_STATE_SUCCEEDED")
    finish(shop)
    assert [twin.name for twin in shop.last(0).twins] == ["batches/second"]
    assert service.cancelled == []


def test_a_twin_that_somebody_deleted_is_not_waited_for(shop, service, monkeypatch):
    """Ended is ended, by whomever."""
    assert look(shop) == Stop()
    landed(service, "batches/second", shop.last(0).sends[0].display_name)

    def gone(name):
        raise NotFound("404", 404)

    monkeypatch.setattr(service, "cancel_job", gone)
    finish(shop)
    assert [twin.state for twin in shop.last(0).twins] == ["GONE"]


def test_who_is_overtaken_while_he_ends_a_twin_goes_by_the_new_record(shop, service, monkeypatch):
    """What there was to do was read off the record from before."""
    quick = replace(shop, desk=Desk(MemoryBooks(), shop.run, shop.limits), records={}, unrecorded={}, owner="other")
    created, cancel = service.create_job, service.cancel_job

    def create_twice(*arguments):
        landed(service, "batches/2", created(*arguments).display_name)
        raise Unavailable("cut")

    def overtaken(name):
        monkeypatch.setattr(service, "cancel_job", cancel)
        assert advance(quick, 0) == Stop()
        cancel(name)

    monkeypatch.setattr(service, "create_job", create_twice)
    monkeypatch.setattr(service, "cancel_job", overtaken)
    assert look(shop) == Stop()
    record = shop.last(0)
    assert (record.job.name, [twin.state for twin in record.twins]) == ("batches/1", ["BATCH_STATE_CANCELLED"])


def test_a_job_under_a_name_that_was_never_sent_is_left_alone(shop, service):
    """A run that was deleted and begun anew has the same id: its jobs are not this ledger's to end."""
    assert look(shop) == Stop()
    landed(service, "batches/old", shop.remote_name(0, "3-0123456789abcdef"))
    landed(service, "batches/foreign", "somebody-else")
    finish(shop)
    assert shop.last(0).twins == () and service.cancelled == []


@pytest.mark.parametrize("call", ["list_jobs", "cancel_job"])
def test_a_service_that_cannot_be_asked_does_not_hold_the_dataset_back(shop, service, monkeypatch, call):
    """Everything paid for is here; the audit asks again."""
    assert look(shop) == Stop()
    landed(service, "batches/second", shop.last(0).sends[0].display_name)

    def unavailable(*_):
        raise Unavailable("503")

    monkeypatch.setattr(service, call, unavailable)
    finish(shop)
    assert shop.files.store.exists(rundir.SUCCESS)


def test_a_twin_is_ended_while_its_shard_is_still_at_work(shop, service):
    """It costs money for as long as it runs."""
    service.state = "BATCH_STATE_RUNNING"
    look(shop)
    landed(service, "batches/second", shop.last(0).sends[0].display_name)
    learn_listed(shop, service.list_jobs())
    look(shop, after=timedelta(minutes=1))
    assert service.cancelled == ["batches/second"]
    assert shop.last(0).job.name == "batches/1"
