"""The messages of a request as tables of fields, checked at every depth as proto-JSON is read.

Both spellings of a field are one field; a single message stands for a list of one. Names: REST reference of
GenerateContentRequest and EmbedContentRequest, as google-genai 3.4.0 spells them.
"""

import binascii
from collections.abc import Callable
from typing import Any

import orjson

from gemini_batch.emulator.columns import column_of
from gemini_batch.emulator.wire import Json, member, snake_case

Check = Callable[[Any], None]
"""Raises BadLineError for a value that its field cannot hold."""


class BadLineError(Exception):
    """`path` leads to what is wrong, `field` names an unknown field; `number` counts lines from 1."""

    def __init__(self, complaint: str, *path: str | int, field: str = "") -> None:
        super().__init__(complaint)
        self.complaint = complaint
        self.path = list(path)
        self.field = field
        self.number = 0
        self.column = 1

    def inside(self, step: str | int) -> "BadLineError":
        """The same, seen from one message or list further out."""
        self.path.insert(0, step)
        return self

    def located(self, number: int, raw: bytes) -> "BadLineError":
        self.number = number
        if self.path:
            self.column = column_of(raw, self.path)
        return self

    def message(self) -> str:
        """The recorded form (inspect_ai #3257)."""
        return f"Error on line {self.number}: invalid JSON, near column {self.column}: {self.complaint}"


def repeated(value: Any) -> list[Any]:
    """A repeated field's items; one that stands alone counts as a list of one."""
    return value if type(value) is list else [] if value is None else [value]


def expected_object(value: Any) -> BadLineError:
    """The recorded form (inspect_ai #5100)."""
    first = "[" if type(value) is list else orjson.dumps(value).decode()[:1]
    return BadLineError(f"unexpected character: '{first}'; expected '{{'")


def message(**fields: Check) -> Check:
    snake = {snake_case(name): (name, check) for name, check in fields.items() if snake_case(name) != name}

    def check_message(value: Any) -> None:
        if type(value) is not dict:
            raise expected_object(value)
        for spelling, inner in value.items():
            check = fields.get(spelling) or check_snake(value, spelling)
            if inner is not None:
                try:
                    check(inner)
                except BadLineError as e:
                    raise e.inside(spelling) from None

    def check_snake(value: Json, spelling: str) -> Check:
        field, check = snake.get(spelling, ("", None))
        if check is None:
            raise BadLineError(f"no such field: '{spelling}'", spelling, field=spelling)
        if field in value:
            raise BadLineError(f"field set twice: '{field}'", spelling)
        return check

    return check_message


def many(check: Check, *, or_one: bool = True) -> Check:
    def check_all(value: Any) -> None:
        if type(value) is not list and not or_one:
            raise BadLineError("expected a list")
        for inner in repeated(value):
            try:
                check(inner)
            except BadLineError as e:
                if type(value) is not list:
                    raise
                raise e.inside(next(i for i, one in enumerate(value) if one is inner)) from None

    return check_all


def _of(kinds: tuple[type, ...], expected: str) -> Check:
    def check(value: Any) -> None:
        if type(value) not in kinds:
            raise BadLineError(f"expected {expected}")

    return check


def _number(value: Any) -> None:
    """A number, or the text of one, as int64 is written."""
    if type(value) is str:
        try:
            float(value)
        except ValueError:
            raise BadLineError(f"not a number: {value!r}") from None
    elif type(value) not in (int, float):
        raise BadLineError("expected a number")


def _base64(value: Any) -> None:
    """Only its end is looked at: the rest is read when it is measured."""
    _text(value)
    tail = value[-(len(value) % 4 or 4) :].replace("-", "+").replace("_", "/")
    try:
        binascii.a2b_base64(tail + "=" * (-len(tail) % 4))
    except ValueError:
        raise BadLineError("not base64") from None


def _anything(value: Any) -> None:
    """Messages that no answer depends on, such as tools."""


def _texts(value: Any) -> None:
    if type(value) is not dict or not all(type(inner) is str for inner in value.values()):
        raise BadLineError("expected an object of strings")


_text = _of((str,), "a string")
_bool = _of((bool,), "true or false")
_enum = _of((str, int), "a name")
_object = _of((dict,), "an object")

_MEDIA_RESOLUTION = message(level=_enum, numTokens=_number)
_PART = message(
    text=_text,
    thought=_bool,
    thoughtSignature=_text,
    inlineData=message(mimeType=_text, data=_base64, displayName=_text),
    fileData=message(mimeType=_text, fileUri=_text, displayName=_text),
    functionCall=_object,
    functionResponse=_object,
    executableCode=_object,
    codeExecutionResult=_object,
    toolCall=_object,
    toolResponse=_object,
    audioMetadata=_object,
    audioTranscription=_object,
    documentMetadata=_object,
    mediaProcessing=_enum,
    partMetadata=_object,
    speechMetadata=_object,
    spreadsheetMetadata=_object,
    videoMetadata=_object,
    mediaResolution=_MEDIA_RESOLUTION,
)
_CONTENT = message(role=_text, parts=many(_PART))
_THINKING = message(includeThoughts=_bool, thinkingBudget=_number, thinkingLevel=_enum)
_CONFIG = message(
    audioTimestamp=_bool,
    audioTranscriptionConfig=_object,
    candidateCount=_number,
    enableAffectiveDialog=_bool,
    enableEnhancedCivicAnswers=_bool,
    frequencyPenalty=_number,
    imageConfig=_anything,
    logprobs=_number,
    maxOutputTokens=_number,
    mediaResolution=_enum,
    presencePenalty=_number,
    responseFormat=_anything,
    responseJsonSchema=_anything,
    responseLogprobs=_bool,
    responseMimeType=_text,
    responseModalities=many(_enum),
    responseSchema=_anything,
    seed=_number,
    speechConfig=_anything,
    stopSequences=many(_text),
    temperature=_number,
    thinkingConfig=_THINKING,
    topK=_number,
    topP=_number,
)
_SAFETY = message(category=_enum, threshold=_enum, method=_enum)

check_generate: Check = message(
    cachedContent=_text,
    contents=many(_CONTENT),
    continuationToken=_text,
    generationConfig=_CONFIG,
    labels=_texts,
    model=_text,
    safetySettings=many(_SAFETY),
    serviceTier=_enum,
    store=_bool,
    systemInstruction=_CONTENT,
    toolConfig=_anything,
    tools=many(_anything),
)
check_embed: Check = message(
    model=_text,
    content=_CONTENT,
    taskType=_enum,
    title=_text,
    outputDimensionality=_number,
    autoTruncate=_bool,
    documentOcr=_bool,
    audioTrackExtraction=_bool,
    embedContentConfig=_anything,
)
check_metadata: Check = _texts
check_create: Check = message(
    batch=message(
        displayName=_text,
        inputConfig=message(fileName=_text, requests=message(requests=many(_anything))),
        model=_text,
        name=_text,
        priority=_number,
        webhookConfig=_object,
    )
)


_COUNT = message(generateContentRequest=check_generate, contents=many(_CONTENT))


def check_count(body: Json) -> Json:
    """The request whose tokens a countTokens call asks for: beside a whole one, contents are not looked at."""
    whole: Json | None = member(body, "generateContentRequest")
    (check_generate if whole is None else _COUNT)(body)
    return body if whole is None else whole
