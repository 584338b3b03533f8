"""Request lines checked as the service checks them at create: one bad line refuses the whole job.

In: the raw JSONL lines of a job. Out: a `Survey` with one digest a line; nothing else is held.
"""

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from gemini_batch.emulator.answers import response_schema
from gemini_batch.emulator.dice import canonical
from gemini_batch.emulator.sampler import SchemaError, compile_schema
from gemini_batch.emulator.wire import Json, both_spellings, member

# GenerateContentRequest and GenerationConfig of the REST reference, as google-genai 3.4.0 spells them.
REQUEST_FIELDS = both_spellings(
    "cachedContent", "contents", "generationConfig", "labels", "model", "safetySettings", "serviceTier",
    "store", "systemInstruction", "toolConfig", "tools",
)  # fmt: skip
CONFIG_FIELDS = both_spellings(
    "candidateCount", "enableEnhancedCivicAnswers", "frequencyPenalty", "imageConfig", "logprobs",
    "maxOutputTokens", "mediaResolution", "presencePenalty", "responseFormat", "responseJsonSchema",
    "responseLogprobs", "responseMimeType", "responseModalities", "responseSchema", "seed", "speechConfig",
    "stopSequences", "temperature", "thinkingConfig", "topK", "topP",
)  # fmt: skip

_BLOBS = ("inlineData", "fileData")
_LINES_BETWEEN_LOOKS = 1024


class AbandonedError(Exception):
    """Nobody waits for this job any more."""


class BadLineError(Exception):
    """`number` counts from 1; `where` is what to point at in the raw line; `field` names an unknown field."""

    def __init__(self, complaint: str, where: str = "", field: str = "") -> None:
        super().__init__(complaint)
        self.complaint = complaint
        self.where = where
        self.field = field
        self.number = 0
        self.column = 1

    def located(self, number: int, raw: bytes) -> "BadLineError":
        self.number = number
        self.column = max(raw.find(self.where.encode()), 0) + 1
        return self

    def message(self) -> str:
        """The recorded form (inspect_ai #3257)."""
        return f"Error on line {self.number}: invalid JSON, near column {self.column}: {self.complaint}"


@dataclass(frozen=True)
class Survey:
    digests: "array[int]"
    """One 8-byte digest of (key, body) a line."""

    @property
    def n_lines(self) -> int:
        return len(self.digests)


def survey_lines(lines: Iterable[bytes], wanted: Callable[[], bool]) -> Survey:
    """Raises BadLineError at the first line to refuse, AbandonedError once `wanted()` is false."""
    digests = array("Q")
    for number, raw in enumerate(lines, 1):
        if not number % _LINES_BETWEEN_LOOKS and not wanted():
            raise AbandonedError
        try:
            line = checked(raw)
            body = canonical(line["request"])
        except BadLineError as e:
            raise e.located(number, raw) from None
        except orjson.JSONEncodeError:
            raise BadLineError("nested too deeply").located(number, raw) from None
        digests.append(pair_digest(key_of(line), body))
    return Survey(digests)


def checked(raw: bytes) -> Json:
    """The line as an object with an acceptable `request`; raises BadLineError."""
    try:
        line = orjson.loads(raw)
    except orjson.JSONDecodeError as e:
        raise BadLineError(f"{e.msg} at {e.colno}") from e
    if type(line) is not dict:
        raise BadLineError(_expected_object(line))
    if "request" not in line:
        raise BadLineError("no such field is set: 'request'")
    if type(line.get("key", "")) is not str:
        raise BadLineError("expected a string", where='"key"')
    if "metadata" in line:
        _check_metadata(line["metadata"])
    check_request(line["request"])
    return line


def check_request(request: Any) -> None:
    if type(request) is not dict:
        raise BadLineError(_expected_object(request), where='"request"')
    _refuse_unknown(request, REQUEST_FIELDS)
    contents = request.get("contents") or []
    for content in contents if type(contents) is list else [contents]:
        _check_content(content, "contents")
    for name in ("systemInstruction", "system_instruction"):
        if name in request:
            _check_content(request[name], name)
    for name in ("generationConfig", "generation_config"):
        if name in request:
            _check_config(request[name], name)
    if (schema := response_schema(request)) is not None:
        _check_schema(schema)


def _check_config(config: Any, name: str) -> None:
    if type(config) is not dict:
        raise BadLineError(_expected_object(config), where=f'"{name}"')
    _refuse_unknown(config, CONFIG_FIELDS)


def _check_content(content: Any, name: str) -> None:
    """Deep enough that answering can rely on the shape."""
    if type(content) is not dict:
        raise BadLineError(_expected_object(content), where=f'"{name}"')
    parts = content.get("parts", [])
    if type(parts) is not list:
        raise BadLineError("expected a list", where='"parts"')
    for part in parts:
        if type(part) is not dict:
            raise BadLineError(_expected_object(part), where='"parts"')
        if type(part.get("text", "")) is not str:
            raise BadLineError("expected a string", where='"text"')
        if "text" not in part and not all(type(member(part, blob) or {}) is dict for blob in _BLOBS):
            raise BadLineError("expected an object", where='"parts"')


def _check_metadata(metadata: Any) -> None:
    if type(metadata) is not dict or not all(type(value) is str for value in metadata.values()):
        raise BadLineError("expected an object of strings", where='"metadata"')


def _check_schema(schema: Any) -> None:
    try:
        compile_schema(orjson.dumps(schema))
    except (
        SchemaError,
        TypeError,
        ValueError,
        AttributeError,
    ) as e:  # any of them: a schema of a wrong shape
        raise BadLineError(f"invalid response schema: {e}", where="chema") from e


def _refuse_unknown(message: Json, known: frozenset[str]) -> None:
    if message.keys() <= known:
        return
    field = next(name for name in message if name not in known)
    raise BadLineError(f"no such field: '{field}'", where=f'"{field}"', field=field)


def _expected_object(value: Any) -> str:
    """The recorded form (inspect_ai #5100)."""
    return f"unexpected character: '{orjson.dumps(value).decode()[:1]}'; expected '{{'"


def key_of(line: Json) -> str:
    """`key` in a file, `metadata.key` in an inline request; "" for neither."""
    key: str | None = line.get("key")
    return key if key is not None else str((line.get("metadata") or {}).get("key", ""))


def pair_digest(key: str, body: bytes) -> int:
    return int.from_bytes(blake2b(key.encode() + b"\0" + body, digest_size=8).digest(), "little")
