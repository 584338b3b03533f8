"""What a request and its answer take in tokens, as `usageMetadata` shows it.

In: a request in REST JSON and the sizes of stored files. Out: `Usage`, `Output`, and the object that the service makes
of them. No dice: what is drawn comes in as a number.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from gemini_batch.emulator.proto import repeated
from gemini_batch.emulator.sizes import Medium, Modality, Sizes, look_inline, modality_of
from gemini_batch.emulator.wire import Json, both_spellings, member, whole
from gemini_batch.gemini.tokens import (
    CHARACTERS_PER_TOKEN,
    TILE_TOKENS,
    audio_tokens,
    pages_are_pictures,
    pdf_page_tokens,
    picture_tokens,
    resolution_in_force,
    text_tokens,
    video_tokens,
)

UNREADABLE_PICTURE_TOKENS = TILE_TOKENS
"""Of any model; the service would refuse it."""

THOUGHTS = {
    "MINIMAL": (0, 64),
    "LOW": (64, 512),
    "MEDIUM": (256, 2048),
    "HIGH": (512, 8192),
    "XHIGH": (1024, 16384),
}
"""Least and most thoughts of a thinking level. No page gives numbers ("Thinking"); these are ours."""

_LIMITING = both_spellings("maxOutputTokens", "thinkingConfig")

DYNAMIC_THOUGHTS = (64, 4096)
"""The same when the model may think as it likes."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a prompt by modality. Sound of a video counts as audio."""

    text: int
    image: int = 0
    video: int = 0
    audio: int = 0
    document: int = 0
    file_ids: tuple[str, ...] = ()
    """Of the files referred to, without "files/", in the order of the request."""

    def times(self, factor: float) -> "Usage":
        """As a service counts that does not keep to the rules."""
        text, image, video, audio, document = (
            round(count * factor) for count in (self.text, self.image, self.video, self.audio, self.document)
        )
        return Usage(text, image, video, audio, document, self.file_ids)

    @property
    def total(self) -> int:
        return self.text + self.image + self.video + self.audio + self.document

    def details(self) -> list[Json]:
        """`promptTokensDetails`."""
        counts = (self.text, self.image, self.video, self.audio, self.document)
        names = ("TEXT", "IMAGE", "VIDEO", "AUDIO", "DOCUMENT")
        return [{"modality": name, "tokenCount": n} for name, n in zip(names, counts, strict=True) if n]


@dataclass(frozen=True, slots=True)
class Output:
    """An answer as far as its tokens went."""

    text: str
    """Cut when the limit was met; "" when thoughts had used it up, then the answer has no parts."""
    finish_reason: str
    answer_tokens: int
    thought_tokens: int

    def times(self, factor: float) -> "Output":
        answer, thoughts = round(self.answer_tokens * factor), round(self.thought_tokens * factor)
        return replace(self, answer_tokens=answer, thought_tokens=thoughts)


def measure(request: Json, model: str, sizes: Sizes) -> Usage:
    """Tokens of a validated request's contents and system instruction."""
    contents = repeated(request.get("contents"))
    if instruction := member(request, "systemInstruction"):
        contents = [*contents, instruction]
    characters, media = 0, []
    for content in contents:
        for part in repeated(content.get("parts")):
            if text := part.get("text"):
                characters += len(text)
            else:
                media.append(part)
    if not media:
        return _of_text(text_tokens(characters))
    return _with_media(text_tokens(characters), media, request, model, sizes)


@lru_cache(maxsize=4096)
def _of_text(tokens: int) -> Usage:
    """Remembered: making one takes longer than counting."""
    return Usage(tokens)


def _with_media(text: int, parts: Iterable[Json], request: Json, model: str, sizes: Sizes) -> Usage:
    config = member(request, "generationConfig") or {}
    of_request = _level(member(config, "mediaResolution"))
    counts: dict[Modality, int] = {"TEXT": text, "IMAGE": 0, "VIDEO": 0, "AUDIO": 0, "DOCUMENT": 0}
    file_ids: list[str] = []
    for part in parts:
        medium = _medium(part, sizes, file_ids)
        if medium is None:
            continue
        resolution = resolution_in_force(model, _level(member(part, "mediaResolution")), of_request)
        for modality, tokens in _tokens(medium, model, resolution):
            counts[modality] += tokens
    return Usage(counts["TEXT"], counts["IMAGE"], counts["VIDEO"], counts["AUDIO"], counts["DOCUMENT"], tuple(file_ids))


