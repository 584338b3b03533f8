"""What the result faults do to result lines and to a finished result file."""

import mmap
from array import array
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from gemini_batch.emulator.wire import Json

_INTERNAL = {"code": 13, "message": "An internal error has occurred. Please retry."}


def dump(line: Json) -> bytes:
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def spoil(fault: str, line: Json) -> list[Json | bytes]:
    """What stands in the result file in place of `line`: lines, or the bytes of what is none."""
    return _SPOILERS[fault](line)


def reverse_members(line: Json) -> Json:
    reordered = dict(reversed(line.items()))
    return {("status" if name == "error" else name): value for name, value in reordered.items()}


def _missing(line: Json) -> list[Json | bytes]:
    return []


def _duplicated(line: Json) -> list[Json | bytes]:
    return [line, line]


def _foreign(line: Json) -> list[Json | bytes]:
    link = {"metadata": {"key": "nobody-sent-this"}} if "metadata" in line else {"key": "nobody-sent-this"}
    return [line, _relinked(link, line)]


def _broken(line: Json) -> list[Json | bytes]:
    raw = dump(line)
    return [raw[: len(raw) // 2] + b"\n"]


def _error(line: Json) -> list[Json | bytes]:
    return [{**_link(line), "error": _INTERNAL}]


def _blocked(line: Json) -> list[Json | bytes]:
    response = line.get("response", {})
    tokens = response.get("usageMetadata", {}).get("promptTokenCount", 1)
    blocked: Json = {name: value for name, value in response.items() if name != "candidates"}
    blocked["promptFeedback"] = {"blockReason": "PROHIBITED_CONTENT"}
    blocked["usageMetadata"] = {"promptTokenCount": tokens, "totalTokenCount": tokens}
    return [{**_link(line), "response": blocked}]


def _truncated(line: Json) -> list[Json | bytes]:
    if "response" not in line:
        return [line]
    cut: Any = orjson.loads(orjson.dumps(line))
    candidate = cut["response"]["candidates"][0]
    part = candidate["content"]["parts"][0]
    part["text"] = part["text"][: len(part["text"]) // 2]
    candidate["finishReason"] = "MAX_TOKENS"
    return [cut]


_SPOILERS: dict[str, Callable[[Json], list[Json | bytes]]] = {
    "result_line_missing": _missing,
    "result_line_duplicated": _duplicated,
    "result_line_foreign": _foreign,
    "result_line_broken": _broken,
    "result_line_error": _error,
    "result_line_blocked": _blocked,
    "result_line_truncated": _truncated,
}


def _link(line: Json) -> Json:
    return {name: line[name] for name in ("key", "metadata") if name in line}


def _relinked(link: Json, line: Json) -> Json:
    return link | {name: value for name, value in line.items() if name not in ("key", "metadata")}


def shuffle_lines(path: Path, seed: int) -> None:
    """Rewrite `path` in another order, holding offsets, not lines."""
    starts = array("Q", [0])
    with path.open("rb") as lines:
        for raw in lines:
            starts.append(starts[-1] + len(raw))
    order = sorted(range(len(starts) - 1), key=lambda i: blake2b(b"%d %d" % (seed, i), digest_size=8).digest())
    if order == sorted(order):  # a short file may be dealt its own order
        order.reverse()
    _copy_in_order(path, starts, order)


def _copy_in_order(path: Path, starts: "array[int]", order: Iterable[int]) -> None:
    shuffled = path.with_suffix(".shuffled")
    if not path.stat().st_size:
        return
    with (
        path.open("rb") as source,
        mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as raw,
        shuffled.open("wb", buffering=1 << 20) as out,
    ):
        for i in order:
            out.write(raw[starts[i] : starts[i + 1]])
    shuffled.replace(path)
