"""How the emulated service behaves: by flag, TOML file or admin call, in the same words.

In: names and values as typed. Out: frozen `EmulatorSettings`; a wrong word raises `SettingsError`, which names it.
"""

import difflib
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from gemini_batch.config import MAX_FILE_BYTES, MAX_LIVE_JOBS
from gemini_batch.emulator.dice import Dice
from gemini_batch.emulator.faults import FaultSpec

MAX_STORED_BYTES = 20_000_000_000
"""Files of a project, results included (Files API guide)."""

MAX_INLINE_BYTES = 20 << 20
"""A create with inline requests (Batch API guide)."""

ANY_MODEL = "*"
MOST_SECONDS = 1e9
MOST_SIGMA = 10.0
_EVEN = 1 << 31
_TOKENS = re.compile("[0-9]{1,18}")


class SettingsError(ValueError):
    """A setting, a fault or a file of them that cannot be used; the message names it and the way out."""


@dataclass(frozen=True, slots=True)
class Span:
    """A number of seconds, or how to draw one: `90`, `uniform:10:60`, `exponential:300`, `lognormal:3600:0.8`.

    `exponential` has a mean, `lognormal` a median and the sigma of its logarithm.
    """

    kind: str
    first: float
    second: float = 0.0

    def draw(self, dice: Dice) -> float:
        return min(self._drawn(dice), MOST_SECONDS)

    def _drawn(self, dice: Dice) -> float:
        chance = (dice.below(_EVEN) + 0.5) / _EVEN
        match self.kind:
            case "uniform":
                return self.first + (self.second - self.first) * chance
            case "exponential":
                return -math.log(chance) * self.first
            case "lognormal":
                return self.first * math.exp(self.second * NormalDist().inv_cdf(chance))
        return self.first

    def shown(self) -> float | str:
        """Reads as the same span."""
        match self.kind:
            case "fixed":
                return self.first
            case "exponential":
                return f"{self.kind}:{_exact(self.first)}"
        return f"{self.kind}:{_exact(self.first)}:{_exact(self.second)}"


def _exact(number: float) -> str:
    return repr(number).removesuffix(".0")


def _read_span(value: Any) -> Span:
    if isinstance(value, Span):
        return value
    kind, *words = value.split(":") if isinstance(value, str) else ("fixed", value)
    if not words:
        kind, words = "fixed", [kind]
    numbers = [_seconds(word) for word in words]
    if len(numbers) != {"fixed": 1, "uniform": 2, "exponential": 1, "lognormal": 2}.get(kind):
        raise ValueError("must be a number of seconds, uniform:LEAST:MOST, exponential:MEAN or lognormal:MEDIAN:SIGMA")
    if kind == "lognormal" and numbers[1] > MOST_SIGMA:
        raise ValueError(f"must have a sigma of at most {MOST_SIGMA:g} (got {numbers[1]:g})")
    if kind == "uniform" and numbers[0] > numbers[1]:
        raise ValueError(f"must be uniform:LEAST:MOST, the smaller first (got {value})")
    return Span(kind, *numbers)


def _seconds(value: Any) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= MOST_SECONDS:  # also refuses nan
        raise ValueError(f"must be a number of seconds from 0 to 1e9 (got {value!r})")
    return number


def _read_token_limits(value: Any) -> Any:
    """A number for each model, `model=number` texts, or a mapping."""
    if isinstance(value, int | str):
        value = [value]
    if isinstance(value, list | tuple):
        pairs = [str(one).rpartition("=") for one in value]
        value = {model or ANY_MODEL: number for model, _, number in pairs}
    if not isinstance(value, Mapping) or not all(_TOKENS.fullmatch(str(number)) for number in value.values()):
        raise ValueError("must be a number of tokens, or model=number")
    return value


Seconds = Annotated[Span, BeforeValidator(_read_span), PlainSerializer(lambda span: span.shown())]
NOTHING = Span("fixed", 0.0)


