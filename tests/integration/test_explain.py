"""`explain RUN INDEX` tells what really happened to a row: real SDK, real HTTP."""

import base64
from pathlib import Path
from typing import Any

import pytest

QUICK = ("--poll-interval", "0.2", "--settle", "1", "--out", "run", "--json")


@pytest.fixture
def explain(cli: Any) -> Any:
    return lambda index: cli("explain", "run", str(index), "--json").json


def submit(cli: Any, manifest: Path, *more: str) -> Any:
    done = cli("submit", manifest, "--max-requests-per-shard", "4", *QUICK, *more, timeout=60)
    assert done.code in (0, 3), done.err
    return done


def test_a_row_that_was_bought_twice_shows_both_jobs_and_both_answers(
    cli: Any, emulator: Any, look: Any, folder: Path, explain: Any
) -> None:
    emulator.fault("result_line_error", row=1, times=1)
    submit(cli, look.prompts(folder / "manifest.parquet", 8))
    (again,) = [row["index"] for row in look.rows(folder / "run") if row["attempts"] == 2]
    found = explain(again)
    first, second = found["rounds"]
    assert [one["round"] for one in (first, second)] == [0, 1]
    assert first["jobs"][0]["name"] != second["jobs"][0]["name"]
    assert first["samples"][0]["read_as"][0]["kind"] == "transient"
    assert second["samples"][0]["read_as"] == [{**second["samples"][0]["read_as"][0], "status": "ok"}]
    assert first["samples"][0]["sent"] == second["samples"][0]["sent"]
    assert f"Prompt number {again}" in first["samples"][0]["sent"]
    assert look.answer(f"Prompt number {again}") in second["samples"][0]["received"][0]
    assert (found["row"]["status"], found["row"]["round"]) == ("ok", 1)
    told = cli("explain", "run", str(again)).out
    assert "round 1, shard 2: COLLECTED" in told
    assert "in the dataset: ok, of round 1, bought 2 times" in told


def test_the_samples_of_a_row_and_their_vote_are_told(
    cli: Any, emulator: Any, look: Any, folder: Path, explain: Any
) -> None:
    submit(cli, look.prompts(folder / "manifest.parquet", 2), "--n-samples", "3")
    found = explain(1)
    samples = found["rounds"][0]["samples"]
    assert [sample["sample"] for sample in samples] == [0, 1, 2]
    assert len({sample["line_key"] for sample in samples}) == 3
    assert "3 of 3 samples voted (ok, ok, ok)" in cli("explain", "run", "1").out


def test_a_row_that_was_never_sent_says_why(cli: Any, look: Any, folder: Path, explain: Any) -> None:
    manifest = look.jsonl(folder / "manifest.jsonl", [{"prompt": "Prompt number 0"}, {"prompt": ""}])
    submit(cli, manifest)
    found = explain(1)
    assert found["rounds"][0]["not_sent"] == "the row has no prompt"
    assert found["rounds"][0]["samples"][0]["sent"] is None
    assert "bad_row" in cli("explain", "run", "1").out


def test_a_row_whose_picture_was_uploaded_says_that_its_line_is_not_known(
    cli: Any, look: Any, folder: Path, explain: Any
) -> None:
    picture = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
    )
    (folder / "a.png").write_bytes(picture)
    manifest = look.jsonl(folder / "manifest.jsonl", [{"parts": [{"text": "What is it?"}, {"path": "a.png"}]}])
    submit(cli, manifest, "--media", "upload")
    assert "pictures were uploaded" in explain(0)["rounds"][0]["not_shown"]


def test_a_run_that_is_under_way_is_explained_as_far_as_it_is(
    cli: Any, emulator: Any, look: Any, folder: Path, explain: Any
) -> None:
    emulator.fault("create_403")
    done = cli("submit", look.prompts(folder / "manifest.parquet", 2), *QUICK, timeout=60)
    assert done.code == 1
    found = explain(0)
    assert found["row"] is None
    assert found["rounds"][0]["samples"][0]["received"] == []


@pytest.mark.parametrize(("index", "named"), [("8", "rows 0 to 7"), ("-1", ""), ("x", "")])
def test_a_row_that_is_not_there_is_refused(index: str, named: str, cli: Any, look: Any, folder: Path) -> None:
    submit(cli, look.prompts(folder / "manifest.parquet", 8))
    done = cli("explain", "run", "--", index)
    assert done.code == 2
    assert named in done.err
    assert "Traceback" not in done.err
