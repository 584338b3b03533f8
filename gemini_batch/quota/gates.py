"""When a kind of call may be made again after a 429: uploads, lists and gets, each by itself. Pure, and kept in memory.

The service throttles each kind independently (sourcelibrary-v2 PR #926) and gives no time to come back. After a 429 of
a kind nobody of the project makes such a call for a while; then one does, for all; taken, all may again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Literal, Protocol

from gemini_batch.quota.belief import LONGEST_PAUSE_SECONDS, PAUSE_SECONDS, doubled
from gemini_batch.records import Frozen

Kind = Literal["uploads", "lists", "gets"]

TRIAL_SECONDS = 60.0
"""The one call after a pause may take so long before another is made: an upload is slow."""


class Pause(Frozen):
    """Of one kind of call."""

    throttled: int
    """429s in a row, but for those of calls that were on the wire together."""
    until: float


@dataclass(frozen=True)
class Turn:
    """Whether a call may be made, and if not in how many seconds to ask again."""

    wait: float | None
    trial: bool = False
    """It is the one call after a pause: how it goes is to be told."""


def turn(pause: Pause | None, now: float) -> tuple[Turn, Pause | None]:
    """Whether a call may be made now, and what holds then."""
    if pause is None:
        return Turn(None), None
    if now < pause.until:
        return Turn(pause.until - now), pause
    return Turn(None, trial=True), pause.model_copy(update={"until": now + TRIAL_SECONDS})


def after_429(pause: Pause | None, trial: bool, now: float, spread: float) -> Pause:
    """What holds after a 429. One of a call that began before the pause did adds nothing.

    Args:
        trial: it was the one call after a pause.
        spread: a random number from 0 to 1.
    """
    if pause is not None and not trial:
        return pause
    throttled = pause.throttled + 1 if pause else 1
    seconds = min(PAUSE_SECONDS * doubled(throttled - 1), LONGEST_PAUSE_SECONDS)
    return Pause(throttled=throttled, until=now + seconds * (0.5 + spread))


class Gates(Protocol):
    """The pauses of one project."""

    def enter(self, kind: Kind) -> Turn:
        """Whether a call of a kind may be made now."""

    def throttled(self, kind: Kind, trial: bool) -> None:
        """A call was answered 429."""

    def passed(self, kind: Kind) -> None:
        """The one call after a pause was taken."""


class MemoryGates:
    """Those of one process. Safe between threads.

    Args:
        now: seconds since any point.
        spread: a random number from 0 to 1.
    """

    def __init__(self, now: Callable[[], float], spread: Callable[[], float]) -> None:
        self._now, self._spread = now, spread
        self._pauses: dict[Kind, Pause] = {}
        self._lock = Lock()

    def enter(self, kind: Kind) -> Turn:
        with self._lock:
            found, pause = turn(self._pauses.get(kind), self._now())
            if pause:
                self._pauses[kind] = pause
            return found

    def throttled(self, kind: Kind, trial: bool) -> None:
        with self._lock:
            self._pauses[kind] = after_429(self._pauses.get(kind), trial, self._now(), self._spread())

    def passed(self, kind: Kind) -> None:
        with self._lock:
            self._pauses.pop(kind, None)
