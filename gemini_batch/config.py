"""Settings, resolved once: flag > environment > TOML > default.

In: what was typed, the environment, a file. Out: frozen `Options` and the `Account` to talk to. Every name is the
same as a flag, an environment variable (`GEMINI_BATCH_` + capitals), a TOML key and a keyword of the library.
"""

import hashlib
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from math import inf
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from gemini_batch.errors import BadInput
from gemini_batch.given import Given, find_settings
from gemini_batch.logs import LogFormat, LogLevel
from gemini_batch.records import Limits, Tier
from gemini_batch.safety import read_safety_settings

GOOGLE = "https://generativelanguage.googleapis.com"
MAX_FILE_BYTES = 2_000_000_000
"""The largest input file of a job (Batch API guide)."""

MAX_STORED_BYTES = 20_000_000_000
"""Files of a project at the service (Files API guide)."""

MAX_LIVE_JOBS = 100
"""Concurrent batch jobs of a project (Rate limits page, 2026-08-18)."""

MAX_SAMPLES = 100
"""More than any vote needs; all samples of a prompt are in one job."""

LONGEST_SECONDS = 30 * 86_400
"""Nothing here waits longer than results are kept: six weeks, by other reports days (Batch API guide)."""

Resolution = Literal[
    "MEDIA_RESOLUTION_LOW", "MEDIA_RESOLUTION_MEDIUM", "MEDIA_RESOLUTION_HIGH", "MEDIA_RESOLUTION_ULTRA_HIGH"
]


