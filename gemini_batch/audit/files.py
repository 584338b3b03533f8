"""The files of one shard, read again from the first byte to the last. Runs in a process of the CPU pool.

In: local paths. Out: `Files`, counts only. Lines are placed by the keys that the run must have sent, and not by the
code that made the part, whose mistakes would otherwise be made here again.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch.audit.compare import differing, indices, more, or_damaged, read_small
from gemini_batch.audit.facts import Files, Lines, Remade, Requests, Rows, Spot, Unreadable
from gemini_batch.audit.part import Frozen, PartReading, Place, Said, Sent
from gemini_batch.gemini.wire import Answer, line_key, read_answer
from gemini_batch.jobs.encode import GIVEN_UP, EncodeTask, encode
from gemini_batch.jobs.sent import Samples, asked_samples
from gemini_batch.parquet import read_blocks
from gemini_batch.records import Asked, ShardPlan

R = TypeVar("R")
D = TypeVar("D")

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class FilesTask:
    """Paths are None where there is no file."""

    plan: ShardPlan
    asked: Asked
    """Of this shard: a later round may have other settings."""
    nonce: str
    max_bytes: int
    rows: Path | None
    requests: Path | None
    raw: Path | None
    part: Path | None
    scratch: Path
    """An empty folder."""
    left_out: Mapping[int, str] = field(default_factory=dict)
    """Index -> why, of rows that were not sent because a create had been refused for them."""
    was_bought: bool = True
    """Whether the service took the shard's create, as far as its rows are told."""
    was_cancelled: bool = False
    """Whether anyone ever cancelled the run."""
    allow_http: bool = False
    """Whether the run was ever allowed to fetch pictures by http(s)."""


def examine(task: FilesTask) -> Files:
    """Read everything that a shard has left."""
    rows, frozen = _pair(_if_there(task.rows, lambda path: _rows(task, path)))
    requests, record = _pair(_if_there(task.requests, lambda path: _requests(task.plan, path, frozen)))
    if isinstance(requests, Requests) and isinstance(rows, Rows):
        remade = or_damaged(lambda: _remade(task, record))
        if isinstance(remade, Unreadable):
            rows = remade
        else:
            requests = replace(requests, remade=remade[0], unlike=remade[1])
    sent = None if record is None else Sent(record["request_digest"], _sent(frozen, record))
    indices = None if frozen is None else frozen.index.to_pylist()
    lines, said = _pair(None if sent is None or indices is None else or_damaged(lambda: _lines(task, indices, sent)))
    reading = PartReading(task.asked, task.was_bought, task.plan, frozen, sent, said)
    part = _if_there(task.part, reading.read)
    return Files(rows, requests, lines, part)


def _pair(read: tuple[R, D] | Unreadable | None) -> tuple[R | Unreadable | None, D | None]:
    """What was seen, and what the next step needs of it."""
    return read if isinstance(read, tuple) else (read, None)


def _if_there(path: Path | None, read: Callable[[Path], R]) -> R | Unreadable | None:
    return None if path is None else or_damaged(lambda: read(path))


# --- rows and requests ------------------------------------------------------------------------------------------------


def _rows(task: FilesTask, path: Path) -> tuple[Rows, Frozen]:
    plan, table = task.plan, read_small(path, ["index", "key"], ["samples", "attempts", "was", "valid"])
    index, asked = table["index"], asked_samples(table, task.asked.n_samples)
    misplaced = more(Spot(), _misplaced(plan, task.asked.rows, index), index)
    misasked = pa.array([not _are_samples(samples, task.asked.n_samples) for samples in asked], pa.bool_())
    was = None if plan.round == 0 else table["was"].to_pylist()
    unanswered = None if was is None else sum(status != "ok" for status in was)
    frozen = Frozen(index, table["key"], asked, _before(table, "attempts"), was, _before(table, "valid"))
    return Rows(table.num_rows, misplaced, more(Spot(), misasked, index), unanswered), frozen


def _misplaced(plan: ShardPlan, rows: int, index: pa.Array) -> pa.Array:
    """Rows of a plan of round 0 follow one another; later ones are any of the manifest, rising from the first."""
    if plan.round == 0:
        return differing(index, indices(plan.first_index, len(index)))
    before = pa.concat_arrays([pa.array([plan.first_index - 1], pa.int64()), index.slice(0, len(index) - 1)])
    first = differing(index, pa.concat_arrays([pa.array([plan.first_index], pa.int64()), index.slice(1)]))
    return pc.or_(first, pc.or_(pc.less_equal(index, before), pc.greater_equal(index, rows)))


def _are_samples(samples: Samples, count: int) -> bool:
    return bool(samples) and list(samples) == sorted({sample for sample in samples if 0 <= sample < count})


