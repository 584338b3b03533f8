"""Whether a reply has the shape of a recorded one: the same members, types and kinds of text, whatever the values.

A shape is JSON. A member called "x?" may be absent, and no member may be there that the shape does not name. A list of
one shape is one or more of it, any other list exactly its items. In text "<kind>" is one of `KINDS`, "<A|B>" one of
these words, all else is meant literally. "<recorded x>" is the reply in recorded/x.json.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("recorded")

_SECOND = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}"
KINDS = {
    "int64": r"0|-?[1-9][0-9]{0,18}",
    "count": r"[1-9][0-9]{0,18}",  # an int64 whose zero is left out
    "time-ns": _SECOND + r"\.[0-9]{9}Z",
    "time-us": _SECOND + r"(\.[0-9]{3}|\.[0-9]{6})?Z",  # trailing zeros go by threes, as proto-JSON drops them
    "time": _SECOND + r"(\.([0-9]{3}){1,3})?Z",
    "seconds": r"[0-9]+(\.[0-9]{1,9})?s",
    "id12": r"[a-z0-9]{12}",
    "id36": r"[a-z0-9]{36}",
    "sha256": r"[A-Za-z0-9+/]{86}==",  # base64 of 64 hex digits
    "base64": r"[A-Za-z0-9+/]+={0,2}",
    "base64url": r"[A-Za-z0-9_-]+",
    "origin": r"https?://[^/]+",
    "text": r"(?s:.+)",
    "rest": r"(?s:.*)",
}
NUMBERS: dict[str, tuple[type, ...]] = {"<integer>": (int,), "<number>": (int, float)}


@cache
def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())
    return found


def differences(shape: Any, found: Any, where: str = "reply") -> Iterator[str]:
    """One sentence each; none for a match."""
    match shape:
        case dict() if isinstance(found, dict):
            yield from _of_members(shape, found, where)
        case list() if isinstance(found, list):
            yield from _of_items(shape, found, where)
        case str() if shape.startswith("<recorded "):
            yield from differences(recorded(shape[len("<recorded ") : -1])["reply"], found, where)
        case str() if shape in NUMBERS:
            if type(found) not in NUMBERS[shape]:
                yield f"{where} is {found!r}, not {shape}"
        case str() if isinstance(found, str):
            if not _pattern(shape).fullmatch(found):
                yield f"{where} is {found!r}, not {shape!r}"
        case _:
            if type(found) is not type(shape) or found != shape:
                yield f"{where} is {found!r}, not {shape!r}"


def _of_members(shape: dict[str, Any], found: dict[str, Any], where: str) -> Iterator[str]:
    known = {name.removesuffix("?") for name in shape}
    yield from (f"{where}.{name} is not in the recording" for name in found if name not in known)
    for name, inner in shape.items():
        plain = name.removesuffix("?")
        if plain in found:
            yield from differences(inner, found[plain], f"{where}.{plain}")
        elif plain == name:
            yield f"{where}.{name} is missing"


def _of_items(shape: list[Any], found: list[Any], where: str) -> Iterator[str]:
    shapes = shape * max(len(found), 1) if len(shape) == 1 else shape
    if len(shapes) != len(found):
        yield f"{where} has {len(found)} items, not {len(shapes)}"
    for position, (inner, item) in enumerate(zip(shapes, found, strict=False)):
        yield from differences(inner, item, f"{where}[{position}]")


@cache
def _pattern(shape: str) -> re.Pattern[str]:
    pieces = re.split("<([^<>]+)>", shape)
    pieces[::2] = map(re.escape, pieces[::2])
    pieces[1::2] = (f"({kind if '|' in kind else KINDS[kind]})" for kind in pieces[1::2])
    return re.compile("".join(pieces))
