"""What the command promises: exit codes, one JSON object, the same command again, coming back to a run."""

import signal
from pathlib import Path
from typing import Any

import pytest

QUICK = ("--poll-interval", "1", "--max-requests-per-shard", "4")
FIELDS = {
    "format", "run", "run_id", "state", "reason", "exit_code", "endpoint", "rows", "shards", "waiting", "jobs",
    "cost_usd", "last_progress_at", "last_looked_at", "stalled", "workers", "problems", "dataset",
}  # fmt: skip
MEMBERS = {
    "rows": {"total", "ok", "failed", "pending"},
    "jobs": {"live", "oldest_age_s"},
    "cost_usd": {"spent", "reserved", "cap"},
}
MOVING = {"last_looked_at", "last_progress_at"}


@pytest.fixture
def manifest(look: Any, folder: Path) -> Path:
    return look.prompts(folder / "manifest.parquet", 10)


def _whole_status(status: dict[str, Any]) -> None:
    assert status.keys() >= FIELDS
    for name, members in MEMBERS.items():
        assert status[name].keys() >= members
    for entry in status["waiting"]:
        assert entry.keys() >= {"reason", "shards", "until"}
    for entry in status["problems"]:
        assert entry.keys() >= {"what", "fix"}


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return {k: v for k, v in one.items() if k not in MOVING} == {k: v for k, v in other.items() if k not in MOVING}


# --- submit -----------------------------------------------------------------------------------------------------------


def test_submit_finishes_with_0_and_says_where_the_dataset_is(
    cli: Any, manifest: Path, look: Any, folder: Path
) -> None:
    done = cli("submit", manifest, *QUICK)
    assert (done.code, done.out) == (0, "")
    run = look.only_run(folder / "runs")
    assert f"{run.relative_to(folder)}/dataset" in done.err
    assert [row["text"] for row in look.rows(run)] == [look.answer(f"Prompt number {i}") for i in range(10)]


def test_json_is_one_object_with_every_field_and_status_prints_the_same(cli: Any, manifest: Path, folder: Path) -> None:
    done = cli("submit", manifest, *QUICK, "--json")
    assert done.code == 0
    submitted = done.json
    _whole_status(submitted)
    assert (submitted["state"], submitted["exit_code"], submitted["reason"]) == ("finished", 0, None)
    assert submitted["rows"] == {"total": 10, "ok": 10, "failed": 0, "pending": 0}
    assert submitted["shards"] == {"COLLECTED": 3}
    assert submitted["jobs"]["live"] == 0
    assert (folder / submitted["dataset"]).is_dir()
    for asked in ([], [submitted["run_id"]], [submitted["run"]], [folder / submitted["run"]]):
        status = cli("status", *asked, "--json")
        assert status.code == 0
        said = {name: value for name, value in status.json.items() if name not in {"run", "dataset"}}
        assert _same(said, {name: value for name, value in submitted.items() if name not in {"run", "dataset"}})


def test_the_same_submit_again_buys_nothing_and_prints_the_same(
    cli: Any, manifest: Path, emulator: Any, look: Any, folder: Path
) -> None:
    first = cli("submit", manifest, *QUICK, "--json")
    before, calls = look.tree(folder), emulator.stats()["calls"]
    again = cli("submit", manifest, *QUICK, "--json")
    assert (first.code, again.code) == (0, 0)
    assert _same(first.json, again.json)
    assert emulator.stats()["calls"] == calls, "nothing is left to ask the service"
    after = look.tree(folder)
    assert {name: was for name, was in after.items() if was != "/"} == {k: v for k, v in before.items() if v != "/"}


def test_how_a_run_is_carried_out_is_not_what_it_asks(cli: Any, manifest: Path, emulator: Any) -> None:
    first = cli("submit", manifest, *QUICK, "--json")
    again = cli("submit", manifest, "--max-live-jobs", "3", "--max-requests-per-shard", "7", "--json")
    assert again.json["run_id"] == first.json["run_id"]
    assert emulator.bought == 10


def test_fresh_buys_anew(cli: Any, manifest: Path, emulator: Any, look: Any, folder: Path) -> None:
    runs = {cli("submit", manifest, *QUICK, *more, "--json").json["run_id"] for more in ([], ["--fresh"])}
    assert len(runs) == 2
    assert emulator.bought == 20
    assert len(list((folder / "runs").iterdir())) == 2


def test_the_directory_of_another_run_is_refused_naming_each_difference(
    cli: Any, manifest: Path, emulator: Any, look: Any, folder: Path
) -> None:
    first = ("--model", "gemini-2.5-flash", "--temperature", "0.25", "--system-instruction", "Be kind.")
    assert cli("submit", manifest, *QUICK, *first, "--out", "run").code == 0
    before = look.tree(folder / "run")
    other = look.prompts(folder / "other.parquet", 11)
    second = ("--model", "gemini-2.5-pro", "--temperature", "0.75", "--system-instruction", "Be brief.")
    done = cli("submit", other, *QUICK, *second, "--out", "run")
    assert done.code == 2
    assert "Traceback" not in done.err
    for difference in ("gemini-2.5-flash", "gemini-2.5-pro", "0.25", "0.75", "Be kind.", "Be brief.", "10", "11"):
        assert difference in done.err
    assert "endpoint" not in done.err, "only what differs is named"
    assert look.tree(folder / "run") == before
    assert emulator.bought == 10


