"""The site builds without a warning and needs nothing from elsewhere; links are right, there and in the repository."""

import html
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from docpages import PAGES, ROOT
from mkdocs.commands.build import build
from mkdocs.config import load_config

import gemini_batch
from gemini_batch.cli import app
from gemini_batch.config import Options, option_name
from gemini_batch.given import variable

OF_OTHERS = ("docker ", "curl ")
"""Programs whose flags are not ours to check."""

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def prose(page: str) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)


class Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder, heard = tmp_path_factory.mktemp("site"), Warnings()
    logger = logging.getLogger("mkdocs")
    logger.addHandler(heard)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # as `make docs`
        config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder))
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
        config.plugins.on_shutdown()
    logger.removeHandler(heard)
    assert heard.said == []
    yield folder


def text_of(page: Path) -> str:
    body = re.findall(r"<article.*</article>", page.read_text(), re.DOTALL)[0]
    return html.unescape(re.sub(r"<[^>]+>", "", body))


# --- the site ---------------------------------------------------------------------------------------------------------


def test_a_page_loads_nothing_from_another_machine(site: Path) -> None:
    loads = re.compile(
        r"<(?:script|img|iframe|source)[^>]*\ssrc=\"(?:https?:)?//|<link[^>]*href=\"(?:https?:)?//|@import"
    )
    assert [str(page) for page in site.rglob("*.html") if loads.search(page.read_text())] == []


def test_every_page_is_there_and_the_readme_is_the_first(site: Path) -> None:
    due = {page.removeprefix("docs/").replace(".md", ".html") for page in PAGES if page != "README.md"}
    assert due | {"index.html", "changelog.html", "commands.html"} <= {
        str(page.relative_to(site)) for page in site.rglob("*.html")
    }
    assert 'href="results.html"' in (site / "index.html").read_text()


def test_what_a_page_links_to_outside_of_docs_is_in_the_site(site: Path) -> None:
    assert (site / "repository/configs/limits.toml").read_text() == (ROOT / "configs/limits.toml").read_text()
    assert "line_blocked.json" in text_of(site / "repository/tests/contract/recorded/index.html")


def test_every_option_has_its_variable_and_key_and_every_command_its_part(site: Path) -> None:
    text = text_of(site / "commands.html")
    for field in Options.model_fields:
        name = option_name(field)
        assert variable(name) in text and f"\n{name}\n" in text, name
    for name, command in COMMANDS.items():
        assert re.search(rf"^{name}\b", text, re.MULTILINE), name
        assert {flag for param in command.params for flag in param.opts if flag.startswith("--")} <= set(
            re.findall(r"--[a-z-]+", text)
        )


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    page = (site / "library.html").read_text()
    assert [name for name in gemini_batch.__all__ if f'id="gemini_batch.{name}"' not in page] == ["__version__"]


def test_lists_and_tables_came_out_as_such(site: Path) -> None:
    """Python-Markdown wants an empty line before a list where GitHub does not."""
    raw = re.compile(r"^(?:\* |\d+\. |\|)", re.MULTILINE)
    pages = [
        page
        for page in site.rglob("*.html")
        if raw.search(re.sub(r"<pre.*?</pre>", "", page.read_text(), flags=re.DOTALL))
    ]
    assert pages == []


# --- the repository ---------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_links_lead_somewhere_where_the_repository_is_read(page: str) -> None:
    for path, anchor in re.findall(r"\]\((?![a-z]+:)([^)\s#]*)#?([^)\s]*)\)", prose(page)):
        there = (ROOT / page).parent / path if path else ROOT / page
        assert there.exists(), path
        assert not anchor or anchor in anchors(there), f"{path}#{anchor}"


@pytest.mark.parametrize("page", PAGES)
def test_no_cell_of_a_table_holds_a_bar(page: str) -> None:
    """GitHub ends a cell there even within code, and the site shows the backslash that would prevent it."""
    rows = [line for line in prose(page).splitlines() if line.startswith("|")]
    assert [code for row in rows for code in re.findall(r"`[^`]*`", row) if "|" in code] == []


@pytest.mark.parametrize("page", PAGES)
def test_nothing_reads_as_html(page: str) -> None:
    """`list<string>` outside of code is a tag, and vanishes."""
    text = re.sub(r"`+[^`]*`+", "", prose(page))
    assert re.findall(r"<(?!https?:)/?[a-z][^>]*>", text) == []


def flags_of(command: Any) -> set[str]:
    """Those that turn a switch off included."""
    return {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)}


@pytest.mark.parametrize("page", PAGES)
def test_every_command_in_a_sentence_exists_and_takes_its_flags(page: str) -> None:
    for said in re.findall(r"`(gemini-batch-dist [^`]*)`", prose(page)):
        _, name, *words = said.split()
        assert name in COMMANDS or name.startswith("-") or name == "COMMAND", said
        if name in COMMANDS:
            known = flags_of(COMMANDS[name]) | {"-h", "--help"}
            assert {word.partition("=")[0] for word in words if word.startswith("-")} <= known, said


@pytest.mark.parametrize("page", PAGES)
def test_every_flag_in_a_sentence_is_one_of_ours(page: str) -> None:
    known = set().union(*map(flags_of, COMMANDS.values()))
    known |= {"--help", "--version", "--install-completion"}
    for program in (ROOT / "benchmarks").glob("*.py"):
        known |= set(re.findall(r'"(--[a-z-]+)"', program.read_text()))
    spans = [span for span in re.findall(r"`([^`]+)`", prose(page)) if not span.startswith(OF_OTHERS)]
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", " ".join(spans))) <= known
