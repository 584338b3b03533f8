"""Runs tests of the suite in a process of their own, under a mistake or without."""

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]


@pytest.fixture
def has_moved() -> Callable[[str, str], bool]:
    """Whether a module no longer holds a passage exactly once: change the mistake along with it."""
    return lambda module, before: (ROOT / f"{module.replace('.', '/')}.py").read_text().count(before) != 1


@pytest.fixture
def run_pytest(bare_cli: Any) -> Callable[..., Any]:
    def run(*arguments: str, env: dict[str, str] | None = None) -> Any:
        command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)
        return bare_cli.python(*command, env={"PYTEST_ADDOPTS": "", **(env or {})}, cwd=ROOT).ended()

    return run


@pytest.fixture
def plant(run_pytest: Any) -> Callable[..., Any]:
    """Tests while the module says `after` where it says `before`."""

    def planted(module: str, before: str, after: str, *tests: str) -> Any:
        mistake = json.dumps({"module": module, "before": before, "after": after})
        return run_pytest("-p", "plant", *tests, env={"PLANTED": mistake, "PYTHONPATH": str(HERE)})

    return planted


@pytest.fixture
def turns_red(plant: Any) -> Callable[..., None]:
    """The test fails by an assertion of its own under the mistake."""

    def red(module: str, before: str, after: str, test: str) -> None:
        done = plant(module, before, after, test)
        assert done.code == pytest.ExitCode.TESTS_FAILED, done.words

    return red


@pytest.fixture
def are_green(run_pytest: Any) -> Callable[..., None]:
    """The tests pass when nothing is wrong."""

    def green(tests: Collection[str]) -> None:
        done = run_pytest(*sorted(tests))
        assert done.code == pytest.ExitCode.OK, done.words
        assert f"{len(tests)} passed" in done.out

    return green
