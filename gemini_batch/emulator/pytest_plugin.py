"""The pytest plugin: `gemini_emulator`, a Gemini Batch API for each test, without a key and without the network."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gemini_batch.emulator.local import LocalEmulator

_FOREIGN = ("GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_ENTERPRISE", "GOOGLE_GENAI_API_VERSION")
_LOOPBACK = "127.0.0.1,localhost"


@pytest.fixture(scope="session")
def _gemini_emulator_server() -> Iterator["LocalEmulator"]:
    """One for each process, so also for each worker of pytest-xdist."""
    try:
        from gemini_batch.emulator.local import LocalEmulator  # noqa: PLC0415 - the extra may be missing
    except ImportError as error:
        pytest.fail(f"gemini_emulator needs an extra: pip install 'gemini-batch-dist[emulator]' ({error.name})")
    with LocalEmulator() as started:
        yield started


@pytest.fixture
def gemini_emulator(
    _gemini_emulator_server: "LocalEmulator", monkeypatch: pytest.MonkeyPatch
) -> Iterator["LocalEmulator"]:
    """A Gemini Batch API as good as new, with the environment set so that clients made in the test find it.

    `.url`, `.answer(callable | jsonl)`, `.fault(name, **when)`, `.settings(**changes)`, `.advance(timedelta)`,
    `.stats()`, `.bought_more_than(n)`, `.reset()`.
    """
    _gemini_emulator_server.reset()
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", _gemini_emulator_server.url)
    monkeypatch.setenv("GEMINI_API_KEY", "emulator")
    for name in _FOREIGN:
        monkeypatch.delenv(name, raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, _LOOPBACK, prepend=",")
    yield _gemini_emulator_server
    _gemini_emulator_server.reset()
