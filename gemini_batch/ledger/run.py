"""Typed access to one run directory: its record, its plan, its shards' histories."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from gemini_batch import rundir
from gemini_batch.errors import BadInput
from gemini_batch.ledger.log import Log, version_of
from gemini_batch.ledger.objects import ObjectStore
from gemini_batch.ledger.store import Store
from gemini_batch.records import (
    FORMAT,
    ControlRecord,
    Limits,
    RunRecord,
    ShardPlan,
    ShardRecord,
    ShardState,
    SpendRecord,
)

READERS = 32
"""At once in an object store: a read takes 20 ms or so, and a long run has 10,000 histories."""

MANY_UNKNOWN = 100
"""Of more histories that nothing is known of one listing is made, in pages of 1,000 objects, and not one of each."""


class RunFiles:
    """A run directory. Reading is cheap and may be done by anyone at any time."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._plan: list[ShardPlan] = []
        self._reading = Lock()

    def record(self) -> RunRecord | None:
        """What was asked; None for a directory that holds no run.

        Raises:
            BadInput: `run.json` cannot be read by this release.
        """
        body = self.store.read(rundir.RUN)
        if body is None:
            return None
        where = f"{self.store.url}/{rundir.RUN}"
        try:
            made = orjson.loads(body)
            if made["format"] > FORMAT:
                raise BadInput(
                    f"{where} was made by release {made.get('version')} (format {made['format']}); this one reads "
                    f"up to {FORMAT}. Upgrade gemini-batch-dist."
                )
            return RunRecord.model_validate(made)
        except (ValidationError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{where} is not a run record of this project: {str(error)[:200]}") from None

    def plan(self) -> list[ShardPlan]:
        """The shards of all rounds in order, as far as this process knows: it grows, in place, with `reread_plan`.

        Raises:
            BadInput: a file is damaged.
        """
        with self._reading:
            if not self._plan:
                self._plan += self._read_plan(rundir.PLAN)
                self._read_on()
        return self._plan

    def reread_plan(self) -> list[ShardPlan]:
        """The same, with the rounds that were added meanwhile.

        Raises:
            BadInput: a file is damaged.
        """
        if not self._plan:
            return self.plan()
        with self._reading:
            self._read_on()
        return self._plan

    def _read_on(self) -> None:
        while self.store.exists(name := rundir.plan_of(self.round + 1)):
            self._plan += self._read_plan(name)

    @property
    def round(self) -> int:
        """The last round that this process knows of."""
        return self._plan[-1].round if self._plan else 0

    def _read_plan(self, name: str) -> list[ShardPlan]:
        with self.store.local(name) as path:
            try:
                table = pq.read_table(path, page_checksum_verification=True)
            except (pa.ArrowException, UnicodeDecodeError) as error:
                raise BadInput(f"{self.store.url}/{name} is damaged ({error}); restore it") from None
        return [ShardPlan.model_validate(row) for row in table.to_pylist()]

    def is_finished(self) -> bool:
        """Whether the dataset of the last round is there. One of an earlier round is being made anew."""
        success = self.store.read(rundir.SUCCESS)
        if success is None:
            return False
        self.reread_plan()
        try:
            return bool(orjson.loads(success)["round"] == self.round)
        except (ValueError, LookupError, TypeError):
            return True  # damaged; the audit says so

    def begun(self) -> set[int]:
        """Shards that have a history. A hint, as listings are."""
        return {int(name) for name in self.store.names(rundir.LEDGER) if name.isdecimal()}

    def refresh(self, plan: list[ShardPlan], known: dict[int, ShardRecord], strict: bool = False) -> None:
        """Bring the plan and `known` (shard -> last record) up to date; what is final is not read again.

        Args:
            strict: ask for each history by name; otherwise one that a listing does not show is taken for not begun.
        """
        self.reread_plan()
        begun, wanted = set() if strict else self.begun(), []
        for shard in (entry.shard for entry in plan):
            before = known.setdefault(shard, ShardRecord(shard=shard))
            if before.state is not ShardState.COLLECTED and (strict or before.version or shard in begun):
                wanted.append(shard)
        for record in self._read_all(wanted, known):
            known[record.shard] = record

    def _read_all(self, shards: list[int], known: Mapping[int, ShardRecord]) -> Iterator[ShardRecord]:
        """Last records, many at a time where each takes a while."""
        if not isinstance(self.store, ObjectStore) or not shards:
            return (self.last(shard, known.get(shard)) for shard in shards)
        unknown = sum(shard not in known or not known[shard].version for shard in shards)
        listed = self._listed(self.store) if unknown > MANY_UNKNOWN else None
        with ThreadPoolExecutor(READERS) as readers:
            return readers.map(
                lambda shard: self.last(shard, known.get(shard), None if listed is None else listed[shard]), shards
            )

    @staticmethod
    def _listed(store: ObjectStore) -> Counter[int]:
        """The newest version of each history in one listing of all of them."""
        versions = Counter[int]()
        for name in store.tree(rundir.LEDGER):  # ledger/000007/000003.json
            shard, _, record = name.removeprefix(f"{rundir.LEDGER}/").partition("/")
            if shard.isdecimal():
                versions[int(shard)] = max(versions[int(shard)], version_of(record))
        return versions

    def last(self, shard: int, known: ShardRecord | None = None, listed: int | None = None) -> ShardRecord:
        """The newest record of a shard, one without a history as PLANNED.

        Args:
            known: an earlier one, to look from.
            listed: the version to look from otherwise, if who asks has a listing.
        """
        known = known if known and known.version else None
        return self.history(shard).last(known, listed) or ShardRecord(shard=shard)

    def history(self, shard: int) -> Log[ShardRecord]:
        return Log(self.store, rundir.ledger_of(shard), ShardRecord)

    def controls(self) -> Log[ControlRecord]:
        return Log(self.store, rundir.CONTROL, ControlRecord)

    def spend(self) -> Log[SpendRecord]:
        """The money of a run with a cap."""
        return Log(self.store, rundir.SPEND, SpendRecord)

    def limits(self, run: RunRecord) -> Limits:
        """The limits in force: the last that were said."""
        said = self.controls().last()
        return said.limits if said else run.limits

    def last_records(
        self, plan: Sequence[ShardPlan], known: Mapping[int, ShardRecord] | None = None
    ) -> Iterator[ShardRecord]:
        """The newest record of every shard, asked for by name, final ones too: a twin may have been learned since.

        Args:
            known: earlier ones, to look from.
        """
        return self._read_all([entry.shard for entry in plan], known or {})
