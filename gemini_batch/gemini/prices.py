"""What a batch request costs, by the published prices of a day.

Prices come from genai-prices, which keeps them by date. Where it knows no batch price of a model, half of the standard
price holds: "50 % of standard" (Batch API guide).
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache

_SAMPLE = 1000
"""Tokens that a price is asked for: few enough for the lowest step of models whose price rises with the prompt."""


@dataclass(frozen=True, slots=True)
class BatchPrice:
    """USD a token."""

    input_usd: Decimal
    output_usd: Decimal

    def cost_usd(self, input_tokens: int, output_tokens: int) -> Decimal:
        """Output tokens include thoughts."""
        return self.input_usd * input_tokens + self.output_usd * output_tokens


@lru_cache(maxsize=256)
def batch_price(model: str, at: datetime) -> BatchPrice | None:
    """The price in force at an instant; None for a model that nobody has priced."""
    from genai_prices import Usage, calc_price  # noqa: PLC0415 - a large table, needed late or never

    usage = Usage(input_tokens=_SAMPLE, output_tokens=_SAMPLE)
    try:
        standard, batch = (
            calc_price(usage, model, provider_id="google", genai_request_timestamp=at, price_context=context)
            for context in (None, {"processing": "batch"})
        )
    except LookupError:
        return None
    share = 2 if batch.total_price == standard.total_price else 1
    return BatchPrice(batch.input_price / _SAMPLE / share, batch.output_price / _SAMPLE / share)
