"""The pay protocol and the results, through the faults of the service: real SDK, real HTTP."""

from pathlib import Path
from typing import Any

import pytest

QUICK = ("--poll-interval", "1", "--settle", "2", "--out", "run", "--json")

ONCE = ("--max-attempts", "1")
"""What failed is not bought again: rounds have tests of their own."""


@pytest.fixture
def manifest(look: Any, folder: Path) -> Path:
    return look.prompts(folder / "manifest.parquet", 12)


@pytest.fixture
def submit(cli: Any, manifest: Path) -> Any:
    """Submit twelve prompts in three shards."""
    return lambda *more: cli("submit", manifest, "--max-requests-per-shard", "4", *QUICK, *more, timeout=60)


def _all_right(look: Any, run: Path, rows: int = 12) -> None:
    found = look.rows(run)
    assert [row["text"] for row in found] == [look.answer(f"Prompt number {i}") for i in range(rows)]
    assert {row["status"] for row in found} == {"ok"}


def _bought_once(emulator: Any, shards: int = 3, rows: int = 12) -> None:
    stats = emulator.stats()
    assert stats["requests"] == {"bought_total": rows, "distinct": rows, "bought_more_than_once": 0}
    assert stats["creates"] == shards


# --- creating ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "after"), [("create_reply_lost", 1), ("create_503_after_commit", 0)])
def test_a_job_whose_create_was_answered_badly_is_adopted_from_the_list(
    fault: str, after: int, submit: Any, emulator: Any, look: Any, folder: Path
) -> None:
    emulator.fault(fault, after=after)
    done = submit()
    assert done.code == 0, done.err
    assert emulator.pending_faults() == []
    assert emulator.calls("POST batchGenerateContent") == 3
    assert emulator.calls("GET batches.list") >= 1
    _bought_once(emulator)
    _all_right(look, folder / "run")


def test_every_create_of_a_run_may_lose_its_answer(submit: Any, emulator: Any, look: Any, folder: Path) -> None:
    emulator.fault("create_reply_lost", times=3)
    done = submit("--on-unknown", "wait")
    assert done.code == 0, done.err
    _bought_once(emulator)
    _all_right(look, folder / "run")


def test_a_create_that_never_was_is_sent_again_once_it_has_settled(
    submit: Any, emulator: Any, look: Any, folder: Path
) -> None:
    emulator.fault("create_503", after=1)
    done = submit()
    assert done.code == 0, done.err
    assert emulator.calls("POST batchGenerateContent") == 4
    _bought_once(emulator)
    _all_right(look, folder / "run")


def test_under_wait_a_lost_create_is_not_sent_again_and_status_says_why(
    cli: Any, manifest: Path, emulator: Any, look: Any
) -> None:
    emulator.fault("create_503", after=1)
    options = [*QUICK[:-1], "--max-requests-per-shard", "4", "--on-unknown", "wait", "--settle", "1"]
    running = cli.start("submit", manifest, *options)

    def looked_for() -> bool:
        return emulator.calls("GET batches.list") >= 8

    look.until(looked_for, "eight looks for the lost create")
    status = cli("status", "run", "--json").json
    running.kill()
    assert emulator.calls("POST batchGenerateContent") == 3
    assert emulator.creates == 2
    assert status["state"] == "running"
    assert status["shards"] == {"UNKNOWN": 1, "COLLECTED": 2}
    assert status["rows"] == {"total": 12, "ok": 8, "failed": 0, "pending": 4}
    assert status["exit_code"] == 4
    (why,) = status["waiting"]
    assert why["shards"] == 1
    assert "503" in why["reason"]


def test_a_waiting_run_can_be_told_to_send_again(cli: Any, manifest: Path, emulator: Any, look: Any) -> None:
    emulator.fault("create_503")
    running = cli.start("submit", manifest, *QUICK, "--on-unknown", "wait")
    look.until(lambda: emulator.calls("GET batches.list") >= 4, "four looks for the lost create")
    running.kill()
    done = cli("resume", "run", "--on-unknown", "resubmit", "--json", timeout=60)
    assert done.code == 0, done.err
    _bought_once(emulator, shards=1)


@pytest.mark.parametrize("source", ["environment", "config"])
def test_a_resume_takes_limits_from_the_environment_and_from_a_file(
    source: str, cli: Any, manifest: Path, emulator: Any, look: Any, folder: Path
) -> None:
    emulator.fault("create_503")
    running = cli.start("submit", manifest, *QUICK, "--on-unknown", "wait")
    look.until(lambda: emulator.calls("GET batches.list") >= 4, "four looks for the lost create")
    running.kill()
    (folder / "limits.toml").write_text('on_unknown = "resubmit"\n')
    if source == "environment":
        again = cli.start("resume", "run", env={"GEMINI_BATCH_ON_UNKNOWN": "resubmit"})
    else:
        again = cli.start("resume", "run", "--config", "limits.toml")
    looks = emulator.calls("GET batches.list")
    look.until(
        lambda: not again.running or emulator.calls("GET batches.list") >= looks + 12, "an end, or a dozen more looks"
    )
    assert not again.running, "still waits: the limits of this call were not taken"
    assert again.ended().code == 0


def test_429_waits_and_costs_nothing(submit: Any, emulator: Any, look: Any, folder: Path) -> None:
    emulator.fault("create_429", times=3, after=1)
    done = submit()
    assert done.code == 0, done.err
    assert emulator.calls("POST batchGenerateContent") == 6
    assert emulator.calls("GET batches.list") == 2, "429 is a certain answer: only the first and last look of every run"
    _bought_once(emulator)
    _all_right(look, folder / "run")


