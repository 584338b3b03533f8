"""The places of a schema: whether there is an instance, how large it can be, and its sampler.

A node of height h has an instance made of nodes below h alone. That one is sampled from the depth `deep` on, so that
recursive schemas end. The forms here have no members; those of objects and arrays are in containers.py.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, cast

import orjson

from gemini_batch.emulator.dialects import SchemaError
from gemini_batch.emulator.dice import Dice

Sampler = Callable[[Dice, int], Any]
"""Dice and the depth so far to an instance."""

_FEW = 1024
_TRIES = 12
_MISSES = 256


class Size(NamedTuple):
    characters: int
    levels: int


class Form(Protocol):
    def least(self) -> tuple[int, int] | None:
        """Height and characters of the lowest instance; None while none is known."""

    def most(self, of: Mapping["Node", Size]) -> Size:
        """An upper bound, given those of the nodes below."""

    def values(self) -> list[Any] | None:
        """All instances, if they are few."""

    def sampler(self, deep: int) -> Sampler: ...


class Node:
    """One place. `height` is 0 while no instance is known."""

    __slots__ = ("_few", "_sought", "characters", "form", "height", "sample")

    def __init__(self) -> None:
        self.form: Form | None = None
        self.height = 0
        self.characters = 0
        self.sample: Sampler | None = None
        self._few: list[Any] | None = None
        self._sought = False

    def follow(self) -> Sampler:
        """The sampler, looked up late where it is not made yet: a schema may refer to itself."""
        return self.sample or self._sample_late

    def _sample_late(self, dice: Dice, depth: int) -> Any:
        return cast(Sampler, self.sample)(dice, depth)

    def values(self) -> list[Any] | None:
        """All instances, if they are few. Sought once: a choice may lead to itself, or to one other by many ways."""
        if not self._sought:
            self._sought = True
            self._few = self.form.values() if self.form else []
        return self._few


@dataclass(frozen=True)
class Leaf:
    sample: Sampler
    characters: int
    few: Sequence[Any] | None = None

    def least(self) -> tuple[int, int]:
        return 1, self.characters

    def most(self, of: Mapping[Node, Size]) -> Size:
        return Size(self.characters, 1)

    def values(self) -> list[Any] | None:
        return list(self.few) if self.few and len(self.few) <= _FEW else None

    def sampler(self, deep: int) -> Sampler:
        return self.sample


def constants(values: Sequence[Any]) -> Leaf:
    characters = max(len(orjson.dumps(value)) for value in values)
    if len(values) == 1:
        return Leaf(lambda dice, depth: values[0], characters, values)
    return Leaf(lambda dice, depth: values[dice.below(len(values))], characters, values)


@dataclass
class Choice:
    """Any branch that has an instance; a null one time in eight."""

    branches: Sequence[Node]
    lowest: Sequence[Node] = ()

    def least(self) -> tuple[int, int] | None:
        known = [branch for branch in self.branches if branch.height]
        if not known:
            return None
        height = min(branch.height for branch in known)
        self.lowest = [branch for branch in known if branch.height == height]
        return height + 1, max(branch.characters for branch in self.lowest)

    def most(self, of: Mapping[Node, Size]) -> Size:
        sizes = [of[branch] for branch in self.branches if branch.height]
        return Size(max(size.characters for size in sizes), max(size.levels for size in sizes))

    def values(self) -> list[Any] | None:
        lists = [branch.values() for branch in self.branches]
        values = [value for one in lists for value in one or ()]
        return None if None in lists or len(values) > _FEW else values

    def sampler(self, deep: int) -> Sampler:
        shallow = _weighted([branch for branch in self.branches if branch.height])
        lowest = _weighted(self.lowest)

        def sample(dice: Dice, depth: int) -> Any:
            branches = lowest if depth >= deep else shallow
            return branches[dice.below(len(branches))](dice, depth + 1)

        return sample


def _weighted(branches: Sequence[Node]) -> list[Sampler]:
    nulls = [branch.follow() for branch in branches if branch.values() == [None]]
    others = [branch.follow() for branch in branches if branch.values() != [None]]
    return others * 7 + nulls * len(others) if others else nulls


class Patience(Dice):
    """Dice that count the misses which one instance has left, over all its checked places together."""

    __slots__ = ("left",)

    def __init__(self, dice: Dice) -> None:
        super().__init__(bytes.fromhex(dice.digest) + bytes(8) + dice.below(1 << 31).to_bytes(4, "big"))
        self.left = _MISSES


@dataclass
class Checked:
    """A form that may miss: sampled until `accepts`, and out of `examples` when patience ends. Wants Patience."""

    form: Form
    accepts: Callable[[Any], bool]
    schema: Any = None
    """What `accepts` checks, if that is a schema."""
    examples: list[Any] = field(default_factory=list)

    def least(self) -> tuple[int, int] | None:
        return self.form.least()

    def most(self, of: Mapping[Node, Size]) -> Size:
        return self.form.most(of)

    def values(self) -> list[Any] | None:
        return None  # accepting may take long, see Visits

    def sampler(self, deep: int) -> Sampler:
        attempt = self.form.sampler(deep)

        def sample(dice: Dice, depth: int) -> Any:
            patience = cast(Patience, dice)
            for _ in range(_TRIES):
                value = attempt(dice, depth)
                if self.accepts(value):
                    return value
                patience.left -= 1
                if patience.left <= 0:
                    break
            if not self.examples:
                raise SchemaError("no instance found")
            return self.examples[dice.below(len(self.examples))]

        return sample

    def find_examples(self, deep: int, seeds: Iterable[int], wanted: int) -> None:
        attempt = self.form.sampler(deep)
        for seed in seeds:
            dice = Patience(Dice(seed.to_bytes(16, "big")))
            try:
                value = attempt(dice, deep * (seed % 2))
            except SchemaError:
                continue
            if self.accepts(value):
                self.examples.append(value)
            if len(self.examples) >= wanted:
                return


def distinct(draws: Sequence[Sampler], dice: Dice, depth: int, taken: Iterable[Any] = ()) -> list[Any]:
    """One value of each sampler, none like another: less of them when patience ends. Wants Patience."""
    patience = cast(Patience, dice)
    seen = {_identity(value) for value in taken}
    made: list[Any] = []
    for draw in draws:
        value = draw(dice, depth)
        for _ in range(_TRIES):
            if _identity(value) not in seen or patience.left <= 0:
                break
            patience.left -= 1
            value = draw(dice, depth)
        if _identity(value) in seen:
            break
        seen.add(_identity(value))
        made.append(value)
    return made


def some_of(values: Sequence[Any], size: int, dice: Dice, taken: Iterable[Any] = ()) -> list[Any]:
    """`size` of the values, or all of them; none like another."""
    seen = {_identity(value) for value in taken}
    left = list({_identity(value): value for value in values if _identity(value) not in seen}.values())
    for place in range(min(size, len(left) - 1)):
        other = place + dice.below(len(left) - place)
        left[place], left[other] = left[other], left[place]
    return left[:size]


def _identity(value: Any) -> Any:
    """Equal for what JSON Schema calls equal; 1 is 1.0 and is not true."""
    if isinstance(value, dict | list):
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return isinstance(value, bool), value
