"""`make bench` in short: sections run and write their part of the page. What they measure is nobody's business here: a
shared machine would make a liar of any limit."""

from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ROWS = 100_000


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    (folder / "performance.md").write_text((ROOT / "docs" / "performance.md").read_text())
    return folder


def bench(cli: Any, folder: Path, section: str, rows: int) -> str:
    """The section of the page, measured once; all else on the page stays."""
    page, marks = folder / "performance.md", (f"<!-- bench:{section} -->", f"<!-- /bench:{section} -->")
    before = page.read_text()
    options = ["--only", section, "--rows", str(rows), "--repeat", "1", "--page", str(page)]
    done = cli.python(ROOT / "benchmarks" / "run.py", *options, "--figures", folder / "figures").ended(500)
    assert done.code == 0, done.words
    head, _, rest = page.read_text().partition(marks[0])
    written, _, tail = rest.partition(marks[1])
    assert (head, tail) == (before.partition(marks[0])[0], before.partition(marks[1])[2])
    return written


def test_the_stages_are_measured_and_drawn(bare_cli: Any, place: Path) -> None:
    written = bench(bare_cli, place, "stages", ROWS)
    names = [line.split("|")[1].strip() for line in written.splitlines() if line.startswith("| ")][2:]
    assert names == [
        "plan",
        "encode",
        "parse",
        "merge",
        "bare loop",
        "parse, lines of full length",
        "vote and write, three samples",
    ]
    assert "<svg" in (place / "performance.svg").read_text()


def test_whole_runs_are_measured_alone_and_by_two_workers(bare_cli: Any, place: Path) -> None:
    written = bench(bare_cli, place, "e2e", ROWS)
    assert "| one process and its pool |" in written
    assert "| two workers: celery process |" in written
