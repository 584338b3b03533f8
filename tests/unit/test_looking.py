"""What a look at the service may say: in whose time, under which key, and of what was sent before it."""

from dataclasses import replace
from datetime import timedelta

import pytest
from shops import Clock, make_shop
from test_paying import Service, look

from gemini_batch.errors import Denied, NotFound, Unavailable
from gemini_batch.gemini.remote import Listing
from gemini_batch.jobs.advance import look as look_in
from gemini_batch.jobs.advance import work
from gemini_batch.jobs.verdicts import Stop
from gemini_batch.ledger.posix import PosixStore
from gemini_batch.records import ShardState

S = ShardState


class Shown(Service):
    """Shows nothing at all while `stranger`: what any other project's key sees."""

    stranger = False

    def get_job(self, name):
        if self.stranger:
            raise NotFound("404", 404)
        return super().get_job(name)

    def get_file(self, name):
        if self.stranger:
            raise Denied("403", 403)
        return super().get_file(name)

    def list_jobs(self):
        return Listing({}, frozenset(), self.clock.now()) if self.stranger else super().list_jobs()


class WallClock(Clock):
    """A wall clock that somebody sets, beside the time that passes."""

    wrong = timedelta(0)

    def now(self):
        return super().now() + self.wrong


@pytest.fixture
def service():
    return Shown(Clock())


@pytest.fixture
def make(tmp_path, asked, limits, service):
    def make(clock=service.clock, **changes):
        return make_shop(tmp_path, asked, limits(**changes), service, clock, PosixStore, rows=4)

    return make


# --- whose time -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leap", [timedelta(hours=2), timedelta(hours=-2)], ids=["ahead", "back"])
def test_a_lost_create_settles_by_the_services_time_whatever_clock_this_machine_has(make, service, leap):
    """A worker two hours ahead would buy again what is only late; one that is set back would never."""
    ours = WallClock()
    shop = make(ours)
    service.hidden, service.script = True, [Unavailable("cut")]
    sent_after = {}
    for minute in range(0, 120, 5):
        work(shop, 0)
        if shop.last(0).state is S.UNKNOWN:
            look_in(shop, shop.last(0), service.list_jobs())
        sent_after.setdefault(service.asked, minute)
        service.clock.passed += timedelta(minutes=5)
        ours.passed += timedelta(seconds=1)
        ours.wrong += leap
    assert sent_after == {1: 0, 2: 65}


# --- whose key --------------------------------------------------------------------------------------------------------


def test_a_key_that_sees_nothing_of_the_run_writes_no_job_off(make, service):
    """Under another project's key everything is 404: 348 finished jobs were written off so (sourcelibrary-v2 #2446)."""
    shop = make()
    service.state = "BATCH_STATE_RUNNING"
    look(shop)
    service.stranger = True
    for _ in range(100):
        look(shop)
    assert (shop.last(0).state, shop.last(0).absence, service.asked) == (S.SUBMITTED, None, 1)


def test_a_key_that_sees_nothing_of_the_run_proves_no_absence(make, service):
    """A lost create must not be sent again because nobody shows its job to a stranger."""
    shop = make(max_requests_per_shard=2)
    service.state = "BATCH_STATE_RUNNING"
    look(shop, 0)
    service.script = [Unavailable("cut")]
    work(shop, 1)
    service.stranger = True
    for _ in range(20):
        verdict = look(shop, 1)
    assert (shop.last(1).state, shop.last(1).absence, service.asked) == (S.UNKNOWN, None, 2)
    assert "another key's" in verdict.reason


def test_a_key_that_sees_nothing_of_the_run_gives_no_results_up(make, service):
    """They are paid for, and there for whoever has the right key."""
    shop = make()

    def download(name, target):
        service.stranger = True
        raise NotFound("404", 404)

    service.download = download
    for _ in range(100):
        look(shop)
    assert (shop.last(0).state, shop.last(0).absence) == (S.ENDED, None)


def test_a_list_that_shows_a_job_twice_is_no_proof_of_absence(make, service):
    """A page came again, and another did not come."""
    shop = make()
    service.hidden, service.script = True, [Unavailable("cut")]
    listed = service.list_jobs
    service.list_jobs = lambda: replace(listed(), whole=False)
    for _ in range(20):
        look(shop)
    assert (shop.last(0).state, shop.last(0).absence, service.asked) == (S.UNKNOWN, None, 1)
    service.hidden = False
    assert look(shop) == Stop()
    assert service.asked == 1


# --- how late ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shown",
    [
        {"state": "BATCH_STATE_SUCCEEDED", "responses_file": None},
        {"state": "BATCH_STATE_SUCCEEDED", "responses_file": None, "ended_at": None},
        {"state": "BATCH_STATE_UNSPECIFIED", "responses_file": None},
    ],
)
def test_who_comes_back_after_days_gives_nothing_up_that_is_shown_badly_at_first(make, service, shown):
    """A laptop was shut for four days; then the service shows the ended job without its output, twice."""
    shop = make()
    service.state = "BATCH_STATE_RUNNING"
    look(shop)
    service.state = "BATCH_STATE_SUCCEEDED"
    ended_at, got = service.clock.now(), service.get_job

    def badly(name):
        seen, change = got(name), {"ended_at": ended_at} | (shown if len(looks) < 2 else {})
        return replace(seen, job=seen.job.model_copy(update=change))

    service.get_job, looks = badly, []
    service.clock.passed += timedelta(days=4)
    while shop.last(0).state is not S.COLLECTED:
        looks.append(look(shop, after=timedelta(minutes=6)))
    assert shop.last(0).tally.by_status == {"ok": 4}


def test_output_that_never_shows_does_not_hold_up_the_run_for_ever(make, service):
    shop = make()
    service.state = "BATCH_STATE_RUNNING"
    look(shop)
    got = service.get_job
    shown = {"state": "BATCH_STATE_SUCCEEDED", "responses_file": None}
    service.get_job = lambda name: replace(got(name), job=got(name).job.model_copy(update=shown))
    for _ in range(6):
        verdict = look(shop, after=timedelta(minutes=15))
    assert verdict == Stop()
    assert shop.last(0).tally.by_status == {"failed": 4}


# --- what was sent before ---------------------------------------------------------------------------------------------


def test_a_sweeps_listing_says_nothing_of_what_was_sent_after_it_began(make, service):
    """A sweep lists for all shards at once; a worker may send in the meantime."""
    shop = make()
    before, listing = shop.last(0), service.list_jobs()
    service.hidden, service.script = True, [Unavailable("cut")]
    work(shop, 0)
    assert shop.last(0).state is S.UNKNOWN
    look_in(shop, before, listing)
    assert shop.last(0).absence is None
