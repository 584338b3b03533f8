"""What is armed, and the decision whether it happens now. Dice are a function of the seed and of a count."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from gemini_batch.emulator.dice import Dice, fingerprint
from gemini_batch.emulator.faults import FAULTS, SURVIVABLE_ANSWERS, FaultSpec, Point
from gemini_batch.emulator.wire import Json

_FINE = 1 << 30
CHAOS_SECONDS = 1.0
"""What has a duration is short in chaos: it is about what happens, not about waiting."""


@dataclass(slots=True)
class _Armed:
    spec: FaultSpec
    until: datetime | None
    skip: int
    left: float

    def meets(self, falls: bool, is_free: bool) -> bool:
        """Whether it happens to this thing, one of those it applies to."""
        if self.skip:
            self.skip -= 1
            return False
        if not falls or not is_free or self.left <= 0:
            return False
        self.left -= 1
        return True

    def shown(self) -> Json:
        left: Any = self.left if self.left != float("inf") else "always"
        return self.spec.model_dump(exclude_none=True, exclude={"times", "after"}) | {
            "times": int(left) if left != "always" else left,
            "after": self.skip,
        }


@dataclass(frozen=True, slots=True)
class LineFaults:
    """What happens to the result lines of one job."""

    fixed: Mapping[int, str] = field(default_factory=dict)
    """Position to fault."""
    look: Callable[[int, str], str | None] | None = None
    """(position, key) to fault, where it takes a look at the line to tell."""

    def at(self, position: int, key: str) -> str | None:
        return self.fixed.get(position) or (self.look(position, key) if self.look else None)


class FaultBoard:
    def __init__(self, now: Callable[[], datetime], seed: int) -> None:
        self._now = now
        self._seed = seed
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        with self._lock:
            self._armed: list[_Armed] = []
            self._chaos = 0.0
            self._rolls: Counter[str] = Counter()
            self.fired: Counter[str] = Counter()

    @property
    def is_quiet(self) -> bool:
        return not self._armed and not self._chaos

    def arm(self, spec: FaultSpec) -> None:
        until = None if spec.lasts_seconds is None else self._now() + timedelta(seconds=spec.lasts_seconds)
        with self._lock:
            self._armed.append(_Armed(spec, until, spec.after, spec.limit))

    def disarm(self, name: str | None = None) -> None:
        with self._lock:
            self._armed = [one for one in self._armed if name is not None and one.spec.name != name]

    def set_chaos(self, rate: float) -> None:
        """From now on this share of all things meets a fault that a client can survive."""
        self._chaos = rate

    def armed(self) -> list[Json]:
        with self._lock:
            self._drop_spent()
            return [one.shown() for one in self._armed]

    def take(
        self, point: Point, *, call: str = "", job: str | None = None, model: str | None = None
    ) -> dict[str, float]:
        """The names of the faults that happen now, to this one thing, each with its duration in seconds."""
        if self.is_quiet:
            return {}
        with self._lock:
            self._drop_spent()
            fired = self._armed_at(point, call, job, model) or self._chaos_at(point, call)
            self.fired.update(fired.keys())  # not the mapping: a Counter would add the seconds up
            self._drop_spent()
        return fired

    def _armed_at(self, point: Point, call: str, job: str | None, model: str | None) -> dict[str, float]:
        fired: dict[str, float] = {}
        taken: set[str] = set()
        for one in self._armed:
            spec = one.spec
            if spec.fault.point is not point or spec.fault.call not in ("", "any", call):
                continue
            if spec.applies_to_job(job, model) and one.meets(self._falls(spec), spec.aspect not in taken):
                fired[spec.name] = spec.duration
                taken.add(spec.aspect)
        return fired

    def take_lines(self, n_lines: int, job: str, model: str) -> LineFaults:
        """For a job of `n_lines`; a line suffers one fault at most."""
        fixed: dict[int, str] = {}
        looking: list[_Armed] = []
        with self._lock:
            self._drop_spent()
            for one in self._armed:
                if one.spec.fault.point is not Point.LINE or not one.spec.applies_to_job(job, model):
                    continue
                if one.spec.looks_at_lines:
                    looking.append(one)
                else:
                    _choose(one, n_lines, fixed)
            self.fired.update(fixed.values())
            self._drop_spent()
        return LineFaults(fixed, self._looker(looking) if looking or self._chaos else None)

    def take_input_lines(self, job: str, model: str) -> Callable[[int, str], str | None] | None:
        """(position, key) of a line -> the fault for which its create is refused; None while none is armed."""
        with self._lock:
            self._drop_spent()
            of_input = [one for one in self._armed if one.spec.fault.point is Point.INPUT_LINE]
        looking = [one for one in of_input if one.spec.applies_to_job(job, model)]
        return self._looker(looking, Point.INPUT_LINE) if looking else None

    def _looker(self, looking: list[_Armed], point: Point = Point.LINE) -> Callable[[int, str], str | None]:
        def look(position: int, key: str) -> str | None:
            met: str | None = None
            with self._lock:
                for one in looking:
                    if one.spec.applies_to_line(position, key) and one.meets(self._falls(one.spec), met is None):
                        met = one.spec.name
                met = met or next(iter(self._chaos_at(point, "")), None)
                if met is not None:
                    self.fired[met] += 1
            return met

        return look

    def _falls(self, spec: FaultSpec) -> bool:
        return spec.rate is None or self._dice(spec.name).below(_FINE) < spec.rate * _FINE

    def _chaos_at(self, point: Point, call: str) -> dict[str, float]:
        if not self._chaos:
            return {}
        dice = self._dice(f"chaos {point.name} {call}")
        if dice.below(_FINE) >= self._chaos * _FINE:
            return {}
        if point is Point.CALL:
            return {f"{call}_{SURVIVABLE_ANSWERS[dice.below(len(SURVIVABLE_ANSWERS))]}": CHAOS_SECONDS}
        names = [name for name, one in FAULTS.items() if one.point is point and one.is_survivable]
        return {names[dice.below(len(names))]: CHAOS_SECONDS} if names else {}

    def _dice(self, of: str) -> Dice:
        """New ones for each roll of a kind: what one kind meets does not depend on how often others roll."""
        self._rolls[of] += 1
        return Dice(fingerprint(self._seed, f"{of} {self._rolls[of]}".encode()))

    def _drop_spent(self) -> None:
        if self._armed:
            now = self._now()
            self._armed = [one for one in self._armed if one.left > 0 and (one.until is None or now < one.until)]


def _choose(one: _Armed, n_lines: int, chosen: dict[int, str]) -> None:
    """The next lines in input order that no other fault has."""
    first = min(one.skip, n_lines)
    one.skip -= first
    for position in range(first, n_lines):
        if one.left <= 0:
            return
        if position not in chosen:
            chosen[position] = one.spec.name
            one.left -= 1
