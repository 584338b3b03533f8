"""What a batch request costs, by the published prices of a day.

Prices come from genai-prices, which keeps them by date. Where it knows no batch price of a model, half of the standard
price holds: "50 % of standard" (Batch API guide). Tokens that were read from a cache have the standard price of such
reads, at most that of input: the guide and the pricing page differ here, and this is the higher one.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

_SAMPLE = 1000
"""Tokens that a price is asked for: few enough for the lowest step of models whose price rises with the prompt."""


@dataclass(frozen=True, slots=True)
class BatchPrice:
    """USD a token."""

    input_usd: Decimal
    output_usd: Decimal
    cached_usd: Decimal
    """Of input tokens that were read from a cache."""

    def cost_usd(self, input_tokens: int, output_tokens: int) -> Decimal:
        """Output tokens include thoughts."""
        return self.input_usd * input_tokens + self.output_usd * output_tokens


def price_of(model: str, at: datetime, given: tuple[float, float] | None) -> BatchPrice | None:
    """The price of a model's batch requests on the day of an instant; None if nobody knows one.

    Args:
        given: what the user says that a million input and output tokens cost, in USD. It wins, and holds for cached
            tokens as for other input.
    """
    if given is None:
        return batch_price(model, at.replace(hour=0, minute=0, second=0, microsecond=0))
    input_usd, output_usd = (Decimal(str(usd)) / 1_000_000 for usd in given)
    return BatchPrice(input_usd, output_usd, input_usd)


@lru_cache(maxsize=256)
def batch_price(model: str, at: datetime) -> BatchPrice | None:
    """The price in force at an instant; None for a model that nobody has priced."""
    from genai_prices import Usage, calc_price  # noqa: PLC0415 - a large table, needed late or never

    def price(usage: Usage, context: dict[str, str] | None) -> Any:
        return calc_price(usage, model, provider_id="google", genai_request_timestamp=at, price_context=context)

    usage = Usage(input_tokens=_SAMPLE, output_tokens=_SAMPLE)
    try:
        standard, batch = price(usage, None), price(usage, {"processing": "batch"})
        cached = price(Usage(input_tokens=_SAMPLE, cache_read_tokens=_SAMPLE), None)
    except LookupError:
        return None
    share = 2 if batch.total_price == standard.total_price else 1
    input_usd, output_usd = batch.input_price / _SAMPLE / share, batch.output_price / _SAMPLE / share
    return BatchPrice(input_usd, output_usd, min(cached.input_price / _SAMPLE, input_usd))


def in_usd(amount: float) -> str:
    """Two decimals, or two digits of less than a cent."""
    return f"{amount:,.2f} USD" if amount >= 0.01 or amount == 0 else f"{amount:.2g} USD"
