"""A folder with what a reader has, and a shell in it that leads to an emulator."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docfiles import write_files
from docshell import Shell

from gemini_batch.logs import OURS


@pytest.fixture
def as_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A page's settings, modules and logs are its own."""
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith("GEMINI_BATCH_")]:
        monkeypatch.delenv(name)
    was = dict(os.environ)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    modules = {name: sys.modules.pop(name) for name in ("schemas", "invoices") if name in sys.modules}
    logs = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in map(logging.getLogger, OURS)]
    yield
    for name in [
        name for name, module in sys.modules.items() if str(getattr(module, "__file__", "")).startswith(str(folder))
    ]:
        del sys.modules[name]
    sys.modules.update(modules)
    for logger, logger.handlers[:], level, propagate in logs:
        logger.setLevel(level)
        logger.propagate = propagate
    os.environ.clear()
    os.environ.update(was)


@pytest.fixture
def shell(
    folder: Path, gemini_emulator: Any, bare_cli: Any, request: pytest.FixtureRequest, as_left: None, look: Any
) -> Shell:
    write_files(folder)
    return Shell(folder, bare_cli, lambda: str(request.getfixturevalue("valkey").url), look.until)
