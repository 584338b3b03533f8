"""The files of one shard, read again from the first byte to the last. Runs in a process of the CPU pool.

In: local paths. Out: `Files`, counts only. Lines are placed by the keys that the run must have sent, and not by the
code that made the part, whose mistakes would otherwise be made here again.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gemini_batch.audit.compare import differing, file_sha256, indices, more, or_damaged, read_small
from gemini_batch.audit.facts import Files, Lines, Part, Remade, Requests, Rows, Spot, Unreadable
from gemini_batch.gemini.wire import Answer, line_key, read_answer
from gemini_batch.jobs.encode import EncodeTask, encode
from gemini_batch.jobs.sent import asked_samples
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
    nonce: str
    max_bytes: int
    rows: Path | None
    requests: Path | None
    raw: Path | None
    part: Path | None
    scratch: Path
    """An empty folder."""
    left_out: Mapping[int, str] = field(default_factory=dict)
    """Index -> why, of rows that were not to be sent."""


@dataclass(frozen=True)
class Frozen:
    """The shard's rows."""

    indices: pa.Array
    keys: pa.Array | None
    """None where the rows cannot be read."""
    samples: list[Sequence[int]]
    """What each asks for."""


@dataclass(frozen=True)
class Said:
    """What a sample's line says, its text as a hash."""

    status: str
    text: int


def examine(task: FilesTask) -> Files:
    """Read everything that a shard has left."""
    rows, frozen = _pair(_if_there(task.rows, lambda path: _rows(task, path)))
    frozen = _as_planned(task) if frozen is None else frozen
    requests, record = _pair(_if_there(task.requests, lambda path: _requests(frozen, path)))
    if isinstance(requests, Requests) and isinstance(rows, Rows):
        remade = or_damaged(lambda: _remade(task, frozen, record))
        if isinstance(remade, Unreadable):
            rows = remade
        else:
            requests = replace(requests, remade=remade[0], unlike=remade[1])
    lines, said = _pair(None if record is None else or_damaged(lambda: _lines(task, frozen, record)))
    digests = None if record is None else record["request_digest"]
    part = _if_there(task.part, lambda path: _PartReading(task, frozen, digests, said).read(path))
    return Files(rows, requests, lines, part)


def _pair(read: tuple[R, D] | Unreadable | None) -> tuple[R | Unreadable | None, D | None]:
    """What was seen, and what the next step needs of it."""
    return read if isinstance(read, tuple) else (read, None)


def _if_there(path: Path | None, read: Callable[[Path], R]) -> R | Unreadable | None:
    return None if path is None else or_damaged(lambda: read(path))


# --- rows and requests ------------------------------------------------------------------------------------------------


def _rows(task: FilesTask, path: Path) -> tuple[Rows, Frozen]:
    """Those of round 0 follow one another; later ones are any, rising from the first."""
    there = set(pq.read_schema(path).names)
    table = read_small(path, [name for name in ("index", "key", "samples") if name in there])
    plan = task.plan
    index, count = table["index"], table.num_rows
    if plan.round == 0:
        amiss = differing(index, indices(plan.first_index, count))
    else:
        before = pa.concat_arrays([pa.array([plan.first_index - 1], pa.int64()), index.slice(0, count - 1)])
        amiss = pc.or_(pc.less_equal(index, before), differing(index.slice(0, 1), indices(plan.first_index, count)))
    frozen = Frozen(index, table["key"], asked_samples(table, task.asked.n_samples))
    return Rows(count, more(Spot(), amiss, plan.first_index)), frozen


def _as_planned(task: FilesTask) -> Frozen:
    """What can be said of rows that cannot be read."""
    plan = task.plan
    return Frozen(indices(plan.first_index, plan.rows), None, [range(task.asked.n_samples)] * plan.rows)


def _requests(frozen: Frozen, path: Path) -> tuple[Requests, pa.RecordBatch]:
    table = read_small(path)
    index, sent = table["index"], table["error_kind"].is_null().to_pylist()
    lines = sum(len(samples) for samples, was_sent in zip(frozen.samples, sent, strict=False) if was_sent)
    return Requests(table.num_rows, lines, more(Spot(), differing(index, frozen.indices), index)), table


def _remade(task: FilesTask, frozen: Frozen, stored: pa.RecordBatch) -> tuple[Remade | None, Spot]:
    """The request lines, encoded again; None where pictures are in the way."""
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
        )
    )
    if encoded.to_upload:
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


Line = tuple[int, int]
"""Place of the row in the shard, and sample."""


def _lines(task: FilesTask, frozen: Frozen, record: pa.RecordBatch) -> tuple[Lines, dict[Line, Said]]:
    """Count the lines, and say what the first one of each sample says."""
    nonce, index = task.nonce.encode(), record["index"].to_pylist()
    sent = zip(frozen.samples, record["error_kind"].is_null().to_pylist(), strict=False)
    lines = [(place, sample) for place, (samples, was) in enumerate(sent) if was for sample in samples]
    expected = {line_key(nonce, index[line[0]], line[1]).decode(): line for line in lines}
    digest = hashlib.sha256()
    counts, said, kept = Counter[str](), dict[Line, Said](), dict[Line, bytes]()
    for line in _raw_lines(task.raw, digest.update) if task.raw else ():
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


