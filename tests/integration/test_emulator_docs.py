"""docs/emulator.md is for people who have nothing else: what it shows runs, and what it lists is all there is."""

import json
import math
import os
import re
import shlex
import shutil
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest
import typer

from gemini_batch.cli import app
from gemini_batch.emulator.admin import AdminApi
from gemini_batch.emulator.app import _admin_routes
from gemini_batch.emulator.faults import ANSWERS, CALLS, FAULTS, SURVIVABLE_ANSWERS, Fault
from gemini_batch.emulator.given import read_settings
from gemini_batch.emulator.settings import EmulatorSettings, make_settings

ROOT = Path(__file__).parents[2]
PAGE, CONFIG = ROOT / "docs" / "emulator.md", ROOT / "configs" / "emulator.toml"
TEXT = PAGE.read_text()
URL = "http://127.0.0.1:8765"
"""As the page has it; a test puts another port there."""

MODEL = "/v1/models/gemini-2.5-flash"
PROMPT = {"contents": [{"parts": [{"text": "Name a river."}]}]}


@dataclass(frozen=True)
class Block:
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """`test_reviews.py` for a block that begins with `# test_reviews.py`."""
        named = re.match(r"# (\w+\.py)\n", self.text)
        return named[1] if named else None

    @property
    def starts(self) -> list[str]:
        """Its lines, if each of them by itself is a way to start the emulator."""
        lines = self.text.splitlines()
        return lines if all(re.match(r"gemini-batch-dist emulator [^&]*$", line) for line in lines) else []


BLOCKS = [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)]


