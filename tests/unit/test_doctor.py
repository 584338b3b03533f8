"""The doctor's verdict: what the service holds and no ledger wants, what does not move, and nobody else's business."""

import json
import shutil
from dataclasses import replace
from datetime import timedelta

import pytest
from audited import copied, finished_shop, run_in_rounds
from made import make_asked, make_limits
from test_lifecycle import NOW, UPLOAD, send

from gemini_batch.config import Account
from gemini_batch.coordinator.retry import Choice, retry
from gemini_batch.doctor.judge import RunSeen, Seen, diagnosis_of, judge
from gemini_batch.doctor.report import diagnosis_in_words
from gemini_batch.doctor.visit import Visit
from gemini_batch.errors import Denied
from gemini_batch.findings import MOST_TOLD, findings_in_words
from gemini_batch.fleet.registry import Registry
from gemini_batch.gemini.remote import Listing, StoredFile
from gemini_batch.jobs.advance import advance
from gemini_batch.ledger.posix import PosixStore
from gemini_batch.records import Job, ShardRecord, ShardState

S = ShardState
HOUR = timedelta(hours=1)
SENT = "gbd-run-000000-3-" + "0" * 16


def job(name="batches/1", display_name=SENT, state="RUNNING", age=HOUR):
    return Job(name=name, display_name=display_name, state=f"BATCH_STATE_{state}", created_at=NOW - age)


def shard(state, number=0, age=HOUR, **changes):
    return ShardRecord(shard=number, state=state, version=1, at=NOW - age, **changes)


def run(*records, finished=False, **changes):
    made = RunSeen("run", "runs/run", NOW - HOUR, finished, 3, {record.shard: record for record in records})
    return replace(made, **changes)


def listing(*jobs, others=()):
    by_name = {one.display_name: one for one in jobs}
    return Listing(by_name, frozenset(one.name for one in jobs), NOW, jobs, tuple(others))


def seen(*runs, jobs=(), others=(), files=()):
    return Seen(runs, listing(*jobs, others=others), tuple(files), NOW)


def kinds(*runs, **held):
    return [finding.kind for finding in judge(seen(*runs, **held))]


# --- a pause ----------------------------------------------------------------------------------------------------------


def test_what_a_pause_holds_back_is_not_stuck_and_a_job_of_a_paused_run_may_be():
    days = timedelta(days=3)
    held = [shard(state, number, days) for number, state in enumerate((S.PLANNED, S.CLAIMED, S.READY))]
    still = {"began": NOW - days, "paused": True}
    assert kinds(run(**still)) == []
    assert kinds(run(*held, **still)) == []
    assert kinds(run(*held, began=NOW - days)) == ["stuck"] * 3
    assert kinds(run(*held, shard(S.SUBMITTED, 3, days, job=job(age=days)), **still)) == ["stuck"]


# --- jobs -------------------------------------------------------------------------------------------------------------

SUBMITTED = shard(S.SUBMITTED, job=job())
SENDING = shard(S.SENDING, sends=(send(3).model_copy(update={"display_name": SENT}),))


@pytest.mark.parametrize(
    ("record", "held", "expected"),
    [
        (SUBMITTED, job(), []),
        (shard(S.COLLECTED, job=job()), job(state="SUCCEEDED"), []),
        (shard(S.COLLECTED, job=job()), job(), ["unwanted_job"]),
        (shard(S.ENDED, job=job()), job(state="PENDING"), ["unwanted_job"]),
        (SUBMITTED, job("batches/2"), ["unrecorded_job"]),
        (SUBMITTED, job("batches/2", state="SUCCEEDED"), ["unrecorded_job"]),
        (SUBMITTED.model_copy(update={"twins": (job("batches/2"),)}), job("batches/2"), ["live_twin"]),
        (SUBMITTED.model_copy(update={"twins": (job("batches/2"),)}), job("batches/2", state="CANCELLED"), []),
        (SENDING, job(age=timedelta(minutes=2)), []),
        (SENDING, job(age=timedelta(minutes=4)), ["unrecorded_job"]),
        (SENDING.model_copy(update={"state": S.UNKNOWN}), job(age=timedelta(minutes=2)), ["unrecorded_job"]),
        (SENDING, job(display_name="gbd-run-000000-2-" + "0" * 16, age=timedelta(0)), ["unrecorded_job"]),
    ],
)
def test_a_job_that_the_ledger_does_not_want_is_a_finding(record, held, expected):
    """A job whose create is being answered this minute is not one."""
    assert kinds(run(record), jobs=[held]) == expected


