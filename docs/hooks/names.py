"""The reference of the library: below the words of library.md, each public name from its docstring."""

from typing import Any

import gemini_batch

PAGE = "library.md"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    if page.file.src_uri != PAGE:
        return markdown
    names = sorted((name for name in gemini_batch.__all__ if not name.startswith("__")), key=_is_error)
    return "\n\n".join([markdown.rstrip(), "## Reference", *(f"::: gemini_batch.{name}" for name in names)]) + "\n"


def _is_error(name: str) -> bool:
    """Errors come last."""
    found = getattr(gemini_batch, name)
    return isinstance(found, type) and issubclass(found, Exception)
