"""What collected shards say about the estimates of a plan."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.gemini.calibrate import ENOUGH, Calibration, Reading, read_shard
from gemini_batch.records import ShardPlan, Tally

LINES = st.integers(1, 10**6)
READINGS = st.builds(Reading, LINES, st.floats(1, 1e12), st.integers(1, 10**12), st.integers(0, 10**12))


def entry(requests=100, tokens=1000):
    return ShardPlan(shard=0, first_index=0, rows=requests, requests=requests, request_bytes=9, tokens=tokens)


def tally(counted, prompt=0, output=0, thoughts=0):
    return Tally(
        rows=100, by_status={}, by_kind={}, part_sha256="", counted=counted,
        prompt_tokens=prompt, output_tokens=output, thoughts_tokens=thoughts,
    )  # fmt: skip


def summed(readings):
    made = Calibration()
    for reading in readings:
        made = made.add(reading)
    return made


def test_nothing_is_scaled_before_anything_came_back():
    assert (Calibration().scale, Calibration().highest, Calibration().mean_output) == (1.0, None, None)


def test_a_shard_counts_as_far_as_its_lines_tell_their_usage():
    """Half of the lines are missing: what came is held against half of the estimate."""
    assert read_shard(entry(100, 1000), tally(50, 1000, 90, 10)) == Reading(50, 500.0, 1000, 100)


@pytest.mark.parametrize(
    ("plan", "found"),
    [(entry(), tally(0)), (entry(), tally(None, 900)), (entry(0, 0), tally(3)), (entry(9, 0), tally(3))],
)
def test_a_shard_without_usage_or_estimate_says_nothing(plan, found):
    """The third kind is a tally of an earlier release: its tokens may be of half the lines."""
    assert read_shard(plan, found) is None
    assert Calibration().add(None) == Calibration()


def test_few_lines_scale_nothing_until_they_are_enough():
    """One line of ten times its estimate must not stop a run of millions."""
    made = summed([Reading(1, 10.0, 100, 7)] * (ENOUGH - 1))
    assert (made.scale, made.highest, made.mean_output) == (1.0, None, None)
    made = made.add(Reading(1, 10.0, 100, 7))
    assert (made.scale, made.highest, made.mean_output) == (10.0, None, 7.0)


def test_the_highest_is_the_worst_shard_with_enough_lines():
    made = summed([Reading(ENOUGH, 100.0, 130, 0), Reading(ENOUGH, 100.0, 90, 0), Reading(ENOUGH - 1, 100.0, 900, 0)])
    assert made.highest == pytest.approx(1.3)


@given(st.lists(READINGS, min_size=1, max_size=6), st.randoms())
def test_the_scale_lies_between_the_readings_whatever_came_first(readings, dice):
    """Shards are collected in any order, by any worker."""
    made = summed(readings)
    dice.shuffle(readings)
    assert summed(readings).scale == pytest.approx(made.scale)
    ratios = [reading.actual / reading.estimated for reading in readings]
    if made.lines >= ENOUGH:
        assert min(ratios) * 0.999 <= made.scale <= max(ratios) * 1.001
    if all(reading.lines >= ENOUGH for reading in readings):
        assert made.highest == max(ratios)