def test_a_job_of_a_shard_without_a_ledger_is_unrecorded_and_named_with_its_shard():
    (finding,) = judge(seen(run(), jobs=[job(display_name="gbd-run-000002-3-" + "0" * 16)]))
    assert (finding.kind, finding.run, finding.shard) == ("unrecorded_job", "run", 2)
    assert "batches/1" in finding.what and "resume runs/run" in finding.fix


def test_what_is_of_no_run_here_is_counted_and_never_named():
    """It may be anybody's: other programs, other machines, a run whose id begins with one of ours."""
    elsewhere = [job("batches/secret", f"gbd-run-0a1b2c3d-00000{shard}-3-{'0' * 16}") for shard in range(2)]
    others = [job("batches/private", "weekly report"), job("batches/private", "weekly report", state="SUCCEEDED")]
    files = [
        StoredFile("files/a", "", 5, display_name="gbd-run-0a1b2c3d-000000-input"),
        StoredFile("files/b", "", 7, display_name="their secret"),
        StoredFile("files/c", "", None),
    ]
    found = diagnosis_of(seen(run(SUBMITTED), jobs=[job(), *elsewhere], others=others, files=files), "runs")
    assert found["clean"]
    assert found["live_jobs"] == {"of_these_runs": 1, "of_runs_not_found_here": 2, "of_other_programs": 1}
    assert found["files"] == {
        "of_these_runs": {"files": 0, "bytes": 0},
        "of_runs_not_found_here": {"files": 1, "bytes": 5},
        "other_and_results": {"files": 2, "bytes": 7},
    }
    said = json.dumps(found) + "\n".join(diagnosis_in_words(found))
    for name in ("secret", "private", "weekly", "0a1b2c3d"):
        assert name not in said


# --- files ------------------------------------------------------------------------------------------------------------

INPUT = StoredFile("files/a", "", 100, display_name="gbd-run-000000-input")
PICTURE = StoredFile("files/p", "", 10, display_name="gbd-run-000000-" + "0" * 16)
READY = shard(S.READY, upload=UPLOAD)


@pytest.mark.parametrize(
    ("seen_run", "stored"),
    [
        (run(shard(S.CLAIMED)), None),
        (run(), None),
        (run(READY), None),
        (run(READY.model_copy(update={"upload": UPLOAD.model_copy(update={"name": "files/other"})})), "1 uploaded"),
        (run(SUBMITTED), None),
        (run(shard(S.ENDED)), "2 uploaded files of shards that are over are still stored (110 bytes)"),
        (run(shard(S.COLLECTED)), "2 uploaded"),
        (run(finished=True), "2 uploaded"),
    ],
)
def test_files_that_no_shard_needs_any_more_are_one_finding_a_run(seen_run, stored):
    found = judge(seen(seen_run, files=[INPUT, PICTURE]))
    assert [finding.kind for finding in found] == ([] if stored is None else ["stored_files"])
    assert stored is None or stored in found[0].what