def test_a_service_with_less_room_than_we_believe_only_takes_longer(
    submit: Any, emulator: Any, look: Any, folder: Path
) -> None:
    emulator.settings(max_live_jobs=1, job_seconds=0.5)
    done = submit()
    assert done.code == 0, done.err
    _bought_once(emulator)
    _all_right(look, folder / "run")


# --- everything that may be repeated ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", ["get_500", "upload_503", "download_cut", "succeeded_without_output", "state_unknown"]
)
def test_a_passing_fault_is_recovered_from(fault: str, submit: Any, emulator: Any, look: Any, folder: Path) -> None:
    emulator.fault(fault, times=2)
    done = submit()
    assert done.code == 0, done.err
    assert emulator.pending_faults() == []
    _bought_once(emulator)
    _all_right(look, folder / "run")


def test_a_list_that_fails_does_not_lose_the_create_it_was_for(
    submit: Any, emulator: Any, look: Any, folder: Path
) -> None:
    emulator.fault("list_500", times=2)
    emulator.fault("create_reply_lost")
    done = submit("--on-unknown", "wait")
    assert done.code == 0, done.err
    assert emulator.pending_faults() == []
    _bought_once(emulator)
    _all_right(look, folder / "run")


# --- jobs that end badly ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "message"),
    [("job_failed", "an internal error has occurred"), ("job_expired", "did not finish within 48")],
)
def test_rows_of_a_job_that_ended_badly_say_so_in_the_words_of_the_service(
    fault: str, message: str, submit: Any, emulator: Any, look: Any, folder: Path
) -> None:
    emulator.fault(fault, after=1)
    done = submit(*ONCE)
    assert done.code == 3, done.err
    assert done.json["rows"] == {"total": 12, "ok": 8, "failed": 4, "pending": 0}
    assert done.json["exit_code"] == 3
    rows = look.rows(folder / "run")
    failed = [row for row in rows if row["status"] != "ok"]
    assert len(failed) == 4
    assert len({row["index"] // 4 for row in failed}) == 1
    for row in failed:
        assert (row["status"], row["error"]["kind"]) == ("failed", "transient")
        assert message in row["error"]["message"]
        assert row["result"] is None
        assert row["text"] is None
    report = look.json(folder / "run" / "report.json")
    assert report["failed"] == {"transient": 4}
    assert report["ok"] == 8


# --- result lines -----------------------------------------------------------------------------------------------------


def test_each_damaged_line_costs_its_own_row_and_no_other(emulator: Any, cli: Any, look: Any, folder: Path) -> None:
    manifest = look.prompts(folder / "manifest.parquet", 20)
    for position, fault in enumerate(
        ["missing", "duplicated", "foreign", "broken", "error", "blocked", "truncated"], start=3
    ):
        emulator.fault(f"result_line_{fault}", after=position)
    emulator.fault("result_shuffled")
    done = cli("submit", manifest, *QUICK, *ONCE)
    assert done.code == 3, done.err
    assert emulator.pending_faults() == []
    rows = look.rows(folder / "run")
    statuses = [row["status"] for row in rows]
    kinds = sorted(row["error"]["kind"] for row in rows if row["error"])
    assert kinds == ["blocked_prompt", "missing", "missing", "transient", "truncated"]
    assert sorted(set(statuses)) == ["blocked", "failed", "ok", "truncated"]
    for index, row in enumerate(rows):
        whole = look.answer(f"Prompt number {index}")
        if row["status"] == "ok":
            assert row["text"] == row["result"] == whole
            assert row["error"] is None
        elif row["status"] == "truncated":
            assert whole.startswith(row["text"])
            assert row["result"] is None
            assert row["finish_reason"] == "MAX_TOKENS"
        else:
            assert row["text"] is None
            assert row["error"]["message"]
        assert row["n_valid"] == (row["status"] == "ok")
    (refused,) = [row for row in rows if row["error"] and row["error"]["kind"] == "transient"]
    assert refused["error"]["code"] == 13
    lines = look.json(folder / "run" / "report.json")["lines"]
    assert lines == {"received": 21, "missing": 2, "duplicate": 1, "conflicting": 0, "foreign": 1, "broken": 1}
    assert emulator.bought == 20


@pytest.mark.parametrize("fault", ["result_shuffled", "result_reversed_members"])
def test_the_order_of_lines_and_of_their_members_means_nothing(
    fault: str, submit: Any, emulator: Any, look: Any, folder: Path
) -> None:
    emulator.fault(fault, times=3)
    assert submit().code == 0
    _all_right(look, folder / "run")


def test_an_error_named_status_is_still_an_error(submit: Any, emulator: Any, look: Any, folder: Path) -> None:
    emulator.fault("result_reversed_members", times=3)
    emulator.fault("result_line_error", times=2)
    assert submit(*ONCE).code == 3
    failed = [row for row in look.rows(folder / "run") if row["status"] == "failed"]
    assert [row["error"]["code"] for row in failed] == [13, 13]


def test_a_job_without_a_single_answer_is_still_a_dataset(submit: Any, emulator: Any, look: Any, folder: Path) -> None:
    emulator.fault("result_line_missing", times=12)
    done = submit(*ONCE)
    assert done.code == 3
    assert done.json["rows"] == {"total": 12, "ok": 0, "failed": 12, "pending": 0}
    assert {row["error"]["kind"] for row in look.rows(folder / "run")} == {"missing"}
