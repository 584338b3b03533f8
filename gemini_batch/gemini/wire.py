"""Request lines out, result lines in: the JSONL of the Batch API, purely.

In: rows and settings, or the bytes of a result line. Out: bytes of a request line, or an `Answer`. A line's key
carries the run's nonce, so a line of another run can never be taken for one of ours.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any
from zlib import crc32

import orjson

from gemini_batch.records import Asked


def line_key(nonce: bytes, index: int, sample: int) -> bytes:
    """`<nonce>-<index>-<sample>-<check>`. The check keeps a damaged key from naming another row."""
    name = b"%b-%d-%d" % (nonce, index, sample)
    return b"%b-%08x" % (name, crc32(name))


DIGEST_BYTES = 16
"""Of a SHA-256, in `request_digest`."""


class Encoder:
    """Builds the request lines of one run.

    A line: `{"key": "<nonce>-<index>-<sample>-<check>", "request": {GenerateContentRequest}}`, UTF-8, then a line feed.
    With several samples of a row each line has a seed of its own: with one seed a model would say the same again.
    """

    def __init__(self, asked: Asked, nonce: str, key: Callable[[int, int], bytes] | None = None) -> None:
        """`key` says the key of a row's sample as JSON holds it between its quotes; by default `line_key`."""
        self._nonce = nonce.encode()
        self._key = partial(line_key, self._nonce) if key is None else key
        self._system = asked.system_instruction
        config = asked.generation_config
        numbers = range(asked.n_samples)
        safety = _safety(asked.safety_settings)
        configs = (config if asked.n_samples == 1 else _seeded(config, sample) for sample in numbers)
        self._tails = [_tail(of_sample, safety) for of_sample in configs]
        frames = len(numbers) * (len(self._nonce) + len(b'{"key":"---01234567","request":'))
        self._frame_bytes = frames + sum(len(str(sample)) for sample in numbers) + sum(map(len, self._tails))
        self._basis = hashlib.sha256(asked.model.encode() + b"\0" + _sorted_json(config) + safety)

    def request(self, parts: bytes, system_instruction: str | None) -> bytes:
        """The open end of the request object: its own members, without the settings that every line repeats.

        Args:
            parts: the parts as a JSON list.
            system_instruction: the row's own, which wins over the run's.
        """
        system = self._system if system_instruction is None else system_instruction
        if not system:
            return b'{"contents":[{"role":"user","parts":' + parts + b"}]"
        said = b',"systemInstruction":{"parts":[{"text":' + orjson.dumps(system) + b"}]}"
        return b'{"contents":[{"role":"user","parts":' + parts + b"}]" + said

    def text_requests(self, texts: Iterable[str]) -> list[bytes]:
        """`request` of each row that is one text and has no instruction of its own."""
        before, _, behind = self.request(b'[{"text":\0}]', None).partition(b"\0")
        return [b"%b%b%b" % (before, orjson.dumps(text), behind) for text in texts]

    def lines(self, keys: Iterable[bytes], requests: Sequence[bytes]) -> list[bytes]:
        """The lines of all samples of several rows, in order.

        Args:
            keys: of each line.
            requests: of each row.
        """
        each = requests if len(self._tails) == 1 else [request for request in requests for _ in self._tails]
        framed = zip(keys, each, cycle(self._tails), strict=False)
        return [b'{"key":"%b","request":%b%b' % line for line in framed]

    def line(self, index: int, sample: int, request: bytes) -> bytes:
        return b'{"key":"%b","request":%b%b' % (self._key(index, sample), request, self._tails[sample])

    def row_bytes(self, first_index: int, request_bytes: Sequence[int]) -> list[int]:
        """Size of the lines of all samples of rows in order, without building them; 0 where the request has no
        bytes."""
        count, rows, done = len(self._tails), len(request_bytes), 0
        sizes: list[int] = []
        while done < rows:  # rows whose numbers are equally long
            digits = len(str(first_index + done))
            stop = min(rows, 10**digits - first_index)
            frame = self._frame_bytes + count * digits
            sizes += [frame + count * size if size else 0 for size in request_bytes[done:stop]]
            done = stop
        return sizes

    def digest(self, content: bytes) -> str:
        """`request_digest`: model, settings (with the run's seed, not the sample's) and content, as 32 hex digits."""
        return self.digests([content])[0].hex()

    def digests(self, contents: Iterable[bytes]) -> list[bytes]:
        """The same of several, as bytes."""
        found, of_settings = list[bytes](), self._basis.copy
        for content in contents:
            basis = of_settings()
            basis.update(content)
            found.append(basis.digest()[:DIGEST_BYTES])
        return found


def _sorted_json(config: dict[str, Any]) -> bytes:
    return orjson.dumps(config, option=orjson.OPT_SORT_KEYS)


def _tail(config: dict[str, Any], safety: bytes) -> bytes:
    said = b',"generationConfig":' + _sorted_json(config) if config else b""
    return said + safety + b"}}\n"


