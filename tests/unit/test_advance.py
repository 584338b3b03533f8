"""A shard against a service that misbehaves: hand-written fakes of the remote, the pool and the clock."""

from datetime import timedelta

import pytest
from shops import Clock, make_shop

from gemini_batch import rundir
from gemini_batch.errors import Denied, NotFound
from gemini_batch.gemini.remote import Listing, Seen, StoredFile
from gemini_batch.jobs.advance import advance
from gemini_batch.jobs.verdicts import Rest, Stop
from gemini_batch.records import Job, ShardState


class Service:
    """Takes one job; `polls` says how each look at it is answered, `file_error` how its results are."""

    def __init__(self, clock):
        self.clock = clock
        self.created = []
        self.polls = []
        self.state = "BATCH_STATE_RUNNING"
        self.file_error = None

    def upload(self, path, display_name, mime_type):
        return StoredFile("files/input", "u", path.stat().st_size)

    def delete_file(self, name):
        pass

    def create_job(self, model, file_name, display_name):
        self.created.append(Job(name="batches/1", display_name=display_name, created_at=self.clock.now()))
        return self.created[-1]

    def get_job(self, name):
        if self.polls and self.polls.pop(0) == 404:
            raise NotFound("404", 404)
        done = {"responses_file": "files/out", "ended_at": self.clock.now()} if "SUCC" in self.state else {}
        return Seen(self.created[0].model_copy(update={"state": self.state, **done}), self.clock.now())

    def list_jobs(self):
        return Listing({}, frozenset(), self.clock.now())

    def get_file(self, name):
        if name == "files/out" and self.file_error:
            raise self.file_error
        return StoredFile(name, "u", None)

    def download(self, name, target):
        raise NotFound("404", 404)


@pytest.fixture
def shop(tmp_path, asked, limits):
    clock = Clock()
    made = make_shop(tmp_path, asked, limits(), Service(clock), clock)
    assert isinstance(advance(made, 0), Rest)
    assert (made.last(0).state, len(made.remote.created)) == (ShardState.SUBMITTED, 1)
    return made


def looks(shop, *answers, every=timedelta(minutes=30)):
    """Look at the shard once per answer (404 or 200), with time between."""
    for answer in answers:
        shop.clock.passed += every
        shop.remote.polls = [answer]
        verdict = advance(shop, 0)
    return verdict


def test_three_misses_in_a_row_over_ten_minutes_end_the_wait(shop):
    looks(shop, 404, 404)
    assert shop.last(0).state is ShardState.SUBMITTED
    assert looks(shop, 404, 200) == Stop()
    assert shop.last(0).job.state == "GONE"


def test_a_job_that_is_seen_between_two_misses_is_not_gone(shop):
    """Single 404s spread over two days are hiccups; believing them writes off a paid, living job."""
    looks(shop, 404, 200, 404, 200, 200, 404, 200)
    record = shop.last(0)
    assert (record.state, record.job.state) == (ShardState.SUBMITTED, "BATCH_STATE_PENDING")


@pytest.mark.parametrize("error", [NotFound("404", 404), Denied("403", 403)], ids=["404", "403"])
def test_results_that_have_vanished_do_not_hold_up_the_run_for_ever(shop, error):
    """Files live 48 h, and a vanished one answers 403 or 404: its rows have failed, the rest of the run goes on."""
    shop.remote.state, shop.remote.file_error = "BATCH_STATE_SUCCEEDED", error
    verdict = looks(shop, *[200] * 60, every=timedelta(hours=1))
    assert verdict == Stop()
    assert shop.files.store.exists(rundir.part_of(0))


def test_a_job_is_never_created_twice_by_looking_again(shop):
    looks(shop, *[200] * 5)
    assert len(shop.remote.created) == 1
