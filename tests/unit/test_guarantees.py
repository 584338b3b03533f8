"""What docs/guarantees.md promises is held by tests that exist."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guarantees.md"
TEXT = PAGE.read_text()
NODES = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)


@cache
def collected_from(path: str) -> set[str]:
    """Functions and classes of a module that pytest would collect."""
    names = set()
    for statement in ast.parse((ROOT / path).read_text()).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Assign):
            written = [node for target in statement.targets for node in ast.walk(target)]
            names |= {node.id for node in written if isinstance(node, ast.Name)}
    return {name for name in names if name.startswith(("test_", "Test"))}


def test_every_test_that_is_named_exists():
    assert len(NODES) > 50
    assert TEXT.count("::") == len(NODES), "a name that this test cannot read"
    assert [f"{path}::{name}" for path, name in NODES if name not in collected_from(path)] == []


def test_every_promise_and_every_fault_names_its_test():
    promises = re.findall(r"^\d+\. .*?(?=^\d+\. |^\*\*Assumed)", TEXT, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| (\d+) \|(.*)$", TEXT, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 29))
    without = [text for text in (*promises, *(row for _, row in rows)) if "::" not in text and "as 6;" not in text]
    assert (len(promises), without) == (10, [])


def test_readme_and_guide_lead_to_the_page():
    assert "](docs/guarantees.md)" in (ROOT / "README.md").read_text()
    assert "](guarantees.md)" in (ROOT / "docs" / "operations.md").read_text()
