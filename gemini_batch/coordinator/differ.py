"""What tells two questions apart, for people. Pure.

In: what a run asks and what is asked now. Out: a line for each field that differs, old and new, each cut so that the
difference can be seen.
"""

from collections.abc import Iterator
from typing import Any

import orjson

from gemini_batch.records import Asked, Limits

SHOWN = 80
"""Characters of a value."""

BEFORE = 20
"""Of these, ahead of the first difference."""

MOST = 20
"""Lines on a schema: another schema differs everywhere."""

SCHEMA = "schema.json_schema."

NAMES = {"rows_digest": "content of the rows (sha256)", "response_schema": "schema"}

OF_ROWS = ("shard sizes hold for rows that are not planned yet: those of retries and later rounds",)
"""What there is to say of limits that change too late for most of the run."""

SIZES = {"max_requests_per_shard", "max_bytes_per_shard", "max_tokens_per_shard"}


def differences(old: Asked, new: Asked) -> list[str]:
    """A line for each field of the identity that differs: settings, schema, rows, endpoint, project."""
    before, after = dict(_flat(old.identity())), dict(_flat(new.identity()))
    differing = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    surplus = [name for name in differing if name.startswith(SCHEMA)][MOST:]
    found = [_line(name, before.get(name), after.get(name)) for name in differing if name not in surplus]
    return [*found, f"schema: {len(surplus):,} more differences"] if surplus else found


def changes(old: Limits, new: Limits) -> list[str]:
    """A line for each limit that changes, old and new, and what is to know of it."""
    before, after = old.model_dump(), new.model_dump()
    changed = [name for name in before if before[name] != after[name]]
    said = [f"{name} {_shown(before[name])} -> {_shown(after[name])}" for name in changed]
    return [*said, *(OF_ROWS if SIZES.intersection(changed) else ())]


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested objects by their path."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            outer = NAMES.get(str(key), str(key))
            yield from _flat(inner, f"{name}.{outer}" if name else outer)
    else:
        yield name, value


def _line(name: str, old: Any, new: Any) -> str:
    before, after = _shown(old), _shown(new)
    same = next((at for at, (one, other) in enumerate(zip(before, after, strict=False)) if one != other), None)
    start = max(0, (min(len(before), len(after)) if same is None else same) - BEFORE)
    return f"{name}: {_cut(before, start)} -> {_cut(after, start)}"


def _shown(value: Any) -> str:
    return "(not given)" if value is None else orjson.dumps(value).decode()


def _cut(text: str, start: int) -> str:
    if len(text) <= SHOWN:
        return text
    start = min(start, max(0, len(text) - SHOWN))
    end = start + SHOWN
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")
