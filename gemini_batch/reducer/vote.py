"""Several answers to one question become one, by majority. Pure.

In: valid answers, in sample order; what failed is not among them. Out: the value that most of them have, field by
field, and how far they agree. Equal is what JSON calls equal: 1 is 1.0, `true` is not 1, the order of an object's
members does not matter, that of a list does, and a member that is null counts like one that is not there. Among values
that occur equally often the one of the earliest sample wins.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from pydantic import BaseModel, TypeAdapter

Path = tuple[str, ...]
TieBreaker = Callable[[Path, Sequence[Any]], Any]

_PLAIN = frozenset({str, int, type(None)})
"""Types whose values can be compared as they are."""

_SCALARS = frozenset({int, float, bool, type(None)})
_OBJECTS = {dict}

COUNT = "#count"
"""Last step of the path under which the length of a list is voted on."""


# --- one row of a dataset ---------------------------------------------------------------------------------------------


class Vote(NamedTuple):
    """What the samples of a row come to."""

    value: Any
    """Each field is that of some sample; all of it is when the samples are no objects."""
    agreement: float
    """Mean over the fields of the share of samples that have the value."""
    disagreements: list[str]
    """Fields on which the samples differ; none where they are no objects."""
    winner: int
    """Place of the sample that has the value in most fields."""


def vote(samples: Sequence[Any], fieldwise: bool = True) -> Vote:
    """The majority of one or more samples.

    Args:
        fieldwise: whether objects are voted on by field, and not each as one value.
    """
    if fieldwise and set(map(type, samples)) == _OBJECTS:
        return _by_field(samples)
    place, count = _poll([_comparable(sample) for sample in samples])
    return Vote(samples[place], count / len(samples), [], place)


def _by_field(samples: Sequence[dict[str, Any]]) -> Vote:
    first, count = samples[0], len(samples)
    names = _names(samples)
    votes, places, differing = 0, dict[str, int](), dict[str, list[Any]]()
    for name in names:
        values = [sample.get(name) for sample in samples]
        if values.count(values[0]) == count and _alike(values):
            votes += count
            continue
        values = [_comparable(value) for value in values]
        place, most = _poll(values)
        votes += most
        if most < count:
            places[name], differing[name] = place, values
    if not differing:
        return Vote(first, 1.0, [], 0)
    agreed = [
        sum(values[place] == values[places[name]] for name, values in differing.items()) for place in range(count)
    ]
    winner = agreed.index(max(agreed))
    if agreed[winner] == len(differing):
        value = samples[winner]
    else:
        sources = {name: samples[places.get(name, 0)] for name in names}
        value = {name: source[name] for name, source in sources.items() if name in source}
    return Vote(value, votes / (count * len(names)), list(differing), winner)


def _alike(values: list[Any]) -> bool:
    """Whether what Python calls equal here is equal; where it is not certain, no."""
    kind = type(values[0])
    return kind is str or (kind in _SCALARS and len(set(map(type, values))) == 1)


def _names(samples: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Of all fields, in the order in which they appear."""
    names = samples[0].keys()
    for sample in samples:
        if sample.keys() != names:
            return dict.fromkeys(name for sample in samples for name in sample)
    return samples[0]


def _poll(values: list[Any]) -> tuple[int, int]:
    """Place of the first of the values that occur most often, and how often."""
    count = len(values)
    best, most = 0, values.count(values[0])
    for place in range(1, count):
        if count - place <= most:  # what has not been seen before cannot win any more
            break
        votes = values.count(values[place])
        if votes > most:
            best, most = place, votes
    return best, most


class _Mark(Enum):
    """Values that Python calls equal to others, or not equal to themselves."""

    TRUE = True
    FALSE = False
    NAN = "nan"


def _comparable(value: Any) -> Any:
    """What stands for a value when it is compared."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, bool):
        return _Mark(value)
    if isinstance(value, float):
        return value if value == value else _Mark.NAN  # noqa: PLR0124 - the one that is not equal to itself
    if isinstance(value, dict):
        return {name: _comparable(held) for name, held in value.items() if held is not None}
    if isinstance(value, list | tuple):
        return [_comparable(item) for item in value]
    return value


# --- records of any shape ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ValueCount:
    """How many samples have a value."""

    value: Any
    count: int


@dataclass(frozen=True)
class FieldVote:
    """The vote on one place of the records."""

    path: Path
    value: Any
    total: int
    """Samples that voted."""
    counts: tuple[ValueCount, ...]
    """The most frequent first, then in sample order."""

    @property
    def agreement(self) -> float:
        """Share of the samples that have the most frequent value."""
        return self.counts[0].count / self.total

    @property
    def is_tie(self) -> bool:
        """Whether several values occur most often."""
        return len(self.counts) > 1 and self.counts[1].count == self.counts[0].count


@dataclass(frozen=True)
class ListVoteConfig:
    """How the items of a list find their likes in the other samples' lists: by position, unless `match_on` is given."""

    match_on: tuple[str, ...] | None = None
    """Fields, with dots for nested ones, that tell what an item is about. Items that have none of them go by
    position."""
    require_all_fields: bool = False
    """Items that lack one of the fields go by position."""


