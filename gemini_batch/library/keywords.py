"""The options of the command as keywords of the library: names and types for editors, `Options` for what they mean.

A test holds them to the flags of the command.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

from gemini_batch.config import OPERATIONAL, Options, resolve
from gemini_batch.errors import BadInput, UnknownOption
from gemini_batch.given import nearest
from gemini_batch.logs import LogFormat, LogLevel, set_up

OF_CALLS = frozenset({"config", "log_level", "log_format"})
"""Where settings are read from and what is told of them: any call may say it."""


class CallKeywords(TypedDict, total=False):
    """What any call may say."""

    config: str | Path | None
    """A TOML file of settings; the environment and keywords win."""
    log_level: LogLevel | None
    """Least that loggers of this package tell. Loggers stay as they are unless this or `log_format` is given."""
    log_format: LogFormat | None


class GenerationKeywords(TypedDict, total=False):
    """How an answer is made."""

    system_instruction: str | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    seed: int | None
    max_output_tokens: int | None
    stop_sequence: str | Sequence[str] | None
    safety_settings: str | Sequence[Any] | Mapping[str, str] | None
    thinking_budget: int | None
    thinking_level: Literal["minimal", "low", "medium", "high"] | None
    media_resolution: str | None
    generation_config: str | Path | None


class HowKeywords(CallKeywords, total=False):
    """How a run is carried out. May change whenever a run is gone on with."""

    allow_failed: str | float | None
    allow_http: bool | None
    broker: str | None
    max_attempts: int | None
    max_bytes_per_shard: int | None
    max_cost: float | None
    max_creates_per_day: int | None
    max_enqueued_tokens: int | None
    max_live_jobs: int | None
    max_requests_per_shard: int | None
    max_stored_bytes: int | None
    max_tokens_per_shard: int | None
    media_root: str | Sequence[str] | None
    on_unknown: Literal["resubmit", "wait"] | None
    owner: str | None
    poll_interval: float | None
    price: str | tuple[float, float] | None
    project: str | None
    retry_invalid: bool | None
    retry_truncated: bool | None
    runs: str | Path | None
    settle: float | None
    stuck: Literal["report", "cancel"] | None
    tier: str | int | None


class RetryKeywords(HowKeywords, GenerationKeywords, total=False):
    """Rows that are bought again may be asked otherwise."""

    key_column: str | None


class SubmitKeywords(HowKeywords, GenerationKeywords, total=False):
    """All that a new run may be told."""

    confirm_above: float | None
    detach: bool | None
    fresh: bool | None
    image_column: str | None
    json: bool | None
    keep: str | Sequence[str] | None
    key_column: str | None
    limit: int | None
    media: Literal["inline", "upload", "auto"] | None
    min_valid: int | None
    model: str | None
    n_samples: int | None
    out: str | Path | None
    prompt_column: str | None
    schema_field: Literal["responseSchema", "responseJsonSchema"] | None
    template: str | None
    validate: Literal["model", "json-schema"] | None
    yes: bool | None


def refuse_unknown(given: Iterable[str], known: Iterable[str]) -> None:
    """
    Raises:
        UnknownOption: names the nearest one that there is.
    """
    names = sorted(known)
    for name in given:
        if name not in names:
            raise UnknownOption(f"unknown option {name!r}{nearest(name, names)}")


def settings_of(given: Mapping[str, Any]) -> Options:
    """The options in force: keywords, then the environment, then a file. Loggers are set up if that is asked for.

    Raises:
        BadInput: a value out of range, an unreadable file.
    """
    own = {name: value for name, value in given.items() if name != "config"}
    config = given.get("config")
    settings = resolve(own, None if config is None else Path(config))
    if given.get("log_level") or given.get("log_format"):
        set_up(settings.log_level, settings.log_format)
    return settings


def settings_of_how(given: Mapping[str, Any]) -> Options:
    """The same of options that say how a run is carried out, and by whom.

    Raises:
        BadInput: an option that may not change, or a value out of range.
    """
    refuse_unknown(given, SubmitKeywords.__annotations__)
    for name, value in given.items():
        if value is not None and name not in OPERATIONAL | OF_CALLS | {"project"}:
            raise BadInput(f"{name} belongs to what the run asks for and cannot change; submit anew")
    return settings_of(given)
