"""Run directories and manifests in a bucket: the same promises as on a disk."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

QUICK = ("--yes", "--poll-interval", "1", "--settle", "2", "--max-requests-per-shard", "20")
CANARY = "CANARY-7f3a91"


@pytest.fixture
def root(cli: Any, s3: Any) -> str:
    """A runs root in a bucket of its own, which the command may use."""
    cli.env.update(s3.env)
    return f"s3://{s3.new_bucket()}/team/runs"


@pytest.fixture(autouse=True)
def scratch(cli: Any, tmp_path: Path) -> Path:
    """Where the command puts its local files."""
    made = tmp_path / "scratch"
    made.mkdir()
    cli.env["TMPDIR"] = str(made)
    return made


def prompts(look: Any, folder: Path, rows: int) -> Path:
    made: Path = look.jsonl(folder / "manifest.jsonl", [{"prompt": f"Prompt number {i}"} for i in range(rows)])
    return made


def answers(look: Any, rows: int) -> list[str]:
    return [look.answer(f"Prompt number {i}") for i in range(rows)]


def texts(look: Any, run: Path) -> list[str]:
    return [row["text"] for row in look.rows(run)]


def test_a_run_in_a_bucket_gives_the_dataset_and_is_found_by_id_url_and_age(
    cli: Any, emulator: Any, look: Any, folder: Path, s3: Any, root: str, scratch: Path
) -> None:
    manifest = prompts(look, folder, 50)
    done = cli("submit", manifest, *QUICK, "--runs", root, "--json")
    assert done.code == 0, done.err
    run = f"{root}/{done.json['run_id']}"
    assert (done.json["run"], done.json["dataset"]) == (run, f"{run}/dataset")
    assert texts(look, s3.mirror(run, folder / "copy")) == answers(look, 50)
    assert not list((folder / "copy").glob(".*")), "no probe is left"
    for name in ((run,), (done.json["run_id"], "--runs", root), ("--runs", root)):
        status = cli("status", *name, "--json")
        assert (status.code, status.json["state"], status.json["rows"]["ok"]) == (0, "finished", 50), status.err
    again = cli("submit", manifest, *QUICK, "--runs", root, "--json")
    assert (again.code, again.json["run"]) == (0, run)
    assert emulator.bought == 50
    assert not (folder / "runs").exists()
    assert list(scratch.glob("gemini-batch-*")) == []


def test_a_run_in_a_bucket_that_was_killed_is_finished_by_its_id(
    cli: Any, emulator: Any, look: Any, folder: Path, s3: Any, root: str
) -> None:
    emulator.settings(job_seconds=1)
    running = cli.start("submit", prompts(look, folder, 100), *QUICK, "--max-live-jobs", "2", "--runs", root, "--json")
    look.until(lambda: emulator.creates >= 2 or not running.running, "some of the jobs are created")
    assert running.kill(), running.said
    assert emulator.creates < 5, "killed too late to be of use"
    stopped = cli("status", "--runs", root, "--json").json
    assert (stopped["state"], stopped["problems"]) == ("running", []), "nobody can say that nobody works on it"
    done = cli("resume", stopped["run_id"], "--runs", root, "--json")
    assert done.code == 0, done.err
    assert emulator.bought_twice() == []
    assert emulator.bought == 100
    assert texts(look, s3.mirror(done.json["run"], folder / "copy")) == answers(look, 100)


def test_two_submits_that_would_split_differently_share_one_run_in_a_bucket(
    cli: Any, emulator: Any, look: Any, folder: Path, s3: Any, root: str
) -> None:
    """There are no locks, so both plan, and both drive."""
    manifest, run = prompts(look, folder, 200), f"{root}/one"
    emulator.settings(job_seconds=0.3)
    both = [cli.start("submit", manifest, *QUICK[:-1], size, "--out", run, "--json") for size in ("50", "30")]
    ended = [one.ended(60) for one in both]
    assert [one.code for one in ended] == [0, 0], [one.err for one in ended]
    assert emulator.bought_twice() == []
    assert emulator.bought == 200
    assert texts(look, s3.mirror(run, folder / "copy")) == answers(look, 200)


def test_a_submit_killed_while_it_planned_into_a_bucket_is_finished_by_the_same_submit(
    cli: Any, emulator: Any, look: Any, folder: Path, s3: Any, root: str
) -> None:
    """Its plan holds, whatever limits the next one has; another question needs another directory."""
    manifest, run = prompts(look, folder, 2_000), f"{root}/one"
    first = cli.start("submit", manifest, "--yes", "--max-requests-per-shard", "50", "--out", run)
    look.until(lambda: s3.names(f"{run}/shards") or not first.running, "the first rows are frozen")
    first.kill()
    assert "run.json" not in s3.names(run), "killed too late to be of use"
    refused(cli("resume", run), emulator, run)
    small = look.prompts(folder / "small.parquet", 5)
    refused(cli("submit", small, "--out", run), emulator, run, "plan of another submit")
    more = ("--yes", "--max-requests-per-shard", "5000", "--poll-interval", "1", "--out", run, "--json")
    done = cli("submit", manifest, *more)
    assert done.code == 0, done.err
    assert done.json["shards"] == {"COLLECTED": 40}
    assert emulator.bought == 2_000


# --- refusals ---------------------------------------------------------------------------------------------------------


def refused(done: Any, emulator: Any, *words: str) -> None:
    assert "Traceback" not in done.words, done.words
    assert done.code == 2, done.words
    assert done.err.count("error:") == 1, done.err
    for word in words:
        assert word in done.err, done.err
    assert emulator.untouched()


def test_a_bucket_that_is_not_there_is_refused(cli: Any, emulator: Any, look: Any, folder: Path, root: str) -> None:
    manifest = prompts(look, folder, 3)
    for place in (("--runs", "s3://no-such-bucket/runs"), ("--out", "s3://no-such-bucket/one")):
        refused(cli("submit", manifest, *place), emulator, "s3://no-such-bucket/", "NoSuchBucket", "--runs")
    refused(cli("status", "--runs", "s3://no-such-bucket"), emulator, "s3://no-such-bucket", "NoSuchBucket")
    refused(cli("resume", "abc", "--runs", root), emulator, "abc", root)
    refused(cli("status", f"{root}/abc"), emulator, f"{root}/abc")


def test_a_server_that_ignores_the_condition_of_a_put_is_refused(
    cli: Any, emulator: Any, look: Any, folder: Path, s3: Any, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers would each create the job of one shard."""
    monkeypatch.setattr(s3, "conditional", False)
    done = cli("submit", prompts(look, folder, 3), "--runs", root)
    refused(done, emulator, root, "two writers", "--out")
    assert not list(s3.mirror(root, folder / "copy").glob("*")), "nothing is written"


