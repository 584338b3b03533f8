"""Rows that are bought again, held against what the shards that they are from say of them.

In: a shard of a later round, and how the earlier shards stand. Out: `Again`. One source is in memory at a time, of it
the columns that say what became of its rows.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch import rundir
from gemini_batch.audit.compare import or_damaged
from gemini_batch.audit.facts import Again, Part, Requests, ShardFacts, Spot, Unreadable
from gemini_batch.jobs.sent import Samples, asked_samples
from gemini_batch.kinds import KINDS
from gemini_batch.ledger.store import Store
from gemini_batch.parquet import read_own_columns, read_own_table
from gemini_batch.records import RunRecord, ShardPlan, ShardState

OUTCOME = ["index", "key", "status", "error", "attempts", "samples", "request_digest"]


@dataclass(frozen=True)
class Standing:
    """How a shard stands that was looked at before."""

    is_collected: bool
    is_refused: bool
    is_sound: bool
    """Its part is the one that was recorded."""


def standing_of(facts: ShardFacts) -> Standing:
    record, part = facts.record, facts.files.part
    collected = record.state is ShardState.COLLECTED and record.tally is not None
    sound = isinstance(part, Part) and record.tally is not None and part.sha256 == record.tally.part_sha256
    return Standing(collected, record.refused is not None, sound)


@dataclass(frozen=True)
class _Row:
    """A row that is bought again."""

    key: str
    samples: Samples
    attempts: int
    was: str
    digest: str | None


@dataclass
class _Found:
    """What was found so far."""

    sources: list[int] = field(default_factory=list)
    known: set[int] = field(default_factory=set)
    unlike: set[int] = field(default_factory=set)
    unasked: set[int] = field(default_factory=set)
    doubled: set[int] = field(default_factory=set)
    were: Counter[str] = field(default_factory=Counter)


class Looking:
    """Looks at the shards of later rounds, in the order of the plan."""

    def __init__(self, store: Store, run: RunRecord, plan: list[ShardPlan], causes: Mapping[int, str]) -> None:
        """`causes` says of each later round what made it."""
        self._store, self._run, self._plan, self._causes = store, run, plan, causes
        self._standing: dict[int, Standing] = {}
        self._takers = defaultdict[int, list[ShardPlan]](list)
        for entry in plan:
            if self._causes.get(entry.round) == "repair":
                for source in entry.sources:
                    self._takers[source].append(entry)

    def note(self, facts: ShardFacts) -> ShardFacts:
        """Remember how the shard stands; one of a later round is held against those before it."""
        self._standing[facts.plan.shard] = standing_of(facts)
        return facts if facts.plan.round == 0 else replace(facts, again=self._look(facts))

    def is_sound(self, shard: int) -> bool:
        """Whether the shard's part is the one that was recorded."""
        return self._is(shard).is_sound

    def _look(self, facts: ShardFacts) -> Again:
        entry, asked = facts.plan, self._causes.get(facts.plan.round) == "retry"
        before = [other.shard for other in self._plan if other.round < entry.round] if asked else entry.sources
        unfinished = tuple(shard for shard in before if not self._is(shard).is_collected)
        rows = or_damaged(lambda: self._rows(entry, facts))
        unseen = tuple(shard for shard in entry.sources if not self._is(shard).is_sound)
        if unseen or isinstance(rows, Unreadable):
            return Again(unfinished, unseen or (entry.shard,))
        found = _Found()
        for source in entry.sources:
            part = or_damaged(lambda source=source: self._outcome(source, rows))  # type: ignore[misc]
            if isinstance(part, Unreadable):
                return Again(unfinished, (source,))
            self._hold(entry, source, part, rows, found, asked)
        for index in {index for index, row in rows.items() if row.attempts} if asked else ():
            found.were[rows[index].was] += 1
        return Again(
            unfinished,
            sources=tuple(found.sources),
            refused=bool(found.sources) and not asked and all(self._is(source).is_refused for source in found.sources),
            bought=sum(row.attempts > 0 for row in rows.values()),
            were=dict(found.were),
            unknown=_spot(rows.keys() - found.known),
            unlike=_spot(found.unlike),
            unasked=_spot(found.unasked),
            doubled=_spot(found.doubled),
        )

    def _is(self, shard: int) -> Standing:
        return self._standing.get(shard, Standing(False, False, False))

    def _rows(self, entry: ShardPlan, facts: ShardFacts) -> dict[int, _Row]:
        """The shard's own rows by index, and what was sent for them."""
        with self._store.local(entry.frozen or "") as path:
            table = read_own_columns(path, ["index", "key", "attempts", "was"], ["samples"])
        digests: list[str | None] = [None] * table.num_rows
        requests, name = facts.files.requests, facts.record.requests
        if isinstance(requests, Requests) and requests.remade and name:
            with self._store.local(name) as path:
                digests = read_own_table(path, ["request_digest"])["request_digest"].to_pylist()
        names = ("key", "attempts", "was")
        columns = zip(*(table[one].to_pylist() for one in names), digests, strict=True)
        asked = asked_samples(table, self._run.asked.n_samples)
        rows = dict[int, _Row]()
        for index, samples, (key, attempts, was, digest) in zip(
            table["index"].to_pylist(), asked, columns, strict=True
        ):
            rows[index] = _Row(key, samples, attempts or 0, was, digest)
        return rows

    def _outcome(self, source: int, rows: dict[int, _Row]) -> pa.Table:
        """What a source says of these rows."""
        with self._store.local(rundir.part_of(source)) as path:
            table = read_own_table(path, OUTCOME)
        return table.filter(pc.is_in(table["index"], value_set=pa.array(list(rows), pa.int64())))

    def _hold(
        self, entry: ShardPlan, source: int, part: pa.Table, rows: dict[int, _Row], found: _Found, asked: bool
    ) -> None:
        """Hold the rows against one source; `asked` is that a person asked for them."""
        taken = set[int]()
        doubled = set[tuple[int, int]]() if asked else self._taken_by_others(entry, source)
        same = self._plan[source].settings == entry.settings and not self._has_new_content(entry, asked)
        for outcome in _outcomes(part):
            row = rows[outcome.index]
            if row.key != outcome.key or not (asked or _is_for(outcome.failed, row)):
                continue
            taken.add(outcome.index)
            kinds = {outcome.failed.get(sample) for sample in row.samples}
            digests = {row.digest, outcome.digest} - {None}
            if (outcome.attempts != row.attempts if not asked else outcome.attempts > row.attempts) or (
                same and len(digests) > 1
            ):
                found.unlike.add(outcome.index)
            if asked:
                continue
            if any(kind is None or not self._may_pass(source, kind) for kind in kinds):
                found.unasked.add(outcome.index)
            if any((outcome.index, sample) in doubled for sample in row.samples):
                found.doubled.add(outcome.index)
            if row.attempts:
                found.were.update(kind for kind in kinds if kind)
        if taken:
            found.sources.append(source)
            found.known |= taken

    def _has_new_content(self, entry: ShardPlan, asked: bool) -> bool:
        """Whether its rows may hold something else than those of its sources. What a person gave once goes on to hold,
        and a round that is asked for names the first shards."""
        return asked and any(other.replaced for other in self._plan if other.round <= entry.round)

    def _may_pass(self, source: int, kind: str) -> bool:
        """Whether a round may buy again what failed like this. Of a refused create nothing was bought."""
        return self._is(source).is_refused or (kind in KINDS and KINDS[kind].again != "never")

    def _taken_by_others(self, entry: ShardPlan, source: int) -> set[tuple[int, int]]:
        """Rows and samples that earlier shards of the plan buy again by themselves, of this source."""
        found = set[tuple[int, int]]()
        for other in self._takers[source]:
            if other.shard < entry.shard and other.frozen:
                found |= set(self._samples(other.frozen))
        return found

    def _samples(self, frozen: str) -> Iterator[tuple[int, int]]:
        with self._store.local(frozen) as path:
            table = read_own_columns(path, ["index"], ["samples"])
        for index, samples in zip(
            table["index"].to_pylist(), asked_samples(table, self._run.asked.n_samples), strict=True
        ):
            yield from ((index, sample) for sample in samples)


@dataclass(frozen=True)
class _Outcome:
    """What became of a row in a shard."""

    index: int
    key: str
    attempts: int
    digest: str | None
    failed: dict[int, str | None]
    """Sample -> the kind of its failure, of those that have one."""


def _outcomes(part: pa.Table) -> Iterator[_Outcome]:
    names = ("index", "key", "attempts", "request_digest", "error", "samples")
    for index, key, attempts, digest, error, samples in zip(*(part[name].to_pylist() for name in names), strict=True):
        if samples is None:
            failed: dict[int, Any] = {0: error["kind"]} if error else {}
        else:
            failed = {one["sample"]: one["error_kind"] for one in samples if one["error_kind"]}
        yield _Outcome(index, key, attempts, digest, failed)


def _is_for(failed: dict[int, str | None], row: _Row) -> bool:
    """Whether the row may be from there: some of its samples failed, or it is of nowhere else."""
    return bool(failed.keys() & set(row.samples)) or not failed


def _spot(indices: set[int] | Any) -> Spot:
    return Spot(len(indices), min(indices)) if indices else Spot()
