"""The words of faults, whatever the fault."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from google.genai import errors
from sdk_calls import MODEL, finished
from six_prompts import KEYS, submit_all

from gemini_batch.emulator.board import FaultBoard
from gemini_batch.emulator.faults import FAULTS, FaultSpec, Point


def test_an_unknown_fault_is_refused_with_the_known_names(http):
    reply = http.post("/admin/faults", json={"name": "rain"})
    assert reply.status_code == 400
    message = reply.json()["error"]["message"]
    assert "'rain'" in message and all(name in message for name in FAULTS)


def test_clearing_disarms(client, http):
    http.post("/admin/faults", json={"name": "create_500", "times": 5})
    http.delete("/admin/faults")
    assert submit_all(client).name


# narrowed


def outcome(call: Callable[[], Any]) -> int:
    try:
        call()
    except errors.APIError as e:
        return int(e.code)
    return 200


@pytest.fixture
def two_jobs(client, http):
    """A finished job of each of two models."""
    models = {"flash": MODEL, "pro": "gemini-3.1-pro-preview"}
    return [finished(client, submit_all(client, name, model)) for name, model in models.items()]


@pytest.mark.parametrize("narrowed", [{"job": "pr*"}, {"model": "*-pro-*"}, {"job": "pro", "model": "gemini-3*"}])
@pytest.mark.parametrize("call", ["get", "cancel", "delete", "download"])
def test_a_call_about_a_job_is_known_by_the_name_and_model_of_the_job(client, arm, two_jobs, call, narrowed):
    arm(f"{call}_503", **narrowed)

    def tried(job: Any) -> int:
        if call == "download":
            return outcome(lambda: client.files.download(file=job.dest.file_name))
        return outcome(lambda: getattr(client.batches, call)(name=job.name))

    flash, pro = two_jobs
    assert [tried(flash), tried(pro), tried(pro)] == [200, 503, 200]


@pytest.mark.parametrize("narrowed", [{"job": "pro"}, {"model": "*-pro-*"}])
def test_the_create_of_another_job_meets_no_fault(client, arm, narrowed):
    arm("create_429", **narrowed)

    def tried(name: str, model: str) -> int:
        return outcome(lambda: submit_all(client, name, model))

    pro = ("pro", "gemini-3.1-pro-preview")
    assert [tried("flash", MODEL), tried(*pro), tried(*pro)] == [200, 429, 200]


def board_with(*specs: dict[str, Any], seed: int = 0, chaos: float = 0.0) -> FaultBoard:
    board = FaultBoard(lambda: datetime(2026, 11, 22, tzinfo=UTC), seed)
    for spec in specs:
        board.arm(FaultSpec(**spec))
    board.set_chaos(chaos)
    return board


def test_faults_skip_then_happen_then_are_spent():
    board = board_with({"name": "state_unknown", "times": 2, "after": 1})
    assert [bool(board.take(Point.GET)) for _ in range(5)] == [False, True, True, False, False]
    assert board.armed() == []


def test_a_fault_does_not_happen_elsewhere():
    board = board_with({"name": "get_500"})
    assert not board.take(Point.CALL, call="list") and not board.take(Point.GET)
    assert board.take(Point.CALL, call="get")


def test_each_time_that_a_fault_happens_counts_one_however_long_it_lasts(client, http, arm):
    arm("get_503", times=2)
    arm("list_lag", seconds=90)
    arm("result_line_error", times=3)
    job = submit_all(client)
    for _ in range(2):
        with pytest.raises(errors.ServerError):
            client.batches.get(name=job.name)
    assert http.get("/admin/stats").json()["faults"] == {"get_503": 2, "list_lag": 1, "result_line_error": 3}


def test_chaos_counts_the_lines_that_it_spoils():
    board = board_with(chaos=1)
    faults = board.take_lines(6, "j", "m")
    spoiled = [faults.at(position, key) for position, key in enumerate(KEYS)]
    assert board.fired == Counter(spoiled)


@pytest.mark.parametrize(
    ("names", "point", "call"),
    [
        (["get_503", "any_429", "get_503"], Point.CALL, "get"),
        (["create_reply_lost", "create_500_after_commit"], Point.CREATED, ""),
        (["state_stale", "state_unknown"], Point.GET, ""),
        (["job_expired", "job_failed", "job_stuck"], Point.JOB, ""),
        (["list_shuffled", "list_shuffled"], Point.LIST, ""),
        (["download_flipped", "download_cut"], Point.DOWNLOAD, ""),
    ],
)
def test_faults_that_cannot_happen_together_happen_in_the_order_they_were_armed(names, point, call):
    board = board_with(*({"name": name, "times": 1} for name in names))
    assert [list(board.take(point, call=call)) for _ in range(len(names) + 1)] == [*([name] for name in names), []]


def test_faults_that_go_together_happen_together():
    board = board_with({"name": "list_lag", "seconds": 5}, {"name": "job_failed"}, {"name": "result_shuffled"})
    assert board.take(Point.JOB) == {"list_lag": 5, "job_failed": 0, "result_shuffled": 0}


def test_a_fault_that_has_to_wait_skips_what_the_others_happen_to():
    board = board_with({"name": "create_503"}, {"name": "create_429", "after": 1})
    assert [list(board.take(Point.CALL, call="create")) for _ in range(3)] == [["create_503"], ["create_429"], []]


def test_what_is_skipped_is_counted_before_the_dice_fall():
    always = [bool(take) for take in takes(board_with({"name": "get_503", "rate": 0.5}))]
    later = [bool(take) for take in takes(board_with({"name": "get_503", "rate": 0.5, "after": 10}))]
    assert later == [False] * 10 + always[10:]


def takes(board: FaultBoard, count: int = 40) -> list[dict[str, float]]:
    return [board.take(Point.CALL, call="get") for _ in range(count)]
