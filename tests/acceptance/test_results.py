"""`results`: the rows of a run as a file that other programs take."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

ROWS = 12
QUICK = ("--yes", "--poll-interval", "1", "--settle", "2", "--max-attempts", 1)
HOURS = 3600.0


@pytest.fixture
def results(cli: Any) -> Callable[..., Any]:
    return lambda *words: cli("results", "run", *words)


@pytest.fixture
def submit(cli: Any, emulator: Any, look: Any, folder: Path) -> Callable[..., Any]:
    manifest = look.prompts(folder / "m.parquet", ROWS)
    return lambda *more: cli("submit", manifest, *QUICK, "--max-requests-per-shard", 4, "--out", "run", *more)


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_rows_come_as_parquet_csv_and_json_lines(
    submit: Any, results: Any, emulator: Any, look: Any, folder: Path
) -> None:
    emulator.fault("result_line_error")
    assert submit().code == 3
    dataset = look.dataset(folder / "run")
    for name in ("r.parquet", "r.csv", "r.jsonl"):
        done = results("--to", name)
        assert (done.code, done.out) == (0, ""), done.err
        assert f"{ROWS} rows" in done.err
    assert pq.read_table(folder / "r.parquet").equals(dataset)
    assert _lines((folder / "r.jsonl").read_text()) == dataset.to_pylist()
    assert results().out == (folder / "r.jsonl").read_text()
    with (folder / "r.csv").open() as read:
        rows = list(csv.DictReader(read))
    assert [row["text"] or None for row in rows] == dataset["text"].to_pylist()
    errors = [json.loads(row["error"])["kind"] if row["error"] else None for row in rows]
    assert errors == [error and error["kind"] for error in dataset["error"].to_pylist()]


def test_rows_are_chosen_by_status_and_stand_beside_what_they_asked(
    submit: Any, results: Any, emulator: Any, cli: Any, look: Any, folder: Path
) -> None:
    emulator.fault("result_line_error", row=1)
    assert submit().code == 3
    (failed,) = _lines(results("--status", "failed", "--with-input").out)
    assert failed["prompt"] == f"Prompt number {failed['index']}"
    look.parquet(folder / "fixed.parquet", {"index": [failed["index"]], "prompt": ["Say it otherwise"]})
    assert cli("retry", "run", "--replace", "fixed.parquet").code == 0
    rows = _lines(results("--with-input").out)
    asked = ["Say it otherwise" if i == failed["index"] else f"Prompt number {i}" for i in range(ROWS)]
    assert [row["prompt"] for row in rows] == asked
    assert [row["text"] for row in rows] == [look.answer(prompt) for prompt in asked]
    assert results("--status", "failed", "--to", "none.parquet").code == 0
    assert pq.read_table(folder / "none.parquet").num_rows == 0


def test_an_unfinished_run_shows_what_it_has_only_when_asked_to(
    results: Any, emulator: Any, cli: Any, look: Any, folder: Path
) -> None:
    emulator.settings(job_seconds=4 * HOURS)
    manifest = look.prompts(folder / "m.parquet", ROWS)
    running = cli.start("submit", manifest, *QUICK, "--max-requests-per-shard", 4, "--max-live-jobs", 1, "--out", "run")
    look.until(lambda: emulator.creates == 1, "the first job is created")
    emulator.advance(5 * HOURS)
    parts = folder / "run" / "parts"
    look.until(lambda: list(parts.glob("*.parquet")), "its part is there, of whichever shard was sent first")
    look.until(lambda: emulator.creates == 2, "the second job is created")
    running.kill()
    refused = results("--to", "r.parquet")
    assert (refused.code, (folder / "r.parquet").exists()) == (2, False)
    rows = _lines(results("--partial", "--with-input").out)
    (first,) = (int(part.stem) for part in parts.glob("*.parquet"))
    assert [row["status"] for row in rows] == ["ok" if i // 4 == first else "pending" for i in range(ROWS)]
    assert [row["prompt"] for row in rows] == [f"Prompt number {i}" for i in range(ROWS)]
    assert len(_lines(results("--partial", "--status", "pending").out)) == ROWS - 4
    assert results("--partial", "--to", "r.csv").code == 0


@pytest.mark.parametrize("words", [("--to", "r.xlsx"), ("--to", "s3://bucket/r.csv"), ("--status", "fine")])
def test_what_cannot_be_written_is_refused(words: Any, submit: Any, results: Any) -> None:
    assert submit().code == 0
    done = results(*words)
    assert (done.code, done.out) == (2, "")
    assert words[1] in done.err