def _safety(settings: Sequence[str]) -> bytes:
    """`CATEGORY=THRESHOLD`, as a member of the request."""
    if not settings:
        return b""
    pairs = (setting.split("=") for setting in settings)
    return b',"safetySettings":' + orjson.dumps([{"category": name, "threshold": level} for name, level in pairs])


def _seeded(config: dict[str, Any], sample: int) -> dict[str, Any]:
    """The settings with a sample's own seed, an int32 (GenerationConfig reference). A seed that is no number stays, for
    the service to refuse."""
    seed = config.get("seed")
    if seed is not None and type(seed) is not int:
        return config
    return {**config, "seed": ((seed or 0) + sample + 2**31) % 2**32 - 2**31}


def text_part(text: str) -> bytes:
    return b'{"text":' + orjson.dumps(text) + b"}"


def inline_part(mime_type: str, base64_bytes: bytes, media_resolution: str | None) -> bytes:
    return _media_part(
        b'"inlineData":{"mimeType":%b,"data":"%b"}' % (orjson.dumps(mime_type), base64_bytes),
        media_resolution,
    )


def file_part(mime_type: str | None, uri: str, media_resolution: str | None) -> bytes:
    mime = b"" if mime_type is None else b'"mimeType":' + orjson.dumps(mime_type) + b","
    return _media_part(b'"fileData":{%b"fileUri":%b}' % (mime, orjson.dumps(uri)), media_resolution)


def _media_part(body: bytes, media_resolution: str | None) -> bytes:
    if media_resolution is None:
        return b"{" + body + b"}"
    return b'{"mediaResolution":{"level":%b},%b}' % (orjson.dumps(media_resolution), body)


# --- results ----------------------------------------------------------------------------------------------------------

TRANSIENT_CODES = {1, 2, 4, 8, 10, 13, 14}
"""google.rpc codes that may pass on another try: CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED,
INTERNAL, UNAVAILABLE (google/rpc/code.proto)."""

HTTP_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 10, 429: 8, 499: 1, 500: 13, 501: 12, 503: 14, 504: 4}
"""A line's code is one of google.rpc, below 17. An HTTP status in its place means this ("HTTP Mapping" there)."""

NAMED_CODES = {
    "CANCELLED": 1,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "ABORTED": 10,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
}
"""Names of codes as an error that is only text may hold them (Vertex: the error's JSON in `status`)."""

CODE_NAME = re.compile(r"\b(" + "|".join(NAMED_CODES) + r")\b")

FINISHED = {
    "": None,
    "FINISH_REASON_UNSPECIFIED": None,
    "STOP": None,
    "MAX_TOKENS": "truncated",
    "CONTINUATION": "truncated",
    "SAFETY": "blocked_answer",
    "RECITATION": "blocked_answer",
    "BLOCKLIST": "blocked_answer",
    "PROHIBITED_CONTENT": "blocked_answer",
    "SPII": "blocked_answer",
    "LANGUAGE": "blocked_answer",
    "ESCALATION": "blocked_answer",
    "MODEL_ARMOR": "blocked_answer",
    "IMAGE_SAFETY": "blocked_answer",
    "IMAGE_PROHIBITED_CONTENT": "blocked_answer",
    "IMAGE_RECITATION": "blocked_answer",
    "IMAGE_OTHER": "blocked_answer",
    "OTHER": "transient",
    "MALFORMED_RESPONSE": "transient",
    "MALFORMED_FUNCTION_CALL": "transient",
    "UNEXPECTED_TOOL_CALL": "transient",
    "TOO_MANY_TOOL_CALLS": "transient",
    "NO_IMAGE": "unknown",
    "MISSING_THOUGHT_SIGNATURE": "unknown",
    "PUP_LIMITED_DISABLED": "unknown",
}
"""What each finish reason says: answered (None), or the kind of failure. One that is not here is `unknown`.

The names and what they mean: `FinishReason` of google-genai 3.4.0. CONTINUATION is cut text: batches have no loop that
goes on with it. LANGUAGE ("flagged"), ESCALATION ("filtered by a rule") and MODEL_ARMOR ("blocked") withhold an answer
as SAFETY does. OTHER and what the model got wrong are a matter of sampling: other clients ask again and succeed
(vellum-assistant #43134, oh-my-pi #2587). NO_IMAGE, MISSING_THOUGHT_SIGNATURE and PUP_LIMITED_DISABLED lie in the
request or the account, which another try does not change.
"""

NO_BLOCK_REASON = {None, "", "BLOCK_REASON_UNSPECIFIED", "BLOCKED_REASON_UNSPECIFIED"}

DIGITS = 18
"""Of any count; Python refuses to read numbers of thousands of digits."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one result line says, before any schema has looked at its text."""

    status: str
    """`ok`, `failed`, `blocked` or `truncated`."""
    text: str | None = None
    kind: str | None = None
    code: int | None = None
    message: str | None = None
    finish_reason: str | None = None
    model_version: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    thoughts_tokens: int | None = None


