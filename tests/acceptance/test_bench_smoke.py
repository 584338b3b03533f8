"""`make bench` in short: sections run and write their part of the page. What they measure is nobody's business here: a
shared machine would make a liar of any limit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = 20_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    (folder / "performance.md").write_text((ROOT / "docs" / "performance.md").read_text())
    return folder


def bench(folder: Path, section: str, rows: int) -> str:
    """The section of the page, measured once; all else on the page stays."""
    page, marks = folder / "performance.md", (f"<!-- bench:{section} -->", f"<!-- /bench:{section} -->")
    before = page.read_text()
    options = ["--only", section, "--rows", str(rows), "--repeat", "1", "--page", str(page)]
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), *options, "--figures", str(folder / "figures")]
    beside = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}  # modules lie beside it
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=beside)
    assert done.returncode == 0, done.stderr
    head, _, rest = page.read_text().partition(marks[0])
    written, _, tail = rest.partition(marks[1])
    assert (head, tail) == (before.partition(marks[0])[0], before.partition(marks[1])[2])
    return written


def test_the_stages_are_measured_and_drawn(folder: Path) -> None:
    written = bench(folder, "stages", ROWS)
    names = [line.split("|")[1].strip() for line in written.splitlines() if line.startswith("| ")][2:]
    assert names == ["plan", "encode", "parse", "merge", "bare loop", "vote and write, three samples"]
    assert "<svg" in (folder / "performance.svg").read_text()


def test_whole_runs_are_measured_alone_and_by_two_workers(folder: Path) -> None:
    written = bench(folder, "e2e", ROWS // 4)
    assert "| one process and its pool |" in written
    assert "| two workers: celery process |" in written
