"""What a plan may cost, before anything is bought. Pure.

In: how many requests and estimated input tokens, the settings of the answers, a price. Out: low, expected and high in
USD, and in words what they assume. Every request counts once: what is bought again comes on top. Output tokens,
thoughts included, are unknown; where `max_output_tokens` bounds them, high takes every answer to be as long as that.
Where nothing does, high is what the mean of many answers is unlikely to pass, not what one may be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from gemini_batch.gemini.calibrate import Calibration
from gemini_batch.gemini.prices import BatchPrice, price_of
from gemini_batch.gemini.tokens import family
from gemini_batch.records import Asked, ShardPlan

INPUT_LOW, INPUT_HIGH = Decimal("0.5"), Decimal(2)
"""Of the plan's input tokens. Text is counted by script (`scripts.py`), within a quarter for prose of the languages
that were measured; tables of numbers, codes and rare scripts may take up to twice as many. Pictures that nobody has
opened are counted high, and take fewer. The factors are ours."""

LOW_ANSWER, EXPECTED_ANSWER = 16, 256
"""Tokens of an answer: a label, and a small JSON object or a paragraph. Ours; nothing is known before the first job."""

EXPECTED_THOUGHTS = {"minimal": 64, "low": 256, "medium": 1024, "high": 2048}
"""By thinking level. Ours, for short questions: no page gives means."""

DYNAMIC_THOUGHTS = 1024
"""Of a model that thinks as much as it likes. Ours."""

HIGH_OUTPUT = 2
"""Of the expected output, where nothing bounds it. Ours. Taking every answer to be as long as the model can write, 123
requests would be asked about at 10 USD, and a question that is always put is always answered yes."""

OUTPUT_LIMIT, OLD_OUTPUT_LIMIT = 65_536, 8_192
"""The most that a model writes, thoughts included: Gemini 2.5 and later, Gemini 2.0 ("Models")."""


@dataclass(frozen=True)
class CostEstimate:
    """USD, low <= expected <= high; and what they rest on, for people."""

    low: float
    expected: float
    high: float
    assumptions: tuple[str, ...] = ()

    def as_json(self) -> dict[str, float]:
        return {"low": self.low, "expected": self.expected, "high": self.high}


@dataclass(frozen=True)
class OutputTokens:
    """Of one request, thoughts included."""

    low: int
    expected: int
    high: int
    bounded: bool
    """By the run's own settings, and not only by what the model can."""


def estimate_plan(
    asked: Asked, shards: Sequence[ShardPlan], at: datetime, given: tuple[float, float] | None
) -> CostEstimate | None:
    """What the shards of a plan may cost at the price of a day; None if nobody knows one.

    Args:
        given: what the user says that a million input and output tokens cost, in USD.
    """
    price = price_of(asked.model, at, given)
    if price is None:
        return None
    requests, tokens = sum(shard.requests for shard in shards), sum(shard.tokens for shard in shards)
    found = estimate_cost(requests, tokens, price, asked.model, asked.generation_config)
    source = "price as given" if given else f"batch price of {at:%Y-%m-%d}"
    return replace(found, assumptions=(source, *found.assumptions))


def estimate_cost(
    requests: int, tokens: int, price: BatchPrice, model: str, generation_config: Mapping[str, Any]
) -> CostEstimate:
    """What so many requests may cost.

    Args:
        requests: that are sent, all samples of a row counted.
        tokens: estimated input tokens of all requests together.
        generation_config: as every request says it, in REST or snake_case spelling.
    """
    out = output_tokens(model, generation_config)
    low, expected, high = (
        round(float(price.cost_usd(0, requests * each) + price.input_usd * tokens * share), 6)
        for share, each in ((INPUT_LOW, out.low), (Decimal(1), out.expected), (INPUT_HIGH, out.high))
    )
    bound = "max_output_tokens" if out.bounded else "no bound: --max-output-tokens sets one"
    return CostEstimate(
        low,
        expected,
        high,
        (
            f"{_per_million(price.input_usd)} USD per 1M input tokens, {_per_million(price.output_usd)} per 1M output",
            f"input x {INPUT_LOW} to x {INPUT_HIGH} of the estimated tokens",
            f"output tokens a request, thoughts included: {out.low:,}, {out.expected:,}, {out.high:,} ({bound})",
            "each request bought once",
        ),
    )


