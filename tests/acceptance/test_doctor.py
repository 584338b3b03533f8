"""`doctor`: what the provider holds and no run wants, what does not move, and nothing that is other people's."""

from pathlib import Path
from typing import Any

QUICK = ("--poll-interval", "1", "--settle", "1", "--max-requests-per-shard", "3")
DAY = 86_400
LISTS = {"GET batches.list", "GET files.list"}


def kinds(done: Any) -> set[tuple[str, int | None]]:
    for finding in done.json["findings"]:
        assert finding.keys() >= {"kind", "run", "shard", "what", "fix"}
    return {(finding["kind"], finding["shard"]) for finding in done.json["findings"]}


def test_a_finished_run_is_well_but_for_files_that_could_not_be_deleted_and_go_by_themselves(
    cli: Any, emulator: Any, look: Any, folder: Path
) -> None:
    emulator.fault("file_delete_503", times="always")
    assert cli("submit", look.prompts(folder / "m.parquet", 6), *QUICK).code == 0
    before, calls = look.tree(folder / "runs"), emulator.stats()["calls"]
    done = cli("doctor", "--json")
    assert (done.code, done.err) == (1, "")
    assert kinds(done) == {("stored_files", None)}
    run, held = look.only_run(folder / "runs"), done.json["files"]["of_these_runs"]
    uploads = [look.json(path)["upload"]["size_bytes"] for path in run.glob("ledger/*/000004.json")]
    assert held == {"files": 2, "bytes": sum(uploads)}
    assert done.json["findings"][0]["run"] == run.name
    assert done.json["live_jobs"] == {"of_these_runs": 0, "of_runs_not_found_here": 0, "of_other_programs": 0}
    asked = {name: count - calls.get(name, 0) for name, count in emulator.stats()["calls"].items()}
    assert {name for name, count in asked.items() if count} == LISTS, "nothing is changed"
    emulator.advance(2 * DAY)
    done = cli("doctor")
    assert (done.code, done.err) == (0, ""), done.words
    for word in ("1 looked at, 1 finished", "0 of these runs", "clean"):
        assert word in done.out, done.out
    assert look.tree(folder / "runs") == before, "nothing is written"


def test_live_jobs_that_nobody_wants_stuck_shards_and_wrong_keys_are_found(
    cli: Any, emulator: Any, look: Any, folder: Path
) -> None:
    emulator.settings(job_seconds=10 * DAY)
    running = cli.start("submit", look.prompts(folder / "m.parquet", 12), *QUICK, "--max-live-jobs", "2")
    look.until(
        lambda: len(list((folder / "runs").glob("*/ledger/*/000004.json"))) == 2 or not running.running,
        "two jobs are recorded",
    )
    (recorded, _) = sorted((folder / "runs").glob("*/ledger/*/000004.json"))
    done = cli("doctor", "--json")
    assert (done.code, kinds(done)) == (0, set()), "a run that is under way is well"
    assert running.kill(), running.said
    twin = emulator.create_by_hand(look.json(recorded)["job"]["display_name"])
    for name in ("weekly report", "nightly report", "gbd-0123456789ab-000000-3-" + "0" * 16):
        emulator.create_by_hand(name)
    done = cli("doctor", "--json")
    assert done.code == 1
    assert kinds(done) == {("problem", None), ("unrecorded_job", int(recorded.parent.name))}
    assert done.json["live_jobs"] == {"of_these_runs": 3, "of_runs_not_found_here": 1, "of_other_programs": 2}
    assert any(twin in finding["what"] for finding in done.json["findings"])
    assert "report" not in done.words, "what is other people's is not named"

    emulator.advance(DAY + 3600)
    done = cli("doctor")
    assert done.code == 1
    for word in ("stuck", "2 shards are SUBMITTED for up to 25 h", "no process works on this run", "To mend"):
        assert word in done.out, done.out

    calls = emulator.stats()["calls"]
    done = cli("doctor", "--json", env={"GEMINI_API_KEY": "another"})
    assert (done.code, kinds(done)) == (1, {("wrong_key", None)})
    assert done.json["live_jobs"] == {"of_these_runs": 0, "of_runs_not_found_here": 0, "of_other_programs": 0}
    assert {name for name, count in emulator.stats()["calls"].items() if count != calls.get(name)} == LISTS


def test_with_a_broker_it_says_what_troubles_the_fleet(
    cli: Any, emulator: Any, look: Any, folder: Path, valkey: Any
) -> None:
    broker = ("--broker", valkey.url)
    assert cli("submit", look.prompts(folder / "m.parquet", 3), *QUICK, *broker, "--detach").code == 0
    done = cli("doctor", *broker, "--json")
    assert (done.code, kinds(done)) == (1, {("problem", None)})
    assert "no worker" in done.json["findings"][0]["what"]


def test_a_root_that_cannot_be_read_and_a_missing_key_are_refused(bare_cli: Any, s3: Any) -> None:
    bare_cli.env.update(s3.env)
    done = bare_cli("doctor")
    assert (done.code, done.out) == (2, "")
    assert "GEMINI_API_KEY" in done.err
    done = bare_cli(
        "doctor", "--runs", "s3://no-such-bucket/runs", env={"GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:9"}
    )
    assert (done.code, done.out) == (2, "")
    assert "NoSuchBucket" in done.err
