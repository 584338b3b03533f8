"""The pages and their code blocks, as Sybil reads them.

In: README.md and docs/. Out: blocks by language, in order, with what a line of a page says of itself: the name of the
file that it is, how the command exits.
"""

import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sybil import Document, Example, Region
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]

ELSEWHERE = {
    "README.md": "tests/acceptance/test_readme.py",
    "docs/emulator.md": "tests/integration/test_emulator_docs.py",
}
"""Pages whose blocks another file runs, all of them."""

RUN_HERE = {"bash", "python", "toml", "json", "jsonl", "yaml"}
OUTPUT = {"", "text"}
"""What a program printed, or a drawing. Behind a Python block it is what that block printed, and is compared."""

LEXER = FencedCodeBlockLexer(language=r"[^\n]*", mapping={"language": "language", "source": "source"})


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    """Of the opening fence, from 1."""
    language: str
    text: str
    file: str | None = None
    """The file that it is: ```python title="schemas.py", or a first line `# schemas.py`."""
    directly_follows: str = ""
    """Language of the block before, if nothing stands between the two."""

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_output(self) -> bool:
        return self.language in OUTPUT


@dataclass(frozen=True)
class Line:
    """A command of a bash block: its words, whether it stays in the background, how it exits."""

    words: tuple[str, ...]
    in_background: bool
    exits: int


@cache
def blocks(page: str) -> tuple[Block, ...]:
    text = (ROOT / page).read_text()
    document = Document(text, str(ROOT / page))
    found: list[Block] = []
    end = 0
    for region in LEXER(document):
        between = text[end : region.start].strip()
        before = found[-1].language if found and not between else ""
        line = text.count("\n", 0, region.start) + 1
        language, _, title = region.lexemes["language"].strip().partition(" ")
        source = str(region.lexemes["source"])
        found.append(Block(page, line, language, source, _file(title, source), before))
        end = region.end
    return tuple(found)


def _file(title: str, text: str) -> str | None:
    named = re.fullmatch(r'title="([\w.-]+)"', title) or re.match(r"# (\w+\.py)\n", text)
    return named[1] if named else None


def example(block: Block, namespace: dict[str, object]) -> Example:
    """A Python block as Sybil evaluates it: a traceback has the lines of the page."""
    document = Document((ROOT / block.page).read_text(), str(ROOT / block.page))
    region = next(one for one in LEXER(document) if document.text.count("\n", 0, one.start) + 1 == block.line)
    parsed = Region(region.start, region.end, parsed=region.lexemes["source"])
    return Example(document, block.line, 0, parsed, namespace)


def needs_shell(text: str) -> bool:
    """Whether it takes a shell to understand it: here documents, pipes, substitutions, redirections."""
    return bool(re.search(r"<<|\$\(|\s[|>]\s|\bfor\b.*\bdo\b", text))


def lines(text: str) -> list[Line]:
    """The commands of a bash block that needs no shell."""
    found = []
    for raw in text.replace("\\\n", " ").splitlines():
        words = shlex.split(raw, comments=True)
        exits = re.search(r"# exits (\d+)", raw)
        if words:
            background = words[-1] == "&"
            found.append(Line(tuple(words[:-1] if background else words), background, int(exits[1]) if exits else 0))
    return found