def test_the_same_submit_into_its_own_directory_joins_it(cli: Any, manifest: Path, emulator: Any) -> None:
    for _ in range(2):
        assert cli("submit", manifest, *QUICK, "--out", "run").code == 0
    assert emulator.bought == 10


@pytest.mark.parametrize(("allowed", "code"), [(None, 3), ("1", 3), ("2", 0), ("10%", 3), ("20%", 0)])
def test_failed_rows_exit_3_unless_allowed(
    allowed: str | None, code: int, cli: Any, manifest: Path, emulator: Any
) -> None:
    emulator.fault("result_line_error", times=2)
    once = ("--max-attempts", "1")
    done = cli("submit", manifest, *QUICK, *once, "--json", *([] if allowed is None else ["--allow-failed", allowed]))
    assert done.code == code, done.err
    assert done.json["exit_code"] == code
    assert done.json["state"] == "finished"
    assert done.json["rows"] == {"total": 10, "ok": 8, "failed": 2, "pending": 0}


@pytest.mark.parametrize("value", ["2", '"20%"'])
def test_allowed_failures_may_stand_in_the_settings_file(
    value: str, cli: Any, manifest: Path, emulator: Any, folder: Path
) -> None:
    emulator.fault("result_line_error", times=2)
    (folder / "settings.toml").write_text(f"allow_failed = {value}\npoll_interval = 1\nmax_attempts = 1\n")
    done = cli("submit", manifest, "--config", "settings.toml")
    assert done.code == 0, done.err


def test_flag_wins_over_environment_over_file_over_default(cli: Any, manifest: Path, folder: Path) -> None:
    (folder / "s.toml").write_text("max_requests_per_shard = 5\nmax_live_jobs = 7\n")
    environment = {"GEMINI_BATCH_MAX_REQUESTS_PER_SHARD": "2"}

    def shards(*flags: str, env: dict[str, str] | None = None) -> int:
        return int(cli("plan", manifest, "--json", *flags, env=env).json["shards"])

    assert shards() == 1
    assert shards("--config", "s.toml") == 2
    assert shards("--config", "s.toml", env=environment) == 5
    assert shards("--config", "s.toml", "--max-requests-per-shard", "1", env=environment) == 10


# --- plan -------------------------------------------------------------------------------------------------------------


def test_plan_counts_and_needs_no_key_and_does_nothing(
    cli: Any, manifest: Path, emulator: Any, look: Any, folder: Path
) -> None:
    before = look.tree(folder)
    nowhere = {"GOOGLE_GEMINI_BASE_URL": "https://generativelanguage.googleapis.com"}
    told = cli("plan", manifest, *QUICK, env=nowhere)
    assert told.code == 0, told.err
    for word in ("shards", "requests", "bytes", "tokens", "10", "3"):
        assert word in told.out
    plan = cli("plan", manifest, *QUICK, "--json").json
    assert (plan["shards"], plan["requests"], plan["rows"]) == (3, 10, 10)
    assert plan["tokens"] > 0
    assert emulator.untouched()
    assert look.tree(folder) == before


def test_plan_foretells_the_bytes_that_are_sent(cli: Any, manifest: Path, emulator: Any) -> None:
    planned = cli("plan", manifest, *QUICK, "--temperature", "0.5", "--json").json["request_bytes"]
    emulator.fault("result_line_missing", times=10)  # so that only the request files hold bytes
    emulator.fault("file_delete_503", times="always")
    assert cli("submit", manifest, *QUICK, "--temperature", "0.5", "--max-attempts", "1").code == 3
    assert emulator.stats()["files"]["bytes"] == planned


# --- stopping ---------------------------------------------------------------------------------------------------------


def test_an_unknown_model_stops_the_run_with_1_and_buys_nothing(cli: Any, manifest: Path, emulator: Any) -> None:
    done = cli("submit", manifest, *QUICK, "--model", "gemini-does-not-exist")
    assert done.code == 1
    assert "gemini-does-not-exist" in done.err
    assert "Traceback" not in done.err
    assert emulator.bought == 0
    assert emulator.calls("POST batchGenerateContent") == 1


def test_a_stopped_run_still_prints_its_json(cli: Any, manifest: Path) -> None:
    done = cli("submit", manifest, *QUICK, "--model", "gemini-does-not-exist", "--json")
    assert done.code == 1
    _whole_status(done.json)
    assert (done.json["state"], done.json["exit_code"]) == ("stopped", 1)
    assert "gemini-does-not-exist" in done.json["reason"]
    assert done.json["problems"]


