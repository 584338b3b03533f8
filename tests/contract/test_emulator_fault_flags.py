"""Faults and chaos as a user gives them: by flag, by TOML file, to an emulator in a thread."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from google import genai
from google.genai import errors
from sdk_calls import BROKEN_OFF, MODEL, Client, TransportError, name_of
from six_prompts import keys_of, lines_of, submit_all, upload_all

from gemini_batch.emulator.local import LocalEmulator


def outcome(call: Callable[[], Any]) -> Any:
    """What came back, or the code or the class of what was raised."""
    try:
        return call()
    except errors.APIError as error:
        return error.code
    except (TransportError, ValueError) as error:
        return name_of(error)


def client_of(url: str) -> genai.Client:
    return genai.Client(api_key="k", http_options={"base_url": url})


# the command


@pytest.fixture
def start():
    """Starts the command as a user would."""
    started = []

    def start(*flags: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "gemini_batch", "emulator", "--port", "0", *map(str, flags)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


OF_A_FILE = """
seed = 7

[[faults]]
name = "list_503"
times = 2

[[faults]]
name = "result_line_missing"
key = "r3"
job = "j*"
times = "always"
"""


def test_faults_of_a_file_and_of_flags_are_there_from_the_start_and_again_after_a_reset(start, tmp_path):
    (tmp_path / "emulator.toml").write_text(OF_A_FILE)
    flags = ["--fault", "list_429,after=1", "--fault", "get_hang,seconds=0.05"]
    process = start("--config", tmp_path / "emulator.toml", *flags)
    url = json.loads(process.stdout.readline())["url"]
    with client_of(url) as client, httpx2.Client(base_url=url, trust_env=False) as http:
        for _ in range(2):
            assert [outcome(lambda: len(list(client.batches.list()))) for _ in range(4)] == [503, 503, 429, 0]
            job = submit_all(client)
            http.post("/admin/clock", json={"advance_seconds": 1})
            assert outcome(lambda job=job: client.batches.get(name=job.name)) == BROKEN_OFF
            found = lines_of(client, client.batches.get(name=job.name))
            assert keys_of(found) == ["r0", "r1", "r2", "r4", "r5"]
            http.post("/admin/reset")
    process.terminate()
    assert (process.wait(10), process.stderr.read()) == (0, ""), "faults are no errors of the emulator"


def test_what_a_job_is_to_suffer_outlives_a_restart(start, tmp_path):
    def served(*flags: object) -> tuple[str, Any]:
        process = start("--state", tmp_path / "state", "--queue-seconds", 1000, *flags)
        return json.loads(process.stdout.readline())["url"], process

    url, process = served("--fault", "result_line_missing,times=2", "--fault", "job_without_stats")
    with client_of(url) as client:
        job = submit_all(client)
    process.terminate()
    process.wait(10)
    url, _ = served()
    with (
        client_of(url) as client,
        httpx2.Client(base_url=url, headers={"x-goog-api-key": "k"}, trust_env=False) as http,
    ):
        http.post("/admin/clock", json={"advance_seconds": 1000})
        assert keys_of(lines_of(client, client.batches.get(name=job.name))) == ["r2", "r3", "r4", "r5"]
        assert "batchStats" not in http.get(f"/v1/{job.name}").json()["metadata"]


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--fault", "list_5033"], "--fault list_5033: Unknown fault 'list_5033'"),
        (["--fault", "list_503,colour=red"], "--fault list_503,colour=red: Unknown member 'colour'"),
        (
            ["--config", "emulator.toml"],
            "emulator.toml: faults.0.times: must be a whole number from 1, or always (got 0)",
        ),
    ],
)
def test_a_fault_that_cannot_be_armed_stops_the_start_and_is_named(start, tmp_path, monkeypatch, flags, complaint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "emulator.toml").write_text('[[faults]]\nname = "list_503"\ntimes = 0\n')
    process = start(*flags)
    out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert complaint in said


# chaos


def seen_in_chaos(client: Client, emulator: LocalEmulator) -> list[Any]:
    """What the same calls bring, whatever happens to them."""
    seen: list[Any] = []
    for number in range(8):
        source = outcome(lambda: upload_all(client))
        seen.append(source if isinstance(source, int) else str(source).partition("/")[0])
        config = {"display_name": f"job {number}"}
        job = outcome(lambda: client.batches.create(model=MODEL, src=str(source), config=config))  # noqa: B023
        seen.append(getattr(job, "display_name", job))
        emulator.advance(timedelta(seconds=2))  # more than anything takes in chaos
        seen.append(outcome(lambda: [listed.display_name for listed in client.batches.list()]))
    return seen


@pytest.fixture
def chaos_of(monkeypatch):
    """What is seen under a seed, and how often each fault has happened."""
    monkeypatch.setattr("google.genai._api_client.INITIAL_RETRY_DELAY", 0)

    def chaos_of(seed: int) -> tuple[list[Any], dict[str, int]]:
        with LocalEmulator(chaos=0.2, seed=seed) as emulator, client_of(emulator.url) as client:
            return seen_in_chaos(client, emulator), emulator.stats()["faults"]

    return chaos_of


def test_the_same_calls_meet_the_same_chaos_under_the_same_seed(chaos_of):
    first, again, other = map(chaos_of, (1, 1, 2))
    assert first == again != other
    assert sum(first[1].values()) > 5


def test_chaos_may_begin_and_end_while_the_emulator_runs():
    with LocalEmulator() as emulator, client_of(emulator.url) as client:
        emulator.settings(chaos=1)
        assert isinstance(outcome(lambda: list(client.batches.list())), int | str)
        emulator.settings(chaos=0)
        assert outcome(lambda: list(client.batches.list())) == []
