"""A pytest plugin that makes one mistake in the shipped code: `pytest -p plant NODE`, the mistake in the environment.

The source of one module is changed as it is imported, before anything can hold on to the right one. Where the text that
is to be changed has moved, the run ends with MOVED, not with a green or red test. It ends with 1, as a failed test
does, only if the one test that ran failed by an assertion of its own: not by an error that the mistake led to, and not
in a fixture.
"""

import json
import os
import sys
from collections.abc import Generator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

PLANTED = "PLANTED"
MOVED, NOT_MADE, NOT_ITS_OWN = 70, 71, 72
TESTS = Path(__file__).parents[1]


class Changed(SourceFileLoader):
    """Loads a module with one passage of its source replaced."""

    def __init__(self, name: str, path: str, before: str, after: str) -> None:
        super().__init__(name, path)
        self._before, self._after = before, after

    def get_code(self, fullname: str) -> CodeType:
        source = Path(self.path).read_text()
        if source.count(self._before) != 1:
            pytest.exit(f"{self.path} has moved on: it holds {source.count(self._before)} of {self._before!r}", MOVED)
        mistake.made = True
        return compile(source.replace(self._before, self._after), self.path, "exec")


class Mistake(MetaPathFinder):
    """What is wrong in this process."""

    made = False

    def __init__(self, module: str, before: str, after: str) -> None:
        if module in sys.modules:
            pytest.exit(f"{module} was imported before it could be changed", NOT_MADE)
        self._module, self._before, self._after = module, before, after

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname == self._module else None
        if spec is not None and spec.origin is not None:
            spec.loader = Changed(fullname, spec.origin, self._before, self._after)
        return spec


mistake = Mistake(**json.loads(os.environ[PLANTED]))
sys.meta_path.insert(0, mistake)
reasons: list[str] = []
"""Why what failed did not fail by an assertion of its own."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    if report.failed and not (call.when == "call" and _is_its_own(call.excinfo)):
        reasons.append(f"{item.nodeid} failed in {call.when} by {call.excinfo and call.excinfo.typename}")
    return report


def _is_its_own(failure: pytest.ExceptionInfo[BaseException] | None) -> bool:
    """Whether the test said so: `pytest.raises` that saw nothing, or an assertion in a file of the tests."""
    if failure is None or failure.errisinstance(pytest.fail.Exception):
        return failure is not None
    return failure.errisinstance(AssertionError) and Path(failure.traceback[-1].path).is_relative_to(TESTS)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if not mistake.made:
        reasons.append("the module with the mistake was never imported")
    if reasons or session.testscollected != 1:
        print(f"\nplant: {session.testscollected} tests; {'; '.join(reasons)}", file=sys.stderr)
        session.exitstatus = NOT_ITS_OWN if mistake.made else NOT_MADE
