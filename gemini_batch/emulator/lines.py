"""Request lines checked as the service checks them at create: one bad line refuses the whole job.

In: the raw JSONL lines of a job. Out: a `Survey`; what was asked for is put down line by line and not held.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from gemini_batch.emulator.answers import response_schema
from gemini_batch.emulator.dice import canonical
from gemini_batch.emulator.proto import BadLineError, check_embed, check_generate, check_metadata, expected_object
from gemini_batch.emulator.sampler import compile_schema
from gemini_batch.emulator.wire import Json, invalid, key_of, member, snake_case

_LINES_BETWEEN_LOOKS = 1024
_INLINE_MEMBERS = {"request", "metadata"}
_SCHEMAS = ("responseSchema", "responseJsonSchema")


class AbandonedError(Exception):
    """Nobody waits for this job any more."""


@dataclass(frozen=True)
class Survey:
    n_lines: int
    tokens: int
    """Of all requests together, as the service estimates them at create."""


def survey_lines(
    lines: Iterable[bytes],
    *,
    embeds: bool,
    inline: bool,
    count_tokens: Callable[[Json], int],
    note: Callable[[int, int, str], None],
    wanted: Callable[[], bool],
    fault: Callable[[int, str], str | None] | None = None,
) -> Survey:
    """Reads each line once.

    Args:
        note: gets the digests of (key, body) and of the body, and the key of each line.
        fault: (position, key) of each line -> the fault for which it is refused, if any.

    Raises:
        BadLineError: the first line to refuse.
        ApiError: a fault refuses them without naming the line.
        AbandonedError: `wanted()` has become false.
    """
    number = tokens = 0
    for number, raw in enumerate(lines, 1):
        if not number % _LINES_BETWEEN_LOOKS and not wanted():
            raise AbandonedError
        try:
            line = checked(raw, embeds, inline)
            request = line["request"]
            body = digest(canonical(request))
            if fault and (name := fault(number - 1, key_of(line))):
                raise _refusal(name)
        except BadLineError as e:
            raise e.located(number, raw) from None
        except orjson.JSONEncodeError:
            raise BadLineError("nested too deeply").located(number, raw) from None
        key = key_of(line)
        note(digest(key.encode("utf-8", "replace") + body.to_bytes(8, "little", signed=True)), body, key)
        tokens += count_tokens(request)
    return Survey(number, tokens)


def _refusal(fault: str) -> Exception:
    if fault == "create_line_refused":
        return BadLineError("no such field: 'x'", "request")
    return invalid("Request contains an invalid argument.", reason=f"fault {fault}")


def checked(raw: bytes, embeds: bool = False, inline: bool = False) -> Json:
    """The line as an object with an acceptable `request`; raises BadLineError."""
    try:
        line = orjson.loads(raw)
    except orjson.JSONDecodeError as e:
        error = BadLineError(e.msg)
        error.column = e.colno
        raise error from e
    if type(line) is not dict:
        raise expected_object(line)
    if "request" not in line:
        raise BadLineError("no such field is set: 'request'")
    if inline and (unknown := sorted(line.keys() - _INLINE_MEMBERS)):
        raise BadLineError(f"no such field: '{unknown[0]}'", unknown[0], field=unknown[0])
    if type(line.get("key", "")) is not str:
        raise BadLineError("expected a string", "key")
    name = "metadata"
    try:
        if line.get(name) is not None:
            check_metadata(line[name])
        name = "request"
        check_request(line[name], embeds)
    except BadLineError as e:
        raise e.inside(name) from None
    return line


def check_request(request: Any, embeds: bool = False) -> None:
    """Deep enough that answering can rely on the shape; raises BadLineError."""
    if embeds:
        check_embed(request)
        return
    check_generate(request)
    if (schema := response_schema(request)) is not None:
        _check_schema(schema, request)


def _check_schema(schema: Any, request: Json) -> None:
    try:
        compile_schema(orjson.dumps(schema))
    except Exception as e:  # whatever a schema of a wrong shape leads to
        config = _spelling(request, "generationConfig")
        name = next(_spelling(request[config], name) for name in _SCHEMAS if member(request[config], name) is schema)
        raise BadLineError(f"invalid response schema: {e}", config, name) from e


def _spelling(message: Json, name: str) -> str:
    return name if message.get(name) is not None else snake_case(name)


def digest(content: bytes) -> int:
    """64 bits, signed as SQLite has them."""
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little", signed=True)