def _medium(part: Json, sizes: Sizes, file_ids: list[str]) -> Medium | None:
    """None for a part that is neither text nor a medium, such as a call of a function, which counts nothing here."""
    blob, file = member(part, "inlineData"), member(part, "fileData")
    if blob and type(blob) is dict:
        return look_inline(_word(blob.get("data")), _word(member(blob, "mimeType")))
    if not file or type(file) is not dict:
        return None
    file_id = _word(member(file, "fileUri")).rpartition("files/")[2]
    file_ids.append(file_id)
    found, mime_type = sizes(file_id), _word(member(file, "mimeType"))
    if found is None or (mime_type and found.modality != modality_of(mime_type)):
        return Medium(modality_of(mime_type))
    return found


def _tokens(medium: Medium, model: str, resolution: str | None) -> Iterable[tuple[Modality, int]]:
    match medium.modality:
        case "IMAGE" if not medium.width:
            yield "IMAGE", UNREADABLE_PICTURE_TOKENS
        case "IMAGE":
            yield "IMAGE", picture_tokens(model, medium.width, medium.height, resolution)
        case "DOCUMENT":
            tokens = pdf_page_tokens(model, resolution) * max(1, int(medium.amount))
            yield "IMAGE" if pages_are_pictures(model) else "DOCUMENT", tokens
        case "AUDIO":
            yield "AUDIO", audio_tokens(model, medium.amount)
        case "VIDEO":
            # As though every video had sound: only a decoder knows.
            yield "VIDEO", video_tokens(model, medium.amount, resolution)
            yield "AUDIO", audio_tokens(model, medium.amount)
        case "TEXT":
            yield "TEXT", text_tokens(int(medium.amount))


def output_usage(request: Json, text: str, draw: int) -> Output:
    """What becomes of the answer `text` under the request's thinking and `maxOutputTokens`."""
    config = member(request, "generationConfig") or {}
    if config.keys().isdisjoint(_LIMITING):
        return Output(text, "STOP", text_tokens(len(text)) if text else 0, 0)
    thoughts = thought_tokens(member(config, "thinkingConfig"), draw)
    most = number(member(config, "maxOutputTokens"))
    if most is None or most <= 0:
        most = None
    else:
        thoughts = min(thoughts, most)
    kept, reason = fit(text, thoughts, most)
    return Output(kept, reason, text_tokens(len(kept)) if kept else 0, thoughts)


def thought_tokens(thinking_config: object, draw: int) -> int:
    """A plausible number of thoughts, never over the budget; 0 for a request that does not ask for thinking.

    Args:
        thinking_config: `generationConfig.thinkingConfig`, in either spelling.
        draw: any number of 0 or more; numbers evenly spread give counts evenly spread.
    """
    if type(thinking_config) is not dict:
        return 0
    budget = number(member(thinking_config, "thinkingBudget"))
    level = _word(member(thinking_config, "thinkingLevel")).upper()
    asked = budget is not None or level in THOUGHTS or member(thinking_config, "includeThoughts") is True
    if budget == 0 or not asked:
        return 0
    least, most = THOUGHTS.get(level, DYNAMIC_THOUGHTS)
    if budget is not None and budget > 0:
        least, most = min(least, budget), min(most, budget)
    return least + draw % (most - least + 1)


def fit(text: str, thought_tokens: int, max_output_tokens: int | None) -> tuple[str, str]:
    """The text that there is room for behind the thoughts, and the finish reason."""
    if max_output_tokens is None:
        return text, "STOP"
    room = max(0, max_output_tokens - thought_tokens)
    if room and text_tokens(len(text)) <= room:
        return text, "STOP"
    return text[: room * CHARACTERS_PER_TOKEN], "MAX_TOKENS"


def usage_metadata(prompt: Usage, output: Output) -> Json:
    """`usageMetadata` of a response; zeros are left out, as proto-JSON does."""
    shown: Json = {"promptTokenCount": prompt.total}
    if output.answer_tokens:
        shown["candidatesTokenCount"] = output.answer_tokens
    shown["totalTokenCount"] = prompt.total + output.answer_tokens + output.thought_tokens
    shown["promptTokensDetails"] = prompt.details()
    if output.thought_tokens:
        shown["thoughtsTokenCount"] = output.thought_tokens
    return shown


def _level(resolution: object) -> str | None:
    """`"MEDIA_RESOLUTION_LOW"` of a request, `{"level": "MEDIA_RESOLUTION_LOW"}` of a part."""
    level = resolution.get("level") if type(resolution) is dict else resolution
    return level if type(level) is str else None


def _word(value: object) -> str:
    return value if type(value) is str else ""


def number(value: object) -> int | None:
    """A whole number in any spelling of proto-JSON: 7, 7.0, "7"; None for anything else."""
    if type(value) is str and (digits := whole(value.removeprefix("-"))) is not None:
        return -digits if value.startswith("-") else digits
    if type(value) is float and value.is_integer():
        return int(value)
    return value if type(value) is int else None
