"""Rows to shards: the cut depends on the rows alone and keeps every limit."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.coordinator.plan import GROWN_REQUESTS, SHARDS, Cut, Retracer, Splitter, Weights, grow
from gemini_batch.records import ShardPlan

MAX_BYTES = 1000

ROW = st.one_of(
    st.just((0, 0)),
    st.tuples(st.integers(1, MAX_BYTES), st.integers(0, 60)),
    st.tuples(st.integers(1, 50), st.integers(0, 400)),
)
ROWS = st.lists(ROW, max_size=60)
BOUNDS = st.tuples(st.integers(1, 12), st.one_of(st.none(), st.integers(1, 100)))


def naive(rows, max_requests, max_bytes, max_tokens):
    """Row by row: close the open shard before the row that would pass a limit."""
    shards, open_rows, first = [], [], 0

    def close():
        nonlocal open_rows, first
        shards.append(
            ShardPlan(
                shard=len(shards),
                first_index=first,
                rows=len(open_rows),
                requests=sum(size > 0 for size, _ in open_rows),
                request_bytes=sum(size for size, _ in open_rows),
                tokens=sum(tokens for _, tokens in open_rows),
            )
        )
        first, open_rows = first + len(open_rows), []

    for row in rows:
        size = sum(s for s, _ in open_rows) + row[0]
        tokens = sum(t for _, t in open_rows) + row[1]
        over = len(open_rows) + 1 > max_requests or size > max_bytes or (max_tokens is not None and tokens > max_tokens)
        if open_rows and over:
            close()
        open_rows.append(row)
    if open_rows:
        close()
    return shards


def feed(splitter, rows, sizes):
    """Feed rows in blocks of the given sizes, the rest as one. Returns shards and the rows that each got."""
    shards, placed, open_rows, at = [], [], [], 0
    for size in [*sizes, len(rows)]:
        block = rows[at : at + size]
        covered = 0
        weights = Weights([b for b, _ in block], [t for _, t in block])
        for cut in splitter.feed(len(block) if isinstance(splitter, Retracer) else weights):
            assert isinstance(cut, Cut)
            assert cut.start == covered
            covered = cut.stop
            open_rows += range(at + cut.start, at + cut.stop)
            if cut.full:
                shards.append(cut.full)
                placed.append(open_rows)
                open_rows = []
        assert covered == len(block)
        at += len(block)
    if isinstance(splitter, Splitter) and (last := splitter.finish()):
        shards.append(last)
        placed.append(open_rows)
    return shards, placed


@pytest.fixture(scope="session")
def splitter(limits):
    def make(max_requests, max_tokens):
        return Splitter(
            limits(max_requests_per_shard=max_requests, max_bytes_per_shard=MAX_BYTES, max_tokens_per_shard=max_tokens)
        )

    return make


@given(rows=ROWS, bounds=BOUNDS, sizes=st.lists(st.integers(0, 20), max_size=8))
def test_the_cut_equals_a_row_by_row_reference_however_rows_arrive_in_blocks(splitter, rows, bounds, sizes):
    """The same manifest must give the same plan, whatever its Parquet layout."""
    shards, _ = feed(splitter(*bounds), rows, sizes)
    assert shards == naive(rows, bounds[0], MAX_BYTES, bounds[1])


@given(rows=ROWS, bounds=BOUNDS, sizes=st.lists(st.integers(0, 20), max_size=8))
def test_every_row_is_in_exactly_one_shard_in_order(splitter, rows, bounds, sizes):
    """A row in no shard has no answer, a row in two is paid twice."""
    shards, placed = feed(splitter(*bounds), rows, sizes)
    assert [row for of_shard in placed for row in of_shard] == list(range(len(rows)))
    assert [shard.rows for shard in shards] == [len(of_shard) for of_shard in placed]
    assert [shard.first_index for shard in shards] == [of_shard[0] for of_shard in placed]
    assert [shard.shard for shard in shards] == list(range(len(shards)))
    assert all(a.first_index + a.rows == b.first_index for a, b in pairwise(shards))


@given(rows=ROWS, bounds=BOUNDS, sizes=st.lists(st.integers(0, 20), max_size=8))
def test_sums_are_right_and_limits_hold_but_for_one_row_over_the_token_limit(splitter, rows, bounds, sizes):
    """The service refuses a file over its limit, and the desk counts by these sums."""
    max_requests, max_tokens = bounds
    shards, placed = feed(splitter(*bounds), rows, sizes)
    for shard, of_shard in zip(shards, placed, strict=True):
        assert shard.requests == sum(rows[at][0] > 0 for at in of_shard)
        assert shard.request_bytes == sum(rows[at][0] for at in of_shard) <= MAX_BYTES
        assert shard.tokens == sum(rows[at][1] for at in of_shard)
        assert 0 < shard.requests <= max_requests or shard.rows <= max_requests
        assert max_tokens is None or shard.tokens <= max_tokens or shard.rows == 1


def test_a_row_over_the_token_limit_gets_a_shard_of_its_own(splitter):
    """The limit is an estimate, the row is not: it must still be sent."""
    shards, placed = feed(splitter(10, 50), [(5, 10), (5, 400), (5, 10)], [])
    assert placed == [[0], [1], [2]]
    assert [shard.tokens for shard in shards] == [10, 400, 10]


@given(rows=ROWS, bounds=BOUNDS, samples=st.integers(2, 5))
def test_a_row_of_several_samples_takes_as_many_requests_and_is_never_cut(limits, rows, bounds, samples):
    """A row whose samples lie in two shards could not be voted on by either."""
    most = bounds[0]
    splitter = Splitter(limits(max_requests_per_shard=most, max_bytes_per_shard=MAX_BYTES))
    weights = Weights([size for size, _ in rows], [tokens for _, tokens in rows], samples)
    shards = [cut.full for cut in splitter.feed(weights) if cut.full]
    last = splitter.finish()
    shards += [last] if last else []
    assert sum(shard.rows for shard in shards) == len(rows)
    assert sum(shard.requests for shard in shards) == samples * sum(size > 0 for size, _ in rows)
    assert all(shard.requests <= most or shard.rows == 1 for shard in shards)


def test_rows_that_cannot_be_sent_take_no_room(splitter):
    """A bad row has no line, so it may stand in a shard whose bytes are used up."""
    _, placed = feed(splitter(10, None), [(MAX_BYTES, 1), (0, 0), (0, 0), (1, 1)], [])
    assert placed == [[0, 1, 2], [3]]


@given(rows=ROWS, bounds=BOUNDS, sizes=st.lists(st.integers(0, 20), max_size=8))
def test_a_plan_that_is_retraced_places_every_row_as_the_plan_did(splitter, rows, bounds, sizes):
    """Two who freeze the rows of one plan write the same shards, or one of them overwrites what the other sent."""
    shards, placed = feed(splitter(*bounds), rows, [])
    assert feed(Retracer(shards), rows, sizes) == (shards, placed)


def test_rows_that_a_plan_does_not_know_stay_in_an_open_shard(splitter):
    """The manifest grew while it was read: its digest tells, so the cut need not."""
    shards, _ = feed(splitter(2, None), [(1, 1)] * 3, [])
    assert feed(Retracer(shards), [(1, 1)] * 9, [4]) == (shards, [[0, 1], [2]])


def test_no_rows_make_no_shard(splitter):
    assert feed(splitter(10, None), [], [0, 0]) == ([], [])


# --- larger shards for very many ------------------------------------------------------------------------------------


def plan_of(weights):
    """Shards of (requests, bytes, tokens), one after another; each has a row more than it sends."""
    shards, first = [], 0
    for at, (requests, size, tokens) in enumerate(weights):
        shards.append(
            ShardPlan(
                shard=at, first_index=first, rows=requests + 1, requests=requests, request_bytes=size, tokens=tokens
            )
        )
        first += requests + 1
    return shards


WEIGHT = st.tuples(st.integers(0, GROWN_REQUESTS), st.integers(0, 1_000), st.integers(0, 100))


@given(weights=st.lists(WEIGHT, min_size=1, max_size=30), max_tokens=BOUNDS.map(lambda b: b[1]), few=st.integers(1, 9))
def test_a_plan_that_grows_keeps_every_row_in_order_and_every_limit(weights, max_tokens, few):
    plan = plan_of(weights)
    found = grow(plan, MAX_BYTES * 3, max_tokens, few)
    single = {shard.first_index: shard.rows for shard in plan}
    assert [shard.shard for shard in found] == list(range(len(found)))
    assert all(a.first_index + a.rows == b.first_index for a, b in pairwise(found))
    assert {shard.first_index for shard in found} <= single.keys()
    for name in ("rows", "requests", "request_bytes", "tokens"):
        assert sum(getattr(shard, name) for shard in found) == sum(getattr(shard, name) for shard in plan)
    for shard in found:
        if single[shard.first_index] != shard.rows:
            assert shard.requests <= GROWN_REQUESTS
            assert shard.request_bytes <= MAX_BYTES * 3
            assert max_tokens is None or shard.tokens <= max_tokens


@given(weights=st.lists(WEIGHT, min_size=1, max_size=30), more=st.integers(1, 9))
def test_a_plan_that_is_small_enough_stays(weights, more):
    assert grow(plan_of(weights), MAX_BYTES, None, len(weights) + more) == plan_of(weights)


@given(weights=st.lists(WEIGHT, min_size=1, max_size=30), few=st.integers(2, 9))
def test_a_plan_that_grew_has_too_many_shards_only_if_no_two_neighbours_fit_into_one(weights, few):
    found = grow(plan_of(weights), MAX_BYTES * 3, None, few)
    if len(found) >= few:
        for one, other in pairwise(found):
            over = one.request_bytes + other.request_bytes > MAX_BYTES * 3
            assert over or one.requests + other.requests > GROWN_REQUESTS


@pytest.mark.parametrize(("many", "found"), [(SHARDS, 1_000), (SHARDS * 3 - 4, 1_999), (SHARDS * 3 - 2, 1_500)])
def test_shards_grow_no_more_than_it_takes(many, found):
    """Two in one, then three: a job that expires loses all it holds."""
    assert len(grow(plan_of([(10, 10, 10)] * many), MAX_BYTES, None)) == found


def test_a_plan_that_other_limits_keep_large_gets_as_small_as_it_can():
    plan = plan_of([(10, 600, 10), (10, 300, 10), (10, 200, 10)] * SHARDS)
    assert len(grow(plan, MAX_BYTES, None)) > SHARDS
    assert grow(plan, 100, None) == plan