@pytest.mark.parametrize("option", ["--runs", "--out"])
@pytest.mark.parametrize("place", [f"s3://key:{CANARY}@bucket/x", f"https://u:{CANARY}@host/x", "ftp://host/x"])
def test_a_url_of_another_kind_or_with_a_password_is_refused_and_not_shown(
    option: str, place: str, cli: Any, emulator: Any, look: Any, folder: Path
) -> None:
    done = cli("submit", prompts(look, folder, 3), option, place)
    refused(done, emulator)
    assert CANARY not in done.words


def test_something_elses_folder_in_a_bucket_is_refused(
    cli: Any, emulator: Any, look: Any, folder: Path, s3: Any, root: str
) -> None:
    s3.put(f"{root}/one/thesis.tex", b"x")
    refused(cli("submit", prompts(look, folder, 3), "--out", f"{root}/one"), emulator, "thesis.tex")


def test_the_credentials_of_the_store_are_nowhere(
    cli: Any, emulator: Any, look: Any, folder: Path, s3: Any, root: str
) -> None:
    keys = {"AWS_SECRET_ACCESS_KEY": CANARY, "AWS_SESSION_TOKEN": CANARY}
    said = [
        cli("submit", prompts(look, folder, 3), *QUICK, "--runs", root, "--json", env=keys),
        cli("status", "--runs", root, env=keys),
        cli("submit", "manifest.jsonl", "--runs", "s3://no-such-bucket/runs", env=keys),
    ]
    assert [done.code for done in said] == [0, 0, 2], [done.err for done in said]
    s3.mirror(root, folder / "copy")
    held = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert len(held) > 5_000
    assert CANARY.encode() not in held
    assert not any(CANARY in done.words for done in said)


# --- manifests in a bucket --------------------------------------------------------------------------------------------


def in_parquet(rows: dict[str, Any]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(rows), sink)
    return bytes(sink.getvalue())


def test_a_manifest_in_a_bucket_is_read_once_and_leaves_no_copy(
    cli: Any, emulator: Any, look: Any, folder: Path, s3: Any, root: str, scratch: Path
) -> None:
    body = in_parquet({"prompt": [f"Prompt number {i}" for i in range(30)]})
    manifest = s3.put(f"{root}/in/m.parquet", body)
    planned = cli("plan", manifest, "--json")
    assert (planned.code, planned.json["rows"]) == (0, 30), planned.err
    done = cli("submit", manifest, *QUICK, "--out", "here", "--json")
    assert done.code == 0, done.err
    assert texts(look, folder / "here") == answers(look, 30)
    assert look.json(folder / "here" / "run.json")["manifest"] == manifest
    assert list(scratch.glob("gemini-batch-*")) == []


