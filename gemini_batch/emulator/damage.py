"""A result file as it is written, with what faults do to its lines and to the whole of it."""

import mmap
from array import array
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from types import TracebackType

import orjson

from gemini_batch.emulator.usage import number
from gemini_batch.emulator.wire import Json, no_access_message

_INTERNAL = {"code": 13, "message": "An internal error has occurred. Please retry."}
_GIANT = 8 << 20
_THOUGHTS: list[Json] = [
    {"text": "Let me look at it once more.", "thought": True},
    {"thoughtSignature": "Q29udGV4dA=="},
]
_LEAKED = {"text": "THOUGHT: Let me look at it once more.\n\n"}
"""As met on Vertex AI (python-genai #2121)."""

Piece = Json | bytes


class ResultFile:
    """The result lines of a job on their way to disk."""

    def __init__(self, path: Path, faults: Mapping[str, float], seed: int) -> None:
        self._path = path
        self._out = path.open("wb", buffering=1 << 20)
        self._is_reversed = "result_reversed_members" in faults
        self._is_shuffled = "result_shuffled" in faults
        self._seed = seed
        self._held: Json | None = None

    def write(self, line: Json, fault: str | None) -> bool:
        """Whether the line counts as failed."""
        if fault is None and self._held is None and not self._is_reversed:
            self._out.write(dump(line))
            return _has_failed(line)
        if self._held is not None:
            self._put(_relinked(_link(self._held), line))
            line, self._held = _relinked(_link(line), self._held), None
        elif fault == "result_line_swapped":
            self._held = line
            return _has_failed(line)
        for piece in [line] if fault is None else _spoil(fault, line):
            self._put(piece)
        return _has_failed(line) or fault in _FAILED

    def _put(self, piece: Piece) -> None:
        if isinstance(piece, bytes):
            self._out.write(piece)
        else:
            self._out.write(dump(_reversed(piece) if self._is_reversed else piece))

    def __enter__(self) -> "ResultFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._held is not None:
            self._put(self._held)
        self._out.close()
        if kind is None and self._is_shuffled:
            _shuffle(self._path, self._seed)


def _has_failed(line: Json) -> bool:
    return "error" in line or "status" in line