def _before(table: pa.RecordBatch, name: str) -> list[int]:
    """What a column of later rounds says; 0 where there is none."""
    return table[name].to_pylist() if name in table.schema.names else [0] * table.num_rows


def _requests(plan: ShardPlan, path: Path, frozen: Frozen | None) -> tuple[Requests, pa.RecordBatch]:
    table, first = read_small(path), plan.first_index
    places = indices(first, table.num_rows) if plan.round == 0 else frozen and frozen.index
    misplaced = more(Spot(), differing(table["index"], places), table["index"]) if places else Spot()
    samples = _sent(frozen, table)
    return Requests(table.num_rows, None if samples is None else sum(map(len, samples)), misplaced), table


def _sent(frozen: Frozen | None, requests: pa.RecordBatch) -> list[Samples] | None:
    """Samples that have a line, of each row."""
    if frozen is None:
        return None
    kinds = [*requests["error_kind"].to_pylist(), *[""] * len(frozen.samples)]
    return [() if kind is not None else samples for samples, kind in zip(frozen.samples, kinds, strict=False)]


GIVEN_UP_KINDS = pa.array([GIVEN_UP, "invalid_argument"])
"""Of rows that nobody tried to send, because the run was cancelled, or any more."""


def _remade(task: FilesTask, stored: pa.RecordBatch) -> tuple[Remade | None, Spot]:
    """The request lines, encoded again; None where pictures are in the way."""
    if task.was_cancelled and stored.num_rows and pc.all(pc.is_in(stored["error_kind"], GIVEN_UP_KINDS)).as_py():
        return None, Spot()  # nothing was encoded
    if task.rows is None or _names_pictures(task.rows):
        return None, Spot()
    requests = task.scratch / "requests.parquet"
    encoded = encode(
        EncodeTask(
            asked=task.asked,
            nonce=task.nonce,
            roots=(),
            max_bytes=task.max_bytes,
            rows=task.rows,
            lines=Path(os.devnull),
            requests=requests,
            media=task.scratch / "media",
            left_out=task.left_out,
            allow_http=task.allow_http,
        )
    )
    if encoded.to_upload or encoded.to_fetch:
        return None, Spot()
    again = read_small(requests)
    differs = [differing(stored[name], again[name]) for name in ("request_digest", "error_kind")]
    unlike = more(Spot(), pc.or_(*differs), stored["index"])
    return Remade(encoded.sha256, encoded.size_bytes, encoded.lines), unlike


def _names_pictures(rows: Path) -> bool:
    """Whether a row's picture lies in a file of its own, which may have moved since."""
    for block in read_blocks(rows, ["parts"]):
        paths = pc.struct_field(pc.list_flatten(block.column("parts")), "path")
        if paths.null_count < len(paths):
            return True
    return False


# --- raw --------------------------------------------------------------------------------------------------------------


def _lines(task: FilesTask, index: list[int], sent: Sent) -> tuple[Lines, dict[Place, Said]]:
    """Count the lines, and say what the first one of each sample says."""
    nonce, digest = task.nonce.encode(), hashlib.sha256()
    expected = {
        line_key(nonce, index[row], sample).decode(): (row, sample)
        for row, samples in enumerate(sent.samples or ())
        for sample in samples
    }
    counts, said, kept = Counter[str](), dict[Place, Said](), dict[Place, bytes]()

    def seen(chunk: bytes) -> None:
        digest.update(chunk)
        counts["raw_bytes"] += len(chunk)

    for line in _raw_lines(task.raw, seen) if task.raw else ():
        counts["received"] += 1
        entry = _parsed(line)
        place = None if entry is None else _place(entry, expected)
        if entry is None:
            counts["broken"] += 1
        elif place is None:
            counts["foreign"] += 1
        elif place in kept:
            counts["duplicate"] += 1
            counts["conflicting"] += kept[place] != _hash(line)
        else:
            kept[place] = _hash(line)
            said[place] = _said(read_answer(entry))
    missing = len(expected) - len(said)
    return Lines(digest.hexdigest() if task.raw else None, missing=missing, **counts), said


def _raw_lines(raw: Path, seen: Callable[[bytes], object]) -> Iterator[bytes]:
    """Lines that are not blank, split at line feeds only."""
    rest = b""
    with pa.CompressedInputStream(str(raw), "zstd") as source:
        while chunk := source.read(CHUNK_BYTES):
            seen(chunk)
            *whole, rest = (rest + chunk).split(b"\n")
            yield from (line for line in whole if line.strip())
    if rest.strip():
        yield rest


def _parsed(line: bytes) -> dict[str, object] | None:
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) else None


def _place(entry: dict[str, object], expected: dict[str, Place]) -> Place | None:
    key = entry.get("key")
    return expected.get(key) if isinstance(key, str) else None


def _hash(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()


def _said(answer: Answer) -> Said:
    return Said(answer.status, hash(answer.text))
