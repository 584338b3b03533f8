"""Prompts as programs hold them: lists of str, Path, PIL.Image, bytes and `types.Part`.

In: such lists. Out: parts under the fields of a manifest's `parts`, or a table of them. No file is opened here.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from gemini_batch.errors import BadInput
from gemini_batch.parts import PARTS

PNG_MODES = {"1", "L", "LA", "P", "RGB", "RGBA"}


def prompts_table(prompts: Sequence[Any]) -> pa.Table:
    """Prompts as a table with the column `parts`.

    Raises:
        BadInput: there are none, or one of another kind; the prompt and the part are named.
    """
    if not prompts:
        raise BadInput("prompts is empty")
    try:
        return pa.table({"parts": pa.array([read_prompt(prompt, row) for row, prompt in enumerate(prompts)], PARTS)})
    except UnicodeEncodeError as error:
        raise BadInput(f"a prompt holds text that is not Unicode (a lone surrogate): {error}") from None


def read_prompt(prompt: Any, row: int) -> list[dict[str, Any]]:
    """The parts of one prompt; fields that have no value are left out.

    Raises:
        BadInput: it is no list, or has a part of another kind.
    """
    if not isinstance(prompt, list | tuple):
        kind = type(prompt).__name__
        raise BadInput(f"prompt {row} is a {kind}; a prompt is a list of parts, such as [{prompt!r:.40}]")
    return [_part(part, row, at) for at, part in enumerate(prompt)]


def _part(part: Any, row: int, at: int) -> dict[str, Any]:
    if isinstance(part, str):
        return {"text": part}
    if isinstance(part, Path):
        return {"path": str(part.absolute())}
    if isinstance(part, bytes | bytearray | memoryview):
        return {"data": bytes(part)}
    if hasattr(part, "save") and hasattr(part, "convert"):  # PIL.Image without importing it for text-only callers
        return {"data": _png(part)}
    if type(part).__name__ == "Part" and type(part).__module__.startswith("google.genai"):
        return _of_sdk_part(part, row, at)
    raise BadInput(
        f"prompt {row}, part {at} is a {type(part).__name__}; parts are str, Path, PIL.Image, bytes or types.Part"
    )


def _of_sdk_part(part: Any, row: int, at: int) -> dict[str, Any]:
    if part.text is not None:
        return {"text": part.text}
    level = getattr(getattr(part, "media_resolution", None), "level", None)
    own = {} if level is None else {"media_resolution": str(getattr(level, "value", level))}
    if part.inline_data is not None:
        return {"data": part.inline_data.data, "mime_type": part.inline_data.mime_type, **own}
    if part.file_data is not None:
        return {"uri": part.file_data.file_uri, "mime_type": part.file_data.mime_type, **own}
    raise BadInput(f"prompt {row}, part {at}: a types.Part of text, inline_data or file_data is due")


def _png(picture: Any) -> bytes:
    body = io.BytesIO()
    kept = picture if picture.mode in PNG_MODES else picture.convert("RGB")
    kept.save(body, "PNG")
    return body.getvalue()