class EmulatorSettings(BaseModel):
    """The service's behaviour. Times in seconds of the virtual clock, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(
        0, ge=-(1 << 63), lt=1 << 63, strict=True, description="answers, embeddings, drawn times and chaos depend on it"
    )
    queue_seconds: Seconds = Field(NOTHING, description="a job's time PENDING")
    run_seconds: Seconds = Field(NOTHING, description="a job's time RUNNING")
    speed: float = Field(1.0, gt=0, le=1e6, strict=True, description="virtual seconds in a second")
    max_live_jobs: int = Field(MAX_LIVE_JOBS, ge=0, strict=True, description="more get 429")
    max_enqueued_tokens: Annotated[dict[str, int], BeforeValidator(_read_token_limits)] = Field(
        {}, description="input tokens of live jobs: a number for each model, or model=number"
    )
    max_creates_per_day: int | None = Field(None, ge=0, strict=True, description="in any 24 hours")
    max_file_bytes: int = Field(MAX_FILE_BYTES, ge=1, strict=True)
    max_stored_bytes: int = Field(MAX_STORED_BYTES, ge=1, strict=True)
    api_keys: tuple[str, ...] = Field((), description="the only ones accepted; none: any")
    projects: dict[str, tuple[str, ...]] = Field({}, description="keys of one project see the same jobs and limits")
    token_factor: float = Field(1.0, gt=0, le=100, strict=True, description="counts every token so many times")
    chaos: float = Field(0.0, ge=0, le=1, strict=True, description="share of all things that meet a survivable fault")
    faults: tuple[FaultSpec, ...] = Field((), description="armed at the start and after a reset")

    @model_validator(mode="before")
    @classmethod
    def _halves(cls, values: Any) -> Any:
        """`job_seconds`: half of it PENDING, half of it RUNNING."""
        if not isinstance(values, Mapping) or "job_seconds" not in values:
            return values
        if double := values.keys() & {"queue_seconds", "run_seconds"}:
            raise ValueError(f"job_seconds is queue_seconds and run_seconds in one: leave out {min(double)} or itself")
        rest = {name: value for name, value in values.items() if name != "job_seconds"}
        try:
            half = _seconds(values["job_seconds"]) / 2
        except ValueError as error:
            raise ValueError(f"job_seconds: {error}") from None
        return {"queue_seconds": half, "run_seconds": half} | rest

    def token_limit(self, model: str) -> int | None:
        return self.max_enqueued_tokens.get(model, self.max_enqueued_tokens.get(ANY_MODEL))

    def project_of(self, key: str) -> str:
        """Apart from every key: one may be spelled like a project."""
        return next((f"project {name}" for name, keys in self.projects.items() if key in keys), f"key {key}")


ONLY_AT_START = frozenset({"seed", "faults"})


def make_settings(values: Mapping[str, Any], start: EmulatorSettings | None = None) -> EmulatorSettings:
    """`start` (or the defaults) with `values` in force; raises SettingsError."""
    before = {} if start is None else start.model_dump()
    if "job_seconds" in values:
        before = {name: value for name, value in before.items() if name not in ("queue_seconds", "run_seconds")}
    try:
        return EmulatorSettings.model_validate(before | dict(values))
    except ValidationError as error:
        match error.errors()[0]["loc"]:
            case "faults", _, *_:
                known = list(FaultSpec.model_fields)
            case _:
                known = [*EmulatorSettings.model_fields, "job_seconds"]
        raise SettingsError(first_complaint(error, known)) from None
    except RecursionError:
        raise SettingsError(f"{', '.join(values)}: nested too deeply.") from None


def read_file(path: Path) -> dict[str, Any]:
    """The values of a TOML file: settings by name, `[[faults]]` tables; raises SettingsError."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None


def make_fault(values: Any) -> FaultSpec:
    """Raises SettingsError."""
    if not isinstance(values, dict):
        raise SettingsError("A fault must be an object with a name.")
    try:
        return FaultSpec.model_validate(values)
    except ValidationError as error:
        raise SettingsError(first_complaint(error, list(FaultSpec.model_fields))) from None


def first_complaint(error: ValidationError, known: list[str]) -> str:
    """One sentence that names what is wrong."""
    first = error.errors()[0]
    known = list(FaultSpec.model_fields) if first["loc"][:1] == ("faults",) else known
    # Without the names that pydantic gives to the branches of a union.
    where = ".".join(str(step) for step in first["loc"] if "[" not in str(step) and "constrained" not in str(step))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"Unknown member {where!r}; {nearest(str(first['loc'][-1]), known)}"
    return f"{where}: {message}" if where else message


def nearest(word: str, known: Iterable[str]) -> str:
    """What was meant, most likely; else all there is."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}."
