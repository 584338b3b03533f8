"""An emulator per module, and clients of it."""

import asyncio
import contextlib

import httpx2
import pytest
from google import genai
from sdk_calls import Awaited, running_emulator


def pytest_report_header():
    return f"google-genai: {genai.version.__version__}"


@pytest.fixture(scope="module")
def url():
    with running_emulator() as url:
        yield url


@pytest.fixture
def http(url):
    """Plain HTTP as key "k", on an emulator as good as new."""
    # Without TLS there is nothing to verify, and reading the certificates takes longer than most tests.
    with httpx2.Client(base_url=url, headers={"x-goog-api-key": "k"}, trust_env=False, verify=False) as http:
        http.post("/admin/reset")
        http.post("/admin/settings", json={"job_seconds": 0, "max_live_jobs": 100})
        yield http


@pytest.fixture(scope="module", params=["sync", "async"])
def connect(request, url):
    """Makes SDK clients: every test that uses one runs with either half of the SDK."""
    with contextlib.ExitStack() as closing:
        runner = closing.enter_context(asyncio.Runner())

        def connect(api_key="k", **options):
            client = closing.enter_context(genai.Client(api_key=api_key, http_options={"base_url": url, **options}))
            if request.param == "sync":
                return client
            closing.callback(lambda: runner.run(client.aio.aclose()))
            return Awaited(client.aio, runner.run)

        yield connect


@pytest.fixture(scope="module")
def module_client(connect):
    """Making one takes longer than most calls; it remembers nothing from one test to the next."""
    return connect()


@pytest.fixture
def client(module_client, http):
    """An SDK client as key "k", of an emulator as good as new."""
    return module_client


@pytest.fixture
def arm(http):
    """Arms a fault. One that never happens would prove nothing: then the test fails."""
    armed = set()

    def arm(name, **when):
        reply = http.post("/admin/faults", json={"name": name, **when})
        assert reply.status_code == 200, reply.text
        armed.add(name)

    yield arm
    assert armed <= http.get("/admin/stats").json()["faults"].keys()
