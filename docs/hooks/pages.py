"""Pages of the site that live elsewhere in the repository, and the links between them.

In: Markdown whose links are right where the repository is read. Out: the same with links that are right in the site.
README.md is its first page; what a page links to outside of docs/, such as a configuration, is in the site too.
"""

import posixpath
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[2]
MOVED = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"\]\((?![a-z+]+:|#)([^)\s#]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig, **_: Any) -> MkDocsConfig:
    """The decisions are listed by their files; a page that nothing lists comes last."""
    docs = Path(config.docs_dir)
    config.nav = _with_list(config.nav, "decisions/", _listed(docs, docs.glob("decisions/*.md")))
    named = str(config.nav)
    if more := _listed(docs, (page for page in docs.glob("*.md") if f"'{page.name}'" not in named)):
        config.nav.append({"More": more})
    return config


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    for source, name in MOVED.items():
        files.append(File.generated(config, name, content=in_site((ROOT / source).read_text(), source)))
    texts = [(f"docs/{file.src_uri}", file.content_string) for file in files.documentation_pages() if file.abs_src_path]
    texts += [(source, (ROOT / source).read_text()) for source in MOVED]
    for path in sorted({path for source, text in texts for path in _outside(text, source)}):
        for name, content in _copies(path):
            files.append(File.generated(config, name, content=content, inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    return in_site(markdown, f"docs/{page.file.src_uri}") if page.file.abs_src_path else markdown


def in_site(markdown: str, source: str) -> str:
    """The text of a file of the repository with its relative links as the site has them."""
    page = _place(source)

    def moved(link: re.Match[str]) -> str:
        place = posixpath.relpath(_place(_target(source, link[1])), posixpath.dirname(page) or ".")
        return f"]({place}{link[2] or ''})"

    return "".join(part if part.startswith("```") else LINK.sub(moved, part) for part in FENCE.split(markdown))


def _target(source: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def _place(path: str) -> str:
    """Where the site has a file or folder of the repository."""
    if path in MOVED:
        return MOVED[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"repository/{path}/index.md" if (ROOT / path).is_dir() else f"repository/{path}"


def _outside(markdown: str, source: str) -> set[str]:
    text = "".join(part for part in FENCE.split(markdown) if not part.startswith("```"))
    targets = {_target(source, link) for link, _ in LINK.findall(text)}
    return {path for path in targets if not path.startswith("docs/") and path not in MOVED and (ROOT / path).exists()}


def _copies(path: str) -> list[tuple[str, str]]:
    """A file; or a folder's files and a page that lists them."""
    if (ROOT / path).is_file():
        return [(_place(path), (ROOT / path).read_text())]
    names = sorted(entry.name for entry in (ROOT / path).iterdir() if entry.is_file())
    listed = "".join(f"* [{name}]({name})\n" for name in names)
    return [(_place(path), f"# {path}\n\n{listed}"), *(copy for name in names for copy in _copies(f"{path}/{name}"))]


def _listed(docs: Path, pages: Iterable[Path]) -> list[dict[str, str]]:
    return [{_title(page): str(page.relative_to(docs))} for page in sorted(pages)]


def _title(page: Path) -> str:
    return page.read_text().partition("\n")[0].lstrip("# ")


def _with_list(nav: Any, name: str, pages: list[dict[str, str]]) -> Any:
    """The navigation with `pages` where it says `name`."""
    if isinstance(nav, list):
        return [_with_list(entry, name, pages) for entry in nav]
    if isinstance(nav, dict):
        return {title: _with_list(entry, name, pages) for title, entry in nav.items()}
    return pages if nav == name else nav