# --- what does not move -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (shard(S.SUBMITTED, job=job(age=23 * HOUR), age=50 * HOUR), None),
        (
            shard(S.SUBMITTED, job=job(age=31 * HOUR)),
            "1 shards are SUBMITTED for up to 31 h, the oldest with batches/1",
        ),
        (shard(S.UNKNOWN, age=25 * HOUR, problem="cut"), "1 shards are UNKNOWN for up to 25 h (cut)"),
        (shard(S.ENDED, age=25 * HOUR), "1 shards are ENDED for up to 25 h"),
        (shard(S.CLAIMED, age=25 * HOUR), "1 shards are CLAIMED"),
    ],
)
def test_a_shard_that_has_not_moved_for_a_day_is_stuck_by_the_providers_time(record, says):
    held = [record.job] if record.job else []
    found = judge(seen(run(record, shard(S.PLANNED, 1)), jobs=held))
    assert [finding.what.startswith(says or "") for finding in found] == ([True] if says else [])
    assert all(finding.kind == "stuck" and finding.fix for finding in found)


def test_stuck_shards_of_a_state_are_one_finding_that_names_the_oldest():
    found = judge(seen(run(*(shard(S.ENDED, number, (25 + number) * HOUR) for number in range(3)))))
    assert [(one.shard, one.what) for one in found] == [(2, "3 shards are ENDED for up to 27 h")]


def test_a_run_in_which_nothing_happens_for_a_day_is_stuck_and_one_that_has_finished_is_not():
    idle = run(shard(S.COLLECTED, age=30 * HOUR), began=NOW - 40 * HOUR)
    (finding,) = judge(seen(idle))
    assert finding.what == "nothing has happened for 30 h, and 1 of 3 shards are collected"
    assert judge(seen(run(began=NOW - 23 * HOUR))) == []
    assert judge(seen(replace(idle, finished=True))) == []


def test_what_status_says_needs_doing_is_passed_on():
    told = run(problems=({"what": "worker w leaves the run alone", "fix": "restart it"},))
    (finding,) = judge(seen(told))
    assert (finding.kind, finding.run, finding.what) == ("problem", "run", "worker w leaves the run alone")


# --- the visit --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return finished_shop(tmp_path_factory.mktemp("run"), make_asked, make_limits)


@pytest.fixture
def shop(original, tmp_path):
    shop = copied(original, tmp_path)
    shop.remote.list_files = lambda: ()
    return shop


def visit(shop, root, **changes):
    account = Account(shop.run.asked.endpoint, shop.run.asked.project, "k")
    return judge(replace(Visit(str(root), account, shop.remote, shop.clock), **changes).go())


def test_finished_runs_and_what_is_no_run_are_well(shop, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "debris" / "shards").mkdir(parents=True)
    assert visit(shop, tmp_path) == []
    assert visit(shop, tmp_path / "nothing-here") == []


def test_of_a_finished_run_only_the_shards_that_the_service_holds_something_of_are_read(shop, tmp_path, monkeypatch):
    """A root of many finished runs must not cost a read of each of their shards."""
    shop.remote.list_files = lambda: (StoredFile("files/a", "", 1, display_name="gbd-run-000004-input"),)
    monkeypatch.setattr(shop.remote, "list_jobs", listing)
    found = Visit(str(tmp_path), Account("http://127.0.0.1:1", "p", "k"), shop.remote, shop.clock).go()
    assert [list(run.records) for run in found.runs] == [[4]]


def test_a_job_that_appears_in_the_list_and_not_in_the_ledger_is_found_in_a_finished_run(shop, tmp_path, monkeypatch):
    extra = shop.last(0).job.model_copy(update={"name": "batches/again"})
    before = shop.remote.list_jobs()
    monkeypatch.setattr(shop.remote, "list_jobs", lambda: replace(before, every=(*before.every, extra)))
    assert [(one.kind, one.shard) for one in visit(shop, tmp_path)] == [("unrecorded_job", 0)]


def test_an_unfinished_run_that_nobody_works_on_is_named_with_how_to_go_on(shop, tmp_path):
    (tmp_path / "run/_SUCCESS").unlink()
    (finding,) = visit(shop, tmp_path)
    assert (finding.kind, finding.run) == ("problem", "run")
    assert "no process works" in finding.what and "resume" in finding.fix


