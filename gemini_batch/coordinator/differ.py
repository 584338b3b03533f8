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

ABSENT = object()
"""Stands for a field that one side does not have."""

SCHEMA = ("response_schema", "json_schema")

NAMES = {"rows_digest": "content of the rows (sha256)", "response_schema": "schema"}

Path = tuple[str, ...]

OF_ROWS = ("shard sizes hold for rows that are not planned yet: those of retries and later rounds",)
"""What there is to say of limits that change too late for most of the run."""

SIZES = {"max_requests_per_shard", "max_bytes_per_shard", "max_tokens_per_shard"}


def differences(old: Asked, new: Asked) -> list[str]:
    """A line for each field of the identity that differs: settings, schema, rows, endpoint, project."""
    before, after = dict(_leaves(old.identity())), dict(_leaves(new.identity()))
    differing = [path for path in {**before, **after} if before.get(path, ABSENT) != after.get(path, ABSENT)]
    beyond = {path[:steps] for path in differing for steps in range(len(path))}
    differing = [path for path in differing if path not in beyond]  # an object that is empty on one side
    surplus = set([path for path in differing if path[:2] == SCHEMA][MOST:])
    found = [
        _line(path, before.get(path, ABSENT), after.get(path, ABSENT)) for path in differing if path not in surplus
    ]
    return [*found, f"schema: {len(surplus):,} more differences"] if surplus else found


def changes(old: Limits, new: Limits) -> list[str]:
    """A line for each limit that changes, old and new, and what is to know of it."""
    before, after = old.model_dump(), new.model_dump()
    changed = [name for name in before if before[name] != after[name]]
    said = [f"{name} {_shown(before[name])} -> {_shown(after[name])}" for name in changed]
    return [*said, *(OF_ROWS if SIZES.intersection(changed) else ())]


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """What nested objects hold, by the names that lead there."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, (*path, name))
    else:
        yield path, value


def _line(path: Path, old: Any, new: Any) -> str:
    """One difference. Of long values the part is shown in which they differ."""
    before, after = _shown(old), _shown(new)
    same = next((at for at, (one, other) in enumerate(zip(before, after, strict=False)) if one != other), None)
    start = max(0, (min(len(before), len(after)) if same is None else same) - BEFORE)
    return f"{'.'.join(NAMES.get(name, name) for name in path)}: {_cut(before, start)} -> {_cut(after, start)}"


def _shown(value: Any) -> str:
    if value is ABSENT:
        return "(nothing)"
    return "(not given)" if value is None else orjson.dumps(value).decode()


def _cut(text: str, start: int) -> str:
    if len(text) <= SHOWN:
        return text
    start = min(start, max(0, len(text) - SHOWN))
    end = start + SHOWN
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")
