"""Prices of batch requests, by the published table."""

from datetime import UTC, datetime
from decimal import Decimal

from gemini_batch.gemini.prices import batch_price

DAY = datetime(2026, 11, 1, tzinfo=UTC)
MILLION = 1_000_000


def test_a_batch_costs_half_and_what_a_cache_held_the_standard_price_of_its_reads():
    """0.15 / 1.25 USD a million tokens (Gemini API pricing page); the higher of two published prices of cached ones."""
    price = batch_price("gemini-2.5-flash", DAY)
    assert price is not None
    assert (price.input_usd * MILLION, price.output_usd * MILLION) == (Decimal("0.15"), Decimal("1.25"))
    assert price.cached_usd * MILLION == Decimal("0.03")
    assert price.cost_usd(100, 10) == 100 * price.input_usd + 10 * price.output_usd


def test_cached_tokens_never_cost_more_than_others_and_an_unknown_model_has_no_price():
    for model in ("gemini-2.5-pro", "gemini-2.5-flash-lite", "gemini-2.0-flash"):
        price = batch_price(model, DAY)
        assert price is not None
        assert 0 < price.cached_usd <= price.input_usd
    assert batch_price("no-such-model", DAY) is None
