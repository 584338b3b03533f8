"""The command `gemini-batch-dist emulator`: flags and files in, a served emulator or one line that says why not."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from emulator_calls import HUNDRED_TOKENS, create, order, send_chunk, start_upload, store, with_key
from sdk_calls import jsonl

from gemini_batch.emulator.given import read_settings
from gemini_batch.emulator.local import LocalEmulator
from gemini_batch.emulator.server import EmulatorError, serve
from gemini_batch.emulator.settings import EmulatorSettings, SettingsError

FILE = """
seed = 3
speed = 2
queue_seconds = "uniform:10:60"
run_seconds = 5
max_live_jobs = 7
max_enqueued_tokens = { "gemini-2.5-flash" = 100, "*" = 1000 }
projects = { ours = ["one", "two"] }

[[faults]]
name = "get_500"
times = 2
"""


@pytest.fixture
def toml(tmp_path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "emulator.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


# --- what holds -------------------------------------------------------------------------------------------------------


def test_a_file_is_read_whole(toml):
    found = read_settings({}, toml(FILE), [])
    shown = found.model_dump(mode="json")
    assert (shown["seed"], shown["speed"], shown["queue_seconds"], shown["run_seconds"]) == (3, 2.0, "uniform:10:60", 5)
    assert found.token_limit("gemini-2.5-flash") == 100 and found.token_limit("gemini-2.5-pro") == 1000
    assert found.project_of("one") == found.project_of("two") != found.project_of("three")
    assert [fault.name for fault in found.faults] == ["get_500"]


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(toml):
    typed = {"seed": 0, "max_live_jobs": None, "max_enqueued_tokens": ["50"], "speed": 1.0}
    found = read_settings(typed, toml(FILE), ["list_500,after=1"])
    assert (found.seed, found.speed, found.max_live_jobs, found.max_file_bytes) == (0, 1.0, 7, 2_000_000_000)
    assert found.max_enqueued_tokens == {"*": 50}
    assert [fault.name for fault in found.faults] == ["get_500", "list_500"]


@pytest.mark.parametrize(
    ("text", "typed", "times"),
    [
        ("job_seconds = 100", {}, (50, 50)),
        ("queue_seconds = 1\nrun_seconds = 2", {"job_seconds": 100}, (50, 50)),
        ("job_seconds = 100", {"queue_seconds": "7"}, (7, 0)),
        ("run_seconds = 2", {"queue_seconds": "7"}, (7, 2)),
        ("job_seconds = 100", {"job_seconds": 0}, (0, 0)),
    ],
)
def test_times_said_in_one_way_replace_those_said_in_the_other(toml, text, typed, times):
    found = read_settings(typed, toml(text), [])
    assert (found.queue_seconds.first, found.run_seconds.first) == times


BAD_FILES = {
    "seed = ": "is not TOML: ",
    "seed = 1\nseed = 2": "is not TOML: ",
    b"\xff": "is not TOML: ",
    "max_live_job = 3": "Unknown member 'max_live_job'; did you mean 'max_live_jobs'?",
    "max_live_jobs = '3'": "max_live_jobs: ",
    "max_live_jobs = true": "max_live_jobs: ",
    "speed = nan": "speed: ",
    "speed = inf": "speed: ",
    "job_seconds = -1": "job_seconds: ",
    "job_seconds = 100\nrun_seconds = 7": "leave out run_seconds or itself",
    "queue_seconds = 'soon'": "queue_seconds: ",
    "faults = 1": "faults: ",
    "[faults]\nname = 'get_500'": "faults: ",
    "[[faults]]\nname = 'get_50'": "faults.0: Unknown fault 'get_50'.",
    "[[faults]]\nname = 'job_fialed'": "faults.0: Unknown fault 'job_fialed'. Did you mean 'job_failed'?",
    "[[faults]]\nname = 'get_500'\ntims = 1": "Unknown member 'faults.0.tims'; did you mean 'times'?",
    "[[faults]]\nname = 'get_500'\nspeed = 1": "Unknown member 'faults.0.speed'; known: after, job, ",
    "[[faults]]\ntimes = 1": "faults.0.name: ",
    "[emulator]\nseed = 1": "Unknown member 'emulator'; known: ",
    "projects = { ours = 'one' }": "projects.ours: ",
    "seed = 99999999999999999999999": "seed: ",
}


@pytest.mark.parametrize("text", BAD_FILES)
@pytest.mark.parametrize("typed", [{}, {"max_file_bytes": 1}])
def test_a_bad_file_is_named_with_what_is_wrong_in_it(toml, text, typed):
    """Whatever else was typed."""
    path = toml(text)
    with pytest.raises(SettingsError) as refused:
        read_settings(typed, path, [])
    assert str(refused.value).startswith(str(path)) and BAD_FILES[text] in str(refused.value)
    assert "\n" not in str(refused.value)


BAD_FLAGS: list[tuple[dict[str, Any], list[str], str]] = [
    ({"queue_seconds": "uniform:5:1"}, [], "queue_seconds: must be uniform:LEAST:MOST, the smaller first"),
    ({"job_seconds": float("nan")}, [], "job_seconds: must be a number of seconds"),
    ({"speed": 0.0}, [], "speed: "),
    ({"max_enqueued_tokens": ["gemini-2.5-flash="]}, [], "max_enqueued_tokens: must be a number of tokens, or model=n"),
    ({}, ["get_50"], "--fault get_50: Unknown fault 'get_50'."),
    ({}, ["get_500,tims=2"], "--fault get_500,tims=2: Unknown member 'tims'; did you mean 'times'?"),
    ({}, ["get_500,times"], "--fault get_500,times: 'times' is not member=value"),
    ({}, ["get_500,times=0"], "--fault get_500,times=0: times"),
    ({}, [""], "--fault : Unknown fault ''."),
]


@pytest.mark.parametrize(("typed", "faults", "complaint"), BAD_FLAGS, ids=[complaint for *_, complaint in BAD_FLAGS])
def test_a_bad_flag_is_named_without_blame_for_the_file(toml, typed, faults, complaint):
    with pytest.raises(SettingsError) as refused:
        read_settings(typed, toml(FILE), faults)
    assert str(refused.value).startswith(complaint) and "\n" not in str(refused.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", "", "::ffff:192.0.2.1", "127.0.0.1 "])
def test_an_address_that_others_reach_needs_to_be_meant(host):
    with pytest.raises(EmulatorError, match="say --allow-remote if that is meant"):
        serve(EmulatorSettings(), host=host)


@pytest.mark.parametrize("host", ["192.0.2.1", "a..b", "no-such-host.invalid", "x" * 300])
def test_an_address_that_cannot_be_had_is_named(host):
    with pytest.raises(EmulatorError, match=r"Cannot listen on .* port 0") as refused:
        serve(EmulatorSettings(), host=host, allow_remote=True)
    assert "\n" not in str(refused.value)


# --- the command itself -----------------------------------------------------------------------------------------------


UNUSABLE = [
    (["--config", "absent.toml"], "absent.toml: No such file or directory"),
    (["--fault", "job_fialed"], "Did you mean 'job_failed'?"),
    (["--host", "0.0.0.0"], "0.0.0.0 can be reached from other machines: say --allow-remote if that is meant."),
    (["--answers", "nowhere:answer"], "answers: nowhere cannot be imported"),
    (["--state", "file"], "File exists"),
]


@pytest.mark.parametrize(("arguments", "complaint"), UNUSABLE, ids=[arguments[0] for arguments, _ in UNUSABLE])
def test_what_cannot_be_used_is_one_line_and_exit_2(bare_cli, folder, arguments, complaint):
    (folder / "file").touch()
    done = bare_cli("emulator", "--port", 0, *arguments)
    assert (done.code, done.out) == (2, "")
    assert complaint in done.err and len(done.err.splitlines()) == 1 and done.err.startswith("error: ")


@pytest.mark.parametrize("arguments", [["--port", "70000"], ["--chaos", "2"], ["--max-live-jobs", "x"], ["--bogus"]])
def test_a_flag_out_of_range_is_named_and_exit_2(bare_cli, arguments):
    done = bare_cli("emulator", *arguments)
    assert (done.code, done.out) == (2, "") and arguments[0] in done.err and "Traceback" not in done.err


def test_help_tells_every_flag_and_setting(bare_cli):
    wide = {"COLUMNS": "300", "TERM": "dumb"}
    done = bare_cli.python("-m", "gemini_batch", "emulator", "--help", env=wide).ended()
    assert done.code == 0 and "settings by name, and tables of faults" in done.out
    for name in set(EmulatorSettings.model_fields) - {"faults", "api_keys", "projects", "token_factor"}:
        assert f"--{name.replace('_', '-')}" in done.out
    assert all(flag in done.out for flag in ("--fault", "--api-key", "--state", "--answers", "--config", "[MODEL=]N"))


def test_flags_and_file_reach_the_service_at_the_loopback_of_ipv6(start_emulator, toml):
    flags = ["--host", "::1", "--config", str(toml(FILE)), "--seed", "9", "--run-seconds", "exponential:8"]
    flags += ["--max-enqueued-tokens", "5", "--max-enqueued-tokens", "gemini-2.5-flash=70", "--fault", "list_500"]
    one = start_emulator(*flags)
    assert one.url.startswith("http://[::1]:")
    with with_key(one.url, "k") as http:
        found = http.get("/admin/settings").json()
        assert found["queue_seconds"] == "uniform:10:60" and found["run_seconds"] == "exponential:8"
        assert found["max_enqueued_tokens"] == {"*": 5, "gemini-2.5-flash": 70} and found["max_live_jobs"] == 7
        armed = [(fault["name"], fault["times"]) for fault in http.get("/admin/faults").json()["armed"]]
        assert armed == [("get_500", 2), ("list_500", 1)]
        assert start_upload(http).headers["x-goog-upload-url"].startswith(one.url)
        assert store(http, b"x")["uri"].startswith(one.url)


def test_an_address_that_others_reach_is_served_when_it_is_meant(start_emulator):
    one = start_emulator("--host", "0.0.0.0", "--allow-remote")
    with with_key(one.url.replace("0.0.0.0", "127.0.0.1"), "k") as http:
        assert http.get("/v1/files").json() == {}
        assert start_upload(http).headers["x-goog-upload-url"].startswith("http://127.0.0.1:")


# --- how it stops -----------------------------------------------------------------------------------------------------


BUSY = """
import threading

