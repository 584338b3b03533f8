"""A request in, its answer out: pure, the same for the same seed and body, whatever the key or the order.

Every text carries a short digest of the request, so that a test can tell whose answer it holds.
"""

from collections.abc import Callable, Iterator
from typing import Any

import orjson

from gemini_batch.emulator.dice import Dice, canonical, fingerprint
from gemini_batch.emulator.sampler import SchemaError, compile_schema
from gemini_batch.emulator.wire import Json, member, no_access_message

KnowsFile = Callable[[str], bool]
"""Whether a file id (without "files/") can be read by the owner of the job."""

TOKENS_PER_PICTURE = 258  # "Token counting": a picture of at most 384 x 384
CHARS_PER_TOKEN = 4  # same page

_CODE_INVALID_ARGUMENT = 3
_CODE_PERMISSION_DENIED = 7
_SENTENCES = (
    "The second reading agrees with the first.",
    "Nothing in the text speaks against it.",
    "Both sources name the same year.",
    "Der größere Teil bleibt unverändert.",
    "The margin holds a later note.",
    "Three of the four values are certain.",
    "La réponse tient en une phrase.",
    "It is listed under the older name.",
)


def short_digest(seed: int, request: Json) -> str:
    """The eight hex digits that every string of this request's answer carries."""
    return fingerprint(seed, canonical(request))[:4].hex()


def expected_text(seed: int, request: Json) -> str:
    """The answer to a request without a response schema."""
    return _plain_text(Dice(fingerprint(seed, canonical(request))))


def expected_answer(seed: int, request: Json) -> str:
    """The answer as the service would put it into `parts[0].text`; raises SchemaError."""
    return _answer(request, Dice(fingerprint(seed, canonical(request))))


def response_schema(request: Json) -> Any:
    """The schema that the answer has to follow, or None."""
    config = member(request, "generationConfig")
    if not config:
        return None
    schema = member(config, "responseSchema")
    return member(config, "responseJsonSchema") if schema is None else schema


def answer_line(line: Json, seed: int, model: str, knows_file: KnowsFile) -> Json:
    """The result of one validated request line: `key` or `metadata`, then `response` or `error`."""
    request = line["request"]
    link: Json = {name: line[name] for name in ("key", "metadata") if name in line}
    if not request.get("contents"):
        message = "* GenerateContentRequest.contents: contents is not specified\n"
        return {**link, "error": {"code": _CODE_INVALID_ARGUMENT, "message": message}}
    chars, pictures, file_ids = _measure(request)
    for file_id in file_ids:
        if not knows_file(file_id):
            return {**link, "error": {"code": _CODE_PERMISSION_DENIED, "message": no_access_message(file_id)}}
    start = fingerprint(seed, canonical(request))
    try:
        text = _answer(request, Dice(start))
    except SchemaError as e:
        return {**link, "error": {"code": _CODE_INVALID_ARGUMENT, "message": f"response_schema: {e}"}}
    prompt_tokens = max(1, chars // CHARS_PER_TOKEN) + TOKENS_PER_PICTURE * pictures
    return {**link, "response": _response(text, prompt_tokens, model, start)}


def _answer(request: Json, dice: Dice) -> str:
    schema = response_schema(request)
    mime_type = member(member(request, "generationConfig") or {}, "responseMimeType")
    if schema is not None:
        instance = compile_schema(orjson.dumps(schema))(dice, 0)
        return instance if mime_type == "text/x.enum" else orjson.dumps(instance).decode()
    if mime_type == "application/json":
        return orjson.dumps({"answer": _plain_text(dice)}).decode()
    return _plain_text(dice)


def _plain_text(dice: Dice) -> str:
    # Now and then a line separator, which JSON leaves raw: a reader that splits on it tears the line.
    gap = " " if dice.below(64) else "\u2028"
    return f"Answer {dice.digest}.{gap}{_SENTENCES[dice.below(8)]} {_SENTENCES[dice.below(8)]}"


def _response(text: str, prompt_tokens: int, model: str, start: bytes) -> Json:
    answer_tokens = len(text) // CHARS_PER_TOKEN or 1
    return {
        "candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {
            "promptTokenCount": prompt_tokens,
            "candidatesTokenCount": answer_tokens,
            "totalTokenCount": prompt_tokens + answer_tokens,
        },
        "modelVersion": model,
        "responseId": start.hex()[10:32],
    }


def _measure(request: Json) -> tuple[int, int, list[str]]:
    """Characters of text, number of pictures, ids of the files referred to."""
    chars, pictures = 0, 0
    file_ids: list[str] = []
    for part in _parts(request):
        if text := part.get("text"):
            chars += len(text)
        elif blob := member(part, "inlineData"):
            pictures += str(member(blob, "mimeType")).startswith("image/")
        elif file := member(part, "fileData"):
            pictures += str(member(file, "mimeType")).startswith("image/")
            file_ids.append(str(member(file, "fileUri")).rpartition("files/")[2])
    return chars, pictures, file_ids


def _parts(request: Json) -> Iterator[Json]:
    contents = request["contents"]
    for content in contents if isinstance(contents, list) else [contents]:
        yield from content.get("parts", ())
    if instruction := member(request, "systemInstruction"):
        yield from instruction.get("parts", ())
