"""The benchmarks still run; what they measure is nobody's business here."""

from pathlib import Path

import pytest


@pytest.fixture
def measured(bare_cli):
    """The rows of the table that a script prints."""

    def run(script, *arguments):
        done = bare_cli.python(Path(__file__).parents[2] / "benchmarks" / script, *arguments).ended()
        assert done.code == 0, done.words
        return [line.split("|")[1:-1] for line in done.out.splitlines()[2:]]

    return run


def test_a_sweep_is_measured(measured):
    """A script that only people run rots unseen."""
    ((shards, *figures),) = measured("sweep.py", "--shards", "20", "--repeat", "1")
    assert (shards.strip(), len(figures)) == ("20 shards, local disk", 4)


def test_a_vote_is_measured(measured):
    """A script that only people run rots unseen."""
    names = [row[0].strip() for row in measured("vote.py", "--rows", "300", "--repeat", "1") if row]
    assert names == ["vote", "read the samples' JSON"]


def test_parsing_the_results_of_one_job_is_measured(measured):
    """A script that only people run rots unseen."""
    names = [row[0].strip() for row in measured("parse.py", "--lines", "300", "--repeat", "1") if row]
    assert names == ["bare loop", "parse_batch_results", "iter_batch_results"]


def test_the_start_of_the_emulator_is_measured(measured):
    """A script that only people run rots unseen."""
    assert [row[0].strip() for row in measured("emulator_start.py", "--repeat", "1")] == ["start", "stop"]


def test_starts_are_measured(measured):
    """A script that only people run rots unseen."""
    rows = measured("start.py", "--repeat", "1")
    assert rows[0][3].strip() == "1.0"
    assert any("--help" in row[0] for row in rows)


def test_simulated_fleets_are_measured(measured):
    """A script that only people run rots unseen."""
    rows = measured("simulate.py", "--shards", "20", "--runs", "1,2", "--seeds", "1", "--even")
    assert [[cell.strip() for cell in row[:4]] for row in rows] == [
        [runs, "20", "1 h each", limits] for runs in "12" for limits in ("known", "learnt")
    ]
