"""A disk that really fills up in the middle of a run, and really has room again."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import COMMAND

# Runs in a mount namespace of its own: a small tmpfs that nobody else sees, gone with the last process.
DRIVER = """
import json, os, pathlib, shutil, subprocess, sys, threading, urllib.request

command, disk, kept = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=True)
run, ballast, words = disk / "run", disk / "ballast", kept / "words"
with words.open("wb") as stderr:
    submit = subprocess.Popen([command, "submit", "prompts.parquet", "--out", run, *sys.argv[4:]], stderr=stderr)

def until(happened):
    while not happened() and submit.poll() is None:
        threading.Event().wait(0.1)

def in_flight():
    done = subprocess.run([command, "status", run, "--json"], capture_output=True, text=True)
    return bool(done.stdout) and set(json.loads(done.stdout)["shards"]) == {"SUBMITTED"}

def fill():
    try:
        with ballast.open("ab", buffering=0) as out:
            while True:
                out.write(bytes(4096))
    except OSError:
        return

until(in_flight)
fill()
url = os.environ["GOOGLE_GEMINI_BASE_URL"] + "/admin/settings"
urllib.request.urlopen(urllib.request.Request(url, b'{"job_seconds": 0}'))  # only now do the jobs end
until(lambda: "No space left" in words.read_text())
ballast.unlink()
code = submit.wait()
shutil.copytree(run, kept / "run")
sys.exit(code)
"""


def test_a_run_rests_while_the_disk_is_full_and_goes_on_by_itself(
    cli: Any, emulator: Any, look: Any, folder: Path, tmp_path: Path
) -> None:
    """The worst moment: everything is bought, and the results find no room."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this kernel lets nobody mount a file system of his own")
    look.prompts(folder / "prompts.parquet", 400)
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    kept.mkdir()
    emulator.settings(job_seconds=600)
    options = ["--yes", "--max-requests-per-shard", "100", "--poll-interval", "0.2"]
    argv = ["unshare", "-rm", sys.executable, "-c", DRIVER, str(COMMAND), str(disk), str(kept), *options]
    done = cli.python_or_other(argv, None, None).ended()
    assert done.code == 0, (kept / "words").read_text()
    assert "No space left on device" in (kept / "words").read_text()
    assert [row["text"] for row in look.rows(kept / "run")] == [look.answer(f"Prompt number {i}") for i in range(400)]
    assert emulator.creates == 4 and not emulator.bought_twice()
    audited = cli("audit", kept / "run")
    assert audited.code == 0, audited.words
