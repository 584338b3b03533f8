"""The published limits, and what a tier and the numbers that a person gives make of a run's."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch import orders
from gemini_batch.config import MAX_FILE_BYTES, MAX_LIVE_JOBS, Options, resolve
from gemini_batch.emulator.settings import MAX_STORED_BYTES
from gemini_batch.quota import tiers
from gemini_batch.quota.tiers import SHARE, effective, known_limit, plain_name, published

ROOT = Path(__file__).parents[2]
TIERS = ("1", "2", "3")
MILLION = 1_000_000

# --- the table --------------------------------------------------------------------------------------------------------


def test_there_is_one_table_and_the_one_among_the_configurations_is_a_link_to_it():
    """Two copies would differ one day, and a wheel holds only the package."""
    among_the_others = ROOT / "configs" / "limits.toml"
    assert among_the_others.resolve() == ROOT / "gemini_batch" / "quota" / "limits.toml"
    assert among_the_others.read_bytes() == Path(tiers.__file__).with_name("limits.toml").read_bytes()


def test_the_table_says_what_the_rest_of_the_code_believes():
    project = published().project
    assert (project.live_jobs, project.file_bytes) == (MAX_LIVE_JOBS, MAX_FILE_BYTES)
    assert (project.stored_bytes, project.creates_a_day) == (MAX_STORED_BYTES, 700)


@pytest.mark.parametrize("model", published().enqueued_tokens)
def test_no_tier_allows_less_than_the_one_below(model):
    """A slip of the keyboard in a row of zeros, most likely."""
    row = published().enqueued_tokens[model]
    found = [row[tier] for tier in TIERS if tier in row]
    assert found == sorted(found)
    assert row.keys() <= set(TIERS)
    assert plain_name(model) == model


def test_every_number_of_the_table_is_written_with_its_source():
    body = (ROOT / "configs" / "limits.toml").read_text()
    head, _, tokens = body.partition("[enqueued_tokens]")
    assert "Rate limits" in head
    assert "2026-08-18" in head
    numbers = [line for line in head.splitlines() if line in tomllib.loads(line) or " = " in line.partition("#")[0]]
    assert len(numbers) == 4
    assert all("#" in line for line in numbers)
    incomplete = [line for line in tokens.splitlines() if " = {" in line and line.count(" = ") < 4]
    assert all("#" in line for line in incomplete)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("gemini-2.5-flash", "gemini-2.5-flash"),
        ("models/gemini-2.0-flash-001", "gemini-2.0-flash"),
        ("gemini-2.5-flash-lite-preview-09-2025", "gemini-2.5-flash-lite"),
        ("gemini-2.5-pro-preview-05-06", "gemini-2.5-pro"),
        ("gemini-2.5-pro-preview-tts", "gemini-2.5-pro-tts"),
        ("gemini-3.1-pro-preview", "gemini-3.1-pro"),
        ("gemini-3-pro-image-preview", "gemini-3-pro-image"),
        ("gemini-embedding-001", "gemini-embedding"),
        ("gemini-2.5-flash-image", "gemini-2.5-flash-image"),
        ("tunedModels/mine", "tunedModels/mine"),
    ],
)
def test_a_version_or_preview_has_the_limit_of_its_model(name, plain):
    assert plain_name(name) == plain


# --- one limit --------------------------------------------------------------------------------------------------------


def test_a_listed_model_has_its_limit_without_doubt():
    assert known_limit(published(), "1", "gemini-2.5-flash") == tiers.Known(3 * MILLION)
    assert known_limit(published(), "3", "models/gemini-2.0-flash-001") == tiers.Known(5_000 * MILLION)


def test_a_model_that_is_listed_for_a_lower_tier_only_has_its_limit():
    """The smallest of the tier would be less than the tier below allows."""
    found = known_limit(published(), "2", "gemini-3.8-flash")
    assert found.tokens == 3 * MILLION
    assert all(word in found.doubt for word in ("gemini-3.8-flash", "--tier 2", "lower tier", "--max-enqueued-tokens"))


@pytest.mark.parametrize("tier", ["free", *TIERS])
def test_an_unknown_model_has_the_smallest_limit_of_the_tier_and_a_doubt_that_names_it(tier):
    found = known_limit(published(), tier, "gemini-9-ultra")
    row = [
        of["1" if tier == "free" else tier]
        for of in published().enqueued_tokens.values()
        if tier in of or tier in ("free", "1")
    ]
    assert found.tokens == min(row)
    assert "gemini-9-ultra" in found.doubt


def test_the_free_tier_is_taken_for_the_first_and_says_so():
    """No batch limits are published for it; Tier 1's are the most that it can be."""
    found = known_limit(published(), "free", "gemini-2.5-flash")
    assert found.tokens == 3 * MILLION
    assert "free" in found.doubt