class Options(BaseModel):
    """Everything `plan` and `submit` take. Sizes in bytes, times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: str | None = Field(
        None, alias="schema", description="pydantic model as module:Name, or a JSON Schema file"
    )
    schema_field: Literal["responseSchema", "responseJsonSchema"] = Field(
        "responseSchema", description="how the service is told the schema: its own subset, or JSON Schema"
    )
    model: str = Field("gemini-2.5-flash", description="model that answers", pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._/-]*$")
    n_samples: int = Field(1, ge=1, le=MAX_SAMPLES, description="answers to ask for each prompt; the majority is kept")
    min_valid: int = Field(1, ge=1, description="samples that have to be valid for a row to be answered")
    system_instruction: str | None = Field(None, description="for every row without one of its own")
    temperature: float | None = Field(None, ge=0, le=2, description="sampling temperature")
    top_p: float | None = Field(None, ge=0, le=1, description="nucleus sampling")
    top_k: int | None = Field(None, ge=1, description="top-k sampling")
    seed: int | None = Field(None, ge=-(2**31), lt=2**31, description="sampling seed")
    max_output_tokens: int | None = Field(None, ge=1, description="longest answer, thinking included")
    stop_sequence: tuple[str, ...] = Field((), max_length=5, description="end the answer here; repeatable")
    thinking_budget: int | None = Field(None, ge=-1, description="tokens for thinking; 0 none, -1 as the model likes")
    thinking_level: Literal["minimal", "low", "medium", "high"] | None = Field(None, description="for Gemini 3 models")
    media_resolution: Resolution | None = Field(None, description="detail of pictures")
    safety_settings: tuple[str, ...] = Field(
        (),
        description="what is withheld, such as HARM_CATEGORY_HARASSMENT=BLOCK_NONE; repeatable",
        examples=["CATEGORY=THRESHOLD"],
    )
    generation_config: Path | None = Field(None, description="JSON file of raw generationConfig fields")
    media: Literal["inline", "upload", "auto"] = Field("auto", description="pictures in the request file or uploaded")

    prompt_column: str = Field("prompt", description="column that holds the prompt text")
    key_column: str = Field("key", description="column that holds the row's key")
    template: str | None = Field(
        None, description="prompt made of columns, such as 'Classify: {title}', or @file; {{ and }} are braces"
    )
    image_column: str | None = Field(None, description="column of pictures that follow the text: path, URI or binary")
    keep: tuple[str, ...] = Field((), description="columns to copy into the dataset, such as A,B; repeatable")
    media_root: tuple[str, ...] = Field(
        (),
        description="one more directory of pictures; or OLD=NEW: what rows call OLD lies at NEW here; repeatable",
    )
    limit: int | None = Field(None, ge=1, description="take only so many rows, the first ones")

    max_requests_per_shard: int = Field(
        10_000, ge=1, description="most requests in one job; if not given, more in a run of 2,000 jobs"
    )
    max_bytes_per_shard: int = Field(
        500_000_000, ge=1_000, le=MAX_FILE_BYTES, description="largest request file of one job, in bytes"
    )
    max_tokens_per_shard: int | None = Field(
        None,
        ge=1,
        description="most estimated input tokens in one job; an eighth of the limit in flight if there is one",
    )
    max_live_jobs: int = Field(MAX_LIVE_JOBS, ge=1, description="most jobs in flight")
    max_enqueued_tokens: int | None = Field(
        None, ge=1, description="most estimated input tokens in flight; wins over --tier; no limit without either"
    )
    tier: Tier | None = Field(None, description="usage tier of the Google project: its limit of tokens in flight holds")
    max_creates_per_day: int | None = Field(
        None, ge=1, description="most jobs created in 24 hours; of --tier, if it is given; no limit without either"
    )
    max_stored_bytes: int = Field(
        MAX_STORED_BYTES, ge=1, description="most bytes of request and result files at the service at once"
    )
    poll_interval: float = Field(
        60.0, ge=0.1, le=LONGEST_SECONDS, description="longest pause between two looks at a job, in seconds"
    )
    settle: float = Field(
        3600.0, ge=0, le=LONGEST_SECONDS, description="seconds a lost create must stay absent before it is sent again"
    )
    on_unknown: Literal["resubmit", "wait"] = Field("resubmit", description="what to do about a create that stays lost")
    stuck: Literal["report", "cancel"] = Field(
        "report", description="what to do about a job that has run for 36 hours: cancelled, its rows are bought again"
    )
    max_attempts: int = Field(3, ge=1, le=100, description="times that a row may be bought")
    retry_truncated: bool = Field(
        False, description="buy again what met the output limit, with twice the limit if one is set"
    )
    retry_invalid: bool = Field(False, description="buy again what does not fit the schema")
    allow_http: bool = Field(False, description="fetch pictures that rows name by http(s) URL; a worker needs it too")
    price: tuple[float, float] | None = Field(
        None,
        description="USD per million input and output tokens, in place of the published price",
        examples=["IN,OUT"],
    )
    max_cost: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="USD that the run may cost; needs --max-output-tokens"
    )
    project: str | None = Field(None, description="name of the Google project; two keys of one project share a run")
    owner: str | None = Field(None, description="who looks after the run; shown by status and runs")

    validate_: Literal["model", "json-schema"] | None = Field(
        None, alias="validate", description="check answers by the model itself (if it can be imported) or its schema"
    )

    broker: str | None = Field(
        None, description="redis:// or rediss:// URL: hand the run to a fleet of workers", repr=False
    )
    allow_schema: tuple[str, ...] = Field((), description="models a worker may import, such as 'mypkg.*'; repeatable")
    runs: str = Field("./runs", description="path or URL where run directories live; shared by all workers")
    out: str | None = Field(None, description="path or URL of this run's directory")
    fresh: bool = Field(False, description="buy anew even if this was asked before")
    yes: bool = Field(False, description="buy without asking, whatever it may cost")
    confirm_above: float = Field(10.0, ge=0, description="USD of the high estimate that no one is asked about")
    allow_failed: str = Field(
        "0", pattern=r"^\d+(\.\d+)?%?$", description="failures that still exit 0: 0.5% or a number"
    )

    log_level: LogLevel = Field("info", description="least that is told on stderr of what happens")
    log_format: LogFormat = Field("text", description="words for people, or an object a line, on stderr")

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("true or false is for switches, and this is none")
        return value

    @field_validator("allow_failed", "tier", mode="before")
    @classmethod
    def _number_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @field_validator("runs", "out", mode="before")
    @classmethod
    def _path_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value

    @field_validator("price", mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        pair = value.split(",") if isinstance(value, str) else value
        try:
            usable = pair is None or (len(pair) == 2 and all(0 <= float(usd) < inf for usd in pair))
        except (TypeError, ValueError):
            usable = False
        if not usable:
            raise ValueError("IN,OUT is due: two numbers of USD, none below 0")
        return pair

    @field_validator("stop_sequence", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("safety_settings", mode="before")
    @classmethod
    def _categories(cls, value: Any) -> Any:
        return read_safety_settings(value)

    @field_validator("allow_schema", "keep", "media_root", mode="before")
    @classmethod
    def _separated(cls, value: Any) -> Any:
        return tuple(filter(None, value.split(","))) if isinstance(value, str) else value

    @field_validator("keep", "media_root")
    @classmethod
    def _each_separated(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for names in value for name in names.split(",") if name)

    def limits(self) -> Limits:
        """As they are given here. What a tier makes of them is `quota.tiers`'."""
        return Limits(**{name: getattr(self, name) for name in Limits.model_fields})

    def given(self, name: str) -> Any:
        """The option, or None where nobody gave it."""
        return getattr(self, name) if name in self.model_fields_set else None

    def given_limits(self) -> dict[str, Any]:
        """Limits that were given by flag, environment or file, and not by default."""
        return {name: getattr(self, name) for name in sorted(self.model_fields_set & set(Limits.model_fields))}

    def allowed_failures(self, rows: int) -> float:
        if self.allow_failed.endswith("%"):
            return float(self.allow_failed[:-1]) / 100 * rows
        return float(self.allow_failed)


