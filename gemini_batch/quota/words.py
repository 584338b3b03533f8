"""The words of the quota desk: who asks, what is held, what is answered. Pure data, and the answers' text."""

from dataclasses import dataclass
from typing import NamedTuple

from pydantic import Field

from gemini_batch.quota.belief import Belief
from gemini_batch.quota.turns import Waiter
from gemini_batch.records import Frozen, Limits, ShardState


class Applicant(Frozen):
    """A shard at the desk: what it would hold, as of `version` of its ledger. Times are in seconds since 1970."""

    run: str
    shard: int
    model: str
    tokens: int
    state: ShardState
    version: int
    has_job: bool = False
    request_bytes: int = 0
    """As planned: what it will upload."""
    creates: tuple[float, ...] = ()
    """When its creates were sent, without those that were refused."""
    files: tuple[tuple[float, int], ...] = ()
    """Its files at the service: when they are gone, and their bytes."""

    @property
    def name(self) -> str:
        return f"{self.run}/{self.shard}"


class Lease(Applicant):
    until: float
    """Desk time, in seconds since 1970."""
    asked: bool = False
    """Granted, and not yet seen in the ledger."""
    cleared_until: float = 0.0
    """It was told that it may send, and counts as sent until then."""
    wants_until: float = 0.0
    """It was told that it may not send yet, and counts as wanting to until then."""


class ListedJob(NamedTuple):
    """A job as a listing shows it."""

    run: str | None
    """Of which run of ours; None for other programs' jobs, and for those that no lease stands for."""
    live: bool
    created: float | None = None
    """When it was created, in seconds since 1970, if that counts."""


class Foreign(Frozen):
    """What others have in the project, as of the last listing. Their tokens and files cannot be seen."""

    live: int = 0
    creates: dict[int, int] = Field(default_factory=dict)
    """By the step in which they were sent."""
    until: float = 0.0


@dataclass(frozen=True)
class Wait:
    """Not now."""

    reason: str
    until: float | None = None
    """Desk time from which on it is worth asking again, where that is known."""
    pilot: bool = False
    """It is the run's own first job that is waited for."""

    def __str__(self) -> str:
        return self.reason


class Room(NamedTuple):
    """What of a run could be let in now."""

    shards: int
    tokens: int | None
    """Of all these shards together, as estimated; None for any."""
    wait: Wait
    """Why no more."""


def pilot_wait() -> Wait:
    return Wait("the first job of the run has yet to be accepted", pilot=True)


def jobs_wait(limits: Limits, ours: int, foreign: int) -> Wait:
    others = f", {foreign} of them other programs' or runs' that are not seen here" if foreign else ""
    return Wait(f"{ours + foreign} of {limits.max_live_jobs} jobs are in flight{others} (--max-live-jobs)")


def tokens_wait(limit: int, held: float, more: float) -> Wait:
    return Wait(
        f"{held:,.0f} of {limit:,} tokens are enqueued, {more:,.0f} more do not fit (--max-enqueued-tokens)"
        if more
        else f"{held:,.0f} of {limit:,} tokens are enqueued (--max-enqueued-tokens)"
    )


def creates_wait(limit: int, used: int, until: float | None) -> Wait:
    return Wait(f"{used:,} of {limit:,} jobs a day were created in the last 24 hours (--max-creates-per-day)", until)


def stored_wait(limit: int, used: int, until: float | None) -> Wait:
    return Wait(f"{used:,} of {limit:,} bytes of files are at the service (--max-stored-bytes)", until)


def learnt_wait(belief: Belief, now: float) -> Wait:
    return Wait(
        f"the service answered 429 beyond {belief.jobs:,.0f} jobs or {belief.tokens:,.0f} tokens in flight; "
        "more is tried after a while",
        belief.next_probe if belief.next_probe > now and not belief.probing else None,
    )


def paused_wait(belief: Belief) -> Wait:
    return Wait("the service answered 429; it is asked again after a while", belief.pause_until)


def turn_wait(ahead: Waiter | Lease, kept: bool = False) -> Wait:
    """A place is free, and another's."""
    what = "room is kept for" if kept else "it is the turn of"
    return Wait(f"{what} shard {ahead.shard} of run {ahead.run}: runs of a project take turns by what they hold")