# --- of a run ---------------------------------------------------------------------------------------------------------

NUMBER = st.integers(1, 10**12)
MAYBE = st.one_of(st.none(), NUMBER)
GIVEN = st.fixed_dictionaries(
    {},
    optional={
        "tier": st.sampled_from(TIERS),
        "max_enqueued_tokens": NUMBER,
        "max_tokens_per_shard": NUMBER,
        "max_live_jobs": st.integers(1, 100),
    },
)
WORDS = st.lists(st.tuples(GIVEN, NUMBER), min_size=1, max_size=4)
"""What a person gives at a submit and at each resume, and the limit of the tier that is then given."""


def spoken(start, words):
    for given_now, of_tier in words:
        start = effective(start, given_now, of_tier)
    return start


@given(words=WORDS)
def test_no_shard_that_is_planned_is_over_the_limit(limits, words):
    """The service would refuse it for ever."""
    found = spoken(limits(), words)
    if found.max_enqueued_tokens is None:
        assert all("tier" not in given_now for given_now, _ in words)
    else:
        assert 1 <= found.max_tokens_per_shard <= found.max_enqueued_tokens


@given(words=WORDS)
def test_a_number_that_is_given_holds_whatever_the_tier(limits, words):
    found, last = spoken(limits(), words), words[-1][0]
    for name in last.keys() - {"max_tokens_per_shard"}:
        assert getattr(found, name) == last[name]


@given(words=WORDS)
def test_saying_the_same_again_changes_nothing(limits, words):
    """`submit` records limits and goes on by them: the second look must not find others, nor may an environment."""
    found = spoken(limits(), words)
    assert effective(found, words[-1][0], words[-1][1]) == found
    assert effective(found, {"tier": found.tier} if found.tier else {}, 1) == found


def test_what_is_not_given_stays_as_the_run_has_it(limits):
    """A resume without options must not silently put the defaults back."""
    old = limits(max_live_jobs=3, settle=7.0, tier="1", max_enqueued_tokens=80, max_tokens_per_shard=10)
    assert effective(old, {"max_live_jobs": 9}, None) == old.model_copy(update={"max_live_jobs": 9})


def test_without_a_tier_or_a_number_there_is_no_token_limit(limits):
    """As before there were tiers: nobody's run gets slower by a guess."""
    assert effective(limits(), {}, None) == limits()
    assert Options().limits().max_enqueued_tokens is None


def test_a_shard_has_an_eighth_of_the_limit_until_somebody_says_otherwise(limits):
    one = effective(limits(), {"tier": "1"}, 8_000)
    assert (one.max_enqueued_tokens, one.max_tokens_per_shard) == (8_000, 1_000)
    two = effective(one, {"tier": "2"}, 80_000)
    assert (two.max_enqueued_tokens, two.max_tokens_per_shard) == (80_000, 80_000 // SHARE)
    said = effective(two, {"max_tokens_per_shard": 77}, None)
    assert effective(said, {"max_enqueued_tokens": 800}, None).max_tokens_per_shard == 77
    assert effective(limits(), {"max_enqueued_tokens": 3}, None).max_tokens_per_shard == 1


def test_a_warning_names_the_model_once_when_the_tier_is_taken_up(limits):
    """Not again at every resume that finds the tier in its settings."""
    options = resolve({"tier": "1"}, None, {})
    with pytest.warns(UserWarning, match="gemini-9-ultra"):
        found = orders.limits_given(options, "gemini-9-ultra", limits())
    assert orders.limits_given(options, "gemini-9-ultra", found) == found
    loud = resolve({"tier": "1", "max_enqueued_tokens": 5}, None, {})
    assert orders.limits_given(loud, "gemini-9-ultra", limits()).max_enqueued_tokens == 5