@pytest.mark.parametrize(("finished", "expected"), [(True, []), (False, ["wrong_key"])])
def test_a_run_of_another_project_is_not_looked_at_and_matters_while_it_is_not_finished(
    finished, expected, shop, tmp_path
):
    if not finished:
        (tmp_path / "run/_SUCCESS").unlink()
    found = visit(shop, tmp_path, account=Account(shop.run.asked.endpoint, "another", "k"))
    assert [one.kind for one in found] == expected
    assert all("nothing of it was looked at" in one.what and "--project" in one.fix for one in found)


@pytest.mark.parametrize(
    ("name", "change", "kind"),
    [
        ("run.json", lambda body: body[:-9], "unreadable_run"),
        ("run.json", lambda body: body.replace(b'"format": 1', b'"format": 2'), "newer_run"),
        ("run.json", None, "unreadable_run"),
        ("plan-0000.parquet", lambda body: body[:-9], "unreadable_run"),
        ("ledger/000000/000007.json", lambda body: body[:-9], "unreadable_run"),
    ],
)  # fmt: skip
def test_a_run_that_cannot_be_read_is_named_and_its_jobs_are_left_alone(name, change, kind, shop, tmp_path):
    path = tmp_path / "run" / name
    body = path.read_bytes()
    path.unlink()
    if change:
        path.write_bytes(change(body))
    (finding,) = visit(shop, tmp_path)
    assert (finding.kind, finding.run) == (kind, "run")


def test_a_run_that_lies_deeper_is_found_by_what_the_workers_were_told(shop, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(tmp_path / "run", root / "team" / "run")
    (root / "team/run/_SUCCESS").unlink()
    assert visit(shop, root) == []
    registry = Registry(PosixStore(root))
    registry.add("run", "team/run")
    registry.add("gone", "team/gone")
    (root / ".active/broken.json").write_text("x")
    found = {(one.kind, one.run) for one in visit(shop, root)}
    assert found == {("registry", "gone"), ("registry", "broken")}


def test_a_service_that_refuses_is_a_finding_and_the_runs_are_still_looked_at(shop, tmp_path, monkeypatch):
    def refused():
        raise Denied("403", 403)

    monkeypatch.setattr(shop.remote, "list_jobs", refused)
    shop.remote.list_files = refused
    (tmp_path / "run/_SUCCESS").unlink()
    assert [one.kind for one in visit(shop, tmp_path)] == ["jobs_unseen", "files_unseen", "problem"]


def test_shards_of_later_rounds_count_like_any_other(tmp_path_factory, tmp_path):
    """Planned by a retry, sent, and then left alone for a day; their job is wanted."""
    folder = tmp_path_factory.mktemp("rounds")
    shop = run_in_rounds(folder, make_asked, make_limits)
    shop.remote.list_files = lambda: ()
    assert visit(shop, folder) == []
    retry(shop.files, shop.run, shop.limits, Choice(keys=frozenset({"0"})))
    (planned,) = visit(shop, folder)
    assert (planned.kind, "no process works" in planned.what) == ("problem", True), "not finished any more"
    shop.remote.state = "BATCH_STATE_RUNNING"
    last = len(shop.plan) - 1
    advance(shop, last)
    assert [one for one in visit(shop, folder) if one.shard == last] == [], "its job is wanted"
    shop.clock.passed += 30 * HOUR
    (stuck,) = [one for one in visit(shop, folder) if one.kind == "stuck"]
    assert (stuck.shard, "1 shards are SUBMITTED for up to 30 h" in stuck.what) == (last, True)


# --- words ------------------------------------------------------------------------------------------------------------


def test_so_many_findings_are_told_and_the_rest_is_counted():
    one = {"kind": "part", "shard": 1, "what": "gone", "fix": "resume"}
    said = findings_in_words([one] * (MOST_TOLD + 3), "all is well")
    assert said[0] == "shard 000001, part: gone. To mend: resume"
    assert said[-2:] == ["and 3 more", f"{MOST_TOLD + 3} findings: {MOST_TOLD + 3} part"]
    assert findings_in_words([], "all is well") == ["clean: all is well"]
    assert len(findings_in_words([one] * MOST_TOLD, "")) == MOST_TOLD + 1