def answer(prompt):
    threading.Event().wait(0.01)
"""


class Served:
    """The command with a TMPDIR of its own, at work on everything at once."""

    def __init__(self, cli: Any, folder: Path, *arguments: str) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.process = cli.start("emulator", "--port", 0, *arguments, env={"TMPDIR": str(self.temporary)})

    def url(self, look: Any) -> str:
        line = look.until(lambda: self.process.said.partition("\n")[1] and self.process.said, "the ready line")
        assert json.loads(line).keys() == {"event", "url"} and json.loads(line)["event"] == "ready"
        return str(json.loads(line)["url"])

    def stopped(self, number: int) -> None:
        self.process.signal(number)
        done = self.process.ended(60)
        assert (done.code, done.err) == (0, "") and len(done.out.splitlines()) == 1
        assert list(self.temporary.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly_whatever_it_is_at(bare_cli, folder, look, number):
    """While it answers, reads a create, holds a reply back, and waits for the rest of an upload."""
    (folder / "busy.py").write_text(BUSY)
    served = Served(bare_cli, folder, "--answers", "busy:answer", "--fault", "list_hang,seconds=600")
    with with_key(served.url(look), "k") as http:
        lines = [{**HUNDRED_TOKENS, "key": f"r{i}"} for i in range(5000)]
        assert order(http, store(http, jsonl(*lines))["name"]).status_code == 200
        send_chunk(http, start_upload(http).headers["x-goog-upload-url"], b"half", command="upload")
        host, port = http.base_url.host, http.base_url.port
        with socket.create_connection((host, port)) as hanging, socket.create_connection((host, port)) as sending:
            hanging.sendall(b"GET /v1/batches?key=k HTTP/1.1\r\nHost: x\r\n\r\n")
            sending.sendall(b"POST /v1/models/gemini-2.5-flash:batchGenerateContent?key=k HTTP/1.1\r\nHost: x\r\n")
            sending.sendall(b"Content-Length: 1000\r\n\r\nhalf")
            served.stopped(number)


SIGNALLED_AT_THE_START = """
import os, sys
from gemini_batch.emulator import server

build_app = server.build_app
def signalled(*given):
    os.kill(os.getpid(), int(sys.argv[1]))
    return build_app(*given)
server.build_app = signalled
server.serve(server.EmulatorSettings())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_before_it_serves_is_not_lost(tmp_path, number):
    process = subprocess.Popen(
        [sys.executable, "-c", SIGNALLED_AT_THE_START, str(int(number))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    try:
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, stderr) == (0, b"")
    assert list(tmp_path.iterdir()) == []


def test_an_answer_that_never_comes_does_not_hold_up_the_stop(monkeypatch):
    monkeypatch.setattr("gemini_batch.emulator.answering._PATIENCE", 0.1)
    begun, never = threading.Event(), threading.Event()

    def answer(prompt: Any) -> None:
        begun.set()
        never.wait()

    with LocalEmulator() as one, with_key(one.url, "k") as http:
        one.answer(answer)
        assert create(http, HUNDRED_TOKENS, HUNDRED_TOKENS).status_code == 200
        assert begun.wait(60)
    never.set()
