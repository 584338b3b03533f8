"""A round that a person asks for: rows chosen from a finished dataset are bought again, perhaps with other settings.

In: a finished run, and which of its rows. Out: the plan of the next round. The dataset stays as it is until that round
is merged.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch import rundir
from gemini_batch.clock import new_nonce
from gemini_batch.coordinator.freeze import frozen
from gemini_batch.coordinator.manifest import Manifest
from gemini_batch.coordinator.rounds import Chosen, marked, plan_round
from gemini_batch.errors import BadInput
from gemini_batch.ledger.run import RunFiles
from gemini_batch.parquet import read_own_blocks
from gemini_batch.records import Limits, RunRecord, ShardPlan

STATUSES = ("ok", "failed", "blocked", "truncated", "invalid")

NOTED = pa.schema(
    [
        ("index", pa.int64()),
        ("status", pa.string()),
        ("attempts", pa.int32()),
        ("n_valid", pa.int32()),
        ("wanted", pa.list_(pa.int32())),
    ]
)
"""What is known of rows that were chosen."""

COLUMNS = ["index", "key", "status", "error", "attempts", "n_valid", "samples"]
CONTENT = ("prompt", "parts", "system_instruction")

Name = Literal["key", "index"]
"""What a row is called by."""


@dataclass(frozen=True)
class Choice:
    """Which rows: those that meet all that is given; without statuses, kinds, keys and replacements all that are not
    ok."""

    statuses: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    keys: frozenset[str] | None = None
    replace: Manifest | None = None
    """Rows with new content; its column `key` holds what they are called by."""
    replace_by: Name = "key"


def retry(
    files: RunFiles,
    run: RunRecord,
    limits: Limits,
    choice: Choice,
    settings: dict[str, Any] | None = None,
    roots: Sequence[Path] | None = None,
) -> int:
    """Plan the round. Returns how many rows it buys; with 0 there is no round.

    Args:
        settings: fields of `Asked` that differ for these rows.
        roots: where pictures lie here; by default as the run records it.

    Raises:
        BadInput: the run has not finished; a key or a replacement names no row.
        RunStopped: a file of the run is damaged.
        OSError: the store cannot take it now.
    """
    if not files.is_finished():
        raise BadInput(f"{files.store.url} has not finished; resume it first, then retry what failed")
    plan = list(files.plan())  # that of the dataset: whoever plans a round meanwhile was first
    replacements = _replacements(choice)
    chosen = _choose(files, choice, replacements)
    if not chosen.num_rows:
        return 0
    contents = [content for content in (earlier_content(files, plan, chosen["index"]), replacements) if content]
    first_round = [entry for entry in plan if entry.round == 0]
    sources = [entry.shard for entry in first_round if _inside(chosen, entry).num_rows]
    batch = Chosen(
        tuple(sources),
        _blocks(files, first_round, sources, chosen, contents),
        limits.max_requests_per_shard,
        settings=orjson.dumps(settings, option=orjson.OPT_SORT_KEYS).decode() if settings else None,
        replaced=replacements is not None,
        mark=new_nonce(),  # another retry may choose other rows of the same shards
    )
    if not plan_round(files, run, limits, [batch], "retry", plan, roots):
        raise BadInput(f"{files.store.url}: another retry was first; resume the run, then retry again")
    return int(chosen.num_rows)


# --- content ----------------------------------------------------------------------------------------------------------


class _Contents:
    """What rows hold in place of what the manifest says, held in memory; of a row named twice the last."""

    def __init__(self, rows: pa.Table, by: Name, names: list[str]) -> None:
        self.by, self.names = by, names
        self._rows = rows.combine_chunks()
        self._place = {name: place for place, name in enumerate(names)}

    def twice(self) -> str | None:
        """A name that occurs more than once."""
        return next((name for place, name in enumerate(self.names) if self._place[name] != place), None)

    def put_into(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of a shard with their new content; those without any stay."""
        names = rows.column(self.by).cast(pa.string()).to_pylist()
        places = [self._place.get(name) for name in names]
        order = pa.array(at if place is None else place + rows.num_rows for at, place in enumerate(places))
        for name in CONTENT:
            own, new = rows.column(name), self._rows[name].combine_chunks()
            both = pa.concat_arrays([own, new.cast(own.type)])
            rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), both.take(order))
        return rows


def _replacements(choice: Choice) -> _Contents | None:
    if choice.replace is None:
        return None
    blocks = [frozen(block, 0) for block in choice.replace.blocks()]
    if not blocks:
        raise BadInput(f"--replace {choice.replace.name} has no rows")
    rows = pa.Table.from_batches(blocks)
    made = _Contents(rows, choice.replace_by, rows["key"].to_pylist())
    if twice := made.twice():
        raise BadInput(f"--replace {choice.replace.name}: {choice.replace_by} {twice!r} occurs twice")
    return made


