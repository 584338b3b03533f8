"""A later round: rows of earlier shards are packed into new ones, and a plan that names them is created once.

In: batches of rows to take. Out: `plan-0001.parquet` and so on, written last; the rows of its shards lie in objects of
their own. Several may plan one round at once: one plan is created, the rows that others wrote are named by nobody.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch import rundir
from gemini_batch.budget import sized
from gemini_batch.coordinator.freeze import Freezer
from gemini_batch.coordinator.measure import Scale
from gemini_batch.coordinator.plan import Splitter
from gemini_batch.coordinator.repair import Batch, Pick
from gemini_batch.coordinator.start import plan_file
from gemini_batch.errors import RunStopped
from gemini_batch.gemini.roots import media_roots
from gemini_batch.ledger.run import RunFiles
from gemini_batch.parquet import read_own_blocks, read_own_table
from gemini_batch.records import Limits, RunRecord, ShardPlan

OUTCOME = ("index", "status", "error", "attempts", "n_valid", "samples", "request_digest")
"""Columns of a part that say what became of a row."""

NOT_OK = ("failed", "blocked", "truncated", "invalid")


@dataclass(frozen=True)
class Chosen:
    """Rows that go into one shard after another."""

    sources: tuple[int, ...]
    blocks: Iterator[tuple[int, pa.RecordBatch]]
    """Rows as shards freeze them, with what became of them, by the shard they are from."""
    max_requests: int
    refusals: int = 0
    settings: str | None = None
    replaced: bool = False
    """Whether a person gives them new content: what they were answered before does not count for it."""
    mark: str = ""
    """What tells the rows from others of the same sources."""


def plan_batches(
    files: RunFiles,
    run: RunRecord,
    limits: Limits,
    batches: tuple[Batch, ...],
    plan: Sequence[ShardPlan],
    roots: Sequence[Path] | None = None,
) -> bool:
    """Create the next round of these batches. False when another process was first.

    Args:
        plan: by which the batches were decided.
        roots: where pictures lie here; by default as the run records it.

    Raises:
        RunStopped: a file of the run is damaged.
        OSError: the store cannot take it now.
    """
    least = run.asked.min_valid
    chosen = [Chosen(b.sources, _taken(files, plan, b, least), b.max_requests, b.refusals, b.settings) for b in batches]
    return plan_round(files, run, limits, chosen, "repair", plan, roots)


def plan_round(
    files: RunFiles,
    run: RunRecord,
    limits: Limits,
    chosen: list[Chosen],
    cause: str,
    plan: Sequence[ShardPlan],
    roots: Sequence[Path] | None = None,
) -> bool:
    """Create the next round. False when another process was first.

    Args:
        plan: by which the rows were chosen. The round is the one after it, never a later one: a round that another
            process plans meanwhile may hold the same rows.
        roots: where pictures lie here; by default as the run records it.

    Raises:
        RunStopped: there is no row to take, or a file of the run is damaged.
        OSError: the store cannot take it now.
    """
    found = media_roots(run.media_roots) if roots is None else roots
    packing = _Packing(files, run, limits, plan, found, asked_for=cause == "retry")
    for batch in chosen:
        packing.pack(batch)
    if not packing.shards:
        raise RunStopped(f"{files.store.url}: the rows that are to be bought again are not in its parts")
    name = rundir.plan_of(packing.round)
    created = files.store.create(name, plan_file(files.store, packing.shards, {b"cause": cause.encode()}))
    files.reread_plan()
    return created


class _Packing:
    """Fills the shards of one round."""

    def __init__(
        self,
        files: RunFiles,
        run: RunRecord,
        limits: Limits,
        plan: Sequence[ShardPlan],
        roots: Sequence[Path],
        asked_for: bool,
    ) -> None:
        self._roots = roots
        self._files, self._run, self._limits = files, run, limits
        self._first, self._asked_for = len(plan), asked_for
        self.round = plan[-1].round + 1
        self.shards: list[ShardPlan] = []

    def pack(self, batch: Chosen) -> None:
        asked = self._run.asked.model_copy(update=orjson.loads(batch.settings) if batch.settings else {})
        most = max(self._run.limits.max_bytes_per_shard, self._limits.max_bytes_per_shard)
        scale = Scale(asked, self._run.nonce, self._roots, most)
        limits = self._limits.model_copy(update={"max_requests_per_shard": batch.max_requests})
        splitter = Splitter(sized(limits, asked, self._run.created_at))
        digest = self._digest(batch)
        names: list[str] = []
        filled, seen = _Filled(), len(self.shards)

        def name_of(number: int) -> str:
            names.append(rundir.again_of(self._first + seen + number, digest))
            return names[-1]

        def close(entry: ShardPlan) -> None:
            nonlocal filled
            self.shards.append(self._entry(entry, filled, names[-1], batch))
            filled = _Filled()

        last_index = -1
        with Freezer(self._files.store, name_of) as freezer:
            for source, block in batch.blocks:
                first_index, before = block.column("index")[0].as_py(), last_index
                last_index = block.column("index")[-1].as_py()
                if first_index <= before and (last := splitter.finish()):
                    freezer.close()  # the rows of a shard rise: no row is in it twice
                    close(last)
                weights = scale.weigh(block, last_index).weights
                for cut in splitter.feed(weights):
                    rows = block.slice(cut.start, cut.stop - cut.start)
                    filled.add(source, rows)
                    freezer.take(rows, cut)
                    if cut.full:
                        close(cut.full)
            if last := splitter.finish():
                freezer.close()
                close(last)
        self._account_for(batch, seen)

    def _digest(self, batch: Chosen) -> str:
        """The same for whoever plans the same round of the same rows."""
        limits = self._limits.model_dump()
        said = [self.round, batch.sources, batch.max_requests, batch.refusals, batch.settings, batch.mark, limits]
        return hashlib.sha256(orjson.dumps(said)).hexdigest()[:12]

    def _entry(self, entry: ShardPlan, filled: "_Filled", name: str, batch: Chosen) -> ShardPlan:
        return entry.model_copy(
            update={
                "shard": self._first + len(self.shards),
                "first_index": filled.first_index,
                "round": self.round,
                "frozen": name,
                "sources": tuple(filled.sources),
                "refusals": batch.refusals,
                "settings": batch.settings,
                "replaced": batch.replaced,
                "asked_for": self._asked_for,
                "unanswered": filled.unanswered,
            }
        )

    def _account_for(self, batch: Chosen, seen: int) -> None:
        """Name every source: one whose rows are not there any more is not asked for them again and again."""
        ours = self.shards[seen:]
        silent = set(batch.sources) - {source for entry in ours for source in entry.sources}
        if ours and silent:
            first = ours[0]
            self.shards[seen] = first.model_copy(update={"sources": (*first.sources, *sorted(silent))})


class _Filled:
    """What has gone into the open shard."""

    def __init__(self) -> None:
        self.sources: dict[int, None] = {}
        self.first_index = -1
        self.unanswered = 0

    def add(self, source: int, rows: pa.RecordBatch) -> None:
        if not rows.num_rows:
            return
        self.sources[source] = None
        if self.first_index < 0:
            self.first_index = rows.column("index")[0].as_py()
        self.unanswered += rows.num_rows - (pc.sum(pc.equal(rows.column("was"), "ok")).as_py() or 0)


# --- which rows -------------------------------------------------------------------------------------------------------


def _taken(
    files: RunFiles, plan: Sequence[ShardPlan], batch: Batch, min_valid: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    for source, pick in batch.picks:
        for block in rows_again(files, plan[source], pick, min_valid):
            yield source, block


def rows_again(files: RunFiles, entry: ShardPlan, pick: Pick, min_valid: int = 1) -> Iterator[pa.RecordBatch]:
    """The rows of a shard that are to be bought again, with the samples that are wanted of each.

    Args:
        min_valid: samples that have to be valid for a row to be answered.

    Raises:
        RunStopped: a file of the run is damaged.
    """
    with files.store.local(rundir.part_of(entry.shard)) as path:
        outcome = read_own_table(path, list(OUTCOME))
    wanted, samples = _wanted(outcome, pick)
    if not any(wanted):
        return
    chosen = pa.array(wanted)
    outcome = outcome.append_column("wanted", pa.array(samples, pa.list_(pa.int32()))).filter(chosen)
    yield from marked(files, entry, outcome, min_valid)


def marked(files: RunFiles, entry: ShardPlan, outcome: pa.Table, min_valid: int = 1) -> Iterator[pa.RecordBatch]:
    """Frozen rows of a shard, those of which `outcome` has one, with what became of them.

    Args:
        outcome: `index`, `status`, `attempts`, `n_valid`, and `wanted`, the samples to ask for; ordered as the shard's
            rows.
    """
    place = 0
    with files.store.local(entry.frozen or rundir.rows_of(entry.shard)) as path:
        for block in read_own_blocks(path):
            rows = block.filter(pc.is_in(block.column("index"), value_set=outcome["index"]))
            if not rows.num_rows:
                continue
            said = outcome.slice(place, rows.num_rows).combine_chunks()
            place += rows.num_rows
            yield _marked(rows, said, None if entry.replaced else min_valid)


def _marked(rows: pa.RecordBatch, said: pa.Table, min_valid: int | None) -> pa.RecordBatch:
    """`min_valid` is None where nothing from before these rows were bought counts."""
    was: Any = said["status"].combine_chunks()
    valid: Any = said["n_valid"].combine_chunks()
    if "was" in rows.schema.names and min_valid is not None:  # its part knows only the samples that it bought
        valid = pc.add(valid, rows.column("valid"))
        answered = pc.or_(pc.equal(rows.column("was"), "ok"), pc.greater_equal(valid, min_valid))
        was = pc.if_else(answered, "ok", was)
    fixed = ("index", "key", "prompt", "parts", "system_instruction")
    return pa.record_batch(
        {
            **{name: rows.column(name) for name in fixed},
            "samples": said["wanted"].combine_chunks(),
            "attempts": said["attempts"].combine_chunks().cast(pa.int32()),
            "was": was,
            "valid": valid.cast(pa.int32()),
        }
    )


def _wanted(outcome: pa.Table, pick: Pick) -> tuple[list[bool], list[list[int] | None]]:
    """Of each row, whether it is wanted, and which of its samples: None for all it has."""
    attempts = outcome["attempts"].to_pylist()
    if pick.refused:
        sent = outcome["request_digest"].is_valid().to_pylist()
        kinds = pc.struct_field(outcome["error"], "kind").to_pylist()
        chosen = [was_sent and kind == "invalid_argument" for was_sent, kind in zip(sent, kinds, strict=True)]
        samples = _numbers(outcome["samples"], lambda _sample, _at: True)
        return chosen, samples
    if outcome["samples"].null_count == outcome.num_rows:
        kinds = pc.struct_field(outcome["error"], "kind").to_pylist()
        return [pair in pick.kinds for pair in zip(kinds, attempts, strict=True)], [None] * outcome.num_rows
    samples = _numbers(outcome["samples"], lambda sample, at: (sample["error_kind"], attempts[at]) in pick.kinds)
    return [bool(numbers) for numbers in samples], samples


def _numbers(column: pa.ChunkedArray, wanted: Any) -> list[list[int] | None]:
    """Per row the numbers of the samples that are wanted; None where rows have but one."""
    return [
        None if samples is None else [sample["sample"] for sample in samples if wanted(sample, at)]
        for at, samples in enumerate(column.to_pylist())
    ]
