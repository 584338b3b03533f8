"""Runs tests of the suite in a process of their own, under a mistake or without."""

import json
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]


@pytest.fixture
def has_moved() -> Callable[[str, str], bool]:
    """Whether a module no longer holds a passage exactly once: change the mistake along with it."""
    return lambda module, before: (ROOT / f"{module.replace('.', '/')}.py").read_text().count(before) != 1


@pytest.fixture(scope="module")
def forks(make_cli: Any) -> Iterator[Callable[..., Any]]:
    """Exit code and words of a pytest in a process of its own."""
    cli = make_cli()
    process = subprocess.Popen(
        [sys.executable, str(HERE / "forks.py")], env=cli.environment({"PYTEST_ADDOPTS": ""}), cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdin and process.stdout
    reads, log = process.stdin, cli.folder / "log"

    def run(*arguments: str, **environment: str) -> tuple[int, str]:
        order = {"arguments": arguments, "environment": environment, "log": str(log)}
        print(json.dumps(order), file=reads, flush=True)
        code = int(process.stdout.readline()) if process.stdout else None
        words = log.read_text()
        log.unlink()
        assert code is not None
        return code, words

    with process:
        yield run
        reads.close()


@pytest.fixture
def run_pytest(forks: Callable[..., Any]) -> Callable[..., tuple[int, str]]:
    # Plain assertions: rewriting them takes longer than most tests, and only that one failed is looked at.
    return lambda *arguments, **env: forks("-q", "-p", "no:cacheprovider", "--assert=plain", *arguments, **env)


@pytest.fixture
def plant(run_pytest: Callable[..., Any]) -> Callable[..., tuple[int, str]]:
    """Tests while the module says `after` where it says `before`."""

    def planted(module: str, before: str, after: str, *tests: str) -> tuple[int, str]:
        mistake = json.dumps({"module": module, "before": before, "after": after})
        found: tuple[int, str] = run_pytest("-p", "plant", *tests, PLANTED=mistake)
        return found

    return planted


@pytest.fixture
def turns_red(plant: Callable[..., Any]) -> Callable[..., None]:
    """The test fails by an assertion of its own under the mistake."""

    def red(module: str, before: str, after: str, test: str) -> None:
        code, words = plant(module, before, after, test)
        assert code == pytest.ExitCode.TESTS_FAILED, words

    return red


@pytest.fixture
def are_green(run_pytest: Callable[..., Any]) -> Callable[..., None]:
    """The tests pass when nothing is wrong."""

    def green(tests: Collection[str]) -> None:
        code, words = run_pytest(*sorted(tests))
        assert code == pytest.ExitCode.OK, words
        assert f"{len(tests)} passed" in words

    return green