def earlier_content(
    files: RunFiles, plan: Sequence[ShardPlan], indices: pa.ChunkedArray | None = None
) -> _Contents | None:
    """What earlier retries put into rows, into these or any. None if nothing.

    Raises:
        RunStopped: a file of the run is damaged.
        OSError: not now.
    """
    found = []
    for entry in plan:
        if entry.replaced and entry.frozen:
            with files.store.local(entry.frozen) as path:
                for block in read_own_blocks(path):
                    rows = pa.table({name: block.column(name) for name in ("index", *CONTENT)})
                    found.append(rows if indices is None else rows.filter(pc.is_in(rows["index"], value_set=indices)))
    if not found:
        return None
    rows = pa.concat_tables(found)
    return _Contents(rows, "index", rows["index"].cast(pa.string()).to_pylist())


# --- which rows -------------------------------------------------------------------------------------------------------


@dataclass
class _Named:
    """Rows that a person names, and which of them there are."""

    option: str
    by: Name
    names: frozenset[str]
    seen: set[str] = field(default_factory=set)

    def match(self, rows: pa.RecordBatch) -> pa.BooleanArray:
        names = rows[self.by].cast(pa.string())
        match = pc.is_in(names, value_set=pa.array(sorted(self.names), pa.string()))
        self.seen.update(names.filter(match).to_pylist())
        return match

    def refuse_strangers(self) -> None:
        if strangers := self.names - self.seen:
            raise BadInput(f"{self.option}: no row has the {self.by} {min(strangers)!r} ({len(strangers):,} such)")


def _choose(files: RunFiles, choice: Choice, replacements: _Contents | None) -> pa.Table:
    """The chosen rows of the dataset: `index`, `status`, `attempts`, and the samples that are `wanted`."""
    named = [] if choice.keys is None else [_Named("--keys", "key", choice.keys)]
    if replacements:
        named.append(_Named("--replace", replacements.by, frozenset(replacements.names)))
    found = []
    for name in _dataset_files(files):
        with files.store.local(name) as path:
            for rows in read_own_blocks(path, COLUMNS):
                wanted = _is_chosen(rows, choice, any_status=bool(named))
                for one in named:
                    wanted = pc.and_(wanted, one.match(rows))
                found.append(_noted(rows.filter(wanted), replaced=replacements is not None))
    for one in named:
        one.refuse_strangers()
    return pa.Table.from_batches(found, NOTED).combine_chunks()


def _dataset_files(files: RunFiles) -> list[str]:
    try:
        return [file["name"] for file in orjson.loads(files.store.read(rundir.SUCCESS) or b"")["files"]]
    except (ValueError, LookupError, TypeError):
        where = f"{files.store.url}/{rundir.SUCCESS}"
        raise BadInput(f"{where} is damaged; delete it and resume: the dataset is made again") from None


def _noted(rows: pa.RecordBatch, replaced: bool) -> pa.RecordBatch:
    """What is kept of chosen rows: all of them are in memory at once, so no texts."""
    samples: list[list[int] | None] = [None] * rows.num_rows
    if rows["samples"].null_count < rows.num_rows:
        samples = [_samples(row, replaced) for row in rows.select(["status", "samples"]).to_pylist()]
    valid = pa.array([0] * rows.num_rows, pa.int32()) if replaced else rows["n_valid"]  # it answers something else
    columns = [rows["index"], rows["status"], rows["attempts"], valid, pa.array(samples, pa.list_(pa.int32()))]
    return pa.RecordBatch.from_arrays(columns, schema=NOTED)


def _is_chosen(rows: pa.RecordBatch, choice: Choice, any_status: bool) -> Any:
    if not choice.statuses and not choice.kinds:
        return pc.or_(pc.not_equal(rows["status"], "ok"), any_status)
    chosen = pa.array([True] * rows.num_rows, pa.bool_())
    if choice.statuses:
        chosen = pc.and_(chosen, pc.is_in(rows["status"], value_set=pa.array(sorted(choice.statuses))))
    if choice.kinds:
        kinds = pc.struct_field(rows["error"], "kind")
        chosen = pc.and_(chosen, pc.is_in(kinds, value_set=pa.array(sorted(choice.kinds))))
    return chosen


def _samples(row: dict[str, Any], replaced: bool) -> list[int] | None:
    """Those without a valid answer; all of a row that is ok, or another one now."""
    if row["samples"] is None or replaced or row["status"] == "ok":
        return None
    return [number for number, sample in enumerate(row["samples"]) if sample["status"] != "ok"] or None


def _inside(chosen: pa.Table, entry: ShardPlan) -> pa.Table:
    """Those of a shard of round 0."""
    index, bounds = chosen["index"], (entry.first_index, entry.first_index + entry.rows)
    start, stop = (bisect_left(range(len(index)), bound, key=lambda at: index[at].as_py()) for bound in bounds)
    return chosen.slice(start, stop - start)


def _blocks(
    files: RunFiles, plan: list[ShardPlan], sources: list[int], chosen: pa.Table, contents: list[_Contents]
) -> Iterator[tuple[int, pa.RecordBatch]]:
    for source in sources:
        entry = plan[source]
        for block in marked(files, entry, _inside(chosen, entry)):
            rows = block
            for content in contents:  # the newest last
                rows = content.put_into(rows)
            yield source, rows