def test_a_directory_or_glob_in_a_bucket_is_its_files_in_the_order_of_their_names(
    cli: Any, emulator: Any, look: Any, folder: Path, s3: Any, root: str, scratch: Path
) -> None:
    """The last folder has the name of its parent: what is cut off a name is cut off once."""
    for name in ("in/b/1.parquet", "in/b-2.parquet", "in/in/0.parquet", "in/_tmp/9.parquet", "in/.x.parquet"):
        s3.put(f"{root}/{name}", in_parquet({"prompt": [name]}))
    s3.put(f"{root}/in/_SUCCESS", b"")
    done = cli("submit", f"{root}/in", *QUICK, "--out", "here", "--json")
    assert done.code == 0, done.err
    expected = ["in/b-2.parquet", "in/b/1.parquet", "in/in/0.parquet"]
    assert texts(look, folder / "here") == [look.answer(name) for name in expected]
    for place, rows in ((f"{root}/in/", 3), (f"{root}/in/*.parquet", 1), (f"{root}/in/**/*.parquet", 3)):
        planned = cli("plan", place, "--json")
        assert (planned.code, planned.json["rows"]) == (0, rows), planned.err
    none = cli("plan", f"{root}/in/*.csv")
    assert none.code == 2
    assert f"{root}/in/*.csv" in none.err
    assert list(scratch.glob("gemini-batch-*")) == []


def test_a_picture_that_is_not_beside_its_manifest_in_a_bucket_fails_its_row_alone(
    cli: Any, emulator: Any, look: Any, folder: Path, s3: Any, root: str
) -> None:
    rows = [[{"text": "a"}], [{"text": "b"}, {"path": "../p.png"}], [{"path": "/etc/hostname"}]]
    body = "".join(json.dumps({"parts": parts}) + "\n" for parts in rows).encode()
    done = cli("submit", s3.put(f"{root}/m.jsonl", body), *QUICK, "--out", "here", "--json")
    assert done.code == 3, done.err
    made = look.rows(folder / "here")
    assert [row["status"] for row in made] == ["ok", "failed", "failed"]
    assert {row["error"]["kind"] for row in made[1:]} == {"media_unreadable"}
    assert all("manifest at a URL" in row["error"]["message"] for row in made[1:])
    assert emulator.bought == 1


@pytest.mark.parametrize(
    ("key", "body", "says"),
    [
        ("gone.parquet", None, "does not exist"),
        ("broken.parquet", b"PAR1 not", "Parquet"),
        ("bad.jsonl", b'{"prompt": "a"}\n{nonsense\n', "line 2"),
    ],
)
def test_a_manifest_in_a_bucket_that_cannot_be_read_is_named_by_its_url(
    key: str, body: bytes | None, says: str, cli: Any, emulator: Any, s3: Any, root: str, scratch: Path
) -> None:
    url = f"{root}/{key}" if body is None else s3.put(f"{root}/{key}", body)
    refused(cli("submit", url), emulator, url, says)
    refused(cli("submit", "s3://only-a-bucket"), emulator, "bucket")
    assert list(scratch.glob("gemini-batch-*")) == []


# --- pictures in a bucket ---------------------------------------------------------------------------------------------


def test_pictures_that_rows_name_by_uri_are_fetched_and_those_that_are_not_there_fail_alone(
    cli: Any, emulator: Any, look: Any, folder: Path, s3: Any, root: str, scratch: Path
) -> None:
    png = BytesIO()
    Image.new("RGB", (8, 8), "red").save(png, "PNG")
    there = s3.put(f"{root}/p/a.png", png.getvalue())
    uris = [there, there, f"{root}/p/gone.png", "s3://no-such-bucket/p.png", "http://localhost:9/p.png", None]
    look.jsonl(folder / "m.jsonl", [{"prompt": f"What {n}?", "i": uri} for n, uri in enumerate(uris)])
    done = cli("submit", "m.jsonl", "--image-column", "i", *QUICK, "--out", "here", "--json")
    assert done.code == 3, done.err
    rows = look.rows(folder / "here")
    assert [row["status"] for row in rows] == ["ok", "ok", *["failed"] * 4]
    said = [row["error"]["message"] for row in rows[2:]]
    wanted = ("gone.png' does not exist", "no-such-bucket", "--allow-http", "part 1 has neither")
    assert [words in text for words, text in zip(wanted, said, strict=True)] == [True] * 4, said
    assert emulator.bought == 2
    again = cli("retry", "here", "--allow-http", "--poll-interval", "1", "--json")
    assert again.code == 3, again.err
    assert "did not come in 3 tries" in look.rows(folder / "here")[4]["error"]["message"]
    assert cli("audit", "here").code == 0
    assert list(scratch.glob("gemini-batch-*")) == []
