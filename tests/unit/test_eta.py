"""When a run may be over: nothing, or a range that a person can rely on."""

import heapq
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gemini_batch.eta import DAY, Eta, Work, eta, in_words

SECONDS = st.floats(0, 200_000)
TOOK = st.lists(SECONDS, max_size=30)
WORKS = st.builds(
    Work,
    took=TOOK,
    ages=st.lists(st.floats(-3600, 200_000), max_size=20),
    waiting=st.integers(0, 20_000),
    fewest=st.integers(1, 100),
    most=st.integers(1, 100),
    creates_left=st.none() | st.integers(-10, 1000),
    creates_a_day=st.integers(0, 1000),
    lost=st.integers(0, 3),
    settle=st.floats(0, 7200),
    rounds=st.sampled_from([(0, 0), (0, 1), (1, 1)]),
)


def of(work: Work) -> Eta:
    found = eta(work)
    assert found is not None
    return found


@given(WORKS)
def test_a_range_is_finite_and_never_negative_and_there_is_none_before_the_first_job_has_ended(work):
    found = eta(work)
    assert (found is None) is (not work.took)
    assert found is None or 0 <= found.low <= found.high < math.inf


@given(WORKS, st.integers(1, 500))
def test_more_that_waits_is_never_sooner(work, more):
    assume(work.took)
    later = Work(**{**vars(work), "waiting": work.waiting + more})
    assert of(later).low >= of(work).low - 1e-3
    assert of(later).high >= of(work).high - 1e-3


@given(WORKS, SECONDS)
def test_while_nothing_is_heard_no_end_comes_nearer_and_none_runs_away(work, passed):
    """What is told at the next look is near what was told at this one."""
    assume(work.took)
    ages = [max(0.0, age) for age in work.ages]
    now, later = (of(Work(**{**vars(work), "ages": [age + on for age in ages]})) for on in (0.0, passed))
    for before, after in ((now.low, later.low), (now.high, later.high)):
        assert -1e-3 <= passed + after - before <= 1.5 * passed + 1e-3


@given(WORKS)
def test_the_latest_end_is_no_later_than_doing_everything_one_after_the_other(work):
    assume(work.took)
    longest = 2 * max(*work.took, *work.ages, 1.0)
    jobs = work.waiting + work.lost + len(work.ages) + 1 + work.rounds[1]
    days = (work.waiting + 10) / work.creates_a_day + 1 if work.creates_a_day else 0
    assert of(work).high <= longest * jobs + work.settle + days * DAY + 1


@given(st.integers(0, 300), st.integers(1, 20), st.lists(st.floats(0, 99), max_size=20), st.integers(3, 400))
def test_jobs_that_all_take_the_same_end_within_the_range(waiting, places, ages, ended):
    """Held against a schedule in which each waiting job takes the first place that comes free."""
    each, ages = 100.0, ages[:places]
    free = [each - age for age in ages] + [0.0] * (places - len(ages))
    heapq.heapify(free)
    ends = [each - age for age in ages]
    for _ in range(waiting):
        ends.append(heapq.heapreplace(free, free[0] + each) + each)
    truth = max(ends, default=0.0)
    found = of(Work(took=[each] * ended, ages=ages, waiting=waiting, fewest=places, most=places))
    assert found.low - 1e-3 <= truth <= found.high + 1e-3
    waves = truth / each + 1
    assert found.high - found.low <= 2 * waves * each / (ended + 1) + each / 10 + 1e-3, (
        "with more jobs behind it, it says more"
    )


@pytest.mark.parametrize(
    ("work", "low", "high"),
    [
        (Work(took=[100] * 999), 0, 0),
        (Work(took=[100], waiting=1), 50, 150),
        (Work(took=[100] * 999, ages=[40]), 60, 60),
        (Work(took=[100] * 999, ages=[1000]), 0, 450),
        (Work(took=[100] * 999, waiting=4, fewest=2, most=4), 100, 200),
        (Work(took=[100] * 999, waiting=11, most=9, fewest=9, creates_left=1, creates_a_day=5), DAY, 2 * DAY),
        (Work(took=[100] * 999, lost=1, settle=3600), 100, 3700),
        (Work(took=[100] * 999, ages=[0], rounds=(1, 1)), 200, 200),
    ],
)
def test_a_table_of_numbers(work, low, high):
    found = of(work)
    assert found.low == pytest.approx(low, abs=101 if low >= DAY else 1)
    assert found.high == pytest.approx(high, abs=101 if high >= DAY else 1)


def test_ten_thousand_jobs_that_wait_take_as_long_to_reckon_as_ten():
    """The loop that remains runs less often than there are places."""
    found = of(Work(took=[7.0], waiting=10**12, most=100, fewest=100))
    assert found.high == pytest.approx(10**10 * 7 * 1.5, rel=0.01)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3540, "59 min"), (5400, "1.5 h"), (172_800, "2.0 days")],
)
def test_spans_read_as_people_say_them(seconds, words):
    assert in_words(seconds) == words
