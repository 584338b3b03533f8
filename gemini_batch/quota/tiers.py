"""The service's published limits as data, and what they make of the limits of a run.

In: `limits.toml`, a model, a tier, what a person gave. Out: the numbers that the desk and the planner go by. They are
worked out once, where a person speaks, and recorded: a worker of another release, with another table, keeps to them.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from gemini_batch.records import Frozen, Limits, Tier

SHARE = 8
"""Shards of the default size that fit into the token limit at once: enough that one slow job does not hold up all."""

GROWN_SHARE = 2
"""The same for a run of very many: while one is at work another can be let in."""

FREE: Final = "free"

_NOT_THE_MODEL = re.compile(r"^models/|-preview(?:-[0-9]{2}-[0-9]{2,4})?(?=-|$)|-[0-9]{3}$")
"""`gemini-2.5-flash-lite-preview-09-2025`, `gemini-2.5-pro-preview-tts`, `models/gemini-2.0-flash-001`."""


class OfProject(Frozen):
    """What every project may have, of any tier."""

    live_jobs: int
    creates_a_day: int
    file_bytes: int
    stored_bytes: int


class Published(Frozen):
    """`limits.toml`."""

    project: OfProject
    enqueued_tokens: dict[str, dict[Tier, int]]


@cache
def published() -> Published:
    """The table of this release."""
    return Published.model_validate(tomllib.loads(files(__package__).joinpath("limits.toml").read_text("utf-8")))


@dataclass(frozen=True)
class Known:
    """A token limit, and what speaks against it."""

    tokens: int
    doubt: str | None = None


def known_limit(table: Published, tier: Tier, model: str) -> Known:
    """Enqueued tokens that a project of a tier may have of a model.

    A tier allows no less than the one below, so of a model that is listed for lower tiers only their limit holds. Of a
    model that is not listed at all the smallest of the tier holds: too low takes longer, too high is refused.
    """
    listed, row = tier if tier != FREE else "1", table.enqueued_tokens.get(plain_name(model), {})
    reached = [tokens for of, tokens in row.items() if of <= listed]
    if row.get(listed) is not None:
        return Known(row[listed], _of_free(model) if tier == FREE else None)
    if reached:
        return Known(max(reached), _doubt(model, tier, max(reached), "published for a lower tier"))
    smallest = min(of[listed] for of in table.enqueued_tokens.values() if listed in of)
    return Known(smallest, _doubt(model, tier, smallest, "the smallest of any model"))


def plain_name(model: str) -> str:
    """A model without its collection, and without what tells its versions and previews apart."""
    return _NOT_THE_MODEL.sub("", model)


def _of_free(model: str) -> str:
    return f"--tier free: no batch limits are published for it; those of Tier 1 hold for {model}"


def _doubt(model: str, tier: Tier, tokens: int, what: str) -> str:
    return (
        f"no limit of enqueued tokens is known for {model} in --tier {tier}; {tokens:,} holds, {what}. AI Studio shows "
        "yours: give it as --max-enqueued-tokens"
    )


def effective(
    before: Limits, given: Mapping[str, Any], of_tier: int | None, creates_of_tier: int | None = None
) -> Limits:
    """The limits from now on.

    A tier stands for its limits of tokens and creates when it is given anew; a number given beside it wins, and an
    earlier one gives way. `max_tokens_per_shard` follows the token limit until somebody sets it, and never passes it.

    Args:
        before: those in force, or the defaults.
        given: fields that a person gave now.
        of_tier: the token limit of the tier that is given, if one is.
        creates_of_tier: the creates a day that go with it.
    """
    found: dict[str, Any] = {**before.model_dump(), **given}
    if found["tier"] != before.tier and "max_enqueued_tokens" not in given:
        found["max_enqueued_tokens"] = of_tier
    if found["tier"] != before.tier and "max_creates_per_day" not in given:
        found["max_creates_per_day"] = creates_of_tier
    tokens = found["max_enqueued_tokens"]
    followed = before.max_tokens_per_shard == share(before.max_enqueued_tokens, SHARE)
    if "max_tokens_per_shard" not in given and followed:
        found["max_tokens_per_shard"] = share(tokens, SHARE)
    if tokens is not None and found["max_tokens_per_shard"] is not None:
        found["max_tokens_per_shard"] = min(found["max_tokens_per_shard"], tokens)
    return Limits(**found)


def share(tokens: int | None, parts: int) -> int | None:
    """A part of a token limit, at least one token; None of no limit."""
    return None if tokens is None else max(1, tokens // parts)
