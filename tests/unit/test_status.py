"""The status object is the contract's."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from gemini_batch.records import Failed, Job, RunRecord, ShardPlan, ShardRecord, ShardState, Tally
from gemini_batch.status import NEXT_ROUND, PAUSED, is_held_back, is_over, summarise

S = ShardState
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PLAN = [ShardPlan(shard=n, first_index=n * 10, rows=10, requests=10, request_bytes=1, tokens=1) for n in range(3)]


@pytest.fixture(scope="module")
def summary(asked, limits):
    run = RunRecord(
        run_id="r", nonce="n", created_at=NOW, version="0", manifest="m", media_roots=(), asked=asked(rows=30),
        limits=limits(), shards=3,
    )  # fmt: skip

    def make(*records, finished=False, **more):
        return summarise("/runs/r", run, PLAN, list(records), finished, NOW, **more)

    return make


def shard(number, state=S.PLANNED, **changes):
    return ShardRecord(shard=number, state=state, **changes)


def collected(number, **by_status):
    tally = Tally(rows=10, by_status=by_status or {"ok": 10}, by_kind={}, part_sha256="p")
    return shard(number, S.COLLECTED, at=NOW + timedelta(seconds=number), tally=tally)


def priced(number, cost_usd, unpriced):
    record = collected(number)
    tally = record.tally.model_copy(update={"cost_usd": cost_usd, "unpriced": unpriced})
    return record.model_copy(update={"tally": tally})


@pytest.mark.parametrize(
    ("costs", "spent", "unknown"),
    [([(0.5, 0), (0.25, 3)], 0.75, 3), ([(0.0, 10), (0.0, 10)], None, 20), ([(0.0, 0)], 0, 0)],
)
def test_spent_is_what_is_known_and_null_where_nothing_is(summary, costs, spent, unknown):
    found = summary(*(priced(number, *cost) for number, cost in enumerate(costs)))["cost_usd"]
    assert (found["spent"], found["unknown_lines"]) == (spent, unknown)


def running(number, **changes):
    return shard(number, S.SUBMITTED, job=Job(name=f"batches/{number}", display_name="d", **changes))


def test_the_object_has_every_key_of_the_contract_and_is_json(summary):
    status = summary(collected(0), running(1, created_at=NOW - timedelta(seconds=90)), shard(2))
    assert {
        "format", "run", "run_id", "state", "reason", "exit_code", "endpoint", "rows", "shards", "waiting", "jobs",
        "cost_usd", "last_progress_at", "last_looked_at", "stalled", "workers", "problems", "dataset",
    } <= set(status)  # fmt: skip
    assert status["rows"] == {"total": 30, "ok": 10, "failed": 0, "pending": 20}
    assert status["shards"] == {"COLLECTED": 1, "SUBMITTED": 1, "PLANNED": 1}
    assert status["jobs"] == {"live": 1, "oldest_age_s": 90}
    assert status["cost_usd"].items() >= {"spent": 0, "reserved": None, "cap": None, "unknown_lines": 0}.items()
    assert all(set(entry) == {"reason", "shards", "until"} for entry in status["waiting"])
    assert datetime.fromisoformat(status["last_progress_at"]) == NOW
    assert json.loads(json.dumps(status)) == status


@pytest.mark.parametrize(
    ("records", "more", "state", "exit_code"),
    [
        ([collected(n) for n in range(3)], {"finished": True}, "finished", 0),
        ([collected(0, ok=9, invalid=1), collected(1), collected(2)], {"finished": True}, "finished", 3),
        ([collected(n) for n in range(3)], {}, "merging", 4),
        ([collected(0), running(1), shard(2)], {}, "running", 4),
        ([shard(0, S.UNKNOWN), shard(1), shard(2)], {}, "running", 4),
        ([shard(0, S.ENDED), shard(1), shard(2)], {}, "running", 4),
        ([shard(n) for n in range(3)], {}, "waiting", 4),
        ([collected(0), running(1), shard(2)], {"stopped": "refused key"}, "stopped", 1),
        ([collected(0), running(1), shard(2)], {"order": "pause"}, "paused", 4),
        ([collected(0), running(1), shard(2)], {"order": "pause", "stopped": "refused key"}, "stopped", 1),
        ([collected(n) for n in range(3)], {"order": "pause", "finished": True}, "finished", 0),
        ([collected(0), running(1), shard(2)], {"order": "cancel"}, "running", 4),
        ([collected(0, failed=10), collected(1), collected(2)], {"order": "cancel", "finished": True}, "cancelled", 3),
    ],
)
def test_state_and_exit_code_follow_the_shards(summary, records, more, state, exit_code):
    status = summary(*records, **more)
    assert (status["state"], status["exit_code"]) == (state, exit_code)
    assert (status["dataset"] is not None) is is_over(status) is bool(more.get("finished"))


@pytest.mark.parametrize(
    ("records", "held_back"),
    [([collected(0), shard(1), shard(2, S.READY)], True), ([collected(0), running(1), shard(2)], False)],
)
def test_a_paused_run_needs_somebody_only_while_something_is_in_flight(summary, records, held_back):
    """What runs has to be collected; what has yet to begin may wait for ever."""
    status = summary(*records, order="pause", working=False)
    assert (is_held_back(status), status["stalled"]) == (held_back, not held_back)
    assert bool(status["problems"]) is not held_back, "a pause is meant, and no problem"
    assert status["reason"] == PAUSED
    assert {entry["reason"] for entry in status["waiting"]} >= {PAUSED}


@pytest.mark.parametrize("known", [0, 1])
def test_a_run_whose_shards_are_not_all_known_is_not_merging(summary, known):
    """Before the first look at the ledger nothing is known, least of all that everything is done."""
    assert summary(*[collected(n) for n in range(known)])["state"] != "merging"


def test_every_row_that_is_not_ok_counts_as_failed(summary):
    rows = summary(collected(0, ok=5, blocked=1, truncated=1, invalid=1, failed=2))["rows"]
    assert rows == {"total": 30, "ok": 5, "failed": 5, "pending": 20}


def test_a_stopped_run_says_what_and_how_to_mend_it(summary):
    status = summary(shard(0), stopped="refused key")
    assert status["reason"] == "refused key"
    assert [set(problem) for problem in status["problems"]] == [{"what", "fix"}]


def test_reasons_to_wait_are_counted_from_the_records_or_taken_from_the_driver(summary):
    quota = {"problem": "quota"}
    records = [shard(0, S.READY, **quota), shard(1, S.PLANNED, **quota), running(2)]
    found = {entry["reason"]: entry["shards"] for entry in summary(*records)["waiting"]}
    assert found == {"quota": 2, "jobs are running": 1}
    told = summary(*records, waiting=dict.fromkeys(range(3), "the desk"))["waiting"]
    assert told == [{"reason": "the desk", "shards": 3, "until": None}]


def failing(number):
    """A collected shard of which one row may be bought again."""
    failed = (Failed(kind="transient", attempts=1, rows=1, requests=1),)
    tally = Tally(rows=10, by_status={"ok": 9, "failed": 1}, by_kind={"transient": 1}, failed=failed, part_sha256="p")
    return shard(number, S.COLLECTED, at=NOW, tally=tally)


def test_rows_that_wait_for_a_round_are_pending_and_their_shards_say_why(summary):
    status = summary(failing(0), failing(1), running(2))
    assert status["rows"] == {"total": 30, "ok": 18, "failed": 0, "pending": 12}
    assert {entry["shards"]: entry["reason"] for entry in status["waiting"]} == {1: "jobs are running", 2: NEXT_ROUND}


def test_nothing_waits_in_a_finished_run_however_often_rows_may_be_bought_now(summary, limits):
    status = summary(failing(0), collected(1), collected(2), finished=True, limits=limits(max_attempts=9))
    assert status["rows"] == {"total": 30, "ok": 29, "failed": 1, "pending": 0}
    assert (status["exit_code"], status["waiting"]) == (3, [])


def test_until_when_something_is_waited_for_is_told_while_that_lies_ahead(summary):
    until = {"soon": NOW + timedelta(hours=1), "over": NOW - timedelta(hours=1)}
    waiting = summary(*map(shard, range(3)), waiting={0: "soon", 1: "over"}, desk_says="some day", until=until)[
        "waiting"
    ]
    assert {entry["reason"]: entry["until"] for entry in waiting} == {
        "soon": until["soon"].isoformat(), "over": None, "some day": None,
    }  # fmt: skip


def test_jobs_that_cannot_be_seen_are_a_problem_and_not_only_jobs_that_run(summary):
    (problem,) = summary(running(0), shard(1), shard(2), trouble="503 overloaded")["problems"]
    assert "503 overloaded" in problem["what"]
    assert problem["fix"]


def test_the_age_of_jobs_is_unknown_when_the_service_gave_no_time(summary):
    assert summary(running(0), running(1))["jobs"] == {"live": 2, "oldest_age_s": None}
