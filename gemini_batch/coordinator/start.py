"""A run begins: the manifest is read, weighed, split; its rows are frozen; `run.json` is written last.

In: a manifest and what is asked. Out: a run directory that holds all a worker needs. Nothing is written before the
whole manifest has been read without a complaint, and nothing here talks to the service. Several may begin one run at
once: the plan is created once, rows are frozen as it says by each, and the first `run.json` stays.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from gemini_batch import rundir
from gemini_batch._version import __version__
from gemini_batch.clock import Clock, new_nonce
from gemini_batch.coordinator.content import Content
from gemini_batch.coordinator.differ import differences
from gemini_batch.coordinator.freeze import Freezer, frozen
from gemini_batch.coordinator.keys import KeySpool, first_duplicate
from gemini_batch.coordinator.manifest import Manifest
from gemini_batch.coordinator.measure import Scale
from gemini_batch.coordinator.plan import Retracer, Splitter
from gemini_batch.errors import BadInput
from gemini_batch.gemini.roots import MediaRoots
from gemini_batch.ledger.probe import PROBE
from gemini_batch.ledger.run import RunFiles
from gemini_batch.ledger.store import Store
from gemini_batch.parquet import Writer
from gemini_batch.records import Asked, Limits, RunRecord, ShardPlan

NONCE_BYTES = 8

DEBRIS = {"shards", rundir.PLAN, ".scratch", ".lock"}
"""What a submit leaves that died before `run.json`. Anything else is someone's, a ledger without its run above all."""

PLANNED = pa.schema(
    [
        *((name, pa.int64()) for name in ("shard", "first_index", "rows", "requests", "request_bytes", "tokens")),
        ("round", pa.int32()),
        ("frozen", pa.string()),
        ("sources", pa.list_(pa.int32())),
        ("refusals", pa.int32()),
        ("settings", pa.string()),
        ("replaced", pa.bool_()),
        ("asked_for", pa.bool_()),
        ("unanswered", pa.int64()),
    ]
)
"""Columns of a plan."""


@dataclass(frozen=True)
class Plan:
    """A whole manifest, weighed and split."""

    shards: list[ShardPlan]
    rows_digest: str
    content: str = field(compare=False)
    """The digest of this reading, as of any other of the same files."""
    empty: dict[str, int] = field(default_factory=dict)
    """Of columns that a template names, rows in which they are null."""

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)

    def totals(self) -> dict[str, int]:
        names = ("rows", "requests", "request_bytes", "tokens")
        return {"shards": len(self.shards)} | {name: sum(getattr(s, name) for s in self.shards) for name in names}


def scan(manifest: Manifest, asked: Asked, roots: tuple[Path, ...], limits: Limits) -> Plan:
    """Read a manifest once, as a stream, and split it.

    Args:
        asked: for the size of a request line; its rows and their digest are not looked at.

    Raises:
        BadInput: no rows, a key that occurs twice, or whatever the manifest says of itself.
    """
    scale = Scale(asked, "0" * 2 * NONCE_BYTES, roots, limits.max_bytes_per_shard)
    splitter, content = Splitter(limits), Content()
    digest, shards = hashlib.sha256(), list[ShardPlan]()
    rows = 0
    with KeySpool() as spool:
        for block in manifest.blocks():
            if "key" in block.schema.names:
                spool.add(block.column("key").to_pylist())
            measured = scale.weigh(block, rows)
            digest.update(measured.identity)
            content.add(block)
            shards += [cut.full for cut in splitter.feed(measured.weights) if cut.full]
            rows += block.num_rows
        if rows == 0:
            raise BadInput(f"manifest {manifest.name} has no rows")
        empty = manifest.empty  # another reading begins anew
        _refuse_duplicates(manifest, spool.suspects())
    last = splitter.finish()
    return Plan([*shards, last] if last else shards, digest.hexdigest(), content.digest, dict(+empty))


def _refuse_duplicates(manifest: Manifest, suspects: set[int]) -> None:
    if suspects and (found := first_duplicate(_keys(manifest), suspects)):
        key, first, second = found
        rows = f"{manifest.place_of(first)} and {manifest.place_of(second)}"
        column = manifest.columns.key
        raise BadInput(
            f"manifest {manifest.name}, column {column!r}: key {key!r} stands on rows {rows}; keys must be unique"
        )


def _keys(manifest: Manifest) -> Iterator[str]:
    for block in manifest.blocks():
        yield from block.column("key").to_pylist()