def dump(line: Json) -> bytes:
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def first_half(path: Path, n_lines: int) -> None:
    """What is left of the results of a job that was cancelled half-way."""
    with path.open("r+b") as lines:
        for _ in range(n_lines // 2):
            lines.readline()
        lines.truncate(lines.tell())


# --- lines ------------------------------------------------------------------------------------------------------------


def _spoil(fault: str, line: Json) -> list[Piece]:
    """What stands in the result file in place of `line`: lines, or the bytes of what is none."""
    if fault in _OF_RESPONSES:
        return [_OF_RESPONSES[fault](line)] if _text_of(line) is not None else [line]
    spoiler = _OF_LINES.get(fault)
    return [line] if spoiler is None else spoiler(line)


def _reversed(line: Json) -> Json:
    reordered = dict(reversed(line.items()))
    return {("status" if name == "error" else name): value for name, value in reordered.items()}


def _duplicated(line: Json) -> list[Piece]:
    return [line, line]


def _conflicting(line: Json) -> list[Piece]:
    return [line, _retold(line, lambda text: text[::-1])]


def _foreign(line: Json) -> list[Piece]:
    link = {"metadata": {"key": "nobody-sent-this"}} if "metadata" in line else {"key": "nobody-sent-this"}
    return [line, _relinked(link, line)]


def _broken(line: Json) -> list[Piece]:
    raw = dump(line)
    return [raw[: len(raw) // 2] + b"\n"]


def _bad_utf8(line: Json) -> list[Piece]:
    raw = dump(line)
    middle = raw.find(b'"text":"') + 8 if b'"text":"' in raw else len(raw) // 2
    return [raw[:middle] + b"\xff\xfe" + raw[middle:]]


def _giant(line: Json) -> list[Piece]:
    return [_retold(line, lambda text: text + " " * _GIANT)]


def _error(line: Json) -> list[Piece]:
    return [{**_link(line), "error": _INTERNAL}]


def _status(line: Json) -> list[Piece]:
    return [{**_link(line), "status": _INTERNAL}]


def _media_expired(line: Json) -> list[Piece]:
    return [{**_link(line), "error": {"code": 7, "message": no_access_message("abc123")}}]


_OF_LINES: dict[str, Callable[[Json], list[Piece]]] = {
    "result_line_missing": lambda line: [],
    "result_line_duplicated": _duplicated,
    "result_line_conflicting": _conflicting,
    "result_line_foreign": _foreign,
    "result_line_broken": _broken,
    "result_line_bad_utf8": _bad_utf8,
    "result_line_giant": _giant,
    "result_line_without_key": lambda line: [_relinked({}, line)],
    "result_line_error": _error,
    "result_line_status": _status,
    "result_line_media_expired": _media_expired,
    "result_line_null": lambda line: [{**_link(line), "response": None}],
    "result_line_empty": lambda line: [_link(line)],
}
_FAILED = frozenset({"result_line_error", "result_line_status", "result_line_media_expired"})
"""What the service counts as failed; it does not know of the rest."""


# --- responses --------------------------------------------------------------------------------------------------------


def _text_of(line: Json) -> str | None:
    """The text of a generated answer; None where there is none: a user's own result may have any shape."""
    match line.get("response"):
        case {"candidates": [{"content": {"parts": [*parts]}}, *_]}:
            texts = (part["text"] for part in parts if type(part) is dict and "text" in part and "thought" not in part)
            text = next(texts, None)
            return text if type(text) is str else None
    return None


def _usage_of(response: Json) -> Json:
    usage = response.get("usageMetadata")
    return usage if type(usage) is dict else {}


def _retold(line: Json, tell: Callable[[str], str]) -> Json:
    text = _text_of(line)
    return line if text is None else _with_parts(line, [{"text": tell(text)}])


def _with_parts(line: Json, parts: list[Json] | None, finish_reason: str | None = None) -> Json:
    """A copy with other parts in its candidate; None: no content at all."""
    changed: Json = orjson.loads(orjson.dumps(line))
    candidate = changed["response"]["candidates"][0]
    if parts is None:
        del candidate["content"]
    elif parts:
        candidate["content"]["parts"] = parts
    else:
        del candidate["content"]["parts"]
    if finish_reason:
        candidate["finishReason"] = finish_reason
    return changed


def _blocked(line: Json) -> Json:
    response = line["response"]
    tokens = _usage_of(response).get("promptTokenCount", 1)
    blocked: Json = {name: value for name, value in response.items() if name != "candidates"}
    blocked["promptFeedback"] = {"blockReason": "PROHIBITED_CONTENT"}
    blocked["usageMetadata"] = {"promptTokenCount": tokens, "totalTokenCount": tokens}
    return {**_link(line), "response": blocked}


def _truncated(line: Json) -> Json:
    text = _text_of(line) or ""
    return _with_parts(line, [{"text": text[: len(text) // 2]}], "MAX_TOKENS")


def _unfinished(line: Json) -> Json:
    changed = _with_parts(line, [], "MAX_TOKENS")
    if usage := _usage_of(changed["response"]):
        spent = (number(usage.pop("candidatesTokenCount", 0)), number(usage.get("thoughtsTokenCount", 0)))
        usage["thoughtsTokenCount"] = sum(filter(None, spent))
    return changed


def _with_thoughts(line: Json) -> Json:
    return _with_parts(line, [_THOUGHTS[0], {"text": _text_of(line)}, _THOUGHTS[1]])


def _split(line: Json) -> Json:
    text = _text_of(line) or ""
    third = len(text) // 3
    pieces = [text[:third], text[third : 2 * third], text[2 * third :]]
    return _with_parts(line, [{"text": piece} for piece in pieces])


def _shifted(text: str) -> str:
    """What responseJsonSchema led to in batches (ruby_llm #894): what should be a value is a name, and the reverse."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    if type(found) is not dict or not found:
        return text
    first, *others = found
    values = (value if type(value) is str else orjson.dumps(value).decode() for value in found.values())
    return orjson.dumps(dict(zip(values, [*others, first], strict=True))).decode()


def _with_citations(line: Json) -> Json:
    """As the service adds them to JSON too (python-genai #1341)."""
    text = _text_of(line) or ""
    changed = _with_parts(line, [{"text": text}])
    source = {"startIndex": len(text) // 2, "endIndex": len(text), "uri": "https://example.com/source", "license": ""}
    changed["response"]["candidates"][0]["citationMetadata"] = {"citationSources": [source]}
    return changed


def _separator(line: Json) -> Json:
    """In a member that no answer depends on: JSON leaves these raw, and a reader that splits at them tears the line."""
    return {**line, "response": line["response"] | {"responseId": "\u2028\u2029\u0085"}}


def _without_usage(line: Json) -> Json:
    return {**line, "response": {name: value for name, value in line["response"].items() if name != "usageMetadata"}}


_OF_RESPONSES: dict[str, Callable[[Json], Json]] = {
    "result_line_blocked": _blocked,
    "result_line_refused": lambda line: _with_parts(line, None, "SAFETY"),
    "result_line_recitation": lambda line: _with_parts(line, [], "RECITATION"),
    "result_line_truncated": _truncated,
    "result_line_unfinished": _unfinished,
    "result_line_odd_finish": lambda line: _with_parts(line, [{"text": _text_of(line)}], "SOMETHING_NEW"),
    "result_line_thoughts": _with_thoughts,
    "result_line_only_thoughts": lambda line: _with_parts(line, _THOUGHTS),
    "result_line_split": _split,
    "result_line_fenced": lambda line: _retold(line, lambda text: f"```json\n{text}\n```"),
    "result_line_in_prose": lambda line: _retold(line, lambda text: f"Here is the JSON you asked for:\n\n{text}"),
    "result_line_shifted": lambda line: _retold(line, _shifted),
    "result_line_leaked_thought": lambda line: _with_parts(line, [_LEAKED, {"text": _text_of(line)}]),
    "result_line_citations": _with_citations,
    "result_line_separator": _separator,
    "result_line_without_usage": _without_usage,
}
"""These leave a line without a generated text as it is."""


def _link(line: Json) -> Json:
    return {name: line[name] for name in ("key", "metadata") if name in line}


def _relinked(link: Json, line: Json) -> Json:
    return link | {name: value for name, value in line.items() if name not in ("key", "metadata")}


# --- the whole file ---------------------------------------------------------------------------------------------------


def _shuffle(path: Path, seed: int) -> None:
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
