"""A prompt as a program holds it: a list of str, Path, PIL.Image, bytes and `types.Part`.

In: such a list. Out: its parts under the fields of a manifest's `parts`. No file is opened here.
"""

import io
from pathlib import Path
from typing import Any

from gemini_batch.errors import BadInput

PNG_MODES = {"1", "L", "LA", "P", "RGB", "RGBA"}

SENT = frozenset({"text", "inline_data", "file_data", "media_resolution"})
"""Fields of a `types.Part` that a batch request is made of here."""


def read_prompt(prompt: Any, row: int) -> list[dict[str, Any]]:
    """The parts of one prompt; fields that have no value are left out.

    Raises:
        BadInput: it is no list, or has a part that cannot be sent; names the prompt and the part.
    """
    if not isinstance(prompt, list | tuple):
        kind = type(prompt).__name__
        raise BadInput(f"prompt {row} is a {kind}; a prompt is a list of parts, such as [{prompt!r:.40}]")
    return [_part(part, row, at) for at, part in enumerate(prompt)]


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
