"""The plans of all rounds, read anew and not by those who work with them.

In: the store. Out: the shards of all plans up to one that is missing or damaged, and what is wrong with those after it.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

from gemini_batch import rundir
from gemini_batch.audit.compare import or_damaged
from gemini_batch.audit.facts import Round, Unreadable
from gemini_batch.ledger.store import Store
from gemini_batch.records import ShardPlan

NAME = re.compile(r"plan-([0-9]{4})\.parquet")


@dataclass(frozen=True)
class Plans:
    """What the plans say."""

    shards: tuple[ShardPlan, ...] | None
    """None without the first plan."""
    rounds: tuple[Round, ...] = ()
    faults: tuple[str, ...] = ()
    identity: str | None = None
    """Of the question that the first was made for, if it says so."""
    why: str | None = None
    """Why the first cannot be read."""

    @property
    def is_whole(self) -> bool:
        """Whether these are all shards that were planned, as far as can be told."""
        return self.shards is not None and not self.faults


@dataclass(frozen=True)
class _File:
    shards: tuple[ShardPlan, ...]
    metadata: dict[bytes, bytes]


def read_plans(store: Store) -> Plans:
    """All plans that are there."""
    first = _read(store, rundir.PLAN)
    if not isinstance(first, _File):
        return Plans(None, why=first.why if first else None)
    identity = first.metadata.get(b"identity")
    plans = Plans(first.shards, identity=None if identity is None else identity.decode(errors="replace"))
    named = [int(found[1]) for name in store.names("") if (found := NAME.fullmatch(name))]
    number = 1
    while isinstance(file := _read(store, rundir.plan_of(number)), _File):
        if not _follow(file.shards, number, len(plans.shards or ())):
            what = f"{rundir.plan_of(number)} does not number its shards, rounds and sources as it should"
            return replace(plans, faults=(what,))
        cause = file.metadata.get(b"cause", b"").decode(errors="replace")
        shards = (*(plans.shards or ()), *file.shards)
        plans = replace(plans, shards=shards, rounds=(*plans.rounds, Round(len(file.shards), cause)))
        number += 1
    if file is not None:
        return replace(plans, faults=(f"{rundir.plan_of(number)} is damaged ({file.why})",))
    if later := [other for other in named if other > number]:
        what = f"{rundir.plan_of(number)} is missing, and {rundir.plan_of(max(later))} is there"
        return replace(plans, faults=(what,))
    return plans


def _follow(shards: tuple[ShardPlan, ...], number: int, first: int) -> bool:
    """Whether these can be the shards of that round, the first of which is `first`."""
    sources = {source for shard in shards for source in shard.sources}
    numbered = [(shard.shard, shard.round) for shard in shards] == [(first + at, number) for at in range(len(shards))]
    return numbered and sources <= set(range(first)) and all(shard.sources for shard in shards)


def _read(store: Store, name: str) -> _File | Unreadable | None:
    if not store.exists(name):
        return None
    with store.local(name) as path:
        return or_damaged(lambda: _file(path))


def _file(path: Path) -> _File:
    table = pq.read_table(path, page_checksum_verification=True)
    shards = tuple(ShardPlan.model_validate(row) for row in table.to_pylist())
    return _File(shards, table.schema.metadata or {})
