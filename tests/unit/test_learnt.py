"""What a process knows to be collected counts once, however it hears of it."""

from threading import Thread

import pytest
from shops import Clock, make_shop

from gemini_batch.jobs.learnt import Learnt
from gemini_batch.records import ShardPlan, ShardRecord, ShardState, Tally

PLAN = [ShardPlan(shard=at, first_index=at, rows=30, requests=30, request_bytes=1, tokens=300) for at in range(3)]


def collected(shard, prompt_tokens=600):
    tally = Tally(rows=30, by_status={}, by_kind={}, part_sha256="", counted=30, prompt_tokens=prompt_tokens)
    return ShardRecord(shard=shard, version=1, state=ShardState.COLLECTED, tally=tally)


def test_a_shard_counts_once_and_one_without_results_not_at_all():
    learnt = Learnt()
    assert learnt.add(PLAN, [collected(0), ShardRecord(shard=1)])
    assert not learnt.add(PLAN, [collected(0), ShardRecord(shard=1)])
    assert (learnt.calibration.lines, learnt.calibration.scale) == (30, 2.0)


def test_many_threads_that_tell_the_same_count_it_once():
    learnt = Learnt()
    threads = [Thread(target=learnt.add, args=(PLAN, [collected(at) for at in range(3)])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert learnt.calibration.lines == 90


@pytest.mark.parametrize("sees_all", [True, False])
def test_only_a_process_that_sees_every_shard_tells_the_desk_itself(tmp_path, asked, limits, sees_all):
    """A worker of a fleet knows some of them; there the sweep tells it."""
    shop = make_shop(tmp_path, asked, limits(max_requests_per_shard=30), None, Clock(), rows=60)
    shop.sees_all = sees_all
    tokens = shop.plan[0].tokens
    shop.files.history(0).append(collected(0, 3 * tokens))
    shop.last(0)
    book = shop.desk._books._book
    assert book.scales == ({"run": pytest.approx(3.0)} if sees_all else {})
    assert shop.scale() == pytest.approx(3.0)
