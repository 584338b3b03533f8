"""An emulator per module, and clients of it."""

import httpx2
import pytest
from google import genai
from sdk_calls import running_emulator


@pytest.fixture(scope="module")
def url():
    with running_emulator() as url:
        yield url


@pytest.fixture
def http(url):
    """Plain HTTP as key "k", on an emulator as good as new."""
    with httpx2.Client(base_url=url, headers={"x-goog-api-key": "k"}, trust_env=False) as http:
        http.post("/admin/reset")
        http.post("/admin/settings", json={"job_seconds": 0, "max_live_jobs": 100})
        yield http


@pytest.fixture
def client(url, http):
    with genai.Client(api_key="k", http_options={"base_url": url}) as client:
        yield client
