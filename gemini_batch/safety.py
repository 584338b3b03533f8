"""Safety settings as text: `CATEGORY=THRESHOLD` each, in the REST spelling of both. Pure."""

import re
from collections.abc import Mapping
from typing import Any

HARM = "HARM_CATEGORY_"


def read_safety_settings(value: Any) -> tuple[str, ...]:
    """`CATEGORY=THRESHOLD`, however it was given: such texts, with commas between them or in a list; a mapping; or
    settings as the SDK has them.

    Raises:
        ValueError: something else.
    """
    if isinstance(value, str):
        value = list(filter(None, value.split(",")))
    if isinstance(value, Mapping):
        value = [f"{category}={threshold}" for category, threshold in value.items()]
    return tuple(_safety_setting(one) for one in value)


def _safety_setting(one: Any) -> str:
    if not isinstance(one, str):
        said = one if isinstance(one, Mapping) else vars(one)
        named = [said.get(name) for name in ("category", "threshold")]
        one = "=".join(str(getattr(name, "value", name) or "") for name in named)
    category, _, threshold = (part.strip().upper() for part in one.partition("="))
    if not re.fullmatch(r"[A-Z_]+=[A-Z_]+", f"{category}={threshold}"):
        raise ValueError(f"CATEGORY=THRESHOLD is due, such as HARM_CATEGORY_HARASSMENT=BLOCK_NONE, not {one!r}")
    return f"{category if category.startswith(HARM) else HARM + category}={threshold}"
