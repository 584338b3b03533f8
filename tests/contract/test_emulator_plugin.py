"""The pytest plugin as a user has it: a pytest of its own, in a folder of its own, with an environment in the way."""

import os
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from emulator_calls import create, with_key
from sdk_calls import request_of

from gemini_batch.emulator.local import LocalEmulator
from gemini_batch.emulator.server import EmulatorError

IN_THE_WAY = {
    "GOOGLE_API_KEY": "of somebody else",
    "GOOGLE_GENAI_USE_VERTEXAI": "true",
    "GOOGLE_GENAI_API_VERSION": "beta",
    "GOOGLE_GEMINI_BASE_URL": "http://192.0.2.1",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "example.com",
}

OF_THIS_RUN = {"PYTEST_XDIST_WORKER": "", "PYTEST_XDIST_WORKER_COUNT": "", "PYTEST_ADDOPTS": ""}
"""What a pytest started from within one must not take for its own."""

CONFTEST = """
import os, threading
from pathlib import Path

def pytest_unconfigure(config):
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker or not config.getoption("numprocesses", None):
        alive = sorted(thread.name for thread in threading.enumerate() if "execnet" not in repr(thread).lower())
        Path(f"threads{worker}").write_text(" ".join(alive))
"""

TESTS = """
import asyncio, os, sys
from datetime import timedelta
from pathlib import Path

import pytest
from google import genai

NAMES = ["GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_API_VERSION", "GOOGLE_GEMINI_BASE_URL"]
NAMES += ["GEMINI_API_KEY", "NO_PROXY", "no_proxy", "HTTP_PROXY", "ALL_PROXY"]
BEFORE = {name: os.environ.get(name) for name in NAMES}
MODEL = "gemini-2.5-flash"


@pytest.fixture(autouse=True)
def url(request):
    if "gemini_emulator" in request.fixturenames:
        with Path("urls").open("a") as urls:
            urls.write(request.getfixturevalue("gemini_emulator").url + "\\n")


def test_nothing_of_it_is_loaded_before_it_is_wanted():
    assert not {"uvicorn", "starlette", "gemini_batch.emulator.local"} & sys.modules.keys()


def test_the_environment_leads_here(gemini_emulator):
    assert os.environ["GOOGLE_GEMINI_BASE_URL"] == gemini_emulator.url
    assert os.environ["GEMINI_API_KEY"] and "GOOGLE_API_KEY" not in os.environ
    assert os.environ["NO_PROXY"].split(",")[0] == "127.0.0.1" and os.environ["NO_PROXY"].endswith(",example.com")
    with genai.Client() as client:
        assert list(client.files.list()) == []
    assert gemini_emulator.stats()["calls"] == {"GET files.list": 1}


def test_the_environment_is_as_it_was():
    assert {name: os.environ.get(name) for name in NAMES} == BEFORE


def test_asynchronous_clients_come_here_too(gemini_emulator):
    async def ask():
        async with genai.Client().aio as client:
            return (await client.models.generate_content(model=MODEL, contents="x")).text

    gemini_emulator.answer(lambda prompt: "asked " + prompt.text)
    assert asyncio.run(ask()) == "asked x"


@pytest.mark.parametrize("time", [1, 2, 3])
def test_each_test_starts_as_new(gemini_emulator, time):
    with genai.Client() as client:
        stats = gemini_emulator.stats()
        assert not stats["calls"] and not stats["creates"] and not stats["faults"] and not stats["files"]["stored"]
        assert not stats["requests"]["bought_total"] and stats["usage"]["cost_usd"] == 0
        assert list(client.batches.list()) == []
        source = [{"contents": "x"}]
        job = client.batches.create(model=MODEL, src=source)
        gemini_emulator.advance(timedelta(0))
        job = client.batches.get(name=job.name)
        assert job.state == "JOB_STATE_SUCCEEDED"
        assert job.dest.inlined_responses[0].response.text.startswith("Answer ")
        assert abs(job.create_time.timestamp() - __import__("time").time()) < 600
        gemini_emulator.settings(job_seconds=3600, max_live_jobs=1, speed=1000)
        gemini_emulator.fault("get_500", times="always")
        gemini_emulator.answer(lambda prompt: "of the test before")
        gemini_emulator.advance(timedelta(days=30))
        client.batches.create(model=MODEL, src=source)
        with pytest.raises(genai.errors.ClientError):
            client.batches.create(model=MODEL, src=source)
        with pytest.raises(genai.errors.ServerError):
            client.batches.get(name=job.name)
        assert list(gemini_emulator.stats()["faults"]) == ["get_500"]
        assert gemini_emulator.bought_more_than(1) == [{"key": "", "count": 2}]


def test_a_reset_in_the_middle(gemini_emulator):
    gemini_emulator.fault("model_list_500", times="always")
    gemini_emulator.reset()
    with genai.Client() as client:
        assert list(client.models.list())


def test_what_is_misspelt_is_named(gemini_emulator):
    for call, hint in [
        (lambda: gemini_emulator.fault("job_fialed"), "Did you mean 'job_failed'"),
        (lambda: gemini_emulator.fault("get_500", tims=1), "did you mean 'times'"),
        (lambda: gemini_emulator.settings(job_second=1), "did you mean 'job_seconds'"),
        (lambda: gemini_emulator.settings(seed=1), "seed can be set at the start only"),
        (lambda: gemini_emulator.answer("absent.jsonl"), "absent.jsonl: No such file"),
    ]:
        with pytest.raises(ValueError, match=hint):
            call()


def test_one_that_fails(gemini_emulator):
    gemini_emulator.settings(max_live_jobs=0)
    assert False, "on purpose"
"""
PASSED = 9

