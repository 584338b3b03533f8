"""The benchmarks still run; what they measure is nobody's business here."""

import subprocess
import sys
from pathlib import Path


def test_the_stages_are_measured_and_their_shares_sum_up():
    """A script that only people run rots unseen."""
    script = Path(__file__).parents[2] / "benchmarks" / "stages.py"
    done = subprocess.run(
        [sys.executable, str(script), "--rows", "3000", "--repeat", "1"], capture_output=True, text=True, check=True
    )
    rows = [line.split("|")[1:4] for line in done.stdout.splitlines()[2:]]
    assert [stage.strip() for stage, _, _ in rows] == ["plan", "encode", "parse", "merge"]
    assert 95 <= sum(int(share.strip(" %")) for _, _, share in rows) <= 105