def read_answer(line: dict[str, Any]) -> Answer:
    """The answer on a result line, in any of the shapes that were recorded (Batch API guide; python-genai #1341).

    A shape that nobody recorded is a failure of the kind `unknown`, with whatever tokens it counts; it never raises.
    """
    response = line.get("response")
    text = plain_text(line)
    if text is not None:
        return Answer("ok", text=text, finish_reason="STOP", **_common(line["response"]))
    try:
        if isinstance(response, dict) and (response.get("candidates") or response.get("promptFeedback")):
            return _read_response(line, response)
        return _read_error(line, response)
    except (AttributeError, TypeError, KeyError, IndexError, RecursionError):
        usage = _common(response) if isinstance(response, dict) else {}
        return Answer("failed", kind="unknown", message="the line has a shape that is not understood", **usage)


def plain_text(line: Any) -> str | None:
    """The text on a line in the form that nearly all have: one candidate that ended by itself and has one part, of
    text. None for any other, of which `read_answer` has to make something."""
    try:
        response = line["response"]
        (candidate,) = response["candidates"]
        (part,) = candidate["content"]["parts"]
        if candidate["finishReason"] == "STOP" and "thought" not in part and "promptFeedback" not in response:
            text = part["text"]
            return text if type(text) is str else None
    except (KeyError, TypeError, ValueError):
        pass
    return None


def _read_error(line: dict[str, Any], response: Any) -> Answer:
    """A line without an answer: an error under `error` or `status`, as an object or as text (Vertex), or nothing."""
    usage = _common(response) if isinstance(response, dict) else {}
    error = line.get("error") or line.get("status")
    if isinstance(error, dict):
        code = _count(error.get("code"))
        message = str(error.get("message") or "the service gave no message")
        return Answer("failed", kind=_kind_of(code, message), code=code, message=message, **usage)
    if isinstance(error, str) and error.strip():
        named = CODE_NAME.search(error)
        code = NAMED_CODES[named[1]] if named else None
        return Answer("failed", kind=_kind_of(code, error), code=code, message=error, **usage)
    said = "the response has no candidates" if response else "the line holds neither a response nor an error"
    return Answer("failed", kind="transient", message=said, **usage)


def _kind_of(code: int | None, message: str) -> str:
    code = HTTP_CODES.get(code, code) if code else code
    about_file = "file" in message.lower()
    if about_file and (code in (5, 7) or "not in an ACTIVE state" in message):  # NOT_FOUND, PERMISSION_DENIED
        return "media_expired"
    if code == 3:  # INVALID_ARGUMENT
        return "invalid_argument"
    return "transient" if code is None or code in TRANSIENT_CODES else "unknown"


def _read_response(line: dict[str, Any], response: dict[str, Any]) -> Answer:
    common = _common(response)
    feedback = response.get("promptFeedback")
    candidates = response.get("candidates") or []
    if feedback and (blocked := feedback.get("blockReason")) not in NO_BLOCK_REASON:
        text = _text_of(candidates[0]) if candidates else None
        message = f"the prompt was blocked: {blocked}"
        return Answer("blocked", text=text, kind="blocked_prompt", message=message, **common)
    if not candidates:
        return _read_error(line, response)
    text = _text_of(candidates[0])
    reason = str(candidates[0].get("finishReason") or "")
    common["finish_reason"] = reason or None
    kind = FINISHED.get(reason, "unknown")
    if kind is None:
        if text is None:
            return Answer("failed", kind="transient", message="the answer has no text", **common)
        return Answer("ok", text=text, **common)
    if kind == "truncated":
        return Answer("truncated", text=text, kind=kind, message="the answer met the output limit", **common)
    if kind == "blocked_answer":
        return Answer("blocked", text=text, kind=kind, message=f"the answer was withheld: {reason}", **common)
    return Answer("failed", text=text, kind=kind, message=f"the answer ended with {reason}", **common)


def _common(response: dict[str, Any]) -> dict[str, Any]:
    """What stands on every response, whatever became of it. Never raises: it has been paid for."""
    usage = response.get("usageMetadata")
    if not isinstance(usage, dict):
        usage = {}
    return {
        "model_version": _name(response.get("modelVersion")),
        "prompt_tokens": _count(usage.get("promptTokenCount")),
        "cached_tokens": _count(usage.get("cachedContentTokenCount")),
        "output_tokens": _count(usage.get("candidatesTokenCount")),
        "thoughts_tokens": _count(usage.get("thoughtsTokenCount")),
    }


def _name(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: object) -> int | None:
    """A number the service gave, as a number or as text; None for anything else."""
    if isinstance(value, str) and len(value) <= DIGITS and value.isascii() and value.isdecimal():
        value = int(value)
    return value if type(value) is int and 0 <= value < 2**31 else None


def _text_of(candidate: dict[str, Any]) -> str | None:
    """All text parts but thoughts, joined; None when there is none. Parts without a text, such as signatures, go by.

    Raises:
        AttributeError, TypeError: a part is no part, or its text is none: a piece left out would be a wrong answer.
    """
    parts = (candidate.get("content") or {}).get("parts") or ()
    texts = [part["text"] for part in parts if part.get("text") is not None and not part.get("thought")]
    return "".join(texts) if texts else None
