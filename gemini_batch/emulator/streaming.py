"""An answer in pieces, as streamGenerateContent sends it.

In: a GenerateContentResponse. Out: several whose texts joined are its text; the last one has the finish reason.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from gemini_batch.emulator.wire import Json

_PIECES = 4
_SHORTEST = 16


def pieces(response: Json) -> list[Json]:
    """A response that has not exactly one candidate with parts, such as a blocked one, is a piece of its own."""
    match response.get("candidates"):
        case [{"content": {"parts": [_, *_] as parts} as content} as candidate]:
            heads = {name: value for name, value in candidate.items() if name != "finishReason"}
            shown = [heads | {"content": content | {"parts": [part]}} for one in parts for part in _cut(one)]
            shown[-1] |= candidate | {"content": shown[-1]["content"]}
            return [response | {"candidates": [one]} for one in shown]
    return [response]


def _cut(part: Any) -> Iterator[Any]:
    text = part.get("text") if isinstance(part, dict) else None
    if not isinstance(text, str) or not text:
        yield part
        return
    step = max(_SHORTEST, -(-len(text) // _PIECES))
    for start in range(0, len(text), step):
        yield part | {"text": text[start : start + step]}


def as_events(shown: Iterable[Json]) -> Iterator[bytes]:
    """Server-sent events, as `?alt=sse` asks for."""
    return (b"data: %b\r\n\r\n" % orjson.dumps(one) for one in shown)


def as_array(shown: Iterable[Json]) -> Iterator[bytes]:
    """A JSON array, written as it grows."""
    for position, one in enumerate(shown):
        yield (b"," if position else b"[") + orjson.dumps(one) + b"\r\n"
    yield b"]"
