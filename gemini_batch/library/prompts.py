"""What a program may hand over as prompts, as something that a manifest is read from.

In: a list of prompts, a path or URL, or anything that is a table. Out: the path or URL as text, or an Arrow table.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from gemini_batch.errors import BadInput
from gemini_batch.parts import PARTS
from gemini_batch.prompts import read_prompt

ARROW = ("__arrow_c_stream__", "__arrow_c_array__")
"""Who has one of these hands itself over as Arrow: tables, pandas and polars frames, DuckDB relations."""


def is_list(prompts: Any) -> bool:
    """Whether these are prompts themselves, and no manifest or table of them."""
    return not isinstance(prompts, str | Path) and not _is_table(prompts)


def roots_of(prompts: Any) -> tuple[Path, ...] | None:
    """A list's paths were written by the caller and may lie anywhere; they are made absolute."""
    return (Path("/"),) if is_list(prompts) else None


def read_source(prompts: Any) -> str | pa.Table:
    """A manifest's path or URL, or the table of prompts.

    Raises:
        BadInput: they are neither, or a part is nothing that can be sent; names the prompt and the part.
    """
    if isinstance(prompts, str | Path):
        return str(prompts)
    return as_table(prompts) if _is_table(prompts) else _listed(prompts)


def read_replacement(rows: Any) -> str | pa.Table:
    """A manifest's path or URL, or a table, of rows with new content.

    Raises:
        BadInput: it is neither.
    """
    return str(rows) if isinstance(rows, str | Path) else as_table(rows)


def as_table(frame: Any) -> pa.Table:
    """Whatever hands itself over as Arrow, as a table.

    Raises:
        BadInput: it has no columns.
    """
    try:
        return pa.table(frame)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise BadInput(
            f"a {type(frame).__name__} is no table of prompts ({error}); give a frame with a column 'prompt', or a "
            "list of prompts"
        ) from None


def _is_table(prompts: Any) -> bool:
    return not isinstance(prompts, list | tuple) and any(hasattr(prompts, name) for name in ARROW)


def _listed(prompts: Any) -> pa.Table:
    if isinstance(prompts, Mapping | bytes) or not isinstance(prompts, Iterable):
        raise BadInput(
            f"prompts is a {type(prompts).__name__}; give a list of prompts, the path or URL of a manifest, or a table"
        )
    parts = [read_prompt(prompt, row) for row, prompt in enumerate(prompts)]
    if not parts:
        raise BadInput("prompts is empty")
    try:
        return pa.table({"parts": pa.array(parts, PARTS)})
    except UnicodeEncodeError as error:
        raise BadInput(f"a prompt holds text that is not Unicode (a lone surrogate): {error}") from None