def begin(
    files: RunFiles,
    manifest: Manifest,
    asked: Asked,
    plan: Plan,
    roots: tuple[Path, ...],
    limits: Limits,
    run_id: str,
    clock: Clock,
    keep: tuple[str, ...] = (),
    broker: str | None = None,
) -> None:
    """Make the run in a directory. If another coordinator is first, its plan and its `run.json` stay.

    Args:
        broker: of the fleet that it is for, as people may see it.

    Raises:
        BadInput: the directory holds something else, or the manifest changed since it was planned.
    """
    store = files.store
    refuse_foreign(store)
    store.sweep_scratch()
    shards = _settle_plan(files, plan.shards, _plan_marks(asked, keep))
    if _freeze(store, manifest, shards) != plan.content:
        raise BadInput(f"manifest {manifest.name} changed while it was being read; submit again")
    record = RunRecord(
        run_id=run_id,
        nonce=new_nonce(NONCE_BYTES),
        created_at=clock.now(),
        version=__version__,
        manifest=manifest.name,
        media_roots=tuple(str(root) for root in (roots.recorded if isinstance(roots, MediaRoots) else roots)),
        asked=asked,
        limits=limits,
        shards=len(shards),
        keep=keep,
        broker=broker,
        columns=manifest.columns.recorded(),
    )
    _create_record(files, record)


def identity_digest(asked: Asked) -> str:
    """What makes two runs the same question, in 64 hex digits."""
    return hashlib.sha256(orjson.dumps(asked.identity(), option=orjson.OPT_SORT_KEYS)).hexdigest()


def _plan_marks(asked: Asked, keep: tuple[str, ...]) -> dict[bytes, bytes]:
    """What makes two submits freeze the same rows: what is asked, and what is kept beside it."""
    marks = {b"identity": identity_digest(asked).encode()}
    return {**marks, b"keep": orjson.dumps(keep)} if keep else marks


def _create_record(files: RunFiles, record: RunRecord) -> None:
    """Create `run.json`, once. After an error it is read back: the store may have taken it, or another's before."""
    try:
        files.store.create(rundir.RUN, record.model_dump_json(indent=1).encode())
    except OSError:
        if files.record() is None:
            raise


def refuse_other(record: RunRecord, asked: Asked, where: str) -> None:
    """Raise if the run in a directory asks for something else.

    Raises:
        BadInput: names each field that differs, old and new.
    """
    if differing := differences(record.asked, asked):
        said = "".join(f"\n  {text}" for text in differing)
        raise BadInput(f"{where} holds another run; give another --out, or repeat what it asked:{said}")


def other_columns(record: RunRecord, keep: tuple[str, ...], where: str) -> str | None:
    """What to say of a run that keeps other columns than is asked now: it was paid for as it is, so it is no other."""
    if record.keep == keep:
        return None
    kept = ",".join(record.keep) or "(nothing)"
    return f"{where} was begun with --keep {kept}, and its dataset stays so; --fresh or another --out buys anew"


def refuse_foreign(store: Store) -> None:
    """Raise if a directory without a run holds anything that is not ours.

    Raises:
        BadInput: names it.
    """
    foreign = [name for name in store.names("") if name not in DEBRIS and not name.startswith(PROBE)]
    if foreign and not store.exists(rundir.RUN):
        raise BadInput(
            f"{store.url} has no {rundir.RUN} but holds {foreign[0]!r}; restore {rundir.RUN}, or give a new directory"
        )


def _settle_plan(files: RunFiles, shards: list[ShardPlan], marks: dict[bytes, bytes]) -> list[ShardPlan]:
    """Create the plan, once. One that is there already holds, whatever limits it was made by: who made it may still be
    freezing rows. Only under a lock it is certainly debris.

    Raises:
        BadInput: the one that is there is for another question.
    """
    store = files.store
    if store.is_held():
        store.delete(rundir.PLAN)
    if store.create(rundir.PLAN, plan_file(store, shards, marks)):
        return shards
    with store.local(rundir.PLAN) as path:
        theirs = pq.read_schema(path).metadata or {}
    if any(theirs.get(name) != marks.get(name) for name in (b"identity", b"keep")):
        raise BadInput(
            f"{store.url} holds the plan of another submit, which died or is still planning; give a new directory, or "
            "delete what lies there"
        )
    return files.plan()


def plan_file(store: Store, shards: list[ShardPlan], metadata: dict[bytes, bytes]) -> bytes:
    """The bytes of a plan object."""
    table = pa.Table.from_pylist([shard.model_dump() for shard in shards], PLANNED)
    with store.scratch("plan.parquet") as scratch:
        with Writer(scratch, table.schema.with_metadata(metadata)) as writer:
            writer.write(table)
        return scratch.read_bytes()


def _freeze(store: Store, manifest: Manifest, shards: list[ShardPlan]) -> str:
    """Write the rows of each shard to an object of its own. Returns the digest of what was read."""
    retracer, content, rows = Retracer(shards), Content(), 0
    with Freezer(store, rundir.rows_of) as freezer:
        for block in manifest.blocks():
            content.add(block)
            for cut in retracer.feed(block.num_rows):
                freezer.take(frozen(block.slice(cut.start, cut.stop - cut.start), rows + cut.start), cut)
            rows += block.num_rows
    return content.digest
