"""What a program may hand over as prompts, as something that a manifest is read from.

In: a list of prompts, a path or URL, or anything that is a table. Out: the path or URL as text, or an Arrow table.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from gemini_batch.errors import BadInput
from gemini_batch.parts import PARTS

PNG_MODES = {"1", "L", "LA", "P", "RGB", "RGBA"}

ARROW = ("__arrow_c_stream__", "__arrow_c_array__")
"""Who has one of these hands itself over as Arrow: tables, pandas and polars frames, DuckDB relations."""

SENT = frozenset({"text", "inline_data", "file_data", "media_resolution"})
"""Fields of a `types.Part` that a batch request is made of here."""


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
    parts = [
        [_part(part, row, at) for at, part in enumerate(_prompt(prompt, row))] for row, prompt in enumerate(prompts)
    ]
    if not parts:
        raise BadInput("prompts is empty")
    try:
        return pa.table({"parts": pa.array(parts, PARTS)})
    except UnicodeEncodeError as error:
        raise BadInput(f"a prompt holds text that is not Unicode (a lone surrogate): {error}") from None


def _prompt(prompt: Any, row: int) -> Sequence[Any]:
    if isinstance(prompt, list | tuple):
        return prompt
    raise BadInput(f"prompt {row} is a {type(prompt).__name__}; a prompt is a list of parts, such as [{prompt!r:.40}]")


def _part(part: Any, row: int, at: int) -> dict[str, Any]:
    """One part of a list prompt as a part of the manifest."""
    if isinstance(part, str):
        return {"text": part}
    if isinstance(part, Path):
        return {"path": str(part.absolute())}
    if isinstance(part, bytes | bytearray | memoryview):
        return {"data": bytes(part)}
    if hasattr(part, "save") and hasattr(part, "convert"):  # PIL.Image without importing it for text-only callers
        return {"data": _png(part, row, at)}
    if type(part).__name__ == "Part" and type(part).__module__.startswith("google.genai"):
        return _of_sdk_part(part, row, at)
    raise BadInput(
        f"prompt {row}, part {at} is a {type(part).__name__}; parts are str, Path, PIL.Image, bytes or types.Part"
    )


def _of_sdk_part(part: Any, row: int, at: int) -> dict[str, Any]:
    if others := sorted(name for name in part.model_fields_set - SENT if getattr(part, name) is not None):
        raise BadInput(f"prompt {row}, part {at}: a types.Part with {others[0]} cannot be sent here")
    if part.text is not None:
        return {"text": part.text}
    level = part.media_resolution.level if part.media_resolution else None
    detail = {"media_resolution": level.value} if level and not level.value.endswith("_UNSPECIFIED") else {}
    if part.inline_data is not None:
        return {"data": part.inline_data.data, "mime_type": part.inline_data.mime_type, **detail}
    if part.file_data is not None:
        return {"uri": part.file_data.file_uri, "mime_type": part.file_data.mime_type, **detail}
    raise BadInput(f"prompt {row}, part {at}: a types.Part of text, inline_data or file_data is due")


def _png(picture: Any, row: int, at: int) -> bytes:
    body = io.BytesIO()
    try:
        kept = picture if picture.mode in PNG_MODES else picture.convert("RGB")
        kept.save(body, "PNG")
    except (OSError, ValueError, SyntaxError) as error:  # a file that ends early, a mode without a picture
        raise BadInput(f"prompt {row}, part {at}: the picture cannot be written as PNG: {error}") from None
    return body.getvalue()
