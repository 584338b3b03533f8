"""The oldest supported SDK passes what the newest one passes: the same tests, run again with it first in the path."""

import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
OLDEST = Path(sys.prefix) / "genai2"
THOSE_THAT_DRIVE_IT = (
    "test_client_calls.py",
    "test_emulator_faults_of_files.py",
    "test_emulator_faults_of_jobs.py",
    "test_emulator_faults_of_lines.py",
    "test_emulator_faults_of_lists.py",
    "test_emulator_faults_of_odd_lines.py",
    "test_emulator_refusals.py",
    "test_emulator_sdk_fields.py",
    "test_emulator_streaming.py",
    "test_emulator_wire.py",
    "test_sends_once.py",
)
# Its asynchronous half, which nothing of ours uses, makes every call once; the faults are met by the other half.
OF_EACH = ("-p", "no:cacheprovider", "-k", "test_emulator_wire or test_sends_once or not async")


def test_the_oldest_supported_sdk_passes_the_same_tests(bare_cli):
    assert (OLDEST / "google" / "genai").is_dir(), f"{OLDEST} is missing: `make test` creates it"
    (oldest,) = re.findall(r'"google-genai>=([0-9.]+),', (ROOT / "pyproject.toml").read_text())
    files = [Path(__file__).with_name(name) for name in THOSE_THAT_DRIVE_IT]
    path = os.pathsep.join([str(OLDEST), *filter(None, [os.environ.get("PYTHONPATH")])])
    again = bare_cli.python("-P", "-m", "pytest", *OF_EACH, *files, env={"PYTHONPATH": path}, cwd=ROOT)
    done = again.ended(300)
    assert done.code == 0, done.words
    assert f"\ngoogle-genai: {oldest}." in done.out
