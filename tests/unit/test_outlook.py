"""What a run's records say of its pace."""

from datetime import UTC, datetime, timedelta

import pytest
from made import make_asked, make_limits, make_run

from gemini_batch.outlook import Books, failed_by_kind, pace_of
from gemini_batch.records import Failed, Job, Send, ShardPlan, ShardRecord, ShardState, Tally

S = ShardState
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
BEGAN = NOW - timedelta(hours=10)


def entry(shard, **changes):
    made = {"first_index": shard * 10, "rows": 10, "requests": 10, "request_bytes": 1, "tokens": 1000}
    return ShardPlan(shard=shard, **{**made, **changes})


def job(created, ended=None):
    return Job(name="batches/1", display_name="d", created_at=created, ended_at=ended)


def sent(at):
    return (Send(number=1, display_name="d", sha256="s", lines=10, requests="r", owner="o", began_at=at),)


def collected(shard, hours_ago=1.0, took=2.0, at=None, sent_at=None, **tally):
    """A shard whose job took some hours and ended some hours ago."""
    ended = at or NOW - timedelta(hours=hours_ago)
    created = ended - timedelta(hours=took)
    counts = {"rows": 10, "by_status": {"ok": 10}, "by_kind": {}, "received": 10, "cost_usd": 0.1, "part_sha256": "p"}
    return ShardRecord(
        shard=shard, version=9, state=S.COLLECTED, at=ended, job=job(created, ended), sends=sent(sent_at or created),
        tally=Tally(**{**counts, **tally}),
    )  # fmt: skip


def running(shard, hours):
    return ShardRecord(
        shard=shard,
        version=5,
        state=S.SUBMITTED,
        job=job(NOW - timedelta(hours=hours)),
        sends=sent(NOW - timedelta(hours=hours)),
    )


def books(records, plan=None, shards=10, wanted=(), **limits):
    run = make_run(created_at=BEGAN, asked=make_asked(rows=shards * 10))
    found = {record.shard: record for record in records}
    return Books(run, plan or [entry(n) for n in range(shards)], found, make_limits(**limits), wanted, NOW)


def pace(of, finished=False, **how):
    states = {}
    for record in of.records.values():
        states[record.state] = states.get(record.state, 0) + 1
    return pace_of(of, states, **{"moves": True, "is_full": False, "finished": finished, **how})


def test_nothing_is_said_before_anything_has_come_back():
    found = pace(books([running(0, 1)]))
    assert (found.rows_per_s, found.eta) == (None, None)


def test_rows_a_second_are_the_mean_of_a_small_run_and_of_a_finished_one_to_its_end():
    records = [collected(n) for n in range(9)]
    assert pace(books(records)).rows_per_s == pytest.approx(90 / 36_000, abs=1e-3)
    assert pace(books(records), finished=True).rows_per_s == pytest.approx(90 / (9 * 3600), abs=1e-3)


def test_rows_a_second_of_a_long_run_follow_what_happened_last():
    """Of 40 shards half came in the first hour and half in the last one."""
    early = [collected(n, 9 + n / 100) for n in range(20)]
    late = [collected(20 + n, n / 20) for n in range(20)]
    assert pace(books(early + late, shards=50)).rows_per_s == pytest.approx(200 / 3600, rel=0.1)


def test_shards_that_come_at_once_are_no_burst_of_thousands_a_second():
    at_once = [collected(n, at=NOW - timedelta(seconds=1)) for n in range(40)]
    assert pace(books(at_once, shards=50)).rows_per_s == pytest.approx(400 / 3600, rel=0.01)


def test_a_round_that_a_person_asked_for_has_a_pace_of_its_own():
    """What was answered last week says nothing of the rows a second of today."""
    before = [collected(n, 200.0) for n in range(10)]
    plan = [*(entry(n) for n in range(10)), *(entry(10 + n, round=1, asked_for=True, unanswered=4) for n in range(2))]
    now = collected(10, sent_at=NOW - timedelta(seconds=100), at=NOW)
    assert pace(books([*before, now], plan)).rows_per_s == pytest.approx(4 / 100, rel=0.01)


def test_the_time_left_follows_from_what_jobs_took_and_what_may_run_at_once():
    records = [*(collected(n, n / 10) for n in range(6)), running(6, 1)]
    one, many = (pace(books(records, max_live_jobs=most)).eta for most in (1, 100))
    assert one["jobs"] == many["jobs"] == 6
    assert one["seconds_low"] >= 3.5 * 1.5 * 3600
    assert 3600 <= many["seconds_low"] <= 7200
    assert datetime.fromisoformat(many["latest"]) - NOW == timedelta(seconds=many["seconds_high"])


def test_a_desk_that_turns_shards_away_makes_the_latest_end_later_and_not_the_earliest():
    records = [*(collected(n, n / 10) for n in range(6)), running(6, 1), running(7, 1)]
    of = books(records, shards=30)
    free, full = pace(of).eta, pace(of, is_full=True).eta
    assert full["seconds_high"] > 2 * free["seconds_high"]
    assert full["seconds_low"] == free["seconds_low"]


def test_a_limit_of_tokens_is_a_limit_of_jobs():
    records = [collected(n, n / 10) for n in range(6)]
    two = pace(books(records, max_enqueued_tokens=2000)).eta
    assert two == pace(books(records, max_live_jobs=2)).eta


def test_nobody_works_on_it_so_it_has_no_end():
    assert pace(books([collected(n) for n in range(6)]), moves=False).eta is None


def test_the_cost_that_is_expected_is_the_plan_s_and_then_the_mean_of_what_came_back():
    estimate = pace(books([], price=(1.0, 1.0))).expected_usd
    assert estimate == pytest.approx(10 * 1000 / 1e6 + 100 * (256 + 1024) / 1e6)
    assert pace(books([collected(n) for n in range(5)])).expected_usd == pytest.approx(1.0)
    few = pace(books([collected(0)], price=(1.0, 1.0))).expected_usd
    assert few == pytest.approx(0.1 + 0.9 * estimate)


def test_rows_to_be_bought_again_are_expected_to_cost_as_much_again():
    lost = Failed(kind="transient", attempts=1, rows=4, requests=4)
    records = [*(collected(n) for n in range(9)), collected(9, failed=(lost,))]
    assert pace(books(records, wanted=[records[-1]])).expected_usd == pytest.approx(1.04)


def test_nobody_knows_a_price_so_no_cost_is_expected():
    of = books([collected(0, cost_usd=0.0, unpriced=10)])
    unpriced = of.run.asked.model_copy(update={"model": "gemini-unheard-of"})
    of = Books(of.run.model_copy(update={"asked": unpriced}), of.plan, of.records, of.limits, (), NOW)
    assert pace(of).expected_usd is None


def test_what_failed_is_counted_by_kind_and_what_is_bought_again_is_not():
    failed = (
        Failed(kind="transient", attempts=1, rows=2, requests=2),
        Failed(kind="blocked_prompt", attempts=1, rows=1, requests=1),
    )
    lost = collected(0, by_status={"ok": 7, "failed": 3}, by_kind={"transient": 2, "blocked_prompt": 1}, failed=failed)
    assert failed_by_kind(books([lost], wanted=[lost])) == {"blocked_prompt": 1}
    later = [*(entry(n) for n in range(10)), entry(10, round=1, rows=2, sources=(0,))]
    assert failed_by_kind(books([lost], later)) == {"blocked_prompt": 1}
    again = collected(10, by_status={"failed": 2}, by_kind={"transient": 2})
    given_up = books([lost, again], later)
    assert failed_by_kind(given_up) == {"transient": 2, "blocked_prompt": 1}
