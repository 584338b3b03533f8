"""What an audit sees of files: every kind of damage and every count, and nothing that is not there."""

import hashlib
import json
from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from audited import Hiding, copied, findings_of, finished_shop, kinds_of, look_at, means_of
from made import make_asked, make_limits
from pictures import picture
from shops import Inline

from gemini_batch.audit.files import FilesTask, examine
from gemini_batch.audit.judge import judge_shard
from gemini_batch.audit.walk import Means, Walk, audit
from gemini_batch.errors import NotFound, Unavailable
from gemini_batch.finish import finish
from gemini_batch.ledger.run import RunFiles
from gemini_batch.records import ControlRecord


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return finished_shop(tmp_path_factory.mktemp("run"), make_asked, make_limits)


@pytest.fixture
def shop(original, tmp_path):
    return copied(original, tmp_path)


def rewrite(path, change):
    """A Parquet file with other rows, sound in itself."""
    table = pq.read_table(path)
    rows = change(table.to_pylist())
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- one shard's files ------------------------------------------------------------------------------------------------


@pytest.fixture
def task(shop, tmp_path):
    run, shard = tmp_path / "run", shop.last(0)
    (tmp_path / "scratch").mkdir()
    return FilesTask(
        plan=shop.plan[0], asked=shop.run.asked, nonce=shop.run.nonce, max_bytes=10**6,
        rows=run / "shards/000000.parquet", requests=run / shard.requests, raw=run / "raw/000000.jsonl.zst",
        part=run / "parts/000000.parquet", scratch=tmp_path / "scratch",
    )  # fmt: skip


def with_raw(task, *lines):
    with pa.CompressedOutputStream(str(task.raw), "zstd") as out:
        out.write(b"".join(line + b"\n" for line in lines))


def raw_lines(task):
    with pa.CompressedInputStream(str(task.raw), "zstd") as source:
        return source.read().splitlines()


def test_lines_are_counted_by_the_keys_that_were_sent(task):
    first = raw_lines(task)[0]
    other = first.replace(b"yes", b"no")
    foreign = first.replace(b'"key":"', b'"key":"x')
    with_raw(task, b"", first, first, other, foreign, b"{cut", b"[]", b'{"key":["a"]}', b"  ")
    lines = examine(task).lines
    assert (lines.received, lines.missing, lines.duplicate, lines.conflicting) == (7, 1, 2, 1)
    assert (lines.foreign, lines.broken) == (2, 2)


def test_an_ok_row_without_its_line_and_a_row_that_says_other_than_its_line_are_seen(task):
    second = raw_lines(task)[1]
    with_raw(task, second.replace(b"yes", b"no"))
    part = examine(task).part
    assert (part.without_line.count, part.without_line.first) == (1, 0)
    assert (part.unlike_line.count, part.unlike_line.first) == (2, 0), "a text without a line is one too"


@pytest.mark.parametrize(
    ("change", "spot"),
    [
        (lambda rows: rows[::-1], "misplaced"),
        (lambda rows: [rows[0] | {"key": "other"}, rows[1]], "misplaced"),
        (lambda rows: [rows[0], rows[1] | {"request_digest": "other"}], "unlike_request"),
        (lambda rows: [rows[0], rows[1] | {"request_digest": None}], "unlike_request"),
        (lambda rows: [rows[0], rows[1] | {"text": "other"}], "unlike_line"),
        (lambda rows: [rows[0], rows[1] | {"status": "blocked"}], "unlike_line"),
        (lambda rows: [*rows, rows[1] | {"index": 2}], "unlike_request"),
    ],
)
def test_a_part_with_another_row_is_seen_though_the_file_is_sound(change, spot, task):
    rewrite(task.part, change)
    assert getattr(examine(task).part, spot).count


def test_an_answer_that_the_schema_refused_is_not_unlike_its_line(task):
    rewrite(task.part, lambda rows: [rows[0] | {"status": "invalid"}, rows[1]])
    part = examine(task).part
    assert (part.unlike_line.count, part.by_status) == (0, {"invalid": 1, "ok": 1})


def test_rows_that_were_changed_do_not_give_the_bytes_that_were_sent(task):
    before = examine(task).requests
    rewrite(task.rows, lambda rows: [rows[0] | {"prompt": "other"}, rows[1]])
    after = examine(task).requests
    assert (before.unlike.count, after.unlike.count, after.unlike.first) == (0, 1, 0)
    assert before.remade.sha256 != after.remade.sha256


def test_damage_in_the_rows_is_not_taken_for_damage_in_the_requests(task):
    body = task.rows.read_bytes()
    task.rows.write_bytes(body.replace(b"p0", b"p1"))  # wherever it stands: statistics have no checksum
    files = examine(task)
    assert "damaged" not in str(files.requests)
    assert files.rows.why
    assert files.requests.remade is None


