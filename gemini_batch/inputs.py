"""Files that the user names: read whole, or one message that names the option, the file and what is wrong."""

import json
from pathlib import Path
from typing import Any

from gemini_batch.errors import BadInput


def read_text(option: str, path: Path) -> str:
    """The text of a file given by an option.

    Raises:
        BadInput: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{option} {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{option} {path} is not UTF-8 text: {error}") from None


def read_json_object(option: str, path: Path) -> dict[str, Any]:
    """The JSON object in a file given by an option.

    Raises:
        BadInput: it cannot be read, is not JSON, or is not an object.
    """
    try:
        value = json.loads(read_text(option, path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadInput(f"{option} {path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadInput(f"{option} {path}: a JSON object is due, this is a {type(value).__name__}")
    return value
