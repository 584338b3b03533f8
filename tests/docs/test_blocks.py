"""Every code block of README.md and docs/ does what it shows: page by page, in order, in one folder, by an emulator."""

import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import typer
import yaml
from docfiles import FIRST
from docpages import ELSEWHERE, OUTPUT, PAGES, ROOT, RUN_HERE, Block, blocks, example
from docshell import CHECKED, Shell
from sybil.evaluators.python import PythonEvaluator

from gemini_batch.cli import app
from gemini_batch.config import resolve

RUN = [page for page in PAGES if page not in ELSEWHERE and any(not block.is_output for block in blocks(page))]


class Page:
    """A page under way: its shell and the names that its Python blocks have made."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._namespace: dict[str, object] = {"__name__": "__main__"}
        self._printed = ""

    def follow(self, block: Block) -> None:
        if block.is_output:
            if block.directly_follows == "python":
                assert self._printed.strip() == block.text.strip(), block.where
            return
        text = block.text
        path = self._shell.folder / (block.file or f"block.{block.language}")
        if block.file or block.language == "toml":
            path.write_text(text)
        match block.language:
            case "bash":
                self._shell.run(block)
            case "python" if not block.file:
                self._python(block)
            case "python":
                compile(text, str(block.file), "exec")
            case "toml":
                resolve({}, path, {})
            case "json":
                json.loads(text)
            case "jsonl":
                _ = [json.loads(line) for line in text.splitlines()]
            case "yaml":
                yaml.safe_load(text)
            case other:
                pytest.fail(f"{block.where}: nothing here runs {other!r}")

    def _python(self, block: Block) -> None:
        out = io.StringIO()
        with redirect_stdout(out):
            PythonEvaluator()(example(block, self._namespace))
        self._printed = out.getvalue()


@pytest.mark.parametrize("page", RUN)
def test_every_block_of_the_page_runs(page: str, shell: Shell) -> None:
    if page in FIRST:
        shell.type(*FIRST[page])
    reader = Page(shell)
    for block in blocks(page):
        reader.follow(block)
    shell.finish()


# --- nothing is left out in silence -----------------------------------------------------------------------------------


def test_every_block_is_of_a_kind_that_is_run_or_is_output() -> None:
    kinds = {block.language for page in PAGES for block in blocks(page)}
    assert kinds <= RUN_HERE | OUTPUT
    assert kinds >= {"bash", "python", "text"}, "the pages have more than this test can see"


def test_every_fence_is_seen() -> None:
    for page in PAGES:
        fences = [line for line in (ROOT / page).read_text().splitlines() if line.lstrip().startswith("```")]
        assert len(fences) == 2 * len(blocks(page)), page


def test_what_is_called_output_holds_no_command_to_type() -> None:
    """README.md has a list of all commands, which is held against the code below."""
    typed = ("$ ", "gemini-batch-dist ", "pip ", "python ", "make ", "docker ", "export ", "import ", "from ")
    output = [block for page in PAGES for block in blocks(page) if block.is_output and block != synopsis()]
    assert [block.where for block in output if any(line.startswith(typed) for line in block.text.splitlines())] == []


def synopsis() -> Block:
    (found,) = [block for block in blocks("README.md") if "gemini-batch-dist plan MANIFEST " in block.text]
    return found


def test_the_readme_lists_every_command() -> None:
    listed = {word for line in synopsis().text.splitlines() for word in commands_of(line)}
    assert listed == set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def commands_of(line: str) -> list[str]:
    """`pause|cancel [RUN]` and `audit [RUN] | doctor` are two each."""
    typed = line.removeprefix("gemini-batch-dist ").partition("  ")[0]
    return re.findall(r"[a-z]+", typed)


@pytest.mark.parametrize("page", ELSEWHERE)
def test_blocks_that_are_run_elsewhere_are_run_there(page: str) -> None:
    there = (ROOT / ELSEWHERE[page]).read_text()
    assert Path(page).name in there and "def test_every_block_is_" in there


def test_what_is_only_checked_is_little_and_says_why() -> None:
    assert set(CHECKED) == {"make", "pip", "docker"}
    assert all(check.__doc__ for check in CHECKED.values())
