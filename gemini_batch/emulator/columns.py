"""Where in a JSON text something stands: the parsers here tell what is wrong by its path, people look for a column."""

import re
from collections.abc import Sequence

import orjson

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[][{}:,]|[^][{}:,"\s]+')


def column_of(raw: bytes, path: Sequence[str | int]) -> int:
    """The first byte, counted from 1, of the member's name or the item that `path` leads to; 1 when there is none."""
    here: list[str | int] = []
    """The member or item in hand, of each message or list that is open."""
    is_name = False
    for token in _TOKEN.finditer(raw):
        word = token[0]
        if word in (b"}", b"]"):
            here.pop()
        elif word == b",":
            is_name = isinstance(here[-1], str)
            here[-1] = "" if is_name else here[-1] + 1  # type: ignore[operator]
        elif word != b":":
            if is_name:
                here[-1], is_name = orjson.loads(word), False
                begins = True
            else:
                begins = bool(here) and isinstance(here[-1], int)
            if begins and here == list(path):
                return token.start() + 1
            if word == b"{":
                here.append("")
                is_name = True
            elif word == b"[":
                here.append(0)
    return 1
