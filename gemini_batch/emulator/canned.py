"""A user's own answers: a Python callable, or a JSONL file of canned ones. What they do not answer, the sampler does.

In: a `Prompt`. Out: what to answer: a text, anything JSON can say, or a whole result with `response` or `error`.
"""

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from gemini_batch.emulator.proto import repeated
from gemini_batch.emulator.settings import SettingsError, nearest
from gemini_batch.emulator.wire import Json, member

_WHOLE = ("response", "error", "status")
_MEMBERS = ("key", "prompt", "answer", *_WHOLE)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What an answer is wanted for."""

    key: str
    """Of the request line; "" where it has none."""
    model: str
    request: Mapping[str, Any]
    """The GenerateContentRequest as it was sent, of an embedding the EmbedContentRequest."""

    @property
    def text(self) -> str:
        """All text parts of the contents, or of what is to be embedded, joined; without the system instruction."""
        return "".join(
            part.get("text") or ""
            for content in repeated(self.request.get("contents") or self.request.get("content"))
            for part in repeated(content.get("parts"))
        )

    @property
    def schema(self) -> Any:
        """The response schema, or None."""
        config = member(self.request, "generationConfig") or {}
        schema = member(config, "responseSchema")
        return member(config, "responseJsonSchema") if schema is None else schema


Answers = Callable[[Prompt], Any]
"""None: no answer of its own. An exception: the line fails with code 13 and the exception's text."""


def load_answers(given: str) -> Answers:
    """`module:function`, or the path of a JSONL file; raises SettingsError."""
    if given.endswith((".jsonl", ".json")) or Path(given).exists():
        return read_canned(Path(given))
    module, colon, name = given.partition(":")
    if not colon:
        raise SettingsError(f"answers: {given} is no file, and not module:function.")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` has it
    try:
        found = importlib.import_module(module)
    except Exception as error:  # whatever the user's module raises is its story to tell
        raise SettingsError(f"answers: {module} cannot be imported: {error!r}") from error
    answers: Any = getattr(found, name, None)
    if not callable(answers):
        callables = [name for name, value in vars(found).items() if callable(value) and name[:1] != "_"]
        raise SettingsError(f"answers: {module} has no function {name!r}; {nearest(name, callables)}")
    return answers  # type: ignore[no-any-return]


def read_canned(path: Path) -> Answers:
    """Raises SettingsError."""
    try:
        return canned(path.read_bytes().split(b"\n"), str(path))
    except OSError as error:
        raise SettingsError(f"answers: {path}: {error.strerror}") from None


def canned(lines: Iterable[bytes], source: str) -> Answers:
    """Answers by `key` or `prompt` (the exact text); a line with neither answers all the rest.

    A line holds `answer` (a text or any JSON), or `response` / `error` / `status` as a result file of the service does:
    such a file can be played back as it is.

    Raises:
        SettingsError: a line of another shape, named by its number.
    """
    by_key: dict[str, Json] = {}
    by_prompt: dict[str, Json] = {}
    rest: list[Json] = []
    for number, raw in enumerate(lines, 1):
        if not raw.strip():
            continue
        line = _canned_line(raw, f"{source}, line {number}")
        if "key" in line:
            by_key[line["key"]] = line
        elif "prompt" in line:
            by_prompt[line["prompt"]] = line
        else:
            rest.append(line)

    def answer(prompt: Prompt) -> Any:
        line = by_key.get(prompt.key) or (by_prompt and by_prompt.get(prompt.text)) or (rest[-1] if rest else None)
        if not line:
            return None
        if "answer" not in line:
            return {name: line[name] for name in _WHOLE if name in line}
        told = line["answer"]
        return told if isinstance(told, str) else orjson.dumps(told).decode()

    return answer


def _canned_line(raw: bytes, where: str) -> Json:
    try:
        line = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise SettingsError(f"{where}: {error.msg}.") from None
    if not isinstance(line, dict) or not line.keys() & {"answer", *_WHOLE}:
        raise SettingsError(f"{where}: expected an object with `answer`, or with `response` or `error`.")
    if unknown := sorted(line.keys() - set(_MEMBERS)):
        raise SettingsError(f"{where}: unknown member {unknown[0]!r}; {nearest(unknown[0], _MEMBERS)}")
    if name := _no_message(line):
        raise SettingsError(f"{where}: {name} must be an object.")
    for name in ("key", "prompt"):
        if not isinstance(line.get(name, ""), str):
            raise SettingsError(f"{where}: {name} must be a text.")
    return line


def _no_message(result: Mapping[str, Any]) -> str | None:
    """The first of `_WHOLE` that holds no message: only a user's own JSON can."""
    return next((name for name in _WHOLE if not isinstance(result.get(name), Mapping | None)), None)


def as_result(answer: Any, *, is_bare: bool = False) -> Json | str:
    """A whole result, or the text of one: `is_bare` for a value that is a text without quotes.

    Raises TypeError for what JSON cannot say.
    """
    if isinstance(answer, str):
        return answer
    if isinstance(answer, Mapping) and answer and answer.keys() <= set(_WHOLE) and not _no_message(answer):
        orjson.dumps([[[[[[[[answer]]]]]]]])  # as deep as it will lie in a reply
        return dict(answer)
    dumped = getattr(answer, "model_dump_json", None)
    text = str(dumped()) if callable(dumped) else orjson.dumps(answer).decode()
    return orjson.loads(text) if is_bare and text[:1] == '"' else text


def as_values(result: Json | str) -> Json | list[float]:
    """The values of an embedding; raises TypeError for a text that says none."""
    if isinstance(result, dict):
        return result
    try:
        values = orjson.loads(result)
    except orjson.JSONDecodeError:
        values = None
    if type(values) is not list or not values or not all(type(value) in (int, float) for value in values):
        raise TypeError("the answer of an embedding must be a list of numbers")
    return values