@dataclass(frozen=True)
class MajorityVoteResult:
    aggregated: Any
    field_votes: dict[Path, FieldVote]
    """By path: names of fields, `[0]` or `[key, key]` for an item of a list, `#count` for its length."""
    n_samples: int

    def disagreements(self) -> dict[Path, FieldVote]:
        """The votes that were not unanimous."""
        return {path: held for path, held in self.field_votes.items() if held.agreement < 1}


def aggregate_records(
    records: Sequence[Any],
    *,
    list_configs: Mapping[Path, ListVoteConfig] | None = None,
    tie_breaker: TieBreaker | None = None,
    as_model: Any = None,
) -> MajorityVoteResult:
    """Put several records of one thing together, down to the last field: each value is what most samples have.

    Args:
        records: dicts, lists, scalars or pydantic models; None, a sample that failed, does not vote.
        list_configs: by the path of a list, how its items are matched.
        tie_breaker: called with the path and the values that occur most often, in sample order; returns one.
        as_model: type that the outcome is validated as.

    Returns:
        What is null or absent in more than half of the samples is null, as an item of a list left out.

    Raises:
        ValueError: no record votes.
    """
    plain = [_plain(record) for record in records if record is not None]
    if not plain:
        raise ValueError("no records to vote: all are None, or there are none")
    configs = {tuple(path): config for path, config in (list_configs or {}).items()}
    votes = _Recursion(configs, tie_breaker)
    aggregated = votes.value((), plain)
    if as_model is not None:
        aggregated = TypeAdapter(as_model).validate_python(aggregated)
    return MajorityVoteResult(aggregated, votes.field_votes, len(plain))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _plain(value.model_dump())
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(name): _plain(held) for name, held in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


@dataclass
class _Recursion:
    """One vote over whole records; `values` always has one entry per sample, None where it has nothing."""

    configs: dict[Path, ListVoteConfig]
    tie_breaker: TieBreaker | None
    field_votes: dict[Path, FieldVote] = field(default_factory=dict)

    def value(self, path: Path, values: list[Any]) -> Any:
        held = [value for value in values if value is not None]
        if 2 * len(held) >= len(values) and held:
            if all(isinstance(value, dict) for value in held):
                return self._object(path, [value or {} for value in values])
            if all(isinstance(value, list) for value in held):
                return self._list(path, [value or [] for value in values])
        return self._leaf(path, values)

    def _object(self, path: Path, values: list[dict[str, Any]]) -> dict[str, Any]:
        return {name: self.value((*path, name), [value.get(name) for value in values]) for name in _names(values)}

    def _list(self, path: Path, values: list[list[Any]]) -> list[Any]:
        config = self.configs.get(path, ListVoteConfig())
        aligned: dict[str, list[Any]] = {}
        for place, items in enumerate(values):
            for label, item in _labelled(items, config):
                aligned.setdefault(label, [None] * len(values))[place] = item
        self._leaf((*path, COUNT), [len(items) for items in values])
        voted = [self.value((*path, label), items) for label, items in aligned.items()]
        return [item for item in voted if item is not None]

    def _leaf(self, path: Path, values: list[Any]) -> Any:
        compared = [_comparable(value) for value in values]
        places = [place for place, value in enumerate(compared) if compared.index(value) == place]
        counts = [ValueCount(values[place], compared.count(compared[place])) for place in places]
        counts.sort(key=lambda counted: -counted.count)
        winners = [counted.value for counted in counts if counted.count == counts[0].count]
        tied = len(winners) > 1 and self.tie_breaker is not None
        chosen = self.tie_breaker(path, winners) if tied and self.tie_breaker else winners[0]
        self.field_votes[path] = FieldVote(path, chosen, len(values), tuple(counts))
        return chosen


def _labelled(items: list[Any], config: ListVoteConfig) -> Iterator[tuple[str, Any]]:
    """Each item under what it is matched by; of several with one key the later ones are numbered."""
    seen: dict[str, int] = {}
    for position, item in enumerate(items):
        label = _label(item, position, config)
        seen[label] = seen.get(label, 0) + 1
        yield label if seen[label] == 1 else f"{label}#{seen[label]}", item


def _label(item: Any, position: int, config: ListVoteConfig) -> str:
    keys = [_looked_up(item, name) for name in config.match_on or ()]
    there = [key not in (None, "", []) for key in keys]
    if not any(there) or (config.require_all_fields and not all(there)):
        return f"[{position}]"
    return f"[{', '.join('' if key is None else str(key) for key in keys)}]"


def _looked_up(item: Any, dotted: str) -> Any:
    for name in dotted.split("."):
        item = item.get(name) if isinstance(item, dict) else None
    return item
