"""What failed is bought again, and only that: real SDK, real HTTP."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

QUICK = ("--poll-interval", "0.2", "--settle", "1", "--out", "run", "--json")


@pytest.fixture
def manifest(look: Any, folder: Path) -> Path:
    return look.prompts(folder / "manifest.parquet", 12)


@pytest.fixture
def submit(cli: Any, manifest: Path) -> Any:
    """Submit twelve prompts in three shards."""
    return lambda *more: cli("submit", manifest, "--max-requests-per-shard", "4", *QUICK, *more, timeout=60)


def _texts(look: Any, rows: int = 12) -> list[str]:
    return [look.answer(f"Prompt number {i}") for i in range(rows)]


def _audit(cli: Any) -> dict[str, Any]:
    return cli("audit", "run", "--json").json


def test_a_line_that_failed_in_each_shard_is_bought_again_in_one_job(
    submit: Any, emulator: Any, look: Any, folder: Path, cli: Any
) -> None:
    emulator.fault("result_line_error", row=1, times=3)
    done = submit()
    assert done.code == 0, done.err
    found = look.rows(folder / "run")
    assert [row["text"] for row in found] == _texts(look)
    again = [row["index"] for row in found if row["attempts"] == 2]
    assert again == [1, 5, 9]
    assert [row["round"] for row in found if row["index"] in again] == [1, 1, 1]
    assert emulator.stats()["creates"] == 4
    assert emulator.stats()["requests"]["bought_total"] == 15
    assert done.json["rows"] == {"total": 12, "ok": 12, "failed": 0, "pending": 0}
    assert _audit(cli)["findings"] == []


def test_rows_that_fail_again_and_again_are_given_up_after_max_attempts(
    submit: Any, emulator: Any, look: Any, folder: Path, cli: Any
) -> None:
    emulator.fault("result_line_error", times="always")
    done = submit("--max-attempts", "2")
    assert done.code == 3, done.err
    found = look.rows(folder / "run")
    assert {(row["status"], row["error"]["kind"], row["attempts"]) for row in found} == {("failed", "transient", 2)}
    assert emulator.stats()["requests"]["bought_total"] == 24
    assert _audit(cli)["findings"] == []


@pytest.mark.parametrize("fault", ["job_failed", "job_expired"])
def test_the_rows_of_a_lost_job_are_bought_again_in_smaller_ones(
    fault: str, submit: Any, emulator: Any, look: Any, folder: Path, cli: Any
) -> None:
    emulator.fault(fault, after=1)
    done = submit()
    assert done.code == 0, done.err
    assert [row["text"] for row in look.rows(folder / "run")] == _texts(look)
    assert emulator.stats()["creates"] == 5
    assert _audit(cli)["findings"] == []


def test_retry_buys_what_is_not_ok_and_rewrites_only_what_changed(
    submit: Any, emulator: Any, look: Any, folder: Path, cli: Any
) -> None:
    emulator.fault("result_line_blocked", row=2, times=1)
    assert submit().code == 3
    before = look.rows(folder / "run")
    (blocked,) = [row["index"] for row in before if row["status"] == "blocked"]
    done = cli("retry", "run", "--json", "--poll-interval", "0.2", timeout=60)
    assert done.code == 0, done.err
    found = look.rows(folder / "run")
    assert [row["text"] for row in found] == _texts(look)
    assert [row for row in found if row["index"] != blocked] == [row for row in before if row["index"] != blocked]
    assert found[blocked]["attempts"] == 2
    assert emulator.stats()["requests"]["bought_total"] == 13
    assert _audit(cli)["findings"] == []


def test_retry_replaces_the_content_of_rows(submit: Any, emulator: Any, look: Any, folder: Path, cli: Any) -> None:
    assert submit().code == 0
    pq.write_table(pa.table({"index": [7], "prompt": ["Prompt number 700"]}), folder / "fixed.parquet")
    done = cli("retry", "run", "--replace", "fixed.parquet", "--json", "--poll-interval", "0.2", timeout=60)
    assert done.code == 0, done.err
    found = look.rows(folder / "run")
    assert found[7]["text"] == look.answer("Prompt number 700")
    assert [row["text"] for row in found if row["index"] != 7] == [t for i, t in enumerate(_texts(look)) if i != 7]
    assert _audit(cli)["findings"] == []


def test_samples_that_failed_and_shards_that_were_refused_are_accounted_for(
    submit: Any, emulator: Any, look: Any, folder: Path, cli: Any
) -> None:
    """Three samples a row; a create refused for a line that it names, another for one that it does not; then a row
    that is ok once more."""
    emulator.fault("result_line_error", row=1, times=2)
    emulator.fault("create_line_refused", key="*-0-0-*")
    emulator.fault("create_line_refused_unnamed", key="*-9-0-*")
    done = submit("--n-samples", "3", "--max-requests-per-shard", "12", "--max-live-jobs", "1")
    if done.code == 1 and "first job" in done.json["reason"]:  # any shard may be the first that is sent
        done = cli("resume", "run", "--json", "--poll-interval", "0.2", timeout=60)
    assert done.code == 3, done.err
    found = look.rows(folder / "run")
    assert [row["index"] for row in found if row["status"] != "ok"] == [0, 9]
    assert _audit(cli)["findings"] == []
    (folder / "keys").write_text("3\n")
    again = cli("retry", "run", "--keys", "keys", "--json", "--poll-interval", "0.2", timeout=60)
    assert again.code == 3, again.err
    audit = _audit(cli)
    assert (audit["findings"], audit["finished"]) == ([], True)
    assert audit["totals"]["bought_again"] == {"transient": 2, "ok": 1}
