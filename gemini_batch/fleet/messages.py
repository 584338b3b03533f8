"""Doorbells: what travels through the broker. A message says "look at it" and nothing else.

Losing, repeating or delaying one is harmless, and whoever can write to the broker can do no more than ring.
"""

from typing import Any, Protocol

from pydantic import Field, ValidationError

from gemini_batch.records import Frozen

QUEUE = "gemini-batch"
PREFIX = "gemini-batch:"
"""Of every key in Redis."""

SWEEP = "gemini-batch.sweep"
ADVANCE = "gemini-batch.advance"
MERGE = "gemini-batch.merge"

FIRST, AFTER = 0, 3
"""Redis has no priorities; kombu keeps a list for each and reads the lists in this order. Sweeps go first: they find
out what is due."""

SEPARATOR = ":"
"""Between a queue's name and a priority, in the name of a list."""


class Doorbell(Frozen):
    """Which run, and which shard of it."""

    run: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    shard: int = Field(0, ge=0, lt=10_000_000)


class Ring(Protocol):
    """Sends doorbells by the name of the task. Quiet if the broker is away: the next sweep rings again."""

    def __call__(self, task: str, *doorbells: Doorbell) -> None: ...


def read(run: Any, shard: Any = 0) -> Doorbell | None:
    """A doorbell, if that is what came."""
    try:
        return Doorbell.model_validate({"run": run, "shard": shard}, strict=True)
    except ValidationError:
        return None


def list_of(priority: int) -> str:
    """The Redis list that holds the messages of a priority, prefix included."""
    return f"{PREFIX}{QUEUE}{SEPARATOR}{priority}" if priority else f"{PREFIX}{QUEUE}"