TESTS_OF_WORKERS = """
import os
import pytest

@pytest.mark.parametrize("number", range(12))
def test_one(gemini_emulator, number):
    assert not gemini_emulator.stats()["faults"]
    gemini_emulator.fault("get_500", times="always")
    with open("urls", "a") as urls:
        urls.write(f"{os.environ['PYTEST_XDIST_WORKER']} {gemini_emulator.url}\\n")
"""


@pytest.fixture
def nested(bare_cli, folder):
    """Runs a pytest in `folder`; its TMPDIR is `folder`/tmp."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    (folder / "tmp").mkdir()

    def run(tests: str, *arguments: str) -> Any:
        (folder / "test_of_a_user.py").write_text(tests)
        plugins = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
        env = IN_THE_WAY | OF_THIS_RUN | {"TMPDIR": str(folder / "tmp")}
        return bare_cli.python("-m", "pytest", "-q", *plugins, *arguments, env=env).ended()

    return run


def words(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()]


def test_a_user_has_an_emulator_for_each_test(nested, folder):
    done = nested(TESTS)
    assert done.code == 1 and f"1 failed, {PASSED} passed" in done.out, done.words
    assert "on purpose" in done.out
    assert len({url for (url,) in words(folder / "urls")}) == 1
    assert (folder / "threads").read_text() == "MainThread"
    assert list((folder / "tmp").iterdir()) == []


def test_each_worker_of_xdist_has_its_own(nested, folder):
    done = nested(TESTS_OF_WORKERS, "-n", "2")
    assert done.code == 0 and "12 passed" in done.out, done.words
    urls = {tuple(line) for line in words(folder / "urls")}
    assert {worker for worker, _ in urls} == {"gw0", "gw1"} and len({url for _, url in urls}) == 2
    assert not [path.name for path in folder.glob("threads*") if "answerer" in path.read_text()]
    assert not list((folder / "tmp").glob("gemini-emulator-*"))


@pytest.mark.parametrize("missing", ["uvicorn", "starlette"])
def test_without_the_extra_its_name_is_said(nested, missing):
    done = nested(f"import sys\nsys.modules[{missing!r}] = None\ndef test_one(gemini_emulator):\n    pass\n")
    assert done.code == 1 and "1 error" in done.out
    assert f"gemini_emulator needs an extra: pip install 'gemini-batch-dist[emulator]' ({missing}" in done.out


# --- the emulator in a thread, as it is behind the fixture ------------------------------------------------------------


def test_one_in_a_thread_leaves_neither_thread_nor_folder_nor_port(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = set(threading.enumerate())
    with LocalEmulator(job_seconds=5) as one, with_key(one.url, "k") as http:
        assert create(http, {"key": "a", "request": request_of("x")}).status_code == 200
        assert len(list(tmp_path.iterdir())) == 1
    assert set(threading.enumerate()) == before
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Exception, match="refused"), with_key(one.url, "k") as http:
        http.get("/v1/files")


def test_two_in_threads_do_not_meet():
    with LocalEmulator() as one, LocalEmulator(seed=1) as other:
        with with_key(one.url, "k") as http, with_key(other.url, "k") as elsewhere:
            assert create(http, {"key": "a", "request": request_of("x")}).status_code == 200
            assert elsewhere.get("/v1/batches").json() == {}
        assert (one.stats()["creates"], other.stats()["creates"]) == (1, 0)


def test_one_that_cannot_start_says_so(monkeypatch):
    async def fails(*_: Any, **__: Any) -> None:
        raise OSError("no more descriptors")

    monkeypatch.setattr("gemini_batch.emulator.server._Server.startup", fails)
    with pytest.raises(EmulatorError, match="no more descriptors"), LocalEmulator():
        pass


def test_a_user_function_sees_no_request_of_the_test_before(gemini_emulator):
    """What is still being answered at a reset is let go."""
    answered, go_on = threading.Semaphore(0), threading.Event()
    keys: list[str] = []

    def slow(prompt: Any) -> str:
        keys.append(prompt.key)
        answered.release()
        go_on.wait(60)
        return "late"

    gemini_emulator.answer(slow)
    with with_key(gemini_emulator.url, "k") as http:
        create(http, *({"key": f"r{i}", "request": request_of("x")} for i in range(50)))
        assert answered.acquire(timeout=60)
        gemini_emulator.reset()
        go_on.set()
        create(http, {"key": "next", "request": request_of("x")})
        gemini_emulator.advance(timedelta(0))
        found = gemini_emulator.stats()
    assert keys == ["r0"] and found["usage"]["models"]["gemini-3.8-flash"]["requests"] == 1
    assert os.environ["GOOGLE_GEMINI_BASE_URL"] == gemini_emulator.url
