"""Which fault happens to what: the board's decisions, without a service."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from gemini_batch.emulator.board import FaultBoard
from gemini_batch.emulator.faults import FAULTS, SURVIVABLE_ANSWERS, FaultSpec, Point, read_flag

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
KEYS = [f"r{i}" for i in range(6)]


def board_with(*specs: dict[str, Any], seed: int = 0, chaos: float = 0.0) -> FaultBoard:
    board = FaultBoard(lambda: NOON, seed)
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


def test_a_share_is_drawn_by_the_seed():
    drawn = [takes(board_with({"name": "get_503", "rate": 0.3}, seed=seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_dice_of_one_fault_do_not_hang_on_how_often_another_s_are_thrown():
    alone = board_with({"name": "get_503", "rate": 0.3})
    beside = board_with({"name": "list_503", "rate": 0.3}, {"name": "get_503", "rate": 0.3})
    for _ in range(7):
        beside.take(Point.CALL, call="list")
    assert takes(alone) == takes(beside)


def test_a_fault_may_last_until_an_instant():
    now = [NOON]
    board = FaultBoard(lambda: now[0], 0)
    board.arm(FaultSpec(name="get_503", lasts_seconds=60))
    assert board.take(Point.CALL, call="get")
    now[0] += timedelta(seconds=59)
    assert board.take(Point.CALL, call="get")
    now[0] += timedelta(seconds=1)
    assert not board.take(Point.CALL, call="get") and board.armed() == []


# chaos


def chaos_of(seed: int, rate: float = 0.2) -> list[list[str]]:
    """What a sequence of things meets."""
    board = board_with(seed=seed, chaos=rate)
    met = [list(board.take(point, call=call)) for _ in range(20) for point in Point for call in ("create", "get")]
    lines = board.take_lines(100, "j", "m")
    return [*met, [str(lines.at(position, f"r{position}")) for position in range(100)]]


def test_chaos_is_drawn_by_the_seed():
    assert chaos_of(1) == chaos_of(1) != chaos_of(2)


def test_chaos_meets_about_its_share_of_all_things():
    *met, lines = chaos_of(1)
    assert 0.15 < sum(map(bool, met)) / len(met) < 0.25
    assert 10 <= 100 - lines.count("None") <= 30


def test_chaos_meets_one_kind_of_thing_alike_whatever_other_things_there_are():
    alone, beside = board_with(chaos=0.5), board_with(chaos=0.5)
    for _ in range(7):
        beside.take(Point.CALL, call="list")
        beside.take(Point.GET)
    assert takes(alone) == takes(beside)


def test_chaos_is_every_fault_that_can_be_survived_and_no_other():
    board = board_with(chaos=1)
    lines = board.take_lines(1000, "j", "m")
    for position in range(1000):
        lines.at(position, "r")
        for point in Point:
            board.take(point, call="create")
    survivable = {name for name, fault in FAULTS.items() if fault.is_survivable}
    assert set(board.fired) == survivable | {f"create_{answer}" for answer in SURVIVABLE_ANSWERS}


def test_chaos_is_short():
    board = board_with(chaos=1)
    assert {seconds for _ in range(200) for point in Point for seconds in board.take(point, call="get").values()} == {1}


def test_nothing_happens_without_faults_and_chaos():
    board = board_with()
    assert board.is_quiet and not any(board.take(point, call="get") for point in Point)
    assert board.take_lines(6, "j", "m").look is None


def test_chaos_counts_the_lines_that_it_spoils():
    board = board_with(chaos=1)
    faults = board.take_lines(6, "j", "m")
    spoiled = [faults.at(position, key) for position, key in enumerate(KEYS)]
    assert board.fired == Counter(spoiled)


# as it is typed


@pytest.mark.parametrize(
    ("flag", "spec"),
    [
        ("get_503", {"name": "get_503"}),
        ("get_503,times=2,after=1", {"name": "get_503", "times": 2, "after": 1}),
        ("get_503, times=always , rate=0.5", {"name": "get_503", "times": "always", "rate": 0.5}),
        ("result_line_null,key=7", {"name": "result_line_null", "key": "7"}),
        (
            "result_line_null,row=7,job=2026,model=*",
            {"name": "result_line_null", "row": 7, "job": "2026", "model": "*"},
        ),
        ("get_lag,seconds=1.5,lasts_seconds=9", {"name": "get_lag", "seconds": 1.5, "lasts_seconds": 9}),
    ],
)
def test_a_flag_says_what_an_admin_call_says(flag, spec):
    assert read_flag(flag) == FaultSpec(**spec)


@pytest.mark.parametrize(
    ("flag", "complaint"),
    [
        ("get_502", "Unknown fault 'get_502'"),
        ("list_shufled", "Did you mean 'list_shuffled'"),
        ("get_503,times", "'times' is not member=value"),
        ("get_503,times=0", "a whole number from 1, or always"),
        ("get_503,times=often", "a whole number from 1, or always"),
        ("get_503,times=1.0", "a whole number from 1, or always"),
        ("get_503,times=true", "a whole number from 1, or always"),
        ("get_503,rate=0", "greater than 0"),
        ("get_503,rate=1.1", "less than or equal to 1"),
        ("get_503,row=1", "it has no key and no row"),
        ("job_failed,key=r1", "it has no key and no row"),
        ("list_503,job=j", "it has no job and no model"),
        ("list_lag,lasts_seconds=0", "greater than 0"),
        ("list_lag,lasts_seconds=1e300", "less than or equal to 1000000000"),
        ("create_late,seconds=1e300", "less than or equal to 1000000000"),
        ("create_late,seconds=-1", "greater than or equal to 0"),
        ("file_failed,model=*", "it has no job and no model"),
        ("generate_503,job=j", "it has no job"),
        ("get_503,colour=red", "colour"),
    ],
)
def test_a_fault_that_could_never_happen_is_refused(flag, complaint):
    with pytest.raises((ValueError, ValidationError), match=complaint):
        read_flag(flag)
