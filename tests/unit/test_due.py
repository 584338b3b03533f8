"""What a sweep rings for: tables of states, rests and room, and laws that hold for any of them."""

from datetime import timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gemini_batch.fleet.due import URGENCY, Wake, due_shards, until_next
from gemini_batch.records import ShardRecord, ShardState

S = ShardState
NOW = 1_000_000.0
PLENTY = 1_000
BEGUN = (S.ENDED, S.READY, S.SENDING, S.CLAIMED)
NOT_RUNG = (S.SUBMITTED, S.UNKNOWN, S.COLLECTED)

SECONDS = st.floats(-1e6, 1e6, allow_nan=False)
WAKES = st.builds(
    Wake, began=SECONDS.map(NOW.__add__), until=SECONDS.map(NOW.__add__), failures=st.just(0), reason=st.just("")
)
FLEETS = st.dictionaries(st.integers(0, 60), st.tuples(st.sampled_from(ShardState), st.none() | WAKES), max_size=40)


def resting(seconds=10.0, began=NOW - 1):
    return Wake(began, NOW + seconds, 0, "rests")


def records(**states):
    """`s3="READY"` is shard 3."""
    return [ShardRecord(shard=int(name[1:]), state=S[state]) for name, state in states.items()]


def fleet(shards):
    wakes = {shard: wake for shard, (_, wake) in shards.items() if wake}
    return [ShardRecord(shard=shard, state=state) for shard, (state, _) in shards.items()], wakes


def rests(shards, shard):
    wake = shards[shard][1]
    return wake is not None and wake.began <= NOW < wake.until


# --- due_shards -------------------------------------------------------------------------------------------------------


def test_every_state_is_either_rung_for_or_left_to_someone_else():
    """A new state must be thought about here, not fall through."""
    assert set(URGENCY) | set(NOT_RUNG) == set(ShardState)
    assert not set(URGENCY) & set(NOT_RUNG)


@pytest.mark.parametrize("state", NOT_RUNG)
def test_a_shard_whose_job_runs_or_is_sought_or_is_done_is_never_rung(state):
    """The sweep looks at jobs itself; a doorbell for each would be a poll for each."""
    assert due_shards([ShardRecord(shard=0, state=state)], {}, NOW, PLENTY) == []


@pytest.mark.parametrize("state", BEGUN)
@pytest.mark.parametrize("room", [-5, 0, 1])
def test_a_shard_that_has_begun_is_rung_without_room_at_the_desk(state, room):
    """It holds its place already, and what it holds may be paid for."""
    assert due_shards([ShardRecord(shard=4, state=state)], {}, NOW, room) == [4]


@pytest.mark.parametrize(("room", "rung"), [(-1, []), (0, []), (1, [0]), (2, [0, 2]), (9, [0, 2, 3])])
def test_no_more_shards_begin_than_the_desk_has_room_for(room, rung):
    """The others would only be turned away; the lowest go first, so that runs fill up in order."""
    assert due_shards(records(s3="PLANNED", s2="PLANNED", s0="PLANNED"), {}, NOW, room) == rung


def test_what_is_paid_for_goes_before_what_is_begun_and_that_before_what_is_not():
    """A queue that is cut short must lose the cheapest end."""
    found = due_shards(
        records(s0="PLANNED", s1="CLAIMED", s2="SENDING", s3="READY", s4="ENDED", s5="READY", s6="SUBMITTED"),
        {},
        NOW,
        PLENTY,
    )
    assert found == [4, 3, 5, 2, 1, 0]


@pytest.mark.parametrize(
    ("wake", "rung"),
    [
        (Wake(NOW - 1, NOW + 1, 0, ""), False),
        (Wake(NOW, NOW + 1, 0, ""), False),
        (Wake(NOW - 1, NOW, 0, ""), True),
        (Wake(NOW - 9, NOW - 1, 0, ""), True),
        (Wake(NOW + 1, NOW + 9, 0, ""), True),
    ],
    ids=["rests", "began just now", "is due just now", "is long due", "began after a clock that was put back"],
)
def test_a_rest_holds_from_its_beginning_to_its_end(wake, rung):
    """Redis's clock may be put back; a rest of a future that is gone must not last for ever."""
    assert due_shards(records(s7="ENDED"), {7: wake}, NOW, PLENTY) == ([7] if rung else [])