OPERATIONAL = frozenset(Limits.model_fields) | {"allow_failed", "runs", "broker", "media_root"}
"""Options that may change on any submit or resume."""

GENERATION = frozenset(
    {
        "system_instruction", "temperature", "top_p", "top_k", "seed", "max_output_tokens", "stop_sequence",
        "thinking_budget", "thinking_level", "media_resolution", "safety_settings", "generation_config",
    }
)  # fmt: skip
"""Options that say how an answer is made."""

OF_CALLS = frozenset({"log_level", "log_format"})
"""Options that every command takes."""

OF_WORKERS = frozenset({"broker", "runs", "project", "allow_schema", "allow_http", "media_root", "log_format"})
"""Options that a worker takes."""

OF_RUNS = frozenset(Options.model_fields) - {"allow_schema"} - OF_CALLS
"""Options that `plan` and `submit` take."""


def option_name(field_name: str) -> str:
    """The public name of a field: `schema_` is `schema`."""
    return Options.model_fields[field_name].alias or field_name


def resolve(
    given: Mapping[str, Any], config: Path | None = None, environment: Mapping[str, str] = os.environ
) -> Options:
    """The options in force.

    Args:
        given: what was typed, by public name; None means not typed.
        config: a TOML file of flat snake_case keys; by default the one that GEMINI_BATCH_CONFIG names.

    Raises:
        BadInput: an unknown name, a value out of range, an unreadable file.
    """
    return options_of(find(given, config, environment))


def find(
    given: Mapping[str, Any], config: Path | None = None, environment: Mapping[str, str] = os.environ
) -> dict[str, Given]:
    """What is given, by public name, and where. Arguments and errors as of `resolve`."""
    return find_settings(given, config, environment, {option_name(field) for field in Options.model_fields})


def options_of(found: Mapping[str, Given]) -> Options:
    """
    Raises:
        BadInput: names every value that cannot be used, and where it was given.
    """
    try:
        return Options.model_validate({name: given.value for name, given in found.items()})
    except ValidationError as error:
        wrong = {str(one["loc"][0]): one for one in reversed(error.errors())}  # of a list, its first entry
    said = [f"{found[name].naming(name)}: {_complaint(name, one)}" for name, one in sorted(wrong.items())]
    raise BadInput(said[0] if len(said) == 1 else "\n  ".join([f"{len(said)} settings cannot be used:", *said]))


def _complaint(name: str, error: Any) -> str:
    got = "" if name == "broker" else f" (got {error['input']!r})"  # it may hold a password
    return f"{error['msg'].removeprefix('Value error, ')}{got}"


@dataclass(frozen=True)
class Account:
    """Whose jobs these are. The key is never shown, compared only by its hash."""

    endpoint: str
    project: str
    """The project's name, or a hash of the key: jobs are visible only to the project that made them."""
    key: str = field(repr=False)

    @property
    def key_name(self) -> str:
        """What a project without a name goes by."""
        return _key_name(self.key)

    @property
    def is_loopback(self) -> bool:
        return _is_loopback(self.endpoint)


def resolve_account(
    project: str | None, environment: Mapping[str, str] = os.environ, key_needed: bool = True
) -> Account:
    """The service and the key, from the environment.

    Args:
        key_needed: False for what talks to nobody.

    Raises:
        BadInput: no key, and the service is not on this machine.
    """
    endpoint = environment.get("GOOGLE_GEMINI_BASE_URL", GOOGLE).rstrip("/")
    _check_endpoint(endpoint)
    ours, theirs = environment.get("GEMINI_API_KEY"), environment.get("GOOGLE_API_KEY")
    if ours and theirs and ours != theirs:
        warnings.warn("GEMINI_API_KEY and GOOGLE_API_KEY differ; GEMINI_API_KEY is used", stacklevel=2)
    key = ours or theirs or ("loopback" if _is_loopback(endpoint) else None)
    if key is None and key_needed:
        raise BadInput(
            "no API key: set GEMINI_API_KEY (or GOOGLE_API_KEY), or point GOOGLE_GEMINI_BASE_URL at an emulator "
            "(gemini-batch-dist emulator)"
        )
    key = key or ""
    if not (key.isascii() and key.isprintable()) or " " in key:  # no header could hold it, so no call could be made
        raise BadInput("the API key holds a character that no key has, such as … or a line end; copy it anew")
    return Account(endpoint, project or _key_name(key), key)


def _key_name(key: str) -> str:
    return "key-" + hashlib.sha256(key.encode()).hexdigest()[:16]


def _check_endpoint(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable, parts = False, None
    if parts is not None and (parts.username or parts.password):
        raise BadInput("GOOGLE_GEMINI_BASE_URL must not hold a user or password: it is written into the run")
    if not usable:
        raise BadInput(f"GOOGLE_GEMINI_BASE_URL must be http:// or https:// and a host (got {endpoint!r})")


def _is_loopback(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