def test_the_status_of_a_stopped_run_says_why_it_stopped(cli: Any, manifest: Path) -> None:
    cli("submit", manifest, *QUICK, "--model", "gemini-does-not-exist")
    status = cli("status", "--json").json
    assert (status["state"], status["exit_code"]) == ("stopped", 1)
    assert "gemini-does-not-exist" in status["reason"]


def test_a_setting_that_the_service_refuses_stops_the_run_at_the_first_job(
    cli: Any, manifest: Path, emulator: Any, folder: Path
) -> None:
    (folder / "gen.json").write_text('{"noSuchField": 1}')
    done = cli("submit", manifest, *QUICK, "--generation-config", "gen.json")
    assert done.code == 1
    assert "noSuchField" in done.err
    assert emulator.bought == 0
    assert emulator.calls("POST batchGenerateContent") == 1


# --- coming back ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code", "group"), [(signal.SIGINT, 130, True), (signal.SIGINT, 130, False), (signal.SIGTERM, 143, False)]
)
def test_an_interrupted_run_says_how_to_go_on(
    number: int, code: int, group: bool, cli: Any, manifest: Path, emulator: Any, look: Any
) -> None:
    emulator.settings(job_seconds=30)
    running = cli.start("submit", manifest, *QUICK, "--out", "run")
    look.until(lambda: emulator.creates == 3, "all jobs are created")
    running.signal(number, group=group)
    done = running.ended(20)
    assert done.code == code, done.err
    assert "gemini-batch-dist resume run" in done.err
    for noise in ("Traceback", "Warning", "leaked"):
        assert noise not in done.err, done.err
    cli.wait_for_nobody()
    emulator.settings(job_seconds=0)
    assert cli("resume", "run").code == 0
    assert emulator.bought == 10
    assert emulator.creates == 3


@pytest.mark.parametrize("by", ["path", "id", "newest"])
def test_a_run_is_resumed_by_path_by_id_or_as_the_newest(
    by: str, cli: Any, manifest: Path, emulator: Any, look: Any, folder: Path
) -> None:
    assert cli("submit", look.prompts(folder / "older.parquet", 3), *QUICK).code == 0
    emulator.settings(job_seconds=30)
    running = cli.start("submit", manifest, *QUICK, "--runs", "runs")
    look.until(lambda: emulator.creates == 4, "all jobs are created")
    running.kill()
    status = cli("status", "--json").json
    assert (status["state"], status["exit_code"], status["dataset"]) == ("running", 4, None)
    assert status["rows"]["pending"] == 10
    emulator.settings(job_seconds=0)
    which = {"path": [folder / "runs" / status["run_id"]], "id": [status["run_id"]], "newest": []}[by]
    done = cli("resume", *which, "--json")
    assert done.code == 0, done.err
    assert done.json["run_id"] == status["run_id"]
    assert done.json["rows"]["ok"] == 10
    assert emulator.bought == 13


@pytest.mark.parametrize("command", ["resume", "submit"])
def test_another_key_touches_nothing(command: str, cli: Any, manifest: Path, emulator: Any, look: Any) -> None:
    emulator.settings(job_seconds=30)
    running = cli.start("submit", manifest, *QUICK, "--out", "run", env={"GEMINI_API_KEY": "first-key"})
    look.until(lambda: emulator.creates == 3, "all jobs are created")
    running.kill()
    before, calls = look.tree(cli.folder / "run"), emulator.stats()["calls"]
    again = ["resume", "run"] if command == "resume" else ["submit", manifest, *QUICK, "--out", "run"]
    done = cli(*again, env={"GEMINI_API_KEY": "second-key"})
    assert done.code == 2
    assert "key" in done.err
    assert "Traceback" not in done.err
    assert look.tree(cli.folder / "run") == before
    assert emulator.stats()["calls"] == calls


def test_two_keys_of_one_named_project_share_a_run(cli: Any, manifest: Path, emulator: Any) -> None:
    for key in ("first-key", "second-key"):
        done = cli("submit", manifest, *QUICK, "--project", "ours", env={"GEMINI_API_KEY": key})
        assert done.code == 0, done.err
    assert emulator.bought == 10


def test_two_different_keys_in_the_environment_are_warned_of(cli: Any, manifest: Path) -> None:
    done = cli("submit", manifest, *QUICK, env={"GEMINI_API_KEY": "one", "GOOGLE_API_KEY": "two"})
    assert done.code == 0
    assert "GEMINI_API_KEY" in done.err
    assert "GOOGLE_API_KEY" in done.err


def test_resume_of_a_finished_run_says_so_and_asks_nobody(cli: Any, manifest: Path, emulator: Any) -> None:
    first = cli("submit", manifest, *QUICK, "--json").json
    calls = emulator.stats()["calls"]
    again = cli("resume", "--json")
    assert again.code == 0
    assert _same(again.json, first)
    assert emulator.stats()["calls"] == calls


def test_status_tells_people_in_words(cli: Any, manifest: Path) -> None:
    cli("submit", manifest, *QUICK)
    done = cli("status")
    assert done.code == 0
    for word in ("finished", "10 of 10 rows", "dataset"):
        assert word in done.out
    assert done.err == ""
