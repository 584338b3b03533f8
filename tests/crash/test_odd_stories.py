"""Death where a plain run never comes to: what a lost answer, a refusal, a stop or a second job lead to.

And the proof that nothing is left out: every effect that the code has is one that somebody dies at.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

import gemini_batch
from gemini_batch import effects
from gemini_batch.gemini import client  # noqa: F401 - its points are known once it is imported
from gemini_batch.jobs.events import Event
from gemini_batch.ledger import posix  # noqa: F401
from tests.crash.lab import At, Story
from tests.crash.stories import ODD, OF_A_FLEET, PLAIN

READS = ("store.read", "store.exists", "store.names", "store.modified")

CODE = Path(gemini_batch.__file__).parent

NO_STORY = ("emulator/", "gemini/client", "ledger/posix", "ledger/objects", "ledger/store", "jobs/paced")
"""What is beyond the port, or is the port, or stands before it for everybody."""

RECEIVERS = {"store", "_store", "_root", "open_store", "remote"}
"""What the code calls whatever has effects."""

WHAT_TO_DO = "tell a story in tests/crash/stories.py that comes to it, or let a worker of a fleet die at it"


@pytest.fixture(scope="module")
def new(told: Any) -> Callable[[Story], list[At]]:
    """The effects of a story that no earlier one has, or not for the same reason: all changes, others once."""

    def kind(at: At, path: tuple[str, ...]) -> tuple[str, ...]:
        return (at.name, *(() if at.point in READS else path))

    def found(story: Story) -> list[At]:
        earlier = [PLAIN, *ODD[: ODD.index(story)]]
        known = {kind(at, path) for one in earlier for at, path in told(one).seen.items()}
        fresh = {at: kind(at, path) for at, path in told(story).seen.items() if kind(at, path) not in known}
        first = {same: at for at, same in reversed(fresh.items())}
        return [at for at in fresh if at.counts and (at.changes or at in first.values())]

    return found


@pytest.mark.parametrize("story", ODD, ids=[story.name for story in ODD])
def test_whatever_new_effect_it_dies_at_the_next_process_finishes_and_buys_nothing_twice(
    story: Story, lab: Any, told: Any, new: Any
) -> None:
    troubles = {str(at): trouble for at in new(story) if (trouble := lab.trouble(told(story), at))}
    assert not troubles, "\n".join(f"{k}: {v}" for k, v in troubles.items())
    assert new(story), "the story has nothing new to tell"


def test_every_effect_of_the_code_is_died_at(told: Any) -> None:
    """By the place that it stands at: the code is read for calls of a store or of the service. What only reads a store
    leaves the world as it is."""
    died_at = {(at.point, path[0]) for story in (PLAIN, *ODD) for at, path in told(story).seen.items()}
    written = set(calls_of_effects())
    assert died_at - written == set(), "teach RECEIVERS what this effect is called on"
    assert {place for place in written - died_at if place[0] not in READS} == OF_A_FLEET, WHAT_TO_DO


def test_every_point_is_died_at(told: Any) -> None:
    seen = {at.point for story in (PLAIN, *ODD) for at in told(story).seen}
    assert {point for point in effects.POINTS if point.startswith(("store.", "remote."))} - seen == set(), WHAT_TO_DO


def test_every_kind_of_record_is_died_before(told: Any) -> None:
    seen = {at.about for story in (PLAIN, *ODD) for at in told(story).seen if at.point == "store.create"}
    assert {f"ledger: {event.__name__}" for event in get_args(Event)} - seen == set(), WHAT_TO_DO


def calls_of_effects() -> Iterator[tuple[str, str]]:
    """Point and place of each call in the code, as `module:function`."""
    methods = {point.partition(".")[2]: point for point in effects.POINTS}
    for path in sorted(CODE.rglob("*.py")):
        module = path.relative_to(CODE).with_suffix("").as_posix()
        if not module.startswith(NO_STORY):
            for name, call in _calls(ast.parse(path.read_text()), []):
                if call.attr in methods and _last_name(call.value) in RECEIVERS:
                    yield methods[call.attr], f"{module}:{name}"


def _calls(node: ast.AST, names: list[str]) -> Iterator[tuple[str, ast.Attribute]]:
    for child in ast.iter_child_nodes(node):
        inner = names
        if isinstance(child, ast.FunctionDef):
            inner = [*names, child.name, "<locals>"]
        elif isinstance(child, ast.ClassDef):
            inner = [*names, child.name]
        elif isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute):
            yield ".".join(names).removesuffix(".<locals>"), child.func
        yield from _calls(child, inner)


def _last_name(of: ast.expr) -> str:
    """`self.files.store` is called `store`."""
    of = of.func if isinstance(of, ast.Call) else of
    return of.attr if isinstance(of, ast.Attribute) else of.id if isinstance(of, ast.Name) else ""
