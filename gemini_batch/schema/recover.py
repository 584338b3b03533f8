"""JSON out of an answer that wraps it: in a fence, in prose, after a leaked thought (python-genai #2121). Pure.

In: a text that is not JSON as it stands. Out: the pieces of it that are complete JSON values and may be the answer.
Nothing is ever repaired: a piece is taken as it stands, and a text with a bracket that opens no complete value gives
nothing at all, because what stands inside it may be a part of something that was cut.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

FENCE = re.compile(r"^[ \t]*```[ \t]*(\w*)[ \t\r]*$", re.MULTILINE)
"""A line that begins or ends a fence. No JSON holds one: its strings have no line ends."""

BRACKET = re.compile(r"[][{}]")
RUNS_ON = re.compile(r"\w")
INDENT = 100
"""Characters before a bracket that are looked at: more blanks than that introduce nothing."""
ORDINARY = {"", "json"}


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


_SCAN = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse)
"""Finds where a value ends, by RFC 8259; numbers are left as they are."""


def wrapped(text: str) -> list[str]:
    """Each piece that may be the answer, once. None for a text that begins like a JSON string: it was one, cut."""
    if text.lstrip()[:1] == '"':
        return []
    try:
        found = list(_in_fences(text) if FENCE.search(text) else _in_prose(text))
    except (ValueError, RecursionError):
        return []
    return list(dict.fromkeys(found))


def the_only(text: str, read: Callable[[str], T], refusal: type[Exception]) -> list[T]:
    """What `read` makes of the one piece that it does not refuse; empty where that is none, or more than one."""
    found: list[T] = []
    for piece in wrapped(text):
        if piece == text:  # refused already
            continue
        try:
            found.append(read(piece))
        except refusal:
            continue
    return found if len(found) == 1 else []


def _in_fences(text: str) -> Iterator[str]:
    """What stands alone in a fence that says `json` or nothing; a fence that never ends reads as prose.

    Raises:
        ValueError: such a fence holds something else.
    """
    marks = list(FENCE.finditer(text))
    if len(marks) % 2:
        yield from _in_prose(FENCE.sub("", text))
        return
    for opening, closing in zip(marks[::2], marks[1::2], strict=True):
        piece = text[opening.end() : closing.start()].strip()
        if opening[1].lower() in ORDINARY and piece:
            if _end(piece, 0) != len(piece):
                raise ValueError("a fence with more than one value")
            yield piece


def _in_prose(text: str) -> Iterator[str]:
    """Objects wherever they stand, lists and empty objects from the first that a line or a colon begins: before it, [1]
    may be a footnote; after it, whatever may be the answer counts.

    Raises:
        ValueError: a bracket opens no complete value or closes none, or a value runs on into a word.
    """
    at, begun = 0, False
    while bracket := BRACKET.search(text, at):
        start, at = bracket.start(), _end(text, bracket.start())
        if RUNS_ON.match(text, at):
            raise ValueError("no value ends there")
        piece = text[start:at]
        named = piece[0] == "{" and piece.strip("{} \t\r\n") != ""
        before = text[max(0, start - INDENT) : start].rstrip(" \t")
        begun = begun or named or before.endswith(("\n", ":")) or (not before and start <= INDENT)
        if begun:
            yield piece


def _end(text: str, start: int) -> int:
    """
    Raises:
        ValueError: no complete value begins there.
    """
    end: Any = _SCAN.raw_decode(text, start)[1]
    return int(end)
