"""A request in, its answer out: the same for the same seed and body, whatever the key or the order.

Every text carries a short digest of the request, so that a test can tell whose answer it holds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from gemini_batch.emulator.canned import Answers, Prompt, as_result, as_values
from gemini_batch.emulator.dice import Dice, canonical, fingerprint
from gemini_batch.emulator.sampler import SchemaError, compile_schema
from gemini_batch.emulator.sizes import Sizes
from gemini_batch.emulator.usage import Usage, measure, number, output_usage, usage_metadata
from gemini_batch.emulator.wire import Json, key_of, member, no_access_message

_CODE_INVALID_ARGUMENT = 3
_CODE_PERMISSION_DENIED = 7
_CODE_INTERNAL = 13
_NO_CONTENTS = "* GenerateContentRequest.contents: contents is not specified\n"
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


@dataclass(frozen=True, slots=True)
class Respondent:
    """Answers the requests of one owner to one model."""

    seed: int
    model: str
    knows_file: Callable[[str], bool]
    """Whether a file id (without "files/") can be read by the owner."""
    sizes: Sizes
    answers: Answers | None = None
    """A user's own, asked first."""
    token_factor: float = 1.0

    def answer_line(self, line: Json) -> Json:
        """The result of one validated request line: `key` or `metadata`, then `response` or `error`."""
        result = self.answer(line["request"], key_of(line))
        return {name: line[name] for name in ("key", "metadata") if name in line} | result

    def answer(self, request: Json, key: str) -> Json:
        """{"response": GenerateContentResponse} or {"error": google.rpc.Status}, or what the user's answers say."""
        if not request.get("contents"):
            return _error(_CODE_INVALID_ARGUMENT, _NO_CONTENTS)
        usage = self.usage(request)
        for file_id in usage.file_ids:
            if not self.knows_file(file_id):
                return _error(_CODE_PERMISSION_DENIED, no_access_message(file_id))
        start = fingerprint(self.seed, canonical(request))
        dice = Dice(start)
        try:
            own = self._own_answer(request, key)
            text = _answer(request, dice) if own is None else own
        except SchemaError as e:
            return _error(_CODE_INVALID_ARGUMENT, f"response_schema: {e}")
        except BaseException as e:
            return _failed(e)
        if not isinstance(text, str):
            return text
        return {"response": self._response(request, text, usage, dice, start)}

    def usage(self, request: Json) -> Usage:
        """Input tokens as they are billed and enqueued."""
        usage = measure(request, self.model, self.sizes)
        return usage if self.token_factor == 1.0 else usage.times(self.token_factor)

    def count(self, request: Json) -> int:
        return self.usage(request).total

    def _own_answer(self, request: Json, key: str) -> Json | str | None:
        if self.answers is None:
            return None
        answer = self.answers(Prompt(key, self.model, request))
        return None if answer is None else as_result(answer, is_bare=_wants_bare_value(request))

    def _response(self, request: Json, text: str, usage: Usage, dice: Dice, start: bytes) -> Json:
        output = output_usage(request, text, dice.below(1 << 16))
        if self.token_factor != 1.0:
            output = output.times(self.token_factor)
        parts: list[Json] = [{"text": output.text}] if output.text else []
        if output.thought_tokens and wants_thoughts(request):
            parts.insert(0, {"text": f"Thinking about {dice.digest}.", "thought": True})
        content: Json = {"parts": parts, "role": "model"} if parts else {"role": "model"}
        return {
            "candidates": [{"content": content, "finishReason": output.finish_reason, "index": 0}],
            "usageMetadata": usage_metadata(usage, output),
            "modelVersion": self.model,
            "responseId": start.hex()[10:32],
        }

    # --- embeddings ---------------------------------------------------------------------------------------------------

    def embed_line(self, line: Json) -> Json:
        """As `answer_line`, of an EmbedContentRequest."""
        result = self.embed(line["request"], key_of(line))
        return {name: line[name] for name in ("key", "metadata") if name in line} | result

    def embed(self, request: Json, key: str) -> Json:
        if not member(request, "content"):
            return _error(_CODE_INVALID_ARGUMENT, "* EmbedContentRequest.content: content is not specified\n")
        size = number(member(request, "outputDimensionality") or FULL_DIMENSIONS)
        if size is None or not 1 <= size <= FULL_DIMENSIONS:
            return _error(_CODE_INVALID_ARGUMENT, f"output_dimensionality must be 1 to {FULL_DIMENSIONS}.")
        try:
            own = self._own_answer(request, key)
            values = embedding(self.seed, request, size) if own is None else as_values(own)
        except BaseException as e:
            return _failed(e)
        if isinstance(values, dict):
            return values
        response = {"tokenCount": str(self.count_embedded(request)), "embedding": {"values": values[:size]}}
        return {"response": response}

    def count_embedded(self, request: Json) -> int:
        content = member(request, "content")
        return self.usage({"contents": content}).total if content else 0


FULL_DIMENSIONS = 3072
"""Of gemini-embedding-001 ("Embeddings" guide); fewer are the head of the same vector, not normalised again."""


def embedding(seed: int, request: Json, size: int) -> list[float]:
    """The head of a vector of 3,072; its own length is that of a unit vector's head."""
    body = {
        name: value for name, value in request.items() if name not in ("outputDimensionality", "output_dimensionality")
    }
    dice = Dice(fingerprint(seed, canonical(body)))
    # Uniform in (-1, 1): a third is the mean square, so the whole vector has length 1 but for a per cent.
    scale = (3 / FULL_DIMENSIONS) ** 0.5
    values = [round((dice.below(1 << 30) / (1 << 29) - 1) * scale, 9) for _ in range(size)]
    if size < FULL_DIMENSIONS:
        return values
    length = sum(value * value for value in values) ** 0.5
    return [value / length for value in values]


def _answer(request: Json, dice: Dice) -> str:
    schema = response_schema(request)
    if schema is not None:
        instance = compile_schema(orjson.dumps(schema))(dice, 0)
        is_bare = _wants_bare_value(request) and isinstance(instance, str)
        return instance if is_bare else orjson.dumps(instance).decode()
    if _mime_type(request) == "application/json":
        return orjson.dumps({"answer": _plain_text(dice)}).decode()
    return _plain_text(dice)


def _mime_type(request: Json) -> Any:
    return member(member(request, "generationConfig") or {}, "responseMimeType")


def _wants_bare_value(request: Json) -> bool:
    """Whether a text that the schema lists is to be the answer as it is, without the quotes of JSON."""
    return bool(_mime_type(request) == "text/x.enum")


def _plain_text(dice: Dice) -> str:
    # Now and then a line separator, which JSON leaves raw: a reader that splits on it tears the line.
    gap = " " if dice.below(64) else "\u2028"
    return f"Answer {dice.digest}.{gap}{_SENTENCES[dice.below(8)]} {_SENTENCES[dice.below(8)]}"


def wants_thoughts(request: Json) -> bool:
    thinking = member(member(request, "generationConfig") or {}, "thinkingConfig") or {}
    return member(thinking, "includeThoughts") is True


def _error(code: int, message: str) -> Json:
    return {"error": {"code": code, "message": message}}


def _failed(error: BaseException) -> Json:
    """Of the user's answers, pytest.fail() too: the line's to bear."""
    return _error(_CODE_INTERNAL, f"{type(error).__name__}: {error}")