def estimate_error(
    asked: Asked, seen: Calibration, cost_usd: float, at: datetime, given: tuple[float, float] | None
) -> dict[str, Any] | None:
    """How far the estimates of a run were off, for its report: of the lines that tell their usage, what was expected of
    them and what they took; None where none does. A ratio is actual / estimated.

    Args:
        cost_usd: of the shards that these lines are of, as far as it is known.
        at: the day whose price was expected.
        given: what the user says that a million input and output tokens cost, in USD.
    """
    if not seen.lines:
        return None
    written = seen.lines * output_tokens(asked.model, asked.generation_config).expected
    price = price_of(asked.model, at, given)
    expected = price and round(float(price.cost_usd(0, written)) + float(price.input_usd) * seen.estimated, 6)
    return {
        "lines": seen.lines,
        "input_tokens": _held_against(seen.estimated, seen.actual),
        "output_tokens": _held_against(written, seen.output),
        "cost_usd": {"expected": expected, "actual": round(cost_usd, 6)},
    }


def _held_against(estimated: float, actual: int) -> dict[str, Any]:
    return {"estimated": round(estimated), "actual": actual, "ratio": round(actual / estimated, 4)}


def output_tokens(model: str, generation_config: Mapping[str, Any]) -> OutputTokens:
    """What one request may be answered with."""
    given = _largest(generation_config, "maxOutputTokens", "max_output_tokens")
    answers = _largest(generation_config, "candidateCount", "candidate_count")  # each as long, and each paid for
    bound = given if given and answers is not None else None
    limit = OLD_OUTPUT_LIMIT if family(model) == "gemini-2.0" else OUTPUT_LIMIT
    most = limit if bound is None else min(bound, limit)
    expected = EXPECTED_ANSWER + expected_thoughts(model, generation_config)
    high = most if bound is not None else min(HIGH_OUTPUT * expected, limit)
    each = (min(LOW_ANSWER, most), min(expected, most), high)
    low, expected, high = (tokens * max(1, answers or 1) for tokens in each)
    return OutputTokens(low, expected, high, bound is not None)


def expected_thoughts(model: str, generation_config: Mapping[str, Any]) -> int:
    """Tokens of thinking that an answer takes on top, by our assumptions; 0 for models that do not think."""
    if family(model) == "gemini-2.0":
        return 0
    thinking = _setting(generation_config, "thinkingConfig", "thinking_config")
    thinking = thinking if isinstance(thinking, Mapping) else {}
    budget = _whole(_setting(thinking, "thinkingBudget", "thinking_budget"))
    if budget is not None and budget >= 0:
        return min(budget, DYNAMIC_THOUGHTS)
    level = _setting(thinking, "thinkingLevel", "thinking_level")
    if isinstance(level, str):
        return EXPECTED_THOUGHTS.get(level.lower(), DYNAMIC_THOUGHTS)
    does_not_unless_told = family(model) == "gemini-2.5" and "flash-lite" in model  # "Thinking"
    return 0 if does_not_unless_told and budget is None else DYNAMIC_THOUGHTS


def _setting(config: Mapping[str, Any], *spellings: str) -> Any:
    return next((config[name] for name in spellings if config.get(name) is not None), None)


def _largest(config: Mapping[str, Any], *spellings: str) -> int | None:
    """0 for one that is not set; None where somebody set what is not a whole number. Two spellings may both be there,
    and nobody knows which of them the service heeds."""
    given = [_whole(config[name]) for name in spellings if config.get(name) is not None]
    return None if None in given else max((value for value in given if value is not None), default=0)


def _whole(value: Any) -> int | None:
    """A whole number, which raw settings may also hold as text; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19 else None


def _per_million(usd: Decimal) -> str:
    return f"{(usd * 1_000_000).normalize():f}"
