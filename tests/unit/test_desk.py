"""The quota desk: a pilot first, then up to the limits, by what the ledger says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.quota.desk import MemoryDesk
from gemini_batch.records import IN_FLIGHT, Job, ShardRecord, ShardState

S = ShardState
JOB = Job(name="batches/1", display_name="d")


def follow(desk, shard, state, tokens=1, job=None):
    desk.follow(ShardRecord(shard=shard, state=state, job=job), tokens)


@pytest.fixture(scope="session")
def proven(limits):
    """A desk of a run whose pilot was accepted and has been collected."""

    def make(**changes):
        desk = MemoryDesk(limits(**changes))
        follow(desk, 999, S.COLLECTED, job=JOB)
        return desk

    return make


def test_until_a_job_is_accepted_one_shard_goes_ahead_alone(limits):
    """What the service finds wrong with the first job it will find wrong with every one."""
    desk = MemoryDesk(limits())
    assert (desk.proven, desk.ask(0, 1)) == (False, None)
    assert "first job" in desk.ask(1, 1)
    follow(desk, 0, S.SUBMITTED, job=JOB)
    assert (desk.proven, desk.ask(1, 1)) == (True, None)


def test_a_pilot_that_fails_gives_its_place_to_the_next(limits):
    desk = MemoryDesk(limits())
    desk.ask(0, 1)
    follow(desk, 0, S.ENDED)
    assert (desk.ask(1, 1), desk.proven) == (None, False)


def test_no_more_jobs_than_the_limit_are_let_in(proven):
    desk = proven(max_live_jobs=2)
    assert [desk.ask(shard, 1) is None for shard in range(3)] == [True, True, False]
    assert "--max-live-jobs" in desk.ask(2, 1)


def test_asking_again_with_a_lease_is_granted(proven):
    """A worker that died after its lease must not wait for itself."""
    desk = proven(max_live_jobs=1)
    assert [desk.ask(0, 1), desk.ask(0, 1)] == [None, None]
    assert desk.ask(1, 1)


def test_no_more_tokens_than_the_limit_are_let_in(proven):
    desk = proven(max_enqueued_tokens=100)
    assert [desk.ask(0, 60), desk.ask(1, 40)] == [None, None]
    assert "--max-enqueued-tokens" in desk.ask(2, 1)
    follow(desk, 1, S.ENDED)
    assert desk.ask(2, 40) is None


def test_a_shard_over_the_token_limit_is_let_in_alone(proven):
    """Waiting for room that can never be would be waiting for ever."""
    desk = proven(max_enqueued_tokens=100)
    assert desk.ask(0, 500) is None
    assert desk.ask(1, 1)
    follow(desk, 0, S.COLLECTED)
    assert desk.ask(1, 1) is None
    assert desk.ask(2, 500)


@pytest.mark.parametrize("state", ShardState)
def test_leases_follow_the_ledger_after_a_restart(proven, state):
    """Jobs of a process that died still fill the service's queue."""
    desk = proven(max_live_jobs=1)
    follow(desk, 0, state)
    assert (desk.ask(1, 1) is None) is (state not in IN_FLIGHT)


def test_an_unknown_create_holds_its_place(proven):
    """It may be a live job."""
    desk = proven(max_enqueued_tokens=10)
    follow(desk, 0, S.UNKNOWN, tokens=10)
    assert desk.ask(1, 1)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([*ShardState, "ask"])), max_size=40))
def test_the_limits_hold_after_any_history_of_asks(proven, history):
    """Whatever is let in by asking keeps both limits, but for one shard alone."""
    desk, leases = proven(max_live_jobs=3, max_enqueued_tokens=10), {}
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
            follow(desk, shard, what, tokens[shard])
            leases.pop(shard, None)
            if what in IN_FLIGHT:
                leases[shard] = tokens[shard]