def test_a_resting_shard_takes_nobody_s_room():
    """Those behind it would wait for one that does not want to go."""
    assert due_shards(records(s0="PLANNED", s1="PLANNED"), {0: resting()}, NOW, 1) == [1]


def test_hints_about_shards_that_do_not_exist_ring_nothing():
    """The whole run rests under a number of its own, and Redis may hold anything."""
    assert due_shards(records(s0="READY"), {-1: resting(), 99: resting(-5)}, NOW, PLENTY) == [0]


@given(FLEETS, st.integers(-5, 50))
def test_only_what_is_due_is_rung_and_of_what_has_begun_all_of_it(shards, room):
    """A shard that is forgotten waits for ever; one that is rung too early is work for nothing."""
    rung = due_shards(*fleet(shards), NOW, room)
    assert len(set(rung)) == len(rung)
    assert not any(rests(shards, shard) or shards[shard][0] in NOT_RUNG for shard in rung)
    assert {shard for shard in rung if shards[shard][0] in BEGUN} == {
        shard for shard in shards if shards[shard][0] in BEGUN and not rests(shards, shard)
    }
    waiting = sorted(shard for shard in shards if shards[shard][0] is S.PLANNED and not rests(shards, shard))
    assert [shard for shard in rung if shards[shard][0] is S.PLANNED] == waiting[: max(0, room)]


@given(FLEETS, st.integers(-5, 50))
def test_the_most_urgent_are_rung_first(shards, room):
    """Whatever cuts the list keeps what is paid for."""
    rung = due_shards(*fleet(shards), NOW, room)
    assert rung == sorted(rung, key=lambda shard: (URGENCY[shards[shard][0]], shard))


@given(FLEETS, st.integers(-5, 50), st.randoms(use_true_random=False))
def test_the_order_in_which_ledgers_are_read_decides_nothing(shards, room, dice):
    """Two workers that sweep one after the other must agree."""
    known, wakes = fleet(shards)
    mixed = list(known)
    dice.shuffle(mixed)
    assert due_shards(mixed, wakes, NOW, room) == due_shards(known, wakes, NOW, room)


@given(FLEETS)
def test_without_hints_everything_that_can_go_on_is_rung(shards):
    """Redis may forget all rests at any moment: that costs doorbells, never a shard."""
    known, _ = fleet(shards)
    assert set(due_shards(known, {}, NOW, PLENTY)) == {r.shard for r in known if r.state in URGENCY}


# --- until_next -------------------------------------------------------------------------------------------------------

AT_MOST = timedelta(seconds=5)


@pytest.mark.parametrize(
    ("wakes", "seconds"),
    [
        ([], 5),
        ([resting(3)], 3),
        ([resting(3), resting(0.5), resting(4)], 0.5),
        ([resting(9)], 5),
        ([resting(-1), resting(0)], 5),
        ([resting(2, began=NOW + 1)], 5),
    ],
    ids=["nothing rests", "one", "the soonest", "later than the ceiling", "all are over", "of a clock put back"],
)
def test_the_next_sweep_comes_when_the_first_rest_ends_or_at_the_ceiling(wakes, seconds):
    """A shard that is due in half a second must not wait for five."""
    assert until_next(wakes, NOW, AT_MOST) == timedelta(seconds=seconds)


@given(st.lists(WAKES), st.floats(0.001, 1e5))
def test_the_next_sweep_is_never_now_never_after_the_ceiling_and_never_after_a_rest_has_ended(wakes, ceiling):
    """Zero would be a sweep without end; too late a shard that nobody sees."""
    at_most = timedelta(seconds=ceiling)
    wait = until_next(wakes, NOW, at_most)
    ends = [wake.until - NOW for wake in wakes if wake.rests(NOW)]
    assume(all(end > 1e-5 for end in ends))
    assert timedelta() < wait <= at_most
    assert all(wait.total_seconds() <= end + 1e-6 for end in ends)


def test_a_rest_without_end_does_not_end_the_sweep():
    """Redis may hold anything, and a sweep that fails rings for nobody."""
    assert until_next([Wake(NOW, 1e300, 0, "")], NOW, AT_MOST) == AT_MOST
