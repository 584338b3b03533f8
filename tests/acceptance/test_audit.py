"""`audit`: exit 0 only if all that was bought is accounted for, whatever was done to the run since."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

QUICK = ("--poll-interval", "1", "--settle", "1", "--max-requests-per-shard", "3")
ROWS = 30


@dataclass(frozen=True)
class Finished:
    """A run that has come to its end, what `audit` said of it then, and what the service and the disk held."""

    run: Path
    audit: Any
    before: dict[str, str]
    bought: int
    calls: set[str]
    """What the audit asked of the service."""


@pytest.fixture(scope="module")
def finished(module_emulator: Any, make_cli: Callable[[Any], Any], look: Any) -> Finished:
    """A lost answer, a 429, lines that are missing, doubled, foreign or broken, a row that cannot be sent."""
    emulator, cli = module_emulator, make_cli(module_emulator)
    emulator.reset()
    for fault in ("create_reply_lost", "create_429", "result_line_missing", "result_line_broken"):
        emulator.fault(fault)
    for fault in ("result_line_duplicated", "result_line_conflicting", "result_line_foreign"):
        emulator.fault(fault, after=9)
    prompts = [{"prompt": "" if row == 5 else f"Prompt number {row}"} for row in range(ROWS)]
    manifest = look.jsonl(cli.folder / "manifest.jsonl", prompts)
    assert cli("submit", manifest, *QUICK, "--out", "run").code == 3
    run, before, calls = cli.folder / "run", look.tree(cli.folder / "run"), emulator.stats()["calls"]
    audit = cli("audit", "run", "--json")
    asked = {name for name, count in emulator.stats()["calls"].items() if count != calls.get(name, 0)}
    return Finished(run, audit, before, emulator.bought, asked)


@pytest.fixture
def run(finished: Finished, folder: Path) -> Path:
    """A copy, to be changed."""
    return Path(shutil.copytree(finished.run, folder / "run"))


def kinds(audit: dict[str, Any]) -> dict[int | None, set[str]]:
    """Kinds of findings by shard."""
    found: dict[int | None, set[str]] = {}
    for finding in audit["findings"]:
        assert finding.keys() >= {"kind", "shard", "what", "fix"}
        found.setdefault(finding["shard"], set()).add(finding["kind"])
    return found


# --- clean ------------------------------------------------------------------------------------------------------------


def test_a_run_in_which_all_that_can_be_mended_went_wrong_is_clean_and_counted(finished: Finished, look: Any) -> None:
    """What went wrong is accounted for."""
    done = finished.audit
    assert (done.code, done.err) == (0, ""), done.words
    audit = done.json
    assert (audit["clean"], audit["finished"], audit["findings"], audit["notes"]) == (True, True, [], [])
    assert audit["looked_at"]
    assert audit == look.json(finished.run / "audit.json")
    totals, report = audit["totals"], look.json(finished.run / "report.json")
    jobs = {"created": 11, "adopted": 1, "twins": 0, "unrecorded": 0, "listed": 11, "no_longer_listed": 0}
    assert totals["jobs"] == jobs
    assert totals["lines"]["sent"] == finished.bought == report["requests_bought"] == ROWS + 1
    assert (totals["rows_bought_more_than_once"], totals["bought_again"]) == (2, {"missing": 2}), "cut or left out"
    assert {name: totals["lines"][name] for name in report["lines"]} == report["lines"]
    assert all(report["lines"].values()), "each kind of line is there"
    assert totals["by_status"] == report["by_status"] == {"ok": ROWS - 1, "failed": 1}
    assert [(shard["shard"], shard["round"]) for shard in audit["shards"]] == [*((n, 0) for n in range(10)), (10, 1)]


def test_an_audit_writes_its_file_and_asks_for_the_list_of_jobs_and_nothing_else(finished: Finished, look: Any) -> None:
    after = look.tree(finished.run)
    assert after.pop("audit.json")
    assert after == finished.before
    assert finished.calls == {"GET batches.list"}


def test_a_person_reads_what_was_counted_and_without_a_key_that_the_jobs_were_left_out(
    run: Path, bare_cli: Any, look: Any
) -> None:
    done = bare_cli("audit", run, "--offline")
    assert (done.code, done.err) == (0, "")
    for word in (
        "rows: 30",
        "11 COLLECTED",
        "11 created",
        "31 sent",
        "2 rows, which had been 2 missing",
        "not looked at",
        "clean",
    ):
        assert word in done.out, done.out
    assert look.json(run / "audit.json")["looked_at"] is None


# --- tampering --------------------------------------------------------------------------------------------------------


def flip(path: Path, place: float = 0.5) -> None:
    body = bytearray(path.read_bytes())
    body[int(len(body) * place)] ^= 0x10
    path.write_bytes(body)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def forget(ledger: Path, cause: str) -> None:
    """Take away the record of that cause, and all after it."""
    records = sorted(ledger.iterdir())
    causes = [json.loads(record.read_text())["cause"] for record in records]
    for record in records[causes.index(cause) :]:
        record.unlink()


def test_whatever_was_done_to_a_run_is_found_and_named(run: Path, bare_cli: Any, look: Any) -> None:
    """Each shard suffers something else, and one nothing."""
    flip(run / "raw/000000.jsonl.zst")
    flip(run / "parts/000001.parquet")
    (run / "parts/000002.parquet").unlink()
    (run / "ledger/000003/000003.json").unlink()
    edit(run / "ledger/000004/000004.json", job={"name": "batches/x", "display_name": "gbd-x"})
    flip(run / "shards/000005.parquet", 0.1)
    requests = look.json(run / "ledger/000006/000006.json")["requests"]
    (run / requests).unlink()
    forget(run / "ledger/000007", "Collected")
    forget(run / "ledger/000008", "JobLearned")
    flip(run / "dataset/part-000000.parquet")
    (run / "report.json").write_bytes(b"{}")
    (run / "raw/000099.jsonl.zst").write_bytes(b"x")
    done = bare_cli("audit", run, "--offline", "--json")
    assert done.code == 1
    assert not done.json["clean"]
    assert kinds(done.json) == {
        None: {"dataset", "report", "stray_file"},
        0: {"raw"},
        1: {"part"},
        2: {"part"},
        3: {"ledger_gap"},
        4: {"ledger_step"},
        5: {"rows"},
        6: {"requests"},
        7: {"unsettled"},
        8: {"unsettled", "raw", "part"},
    }
    assert all(finding["fix"] for finding in done.json["findings"])
    assert done.json == look.json(run / "audit.json")


def test_a_finding_tells_a_person_where_what_and_how_to_mend_it(run: Path, bare_cli: Any) -> None:
    (run / "parts/000002.parquet").unlink()
    done = bare_cli("audit", run, "--offline")
    assert done.code == 1
    for word in ("shard 000002", "part", "missing", "To mend", "resume", "1 findings"):
        assert word in done.out, done.out


# --- the provider's jobs ----------------------------------------------------------------------------------------------


def test_jobs_that_were_made_under_the_runs_name_are_named_and_the_rest_is_not_looked_for(
    run: Path, cli: Any, emulator: Any, look: Any
) -> None:
    """One under the very name of a send, one under the run's alone; others are other people's."""
    newest = max((run / "ledger/000001").iterdir())
    sent = look.json(newest)["job"]["display_name"]
    run_id = look.json(run / "run.json")["run_id"]
    twin, stranger = emulator.create_by_hand(sent), emulator.create_by_hand(f"gbd-{run_id}-by-hand")
    emulator.create_by_hand("weekly report")
    emulator.create_by_hand(f"gbd-{run_id}-0a1b2c3d-000000-3-" + "0" * 16)
    done = cli("audit", run, "--json")
    assert done.code == 1
    assert kinds(done.json) == {1: {"unrecorded_job"}, None: {"unrecorded_job"}}
    ours, theirs = sorted(done.json["findings"], key=lambda finding: finding["shard"] is None)
    assert twin in ours["what"] and "resume" in ours["fix"]
    assert stranger in theirs["what"]
    assert done.json["totals"]["rows_bought_more_than_once"] == 2 + 2, "one of the three rows cannot be sent"
    assert done.json["totals"]["jobs"]["no_longer_listed"] == 11, "the emulator has been reset since"
    assert any("no longer listed" in note for note in done.json["notes"])


def test_a_run_that_is_under_way_can_be_audited_and_is_said_not_to_be_finished(
    cli: Any, emulator: Any, look: Any, folder: Path
) -> None:
    emulator.settings(job_seconds=60)
    running = cli.start(
        "submit", look.prompts(folder / "m.parquet", 24), *QUICK, "--max-live-jobs", "2", "--out", "run"
    )
    ledger = folder / "run" / "ledger"
    look.until(lambda: len(list(ledger.glob("*/000004.json"))) == 2 or not running.running, "two jobs are recorded")
    done = cli("audit", "run")
    assert done.code == 0, done.words
    for word in ("not finished", "0 of 8 shards are collected", "2 SUBMITTED", "6 PLANNED", "clean"):
        assert word in done.out, done.out
    assert running.running


def test_another_key_sees_no_jobs_and_is_refused(run: Path, cli: Any, emulator: Any) -> None:
    done = cli("audit", run, env={"GEMINI_API_KEY": "another"})
    assert done.code == 2
    assert "--offline" in done.err
    assert "Traceback" not in done.err
    assert emulator.untouched()


def test_a_list_that_cannot_be_read_is_no_clean_bill(run: Path, cli: Any, emulator: Any) -> None:
    emulator.fault("list_503")
    done = cli("audit", run, "--json")
    assert done.code == 1
    assert kinds(done.json) == {None: {"jobs_unseen"}}
    assert done.json["looked_at"] is None


def test_what_is_no_run_is_refused(cli: Any, emulator: Any) -> None:
    done = cli("audit", "nothing-here")
    assert (done.code, done.out) == (2, "")
    assert emulator.untouched()


# --- in a bucket ------------------------------------------------------------------------------------------------------


def test_a_run_in_a_bucket_is_audited_alike(cli: Any, run: Path, look: Any, folder: Path, s3: Any) -> None:
    cli.env.update(s3.env)
    place = f"s3://{s3.new_bucket()}/runs/one"
    for path in run.rglob("*"):
        if path.is_file():
            s3.put(f"{place}/{path.relative_to(run)}", path.read_bytes())
    done = cli("audit", place, "--offline", "--json")
    assert (done.code, done.json["findings"]) == (0, []), done.words
    assert done.json["totals"]["lines"] == look.json(run / "audit.json")["totals"]["lines"]
    assert look.json(s3.mirror(place, folder / "copy") / "audit.json") == done.json
    s3.put(f"{place}/raw/000001.jsonl.zst", b"\0" + (run / "raw/000001.jsonl.zst").read_bytes()[1:])
    (one,) = cli("audit", place, "--offline", "--json").json["findings"]
    assert (one["kind"], one["shard"]) == ("raw", 1)
