"""The service as the single-job calls use it: found in the environment, asked again where that is free."""

from collections.abc import Callable
from datetime import timedelta
from threading import Event
from typing import TypeVar

from gemini_batch.clock import new_nonce
from gemini_batch.config import resolve_account
from gemini_batch.errors import NotSent, Throttled, Unavailable
from gemini_batch.gemini.client import GeminiClient
from gemini_batch.jobs.lifecycle import backoff

R = TypeVar("R")

MAY_PASS = (NotSent, Unavailable, Throttled)
"""Errors after which a call that costs nothing is made again."""

TRIES = 6
"""Of a call that costs nothing, over half a minute."""

LONGEST_PAUSE = 60.0


def connect(client: GeminiClient | None = None) -> GeminiClient:
    """The client given, or one of the environment's service and key.

    Raises:
        BadInput: no API key is set.
    """
    return GeminiClient(resolve_account(None)) if client is None else client


def pause(seconds: float) -> None:
    """Wait in this thread; an interrupt ends it."""
    Event().wait(seconds)


def patiently(call: Callable[[], R], tries: int = TRIES, pause: Callable[[float], None] = pause) -> R:
    """The answer to a call that may be repeated at will.

    Raises:
        RemoteError: a refusal, or what the last try met.
    """
    for failures in range(1, tries):
        try:
            return call()
        except MAY_PASS:
            pause(backoff(failures - 1, LONGEST_PAUSE) / timedelta(seconds=1))
    return call()


def unique_name() -> str:
    """For a job and its files: nobody else's, in whatever process and at whatever moment."""
    return f"gemini-batch-{new_nonce()}"