def blocks(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


STARTS = [line for block in blocks("bash") for line in block.starts]
SETUP, CURL = (block.text for block in blocks("bash") if not block.starts)
PROGRAMS = [block.text for block in blocks("python") if not block.file]
(CANNED,) = (block.text for block in blocks("jsonl"))
(STATS,) = (json.loads(block.text) for block in blocks("json"))


def test_every_block_is_of_a_language_that_is_run_here() -> None:
    assert {block.language for block in BLOCKS} == {"bash", "python", "jsonl", "json"}
    assert TEXT.count("```") == 2 * len(BLOCKS)


# --- what the page shows, run -----------------------------------------------------------------------------------------

STAND_IN = """#!{python}
import sys, urllib.request
request, with_head, words = urllib.request.Request("http://x"), False, iter(sys.argv[1:])
for word in words:
    if word == "-H":
        request.add_header(*next(words).split(": ", 1))
    elif word == "-D":
        with_head = next(words) == "-"
    elif word in ("-d", "--data-binary"):
        given = next(words)
        request.data = open(given[1:], "rb").read() if given.startswith("@") else given.encode()
    elif word != "-s":
        request.full_url = word
with urllib.request.build_opener(urllib.request.ProxyHandler({{}})).open(request, timeout=30) as reply:
    head = "".join(f"{{name}}: {{value}}\\r\\n" for name, value in reply.headers.items())
    sys.stdout.buffer.write(f"HTTP/1.1 {{reply.status}} OK\\r\\n{{head}}\\r\\n".encode() * with_head + reply.read())
"""
"""As much of curl as the page uses, for machines without one."""


class Desk:
    """A folder with the files that the page tells to write, and a shell that finds the command, pip and curl."""

    def __init__(self, cli: Any, folder: Path, until: Callable[..., Any]) -> None:
        self.folder = folder
        self._cli = cli
        self._until = until
        self._bin = folder.parent / "bin"
        self._bin.mkdir()
        for block in blocks("python"):
            if block.file:
                (folder / block.file).write_text(block.text)
        (folder / "canned.jsonl").write_text(CANNED)
        (folder / "configs").mkdir()
        shutil.copy(CONFIG, folder / "configs")
        self.tool("pip", '[ "$*" = "install gemini-batch-dist[emulator]" ]')  # nothing is installed here
        if not shutil.which("curl"):
            self.without_curl()

    def tool(self, name: str, script: str) -> None:
        (self._bin / name).write_text(script if script.startswith("#!") else f"#!/bin/sh\n{script}\n")
        (self._bin / name).chmod(0o755)

    def without_curl(self) -> None:
        self.tool("curl", STAND_IN.format(python=sys.executable))

    def bash(self, script: str) -> Any:
        """Runs to its end; what it leaves in the background is stopped."""
        whole = f"trap 'kill $(jobs -p) 2> /dev/null || true; wait' EXIT\n{script}"
        env = {"PATH": f"{self._bin}:{os.environ['PATH']}"}
        return self._cli.python_or_other(["bash", "-euo", "pipefail", "-c", whole], env, None).ended()

    def python(self, *arguments: object) -> Any:
        return self._cli.python(*arguments).ended()

    def start(self, *arguments: str) -> tuple[Any, str]:
        """The command in the folder, ready, and its URL."""
        started = self._cli.start("emulator", *arguments, "--port", 0)
        self._until(lambda: '"ready"' in started.said or not started.running, "the emulator is ready")
        assert started.running, started.said
        return started, str(json.loads(started.said)["url"])


@pytest.fixture
def desk(bare_cli: Any, folder: Path, look: Any) -> Desk:
    return Desk(bare_cli, folder, look.until)


def ask(url: str, method: str, path: str, body: Any = None) -> Any:
    """The reply as JSON, whatever its status; `body` is JSON or bytes."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"x-goog-api-key": "any-text"}, method=method)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as refused:
        return json.load(refused)


def order(key: str) -> dict[str, Any]:
    """A create of one request."""
    return {"batch": {"inputConfig": {"requests": {"requests": [{"request": PROMPT, "metadata": {"key": key}}]}}}}


def said(url: str, text: str) -> str:
    reply = ask(url, "POST", f"{MODEL}:generateContent", {"contents": [{"parts": [{"text": text}]}]})
    return str(reply["candidates"][0]["content"]["parts"][0]["text"])


@pytest.mark.parametrize("program", PROGRAMS, ids=["genai", "local"])
def test_a_program_runs_in_the_shell_that_has_started_the_emulator(program: str, desk: Desk) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = Path(sys.executable).parent / "gemini-batch-dist"
    desk.tool("gemini-batch-dist", f'exec {own} "$@" --port {port}')
    (desk.folder / "program.py").write_text(program)
    wait = f"until curl -s {URL}/admin/clock > /dev/null 2>&1; do sleep 0.1; done\n"
    done = desk.bash(f"{SETUP}\n{wait}{sys.executable} program.py\n".replace(URL, f"http://127.0.0.1:{port}"))
    assert (done.code, done.err) == (0, "")
    assert f'{{"event":"ready","url":"http://127.0.0.1:{port}"}}' in done.out
    assert re.search(r"^(JobState\.JOB_STATE_\w+|http://127\.0\.0\.1:\d+)$", done.out, re.MULTILINE)


@pytest.fixture(params=["the curl of this machine", "a stand-in for curl"])
def curled(request: pytest.FixtureRequest, desk: Desk, emulator: Any) -> Any:
    """What the curl lines printed, after a create that was refused."""
    if "stand-in" in request.param:
        desk.without_curl()
    elif not shutil.which("curl"):
        pytest.skip("there is no curl here; the same requests are made by the stand-in")
    emulator.fault("create_429")
    assert ask(emulator.url, "POST", f"{MODEL}:batchGenerateContent", order("r1"))["error"]["code"] == 429
    return desk.bash(CURL.replace(URL, emulator.url))


def test_the_curl_lines_upload_create_get_and_download(curled: Any) -> None:
    lines = [json.loads(line) for line in curled.out.splitlines()]
    assert (curled.code, [line["key"] for line in lines]) == (0, ["r1", "r2"])
    assert all(line["response"]["candidates"][0]["finishReason"] == "STOP" for line in lines)


def test_stats_have_the_shape_that_the_page_shows(curled: Any, emulator: Any) -> None:
    assert shape(emulator.stats()) == shape(STATS)


def test_a_downloaded_result_file_can_be_played_back(desk: Desk, emulator: Any) -> None:
    downloaded = desk.bash(CURL.replace(URL, emulator.url)).out.replace("Answer ", "Played back ")
    assert ask(emulator.url, "POST", "/admin/answers", downloaded.encode()) == {}
    assert desk.bash(CURL.replace(URL, emulator.url)).out == downloaded


def test_the_tests_pass_in_parallel(desk: Desk) -> None:
    tests = sum(line.startswith("def test_") for block in blocks("python") for line in block.text.splitlines())
    done = desk.python("-m", "pytest", "-q", "-n", "2", "-W", "error", "-p", "no:cacheprovider", ".")
    assert tests == 3 and f"{tests} passed" in done.out, done.words


@pytest.mark.parametrize("line", STARTS, ids=lambda line: line.split()[2])
def test_the_command_starts_as_shown(line: str, desk: Desk) -> None:
    _, _, *arguments = shlex.split(line, comments=True)
    started, _ = desk.start(*arguments)
    started.signal(signal.SIGTERM)
    done = started.ended()
    assert (done.code, done.err) == (0, "")


def test_a_function_answers_as_shown(desk: Desk) -> None:
    _, url = desk.start("--answers", "answers:label")
    assert said(url, "I want a refund.") == '{"label":"complaint"}'
    assert said(url, "Hello.").startswith("Answer ")
    name = ask(url, "POST", f"{MODEL}:batchGenerateContent", order("r13"))["name"]
    ask(url, "POST", "/admin/clock", {"advance_seconds": 0})
    ((line,),) = ask(url, "GET", f"/v1/{name}")["response"]["inlinedResponses"].values()
    assert line == {"error": {"code": 3, "message": "no"}, "metadata": {"key": "r13"}}


def test_canned_answers_answer_as_shown(desk: Desk) -> None:
    _, url = desk.start("--answers", "canned.jsonl")
    assert said(url, "Name a river.") == '{"river":"by the exact text of the prompt"}'
    assert said(url, "Name a lake.") == "all the rest"


# --- /admin -----------------------------------------------------------------------------------------------------------


def shape(value: Any) -> Any:
    """Names and kinds without the values; a number is a number."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value[:1]]
    return "number" if type(value) in (int, float) else type(value).__name__


def spans(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


ADMIN = [
    [cell.strip() for cell in row.strip("|").split("|")]
    for row in TEXT.splitlines()
    if re.match(r"\| `(GET|POST|DELETE) /admin/", row)
]


def test_every_admin_call_is_in_the_table() -> None:
    service: Any = None
    routes: list[Any] = _admin_routes(AdminApi(service, service))
    served = {(method, route.path) for route in routes for method in route.methods - {"HEAD"}}
    assert {tuple(spans(call)[0].partition("?")[0].split()) for call, _, _ in ADMIN} == served


def test_every_admin_call_replies_in_the_shape_of_the_table(emulator: Any) -> None:
    for _ in range(2):
        ask(emulator.url, "POST", f"{MODEL}:batchGenerateContent", order("r1"))
    for (call, bodies, reply), (_, _, next_reply) in zip(ADMIN, [*ADMIN[1:], ADMIN[-1]], strict=True):
        if reply.startswith("below"):
            continue  # see the test of stats
        expected = json.loads(spans(next_reply if reply.startswith("as the next") else reply)[0])
        for body in spans(bodies) or [""]:
            found = ask(emulator.url, *spans(call)[0].split(), body=body.encode() or None)
            assert shape(found) == shape(expected), call


# --- what the page lists ----------------------------------------------------------------------------------------------


def fault_table() -> str:
    rows = ["| fault | happens to | what happens | chaos |", "|---|---|---|---|"]
    for name, fault in FAULTS.items():
        kind = fault.point.value.split(",")[0]
        rows.append(f"| `{name}` | {kind} | {_effect(fault)} | {'yes' if fault.is_survivable else ''} |")
    return "\n".join(rows).replace("|  |", "| |")


def _effect(fault: Fault) -> str:
    effect = fault.effect.replace("`seconds`", f"`seconds` ({fault.seconds:g})")
    often = {1: "", math.inf: " (always)"}.get(fault.default_times, f" ({fault.default_times} times)")
    return effect + often


def test_the_table_of_faults_is_that_of_the_code() -> None:
    if fault_table() not in TEXT:
        pytest.fail(f"{PAGE} needs this table:\n\n{fault_table()}\n", pytrace=False)


@pytest.mark.parametrize(
    "words",
    [
        f"* Calls: {' '.join(f'`{call}`' for call in (*CALLS, 'any'))}",
        f"* Answers: {' '.join(f'`{answer}`' for answer in ANSWERS)}",
        f"chaos draws from {' '.join(f'`{answer}`' for answer in SURVIVABLE_ANSWERS)}",
    ],
)
def test_the_words_of_call_faults_are_those_of_the_code(words: str) -> None:
    if words not in " ".join(TEXT.split()):
        pytest.fail(f"{PAGE} needs this:\n\n{words}\n", pytrace=False)


def test_the_page_names_every_flag_and_no_other() -> None:
    command = typer.main.get_command(app).commands["emulator"]  # type: ignore[attr-defined]
    flags = {flag for param in command.params for flag in param.opts}
    of_others = {"--data-binary"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", TEXT)) - of_others == flags


def test_the_extra_that_the_page_installs_exists() -> None:
    assert "emulator" in metadata("gemini-batch-dist").get_all("Provides-Extra", [])


# --- the example of a file --------------------------------------------------------------------------------------------

SETTINGS = {*EmulatorSettings.model_fields, "job_seconds"}


def test_the_example_file_names_every_setting() -> None:
    """Once: in force, or as a comment."""
    named = re.findall(r"^(?:# )?(\w+) = |^\[\[(\w+)\]\]", CONFIG.read_text().partition("[[")[0], re.MULTILINE)
    assert sorted(name for name, _ in named) == sorted(SETTINGS - {"faults"})


def test_the_example_file_is_read_as_the_command_reads_it() -> None:
    settings = read_settings({}, CONFIG, [])
    assert settings.token_limit("gemini-2.5-pro") == 5_000_000
    assert settings.token_limit("gemini-2.5-flash") == 3_000_000
    assert [spec.name for spec in settings.faults] == ["result_line_error", "create_reply_lost", "create_429"]


def test_what_is_a_comment_in_the_example_file_would_be_read_too(tmp_path: Path) -> None:
    commented = re.findall(r"^# (\w+ = .*)$", CONFIG.read_text(), re.MULTILINE)
    assert {line.split()[0] for line in commented} == {"job_seconds", "api_keys", "projects"}
    for line in commented:
        (tmp_path / "one.toml").write_text(line)
        assert read_settings({}, tmp_path / "one.toml", []) != make_settings({})
