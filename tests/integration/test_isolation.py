"""A create that is refused for a line costs that line only: the row is failed with its reason, the rest is bought."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

QUICK = ("--poll-interval", "0.2", "--settle", "1", "--out", "run", "--json")
UNNAMED = "400 INVALID_ARGUMENT: Request contains an invalid argument."
NAMED, NOT_NAMED = "create_line_refused", "create_line_refused_unnamed"


@pytest.fixture
def submit(cli: Any, look: Any, folder: Path) -> Callable[..., Any]:
    """Submit so many prompts in shards of so many."""

    def go(rows: int, per_shard: int, *more: object) -> Any:
        manifest = look.prompts(folder / "manifest.parquet", rows)
        return cli("submit", manifest, "--max-requests-per-shard", per_shard, *QUICK, *more, timeout=90)

    return go


@pytest.fixture
def submit_on(submit: Callable[..., Any], resume: Callable[[], Any]) -> Callable[..., Any]:
    """The same; if the refused shard happens to be the first to be sent, a person says to go on."""

    def go(*given: object) -> Any:
        done = submit(*given)
        return resume() if done.code == 1 and "first job" in done.json["reason"] else done

    return go


@pytest.fixture
def resume(cli: Any) -> Callable[[], Any]:
    return lambda: cli("resume", "run", "--poll-interval", "0.2", "--json", timeout=60)


@pytest.fixture
def refuse(emulator: Any) -> Callable[..., None]:
    """From now on the service takes no create with a line of these rows."""

    def arm(fault: str, *rows: int) -> None:
        for row in rows:
            emulator.fault(fault, key=f"*-{row}-[0-9]-*")

    return arm


@pytest.fixture
def outcome(look: Any, folder: Path, emulator: Any, cli: Any) -> Callable[..., list[dict[str, Any]]]:
    """Every row but the refused ones is right, all were bought once, the refused never; the audit agrees."""

    def check(rows: int, refused: set[int], samples: int = 1) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = look.rows(folder / "run")
        assert len(found) == rows
        for row in found:
            if row["index"] in refused:
                assert (row["status"], row["error"]["kind"], row["attempts"]) == ("failed", "invalid_argument", 0)
                assert row["cost_usd"] is None
            else:
                assert (row["status"], row["attempts"]) == ("ok", 1)
        assert emulator.bought_twice() == []
        assert emulator.bought == (rows - len(refused)) * samples
        audit = cli("audit", "run", "--json")
        assert audit.json["findings"] == [], audit.out
        return found

    return check


def _rejected(emulator: Any) -> int:
    return int(emulator.stats()["creates_rejected"])


# --- a line that is named ---------------------------------------------------------------------------------------------


def test_a_named_line_is_left_out_and_the_rest_of_its_shard_bought(
    submit: Any, refuse: Any, outcome: Any, emulator: Any, look: Any
) -> None:
    refuse(NAMED, 5)
    done = submit(12, 4)
    assert done.code == 3, done.err
    found = outcome(12, {5})
    assert found[5]["error"]["message"].startswith("400 INVALID_ARGUMENT: Error on line 2: invalid JSON")
    assert [row["text"] for row in found if row["index"] != 5] == [
        look.answer(f"Prompt number {i}") for i in range(12) if i != 5
    ]
    assert (emulator.creates, _rejected(emulator)) == (3, 1)
    assert done.json["rows"] == {"total": 12, "ok": 11, "failed": 1, "pending": 0}


def test_several_named_lines_are_left_out_one_after_the_other(
    submit: Any, refuse: Any, outcome: Any, emulator: Any
) -> None:
    refuse(NAMED, 1, 2, 7, 8, 11)
    assert submit(12, 6).code == 3
    outcome(12, {1, 2, 7, 8, 11})
    assert (emulator.creates, _rejected(emulator)) == (2, 5)


def test_a_named_line_of_the_first_job_is_left_out(submit: Any, refuse: Any, outcome: Any, emulator: Any) -> None:
    refuse(NAMED, 0)
    assert submit(4, 4).code == 3
    outcome(4, {0})
    assert (emulator.creates, _rejected(emulator)) == (1, 1)


def test_a_shard_of_which_every_line_is_named_buys_nothing(
    submit: Any, refuse: Any, outcome: Any, emulator: Any
) -> None:
    refuse(NAMED, 4, 5)
    assert submit(6, 2).code == 3
    outcome(6, {4, 5})


def test_more_lines_than_a_shard_may_be_sent_for_go_on_in_its_halves(
    submit: Any, refuse: Any, outcome: Any, emulator: Any, folder: Path
) -> None:
    """The shard is sent twenty times; what is left of it then is halved."""
    bad = {*range(10, 60, 2)}
    refuse(NAMED, *bad)
    assert submit(60, 50).code == 3
    outcome(60, bad)
    assert max(len(list(entry.iterdir())) for entry in (folder / "run" / "ledger").iterdir()) <= 20 * 4 + 10
    assert _rejected(emulator) <= 20 + len(bad)


def test_the_line_of_a_picture_s_row_is_named(
    cli: Any, refuse: Any, outcome: Any, emulator: Any, look: Any, folder: Path
) -> None:
    """A row whose picture cannot be read has no line: lines count on without it."""
    from PIL import Image  # noqa: PLC0415 - of this test only

    rows = []
    for number in range(6):
        if number != 1:
            Image.new("RGB", (8 + number, 8), "navy").save(folder / f"{number}.png")
        rows.append({"parts": [{"text": f"What is {number}?"}, {"path": f"{number}.png"}]})
    look.jsonl(folder / "m.jsonl", rows)
    refuse(NAMED, 3)
    done = cli("submit", "m.jsonl", *QUICK, timeout=60)
    assert done.code == 3, done.err
    found = look.rows(folder / "run")
    kinds = {row["index"]: row["error"]["kind"] for row in found if row["status"] != "ok"}
    assert kinds == {1: "media_unreadable", 3: "invalid_argument"}
    assert found[3]["error"]["message"].startswith("400 INVALID_ARGUMENT: Error on line 3:")
    assert (emulator.bought, emulator.bought_twice()) == (4, [])


def test_a_line_is_a_sample_and_its_row_is_left_out_with_all_of_them(submit: Any, emulator: Any, outcome: Any) -> None:
    emulator.fault(NAMED, key="*-2-1-*")
    done = submit(6, 9, "--n-samples", "3")
    assert done.code == 3, done.err
    found = outcome(6, {2}, samples=3)
    assert found[2]["error"]["message"].startswith("400 INVALID_ARGUMENT: Error on line 8:")


# --- a line that is not named -----------------------------------------------------------------------------------------


def test_an_unnamed_line_is_found_by_halves(submit_on: Any, refuse: Any, outcome: Any, emulator: Any) -> None:
    refuse(NOT_NAMED, 21)
    done = submit_on(32, 16)
    assert done.code == 3, done.err
    found = outcome(32, {21})
    assert found[21]["error"]["message"] == UNNAMED
    assert _rejected(emulator) in {5, 6}, "16, 8, 4, 2 and 1 rows; 16 twice if they were the first to be sent"


def test_two_unnamed_lines_in_different_shards_are_both_found(
    submit_on: Any, refuse: Any, outcome: Any, emulator: Any
) -> None:
    refuse(NOT_NAMED, 9, 18)
    done = submit_on(24, 8)
    assert done.code == 3, done.err
    outcome(24, {9, 18})


def test_an_unnamed_line_among_samples_is_found_by_halves(submit_on: Any, emulator: Any, outcome: Any) -> None:
    emulator.fault(NOT_NAMED, key="*-5-2-*")
    done = submit_on(7, 12, "--n-samples", "3")
    assert done.code == 3, done.err
    outcome(7, {5}, samples=3)
    assert _rejected(emulator) in {3, 4}


def test_both_halves_refused_alike_stop_the_run_and_resume_halves_on(
    submit_on: Any, refuse: Any, outcome: Any, emulator: Any, resume: Any
) -> None:
    """It may be the settings: a person is asked before each row of a large shard is tried by itself."""
    refuse(NOT_NAMED, 10, 15)
    done = submit_on(16, 8)
    assert done.code == 1, done.err
    assert done.json["state"] == "stopped"
    assert "both halves of shard 1" in done.json["reason"] and UNNAMED in done.json["reason"]
    assert "resume" in done.json["reason"]
    assert done.json["rows"] == {"total": 16, "ok": 8, "failed": 0, "pending": 8}
    assert emulator.bought == 8
    assert _rejected(emulator) in {3, 4}
    resumed = resume()
    assert resumed.code == 3, resumed.err
    outcome(16, {10, 15})
    assert resumed.json["rows"] == {"total": 16, "ok": 14, "failed": 2, "pending": 0}


def test_a_shard_whose_every_row_is_refused_ends_with_each_of_them_failed(
    submit_on: Any, refuse: Any, outcome: Any, resume: Any
) -> None:
    """Every level of halves stops the run once; nobody is locked out of the rows that are fine."""
    refuse(NOT_NAMED, *range(8, 16))
    done = submit_on(24, 8)
    stops = 0
    while done.code == 1:
        stops += 1
        done = resume()
    assert (done.code, stops <= 3) == (3, True), done.err
    outcome(24, {*range(8, 16)})


# --- the first job of a run -------------------------------------------------------------------------------------------


def test_a_first_job_refused_without_a_line_stops_the_run_at_once(submit: Any, refuse: Any, emulator: Any) -> None:
    refuse(NOT_NAMED, 1, 5, 9, 13)  # whichever shard is first
    done = submit(16, 4)
    assert done.code == 1
    assert "first job" in done.json["reason"] and UNNAMED in done.json["reason"]
    assert (emulator.bought, _rejected(emulator)) == (0, 1)


def test_a_run_whose_first_job_was_refused_for_a_row_is_finished_by_resume(
    submit: Any, refuse: Any, outcome: Any, resume: Any
) -> None:
    refuse(NOT_NAMED, 1)
    assert submit(4, 4).code == 1
    done = resume()
    assert done.code == 3, done.err
    outcome(4, {1})


def test_settings_that_the_service_refuses_stop_a_resumed_run_again_before_anything_is_bought(
    submit: Any, emulator: Any, resume: Any
) -> None:
    emulator.fault(NOT_NAMED)
    assert submit(16, 4).code == 1
    done = resume()
    assert done.code == 1
    assert "nothing was bought" in done.json["reason"]
    assert (emulator.bought, _rejected(emulator)) == (0, 3)


def test_a_fault_of_whatever_line_is_first_stops_the_run_as_one_of_the_settings(submit: Any, emulator: Any) -> None:
    emulator.fault(NAMED)
    done = submit(16, 8)
    assert done.code == 1
    assert "settings" in done.json["reason"] and "no such field" in done.json["reason"]
    assert (emulator.bought, _rejected(emulator)) == (0, 3)


def test_a_run_stopped_for_its_settings_goes_on_when_the_service_takes_them(
    submit: Any, emulator: Any, look: Any, folder: Path, cli: Any, resume: Any
) -> None:
    """The two lines that were left out on the way, of whichever shard was first, are asked for by retry."""
    emulator.fault(NAMED, times=3)
    assert submit(16, 8).code == 1
    done = resume()
    assert done.code == 3, done.err
    assert [row["index"] for row in look.rows(folder / "run") if row["status"] != "ok"] in ([0, 1], [8, 9])
    assert cli("retry", "run", "--poll-interval", "0.2", "--json", timeout=60).code == 0
    assert {row["status"] for row in look.rows(folder / "run")} == {"ok"}
    assert (emulator.bought, emulator.bought_twice()) == (16, [])
