"""The words of faults, whatever the fault."""

from datetime import UTC, datetime
from typing import Any

from six_prompts import submit_all

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


def board_with(**spec: Any) -> FaultBoard:
    board = FaultBoard(lambda: datetime(2026, 11, 22, tzinfo=UTC), 0)
    board.arm(FaultSpec(**spec))
    return board


def test_faults_skip_then_happen_then_are_spent():
    board = board_with(name="state_unknown", times=2, after=1)
    assert [bool(board.take(Point.GET)) for _ in range(5)] == [False, True, True, False, False]
    assert board.armed() == []


def test_a_fault_does_not_happen_elsewhere():
    board = board_with(name="get_500")
    assert not board.take(Point.CALL, call="list") and not board.take(Point.GET)
    assert board.take(Point.CALL, call="get")
