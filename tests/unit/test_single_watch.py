"""How long a job is waited for, on a clock of our own."""

from datetime import UTC, datetime, timedelta

import pytest

from gemini_batch.errors import Denied, JobUnfinished, NotFound, Throttled, Unavailable
from gemini_batch.gemini.remote import BatchJob
from gemini_batch.single.monitor import Watch
from gemini_batch.single.service import TRIES, patiently

START = datetime(2026, 11, 23, tzinfo=UTC)
DAY = 86_400.0


class World:
    """A clock that only pauses move on, and a service that answers as it is told."""

    def __init__(self, *answers):
        self._answers = answers
        self.seconds, self.pauses, self.looks = 0.0, [], 0

    def boottime(self):
        return self.seconds

    def pause(self, seconds):
        self.pauses.append(seconds)
        self.seconds += seconds

    def look(self):
        answer = self._answers[min(self.looks, len(self._answers) - 1)]
        self.looks += 1
        if isinstance(answer, Exception):
            raise answer
        return answer, START + timedelta(seconds=self.seconds)

    def watch(self, poll_interval=60, **how):
        made = Watch("batches/1", poll_interval, clock=self, pause=self.pause, **how)
        return made.until_over(self.look)


def job(state="JOB_STATE_RUNNING", **more):
    return BatchJob(name="batches/1", display_name="d", state=state, created_at=START, **more)


DONE = job("JOB_STATE_SUCCEEDED", has_output=True)


def test_a_young_job_is_looked_at_often_and_an_old_one_as_seldom_as_was_asked():
    world = World(*[job()] * 100, DONE)
    assert world.watch(30) is DONE
    assert world.pauses[0] < 1 and world.pauses[-1] == 30
    assert world.pauses == sorted(world.pauses)


@pytest.mark.parametrize("interval", [0, -1])
def test_no_interval_makes_a_busy_loop(interval):
    world = World(*[job()] * 5, DONE)
    world.watch(interval)
    assert min(world.pauses) >= 0.1


def test_a_job_that_never_ends_is_left_after_three_days():
    world = World(job())
    with pytest.raises(JobUnfinished, match="JOB_STATE_RUNNING"):
        world.watch()
    assert world.seconds == 3 * DAY


def test_the_last_look_is_when_the_time_is_up():
    world = World(job())
    with pytest.raises(JobUnfinished):
        world.watch(timeout=100)
    assert world.seconds == 100
    assert world.looks == len(world.pauses) + 1


@pytest.mark.parametrize("error", [Unavailable("503"), Throttled("429")])
def test_an_outage_is_waited_out_for_an_hour(error):
    world = World(job(), *[error] * 50, DONE)
    assert world.watch() is DONE
    assert 2000 < world.seconds < 3600
    forever = World(job(), error)
    with pytest.raises(type(error)):
        forever.watch()
    assert 3600 <= forever.seconds < 3700


def test_a_refused_key_ends_the_watch_at_once():
    world = World(job(), Denied("403", 403))
    with pytest.raises(Denied):
        world.watch()
    assert world.looks == 2


def test_a_job_that_is_not_there_is_told_at_once_unless_it_was_just_made():
    """A listing or a get may lag behind the create by minutes."""
    with pytest.raises(NotFound):
        World(NotFound("404", 404)).watch()
    assert World(*[NotFound("404", 404)] * 7, DONE).watch(known=True) is DONE
    gone = World(job(), NotFound("404", 404))
    with pytest.raises(NotFound):
        gone.watch()
    assert 300 <= gone.seconds < 400


def test_the_output_of_a_success_is_waited_for_and_not_for_ever():
    early = job("JOB_STATE_SUCCEEDED")
    assert World(*[early] * 9, DONE).watch() is DONE
    world = World(early)
    assert world.watch() is early
    assert 600 <= world.seconds < 700


@pytest.mark.parametrize("end", [job("JOB_STATE_FAILED"), job("JOB_STATE_PARTIALLY_SUCCEEDED", done=True)])
def test_whatever_the_service_calls_done_is_over(end):
    assert World(job("JOB_STATE_SOMETHING"), end).watch() is end


def test_every_look_is_told():
    seen = []
    World(job(), job(), DONE).watch(on_progress=seen.append)
    assert [one.state for one in seen] == ["JOB_STATE_RUNNING"] * 2 + ["JOB_STATE_SUCCEEDED"]


def test_a_call_that_costs_nothing_is_made_again_a_few_times():
    world = World(*[Unavailable("503")] * (TRIES - 1), DONE)
    assert patiently(world.look, pause=world.pause)[0] is DONE
    assert 15 < world.seconds < 60
    with pytest.raises(Unavailable):
        patiently(World(Unavailable("503")).look, pause=world.pause)
    refused = World(Denied("403", 403))
    with pytest.raises(Denied):
        patiently(refused.look, pause=world.pause)
    assert refused.looks == 1