def _place(entry: dict[str, object], expected: dict[str, Line]) -> Line | None:
    key = entry.get("key")
    return expected.get(key) if isinstance(key, str) else None


def _hash(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()


def _said(answer: Answer) -> Said:
    return Said(answer.status, hash(answer.text))


# --- part -------------------------------------------------------------------------------------------------------------

COLUMNS = ("index", "key", "status", "text", "error", "usage", "request_digest", "samples")


class _PartReading:
    """One pass over a part, held against whatever of the rest could be read."""

    def __init__(
        self, task: FilesTask, frozen: Frozen, digests: pa.Array | None, said: dict[Line, Said] | None
    ) -> None:
        self._one = task.asked.n_samples == 1
        self._frozen = frozen
        self._digests = digests
        self._said = said
        self._rows = 0
        self._statuses, self._kinds, self._tokens = Counter[str](), Counter[str](), Counter[str]()
        self._misplaced, self._unlike_request = Spot(), Spot()
        self._without_line, self._unlike_line = Spot(), Spot()

    def read(self, path: Path) -> Part:
        for block in read_blocks(path, COLUMNS):
            self._take(block)
        return Part(
            sha256=file_sha256(path),
            rows=self._rows,
            by_status=dict(self._statuses),
            by_kind=dict(self._kinds),
            prompt_tokens=self._tokens["prompt_tokens"],
            output_tokens=self._tokens["output_tokens"],
            thoughts_tokens=self._tokens["thoughts_tokens"],
            misplaced=self._misplaced,
            unlike_request=self._unlike_request,
            without_line=self._without_line,
            unlike_line=self._unlike_line,
        )

    def _take(self, block: pa.RecordBatch) -> None:
        count, own, frozen = block.num_rows, block.column("index"), self._frozen
        self._statuses.update(block.column("status").to_pylist())
        self._kinds.update(kind for kind in pc.struct_field(block.column("error"), "kind").to_pylist() if kind)
        self._tokens.update(_tokens(block.column("usage")))
        misplaced = differing(own, frozen.indices.slice(self._rows, count))
        if frozen.keys is not None:
            misplaced = pc.or_(misplaced, differing(block.column("key"), frozen.keys.slice(self._rows, count)))
        self._misplaced = more(self._misplaced, misplaced, own)
        if self._digests is not None:
            differs = differing(block.column("request_digest"), self._digests.slice(self._rows, count))
            self._unlike_request = more(self._unlike_request, differs, own)
        if self._said is not None:
            self._hold_against_lines(block, self._said)
        self._rows += count

    def _hold_against_lines(self, block: pa.RecordBatch, said: dict[Line, Said]) -> None:
        held = _single(block) if self._one else _several(block)
        without, other = list[bool](), list[bool]()
        for place, samples in enumerate(held, self._rows):
            lines = [said.get((place, number)) for number, _, _ in samples]
            pairs = list(zip(samples, lines, strict=True))
            without.append(any(status == "ok" and line is None for (_, status, _), line in pairs))
            other.append(any(_says_other(status, text, line) for (_, status, text), line in pairs))
        index = block.column("index")
        self._without_line = more(self._without_line, pa.array(without), index)
        self._unlike_line = more(self._unlike_line, pa.array(other), index)


Held = tuple[int, str, str | None]
"""A sample of a row: its number, status and text."""


def _single(block: pa.RecordBatch) -> list[list[Held]]:
    rows = zip(block.column("status").to_pylist(), block.column("text").to_pylist(), strict=True)
    return [[(0, status, text)] for status, text in rows]


def _several(block: pa.RecordBatch) -> list[list[Held]]:
    """The row's own text is one of theirs, which is looked at as if it were a sample that no line answers."""
    rows = zip(block.column("samples").to_pylist(), block.column("text").to_pylist(), strict=True)
    held = [([(one["sample"], one["status"], one["text"]) for one in samples or ()], text) for samples, text in rows]
    return [
        samples if text is None or any(text == known for _, _, known in samples) else [*samples, (-1, "ok", text)]
        for samples, text in held
    ]


def _says_other(status: str, text: str | None, line: Said | None) -> bool:
    """Whether a row says something else than its line. What no schema accepts is `invalid`, whatever the line says."""
    if line is None:
        return text is not None
    return hash(text) != line.text or (status != line.status and (status, line.status) != ("invalid", "ok"))


def _tokens(usage: pa.Array) -> dict[str, int]:
    names = ("prompt_tokens", "output_tokens", "thoughts_tokens")
    return {name: pc.sum(pc.struct_field(usage, name)).as_py() or 0 for name in names}
