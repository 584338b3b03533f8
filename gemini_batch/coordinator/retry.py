"""A round that a person asks for: rows chosen from a finished dataset are bought again, perhaps with other settings.

In: a finished run, and which of its rows. Out: the plan of the next round. The dataset stays as it is until that round
is merged.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch.coordinator.freeze import frozen
from gemini_batch.coordinator.manifest import Manifest
from gemini_batch.coordinator.rounds import Chosen, marked, plan_round
from gemini_batch.errors import BadInput
from gemini_batch.ledger.run import RunFiles
from gemini_batch.parquet import read_own_table
from gemini_batch.records import Limits, RunRecord, ShardPlan

STATUSES = ("ok", "failed", "blocked", "truncated", "invalid")

COLUMNS = ["index", "key", "status", "error", "attempts", "n_valid", "samples"]


@dataclass(frozen=True)
class Choice:
    """Which rows: those that meet all that is given; without statuses, kinds, keys and replacements all that are not
    ok."""

    statuses: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    keys: frozenset[str] | None = None
    replace: Manifest | None = None
    """Rows with new content, by key; where the run has no keys of its own, its rows' index is their key."""


def retry(
    files: RunFiles, run: RunRecord, limits: Limits, choice: Choice, settings: dict[str, Any] | None = None
) -> int:
    """Plan the round. Returns how many rows it buys; with 0 there is no round.

    Args:
        settings: fields of `Asked` that differ for these rows.

    Raises:
        BadInput: the run has not finished; a key or a replacement names no row.
        RunStopped: a file of the run is damaged.
        OSError: the store cannot take it now.
    """
    if not files.is_finished():
        raise BadInput(f"{files.store.url} has not finished; resume it first, then retry what failed")
    replacements = _Replacements(choice.replace) if choice.replace else None
    chosen = _choose(files, choice, replacements)
    _refuse_strangers(choice, replacements, chosen)
    if not chosen.num_rows:
        return 0
    plan = [entry for entry in files.reread_plan() if entry.round == 0]
    sources = _sources(plan, chosen)
    said = orjson.dumps(settings, option=orjson.OPT_SORT_KEYS).decode() if settings else None
    blocks = _blocks(files, plan, sources, chosen, replacements)
    batch = Chosen(tuple(sources), blocks, limits.max_requests_per_shard, settings=said)
    if not plan_round(files, run, limits, [batch], "retry"):
        raise BadInput(f"{files.store.url}: another retry was first; resume the run, then retry again")
    return int(chosen.num_rows)


class _Replacements:
    """New content of rows, by key; held in memory."""

    def __init__(self, manifest: Manifest) -> None:
        blocks = [frozen(block, 0) for block in manifest.blocks()]
        if not blocks:
            raise BadInput(f"--replace {manifest.name} has no rows")
        self.rows = pa.Table.from_batches(blocks)
        self.keys = self.rows["key"].to_pylist()
        self._place = {key: place for place, key in enumerate(self.keys)}
        if len(self._place) < len(self.keys):
            twice = next(key for place, key in enumerate(self.keys) if self._place[key] != place)
            raise BadInput(f"--replace {manifest.name}: key {twice!r} occurs twice")

    def put_into(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of a shard with their new content."""
        places = pa.array([self._place[key] for key in rows.column("key").to_pylist()])
        new = self.rows.take(places).combine_chunks()
        for name in ("prompt", "parts", "system_instruction"):
            at = rows.schema.get_field_index(name)
            rows = rows.set_column(at, rows.schema.field(name), new[name].combine_chunks())
        return rows


def _choose(files: RunFiles, choice: Choice, replacements: _Replacements | None) -> pa.Table:
    """The chosen rows of the dataset: `index`, `status`, `attempts`, and the samples that are `wanted`."""
    keys = choice.keys if choice.keys is not None else (frozenset(replacements.keys) if replacements else None)
    every = bool(keys is not None and not choice.statuses and not choice.kinds)
    found = []
    for name in files.store.names("dataset"):
        with files.store.local(f"dataset/{name}") as path:
            table = read_own_table(path, COLUMNS)
        wanted = pa.array([True] * table.num_rows) if every else _is_chosen(table, choice)
        if keys is not None:
            wanted = pc.and_(wanted, pc.is_in(table["key"], value_set=pa.array(sorted(keys), pa.string())))
        table = table.filter(wanted)
        samples = [_samples(row, bool(replacements)) for row in table.select(["status", "samples"]).to_pylist()]
        columns = table.select(["index", "key", "status", "attempts", "n_valid"])
        found.append(columns.append_column("wanted", pa.array(samples, pa.list_(pa.int32()))))
    return pa.concat_tables(found).combine_chunks()


def _is_chosen(table: pa.Table, choice: Choice) -> Any:
    if not choice.statuses and not choice.kinds:
        return pc.not_equal(table["status"], "ok")
    chosen = pa.chunked_array([pa.array([True] * table.num_rows, pa.bool_())])
    if choice.statuses:
        chosen = pc.and_(chosen, pc.is_in(table["status"], value_set=pa.array(sorted(choice.statuses))))
    if choice.kinds:
        kinds = pc.struct_field(table["error"].combine_chunks(), "kind")
        chosen = pc.and_(chosen, pc.is_in(kinds, value_set=pa.array(sorted(choice.kinds))))
    return chosen


def _samples(row: dict[str, Any], replaced: bool) -> list[int] | None:
    """Those without a valid answer; all of a row that is ok, or another one now."""
    if row["samples"] is None or replaced or row["status"] == "ok":
        return None
    return [number for number, sample in enumerate(row["samples"]) if sample["status"] != "ok"] or None


def _refuse_strangers(choice: Choice, replacements: _Replacements | None, chosen: pa.Table) -> None:
    named = {"--keys": choice.keys or frozenset(), "--replace": frozenset(replacements.keys if replacements else ())}
    if choice.statuses or choice.kinds:
        return
    there = set(chosen["key"].to_pylist())
    for option, keys in named.items():
        if strangers := keys - there:
            raise BadInput(f"{option}: no row has the key {min(strangers)!r} ({len(strangers):,} such)")


def _sources(plan: list[ShardPlan], chosen: pa.Table) -> list[int]:
    """Shards of round 0 that hold the rows."""
    firsts = [entry.first_index for entry in plan]
    return sorted({bisect_right(firsts, index) - 1 for index in chosen["index"].to_pylist()})


def _blocks(
    files: RunFiles, plan: list[ShardPlan], sources: list[int], chosen: pa.Table, replacements: _Replacements | None
) -> Iterator[tuple[int, pa.RecordBatch]]:
    for source in sources:
        entry = plan[source]
        end = entry.first_index + entry.rows
        inside = pc.and_(pc.greater_equal(chosen["index"], entry.first_index), pc.less(chosen["index"], end))
        for block in marked(files, entry, chosen.filter(inside)):
            yield source, replacements.put_into(block) if replacements else block
