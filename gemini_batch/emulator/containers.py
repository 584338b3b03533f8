"""Objects and arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

from gemini_batch.emulator.dice import Dice
from gemini_batch.emulator.forms import Node, Sampler, Size, distinct, some_of

_SPREAD = 16  # an array is not longer than its least by more


@dataclass(frozen=True)
class Extras:
    """Members beyond the named ones. Without `keys` they are numerals, as those of a `dict[int, X]` have to be."""

    value: Node
    keys: Node | None
    usual: int

    def nodes(self) -> list[Node]:
        return [self.value, self.keys] if self.keys else [self.value]

    def limit(self) -> int:
        if not all(node.height for node in self.nodes()):
            return 0
        few = self.keys.values() if self.keys else None
        return 1 << 53 if few is None else len(few)

    def names(self, size: int, taken: Mapping[str, Any], dice: Dice, depth: int) -> list[str]:
        if self.keys is None:
            return list(islice((str(n) for n in count(1) if str(n) not in taken), size))
        few = self.keys.values()
        return some_of(few, size, dice, taken) if few else distinct([self.keys.follow()] * size, dice, depth, taken)


@dataclass
class Object:
    """`required` and the optional `fields`; at least `fewest` members and at most `ceiling`."""

    fields: Mapping[str, Node]
    required: frozenset[str]
    extras: Extras
    fewest: int
    ceiling: int
    bare: Sequence[str] = ()
    bare_extras: int = 0
    """The lowest instance: these fields, and so many extras."""

    def least(self) -> tuple[int, int] | None:
        if not all(self.fields[name].height for name in self.required):
            return None
        spare = [name for name, node in self.fields.items() if node.height and name not in self.required]
        spare.sort(key=lambda name: self.fields[name].height)
        missing = max(0, self.fewest - len(self.required))
        chosen = self.required.union(spare[:missing])
        self.bare = [name for name in self.fields if name in chosen]
        self.bare_extras = self.fewest - len(self.bare) if missing > len(spare) else 0
        if self.bare_extras > self.extras.limit():
            return None
        below = [self.fields[name] for name in self.bare] + (self.extras.nodes() if self.bare_extras else [])
        characters = sum(len(name) + 5 + self.fields[name].characters for name in self.bare)
        characters += self.bare_extras * sum(8 + node.characters for node in self.extras.nodes())
        return 1 + max((node.height for node in below), default=0), 2 + characters

    def most(self, of: Mapping[Node, Size]) -> Size:
        sizes = [Size(len(name) + 5 + of[node].characters, of[node].levels) for name, node in self._known().items()]
        extras = min(max(self.bare_extras, self.extras.usual), self.extras.limit())
        if extras:
            each = [of[node] for node in self.extras.nodes()]
            sizes.append(Size(extras * sum(8 + one.characters for one in each), max(one.levels for one in each)))
        return Size(2 + sum(one.characters for one in sizes), 1 + max((one.levels for one in sizes), default=0))

    def _known(self) -> dict[str, Node]:
        return {name: node for name, node in self.fields.items() if node.height}

    def values(self) -> list[Any] | None:
        return None

    def sampler(self, deep: int) -> Sampler:
        if self.extras.usual or self.fewest > len(self.required) or self.ceiling < len(self._known()):
            return self._counting(deep)
        fields = [(name, name in self.required, node.follow()) for name, node in self._known().items()]
        bare = [(name, field) for name, always, field in fields if always]

        def sample_all(dice: Dice, depth: int) -> Any:
            inner = depth + 1
            return {name: field(dice, inner) for name, field in bare}

        def sample(dice: Dice, depth: int) -> Any:
            if depth >= deep:
                return sample_all(dice, depth)
            inner = depth + 1
            return {name: field(dice, inner) for name, always, field in fields if always or dice.below(4)}

        return sample_all if len(bare) == len(fields) else sample

    def _counting(self, deep: int) -> Sampler:
        fields = {name: node.follow() for name, node in self._known().items()}
        value = self.extras.value.follow()
        limit = self.extras.limit()

        def sample(dice: Dice, depth: int) -> Any:
            chosen, extras = (self.bare, self.bare_extras) if depth >= deep else self._chosen(fields, dice)
            made = {name: fields[name](dice, depth + 1) for name in chosen}
            if size := min(extras, limit, self.ceiling - len(made)):
                names = self.extras.names(size, self.fields, dice, depth + 1)
                made |= {name: value(dice, depth + 1) for name in names}
            return made

        return sample

    def _chosen(self, fields: Mapping[str, Any], dice: Dice) -> tuple[Sequence[str], int]:
        spare = [name for name in fields if name not in self.required]
        picked = [name for name in spare if dice.below(4)][: self.ceiling - len(self.required)]
        if (missing := self.fewest - len(self.required) - len(picked)) > 0:
            picked += list(dict.fromkeys(picked + spare))[len(picked) :][:missing]
        usual = 1 + dice.below(self.extras.usual) if self.extras.usual else 0
        chosen = self.required.union(picked)
        return [name for name in fields if name in chosen], max(self.fewest - len(chosen), usual)


@dataclass
class Array:
    """`first` in their places, then any number of `rest`; at least `fewest` and at most `ceiling`."""

    first: Sequence[Node]
    rest: Node
    fewest: int
    ceiling: int
    unique: bool

    def least(self) -> tuple[int, int] | None:
        head, tail = self.first[: self.fewest], max(0, self.fewest - len(self.first))
        below = [*head, self.rest] if tail else head
        if not all(node.height for node in below) or self._top() < self.fewest:
            return None
        characters = 2 + sum(1 + node.characters for node in head) + tail * (1 + self.rest.characters)
        return 1 + max((node.height for node in below), default=0), characters

    def _top(self) -> int:
        """How many there can be."""
        for place, node in enumerate(self.first[: self.ceiling]):
            if not node.height:
                return place
        if not self.rest.height:
            return min(self.ceiling, len(self.first))
        few = self._few()
        return self.ceiling if few is None else min(self.ceiling, len(few))

    def _few(self) -> list[Any] | None:
        if not self.unique or self.first:
            return None
        few = self.rest.values()
        return few and some_of(few, len(few), Dice(bytes(16)))

    def _longest(self) -> int:
        return min(self._top(), max(self.fewest, len(self.first)) + _SPREAD)

    def most(self, of: Mapping[Node, Size]) -> Size:
        longest = self._longest()
        sizes = [of[node] for node in self.first[:longest]]
        if longest > len(sizes):
            size = of[self.rest]
            sizes.append(Size((longest - len(sizes)) * (1 + size.characters), size.levels))
        return Size(2 + sum(1 + one.characters for one in sizes), 1 + max((one.levels for one in sizes), default=0))

    def values(self) -> list[Any] | None:
        return None

    def sampler(self, deep: int) -> Sampler:
        first, rest = [node.follow() for node in self.first], self.rest.follow()
        fewest, choices, few = self.fewest, self._longest() - self.fewest + 1, self._few()

        def sample(dice: Dice, depth: int) -> Any:
            size = fewest if depth >= deep else fewest + dice.below(choices)
            return [(first[i] if i < len(first) else rest)(dice, depth + 1) for i in range(size)]

        def sample_unique(dice: Dice, depth: int) -> Any:
            size = fewest if depth >= deep else fewest + dice.below(choices)
            if few is not None:
                return some_of(few, size, dice)
            return distinct([*first[:size], *[rest] * (size - len(first))], dice, depth + 1)

        return sample_unique if self.unique else sample