@pytest.mark.parametrize("part", ["path", "data"])
def test_requests_with_pictures_that_lie_elsewhere_are_not_made_again(part, task, tmp_path):
    """They may have moved, and an upload's name is known to nobody: that is said, and is no finding."""
    shown = {"path": str(tmp_path / "gone.png")} if part == "path" else {"data": picture(), "mime_type": "image/png"}
    rewrite(task.rows, lambda rows: [row | {"prompt": None, "parts": [{"text": "a"}, shown]} for row in rows])
    asked = task.asked.model_copy(update={"media": "upload"})
    requests = examine(replace(task, asked=asked)).requests
    assert (requests.remade, requests.unlike.count) == (None, 0)


@pytest.mark.parametrize("name", ["rows", "requests", "raw", "part"])
def test_any_cut_of_any_file_is_damage_or_shows(name, task):
    """Never an exception: the audit goes on to the next shard."""
    whole = examine(task)
    path = getattr(task, name)
    body = path.read_bytes()
    for size in range(0, len(body), max(1, len(body) // 12)):
        path.write_bytes(body[:size])
        assert examine(task) != whole, size


# --- the dataset ------------------------------------------------------------------------------------------------------


def test_a_dataset_that_was_rewritten_with_its_list_is_held_against_the_parts(shop, tmp_path):
    """Whoever changes an answer and its sha256 still has to change the part, the raw line and the ledger."""
    path = tmp_path / "run/dataset/part-000000.parquet"
    rewrite(path, lambda rows: [*rows[:4], rows[4] | {"text": "other"}, *rows[5:]])
    said = json.loads((tmp_path / "run/_SUCCESS").read_text())
    said["files"][0]["sha256"] = sha256(path)
    for name in ("_SUCCESS", "merged.json"):
        (tmp_path / "run" / name).write_text(json.dumps(said))
    (finding,) = findings_of(*look_at(shop))
    assert finding.kind == "dataset"
    assert "other rows than the parts (1, the first is row 4)" in finding.what


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda rows: [rows[1], rows[0], *rows[2:]], "in order (2, the first is row 0)"),
        (lambda rows: rows[:-1], "in order"),
        (lambda rows: [*rows, rows[-1] | {"index": 10}], "in order"),
    ],
)
def test_a_dataset_file_out_of_order_or_of_another_length_is_seen(change, says, shop, tmp_path):
    path, success = tmp_path / "run/dataset/part-000000.parquet", tmp_path / "run/_SUCCESS"
    rewrite(path, change)
    said = json.loads(success.read_text())
    said["files"][0]["sha256"] = sha256(path)
    success.write_text(json.dumps(said))
    found = findings_of(*look_at(shop))
    assert any(says in finding.what for finding in found), found


def test_a_list_of_files_may_not_lead_out_of_the_run(shop, tmp_path):
    (tmp_path / "elsewhere.parquet").write_bytes((tmp_path / "run/dataset/part-000000.parquet").read_bytes())
    success = tmp_path / "run/_SUCCESS"
    said = json.loads(success.read_text())
    for name in ("../elsewhere.parquet", str(tmp_path / "elsewhere.parquet")):
        said["files"][0]["name"] = name
        success.write_text(json.dumps(said))
        assert any("missing" in finding.what for finding in findings_of(*look_at(shop)))


# --- the run ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plan-0000.parquet", "control/000001.json", "_SUCCESS"])
def test_damage_to_what_the_run_stands_on_is_a_finding(name, shop, tmp_path):
    shop.files.controls().append(ControlRecord(version=1, nonce="c", at=shop.clock.now(), limits=shop.limits))
    path = tmp_path / "run" / name
    path.write_bytes(path.read_bytes()[:-5])
    found = audit(RunFiles(shop.files.store), means_of(shop))["findings"]
    assert [finding["kind"] for finding in found] == [{"p": "plan", "c": "control", "_": "dataset"}[name[0]]]


