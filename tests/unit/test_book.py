"""The quota desk's rules over whole runs, against a service on a clock of its own: limits kept, nobody starved, no room
left empty, and limits that nobody gave learnt from refusals."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import make_limits
from played import LOOK_SECONDS, Playing, play

from gemini_batch.quota.turns import PATIENCE_SECONDS
from gemini_batch.quota.uses import DAY_SECONDS, STEP_SECONDS, Uses

JOB_SECONDS, LONGEST = 600.0, 900.0
"""Mean and longest time of a played job."""

some_runs = st.lists(st.lists(st.integers(1, 120), min_size=1, max_size=8), min_size=1, max_size=3)


def playing(*sizes):
    return [Playing(f"run{number}", list(of_run)) for number, of_run in enumerate(sizes)]


@settings(deadline=None, max_examples=30)
@given(sizes=some_runs, jobs=st.integers(1, 4), tokens=st.sampled_from([None, 100, 150]), seed=st.integers(0, 9))
def test_known_limits_are_kept_and_every_shard_ends(sizes, jobs, tokens, seed):
    """A shard over the token limit goes alone; nothing else is ever over."""
    limits = make_limits(max_live_jobs=jobs, max_enqueued_tokens=tokens)
    played = play(playing(*sizes), limits, seed=seed)
    assert all(len(run.ended) == len(run.sizes) for run in played.runs)
    assert played.most_jobs <= jobs
    assert tokens is None or played.most_tokens <= max(tokens, *(size for of_run in sizes for size in of_run))


@settings(deadline=None, max_examples=30)
@given(counts=st.lists(st.integers(1, 8), min_size=1, max_size=3), jobs=st.integers(1, 4), seed=st.integers(0, 9))
def test_no_place_stays_empty_while_a_shard_waits(counts, jobs, seed):
    """Whose turn it is may cost nobody a place that the other does not take."""
    played = play(playing(*([1] * count for count in counts)), make_limits(max_live_jobs=jobs), seed=seed)
    rounds = -(-sum(counts) // jobs)
    assert played.makespan <= rounds * (LONGEST + 2 * LOOK_SECONDS)


@settings(deadline=None, max_examples=25)
@given(large=st.integers(10, 40), small=st.integers(1, 5), begins=st.integers(0, 4000), seed=st.integers(0, 9))
def test_a_small_run_waits_for_no_more_than_its_share(large, small, begins, seed):
    """With two places, at most one job of the large run ends between two of the small one."""
    runs = playing([1] * large, [1] * small)
    runs[1].begins = float(begins)
    played = play(runs, make_limits(max_live_jobs=2), seed=seed)
    last = max(played.runs[1].ended.values())
    assert last <= begins + (small + 1) * (LONGEST + 2 * LOOK_SECONDS)


@settings(deadline=None, max_examples=20)
@given(need=st.integers(50, 200), seed=st.integers(0, 9), same_run=st.booleans())
def test_a_shard_that_needs_much_is_passed_by_for_a_while_and_no_longer(need, seed, same_run):
    """Small shards that keep coming leave never so much free at once, unless room is kept."""
    sizes = [[20] * 60 + [need]] if same_run else [[20] * 60, [need]]
    if same_run:
        sizes[0].insert(5, sizes[0].pop())
    played = play(playing(*sizes), make_limits(max_enqueued_tokens=100), seed=seed)
    large = 5 if same_run else 0
    assert played.runs[-1].ended[large] <= PATIENCE_SECONDS + 5 * LONGEST
    assert played.makespan <= 25 * LONGEST


@pytest.mark.parametrize("service", [{"tokens": 800}, {"tokens": 850}, {"jobs": 8}])
def test_a_limit_that_nobody_gave_is_learnt(service):
    """Eight shards fit: the makespan is near the floor, and fewer than one create in a hundred is refused later on."""
    played = play(playing([100] * 300), **service)
    floor = 300 * JOB_SECONDS / 8
    assert played.makespan <= 1.25 * floor
    assert sum(at > played.makespan / 4 for at in played.refused) <= 0.01 * played.creates + 1
    assert len(played.refused) <= 15


def test_places_that_others_take_unseen_are_learnt_like_a_limit():
    """Of other programs' jobs nothing may be known but the refusals."""
    played = play(playing([100] * 60), jobs=8, foreign=6)
    assert played.most_jobs == 2
    assert played.makespan <= 1.25 * 60 * JOB_SECONDS / 2
    assert len(played.refused) <= 15


def test_a_shard_larger_than_the_limit_is_to_be_split_and_holds_nobody_up():
    played = play(playing([100] * 20 + [900]), tokens=500, until=90_000.0)
    assert played.split == {"run0/20"}
    assert len(played.runs[0].ended) == 20


@given(at=st.floats(1e9, 2e9), later=st.floats(0, 2 * DAY_SECONDS))
def test_what_is_used_is_not_forgotten_early_and_not_kept_for_long(at, later):
    """Steps are rounded against us."""
    uses = Uses().plus([at], [(at + DAY_SECONDS, 7)]).at(at + later)
    if later < DAY_SECONDS:
        assert (uses.number_of_creates, uses.stored_bytes) == (1, 7)
    if later >= DAY_SECONDS + STEP_SECONDS:
        assert uses == Uses()
