"""What a plan may cost: low <= expected <= high, by what is known of the answers."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.config import Options, resolve
from gemini_batch.coordinator.confirm import refuse_unconfirmed
from gemini_batch.errors import BadInput, CostNotConfirmed
from gemini_batch.gemini.calibrate import Calibration
from gemini_batch.gemini.estimate import CostEstimate, estimate_cost, estimate_error, estimate_plan, output_tokens
from gemini_batch.gemini.prices import BatchPrice, batch_price, in_usd, price_of
from gemini_batch.records import ShardPlan

DAY = datetime(2026, 11, 1, tzinfo=UTC)
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
MILLION = 1_000_000
FLASH = "gemini-2.5-flash"
COUNTS = st.integers(0, 10**8)
LEVELS = st.sampled_from(["minimal", "low", "MEDIUM", "high", "THINKING_LEVEL_UNSPECIFIED", 3])
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "maxOutputTokens": st.integers(-1, 10**6) | st.sampled_from(["20", "many", None, True]),
        "max_output_tokens": st.integers(1, 100),
        "thinkingConfig": st.fixed_dictionaries(
            {}, optional={"thinkingBudget": st.integers(-1, 10**6), "thinkingLevel": LEVELS}
        )
        | st.none()
        | st.text(),
    },
)
MODELS = st.sampled_from([FLASH, "gemini-2.5-flash-lite", "gemini-2.0-flash", "gemini-3-pro", "tuned/42"])


def priced(input_usd, output_usd):
    return BatchPrice(Decimal(input_usd) / MILLION, Decimal(output_usd) / MILLION, Decimal(0))


@given(COUNTS, COUNTS, MODELS, CONFIGS)
def test_low_is_at_most_expected_and_that_at_most_high_whatever_the_settings(requests, tokens, model, config):
    found = estimate_cost(requests, tokens, priced("0.15", "1.25"), model, config)
    assert 0 <= found.low <= found.expected <= found.high
    assert found.assumptions


@given(COUNTS, COUNTS, st.integers(0, 10**6), MODELS, CONFIGS)
def test_more_requests_and_more_tokens_never_cost_less(requests, tokens, more, model, config):
    price = priced("0.15", "1.25")
    least = estimate_cost(requests, tokens, price, model, config)
    for larger in (
        estimate_cost(requests + more, tokens, price, model, config),
        estimate_cost(requests, tokens + more, price, model, config),
    ):
        assert least.low <= larger.low
        assert least.expected <= larger.expected
        assert least.high <= larger.high


def test_the_sums_by_hand():
    """1,000 requests and a million input tokens at 1 and 10 USD; answers bounded at 100 tokens."""
    found = estimate_cost(1000, MILLION, priced(1, 10), FLASH, {"maxOutputTokens": 100})
    assert found.as_json() == {"low": 0.5 + 0.16, "expected": 1 + 1.0, "high": 2 + 1.0}


@pytest.mark.parametrize(
    ("model", "config", "low", "expected", "high"),
    [
        (FLASH, {}, 16, 256 + 1024, 2560),
        (FLASH, {"thinkingConfig": {"thinkingBudget": 0}}, 16, 256, 512),
        (FLASH, {"thinkingConfig": {"thinkingBudget": 100}}, 16, 356, 712),
        (FLASH, {"thinking_config": {"thinking_budget": -1}, "max_output_tokens": 3000}, 16, 1280, 3000),
        (FLASH, {"maxOutputTokens": 8}, 8, 8, 8),
        (FLASH, {"maxOutputTokens": "20"}, 16, 20, 20),
        (FLASH, {"maxOutputTokens": 10**9}, 16, 1280, 65_536),
        (FLASH, {"maxOutputTokens": 20, "max_output_tokens": "30"}, 16, 30, 30),
        (FLASH, {"maxOutputTokens": 20, "candidateCount": 3}, 48, 60, 60),
        ("gemini-2.5-flash-lite", {}, 16, 256, 512),
        ("gemini-2.5-flash-lite", {"thinkingConfig": {"thinkingBudget": -1}}, 16, 1280, 2560),
        ("gemini-3.5-flash", {"thinkingConfig": {"thinkingLevel": "LOW"}}, 16, 512, 1024),
        ("gemini-2.0-flash", {"thinkingConfig": {"thinkingLevel": "high"}}, 16, 256, 512),
        ("nobody-knows", {}, 16, 1280, 2560),
    ],
)
def test_how_long_an_answer_may_be(model, config, low, expected, high):
    found = output_tokens(model, config)
    assert (found.low, found.expected, found.high) == (low, expected, high)
    assert found.bounded is any(name in config for name in ("maxOutputTokens", "max_output_tokens"))


@pytest.mark.parametrize("config", [{"candidateCount": 2.5}, {"candidate_count": "many"}, {"max_output_tokens": "9e9"}])
def test_what_nobody_can_read_bounds_nothing(config):
    assert not output_tokens(FLASH, {"maxOutputTokens": 20} | config).bounded


def test_a_price_as_given_wins_over_the_published_one_and_serves_models_that_have_none():
    assert price_of(FLASH, NOON, None) == batch_price(FLASH, DAY)
    assert price_of("no-such-model", NOON, None) is None
    for model in (FLASH, "no-such-model"):
        price = price_of(model, NOON, (0.1, 0.4))
        assert price == BatchPrice(Decimal("1E-7"), Decimal("4E-7"), Decimal("1E-7"))


def test_a_plan_is_the_sum_of_its_shards_and_says_whose_price_it_took(asked):
    shards = [
        ShardPlan(shard=n, first_index=n, rows=1, requests=500, request_bytes=9, tokens=MILLION // 2) for n in (0, 1)
    ]
    run = asked(model=FLASH, generation_config={"maxOutputTokens": 100})
    found = estimate_plan(run, shards, NOON, (1, 10))
    assert (found.high, found.assumptions[0]) == (3.0, "price as given")
    assert estimate_plan(run, shards, NOON, None).assumptions[0] == "batch price of 2026-11-01"
    assert estimate_plan(asked(model="no-such-model"), shards, NOON, None) is None


# --- the guard --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimate", "options"),
    [
        (None, Options()),
        (CostEstimate(0, 1, 10), Options()),
        (CostEstimate(0, 1, 10.01), Options(yes=True)),
        (CostEstimate(0, 1, 10.01), Options(confirm_above=11)),
        (CostEstimate(0, 0, 0), Options(confirm_above=0)),
    ],
)
def test_what_is_cheap_agreed_to_or_not_known_goes_without_asking(estimate, options):
    def ask(_):
        raise AssertionError("asked")

    refuse_unconfirmed(estimate, options, ask)
    refuse_unconfirmed(estimate, options)


def test_what_is_dear_waits_for_a_yes():
    dear = CostEstimate(1, 2, 12.345)
    refuse_unconfirmed(dear, Options(), lambda estimate: estimate is dear)
    for ask in (None, lambda _: False):
        with pytest.raises(CostNotConfirmed, match=r"12\.3. USD.*--yes") as refused:
            refuse_unconfirmed(dear, Options(), ask)
        assert isinstance(refused.value, BadInput)
        assert refused.value.high_usd == 12.345


def test_money_is_told_in_cents_or_in_two_digits_of_less():
    assert [in_usd(usd) for usd in (0, 0.00123, 0.01, 1234.5)] == ["0.00 USD", "0.0012 USD", "0.01 USD", "1,234.50 USD"]


# --- the option -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["0.1,0.4", [0.1, 0.4], (0.1, 0.4), " 0.1 , 0.4 "])
def test_a_price_is_two_numbers_and_is_recorded(given):
    assert resolve({"price": given}, environment={}).limits().price == (0.1, 0.4)


@pytest.mark.parametrize("given", ["0.1", "1,2,3", "a,b", "1,-2", "nan,1", "1,inf", ""])
def test_anything_else_is_no_price(given):
    with pytest.raises(BadInput, match="--price"):
        resolve({"price": given}, environment={})


# --- how far it was off -----------------------------------------------------------------------------------------------

SEEN = Calibration(lines=100, estimated=1000.0, actual=1500, output=25_000)


def test_what_came_back_is_held_against_what_was_expected_of_it(asked):
    what = asked(model="of-my-own", generation_config={"thinkingConfig": {"thinkingBudget": 0}})
    assert estimate_error(what, SEEN, 0.06, DAY, (1.0, 2.0)) == {
        "lines": 100,
        "input_tokens": {"estimated": 1000, "actual": 1500, "ratio": 1.5},
        "output_tokens": {"estimated": 25_600, "actual": 25_000, "ratio": 0.9766},
        "cost_usd": {"expected": pytest.approx(0.001 + 0.0512), "actual": 0.06},
    }


def test_without_a_price_there_is_no_expected_cost_and_without_usage_no_error(asked):
    what = asked(model="of-my-own")
    found = estimate_error(what, SEEN, 0.0, DAY, None)
    assert found is not None and found["cost_usd"] == {"expected": None, "actual": 0.0}
    assert estimate_error(what, Calibration(), 0.0, DAY, (1.0, 2.0)) is None