def test_no_flipped_byte_of_the_plan_ends_the_audit(shop, tmp_path):
    """Damage shows in many ways, some as an OSError: it is a finding, and not the store's trouble."""
    path = tmp_path / "run/plan-0000.parquet"
    body = path.read_bytes()
    for place in range(0, len(body), len(body) // 40):
        path.write_bytes(body[:place] + bytes([body[place] ^ 0x10]) + body[place + 1 :])
        facts = Walk(RunFiles(shop.files.store), means_of(shop)).see_run()
        assert facts.plan is not None


def test_another_question_under_the_same_plan_is_a_finding(shop, tmp_path):
    path = tmp_path / "run/run.json"
    said = json.loads(path.read_text())
    said["asked"]["model"] = "gemini-2.5-pro"
    path.write_text(json.dumps(said))
    found = audit(shop.files, means_of(shop))["findings"]
    assert {"plan", "requests"} == {finding["kind"] for finding in found}


def test_objects_that_nobody_planned_are_named(shop, tmp_path):
    for name in ("ledger/000099/000001.json", "raw/000099.jsonl.zst", "dataset/part-000099.parquet"):
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_bytes(b"x")
    found = findings_of(*look_at(shop))
    assert [finding.kind for finding in found] == ["stray_file"] * 3
    assert any("ledger/000099" in finding.what for finding in found)


def test_a_shard_that_moves_on_while_it_is_looked_at_is_looked_at_again(shop, tmp_path):
    """Its newest files must not be held against yesterday's record."""
    last = tmp_path / "run/ledger/000000/000007.json"
    body = last.read_bytes()
    last.unlink()

    class MovesOn(Inline):
        def run(self, function, task):
            found = function(task)
            last.write_bytes(body)
            return found

    walk = Walk(shop.files, Means(shop.remote, MovesOn(), shop.clock))
    facts = walk.see_run()
    (first, *_) = walk.see_shards(facts)
    assert len(first.history) == 7
    assert list(judge_shard(facts, first)) == []


def test_a_deleted_part_is_made_again_as_the_finding_says(shop, tmp_path):
    (tmp_path / "run/parts/000000.parquet").unlink()
    (finding,) = findings_of(*look_at(shop))
    assert (finding.kind, "_SUCCESS" in finding.fix) == ("part", True)
    (tmp_path / "run/_SUCCESS").unlink()
    finish(shop)
    assert findings_of(*look_at(shop)) == []


def test_raw_results_that_are_lost_are_fetched_again_as_the_finding_says(shop, tmp_path):
    for name in ("raw/000001.jsonl.zst", "parts/000001.parquet"):
        (tmp_path / "run" / name).unlink()
    assert kinds_of(*look_at(shop)) == ["part", "raw"]
    (tmp_path / "run/_SUCCESS").unlink()
    finish(shop)
    assert findings_of(*look_at(shop)) == []


# --- jobs -------------------------------------------------------------------------------------------------------------


def test_rows_that_the_settle_rule_bought_twice_are_counted_with_the_reason(tmp_path, asked, limits):
    """The list hid the first job for longer than --settle; then it appears."""
    shop = finished_shop(tmp_path, asked, limits, script=[Unavailable("cut")], kind=Hiding)
    assert kinds_of(*look_at(shop)) == []
    shop.remote.shown = True
    audited = audit(shop.files, means_of(shop))
    (finding,) = audited["findings"]
    assert (finding["kind"], "sent again" in finding["what"]) == ("unrecorded_job", True)
    assert (audited["totals"]["rows_bought_more_than_once"], len(shop.remote.jobs)) == (2, 6)
    (tmp_path / "run/_SUCCESS").unlink()
    shop.clock.passed += timedelta(minutes=1)
    finish(shop)
    audited = audit(shop.files, means_of(shop))
    (finding,) = audited["findings"]
    assert (finding["kind"], "sent again" in finding["what"]) == ("bought_twice", True), "recorded as the fix says"
    assert audited["totals"]["rows_bought_more_than_once"] == 2


def test_a_list_that_shows_a_job_twice_is_asked_for_again_and_in_the_end_not_believed(shop, monkeypatch):
    """Its pages shifted while they were read: what it lacks is not known."""
    whole, asked = shop.remote.list_jobs(), []
    shifted = replace(whole, whole=False, every=())

    def listed():
        asked.append(1)
        return whole if len(asked) == 3 else shifted

    monkeypatch.setattr(shop.remote, "list_jobs", listed)
    assert kinds_of(*look_at(shop)) == []
    monkeypatch.setattr(shop.remote, "list_jobs", lambda: shifted)
    assert kinds_of(*look_at(shop)) == ["jobs_unseen"]


def test_a_job_that_the_list_does_not_show_yet_is_asked_for_by_name(shop, tmp_path, monkeypatch):
    """Lists lag; only a job that a get does not find either is missing."""
    for version in (5, 6, 7):
        (tmp_path / f"run/ledger/000000/00000{version}.json").unlink()
    listing = shop.remote.list_jobs()
    without = replace(listing, names=listing.names - {"batches/1"}, every=listing.every[1:])
    monkeypatch.setattr(shop.remote, "list_jobs", lambda: without)
    assert not look_at(shop)[1][0].gone

    def gone(name):
        raise NotFound("404", 404)

    monkeypatch.setattr(shop.remote, "get_job", gone)
    assert look_at(shop)[1][0].gone
