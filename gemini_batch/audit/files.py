"""The files of one shard, read again from the first byte to the last. Runs in a process of the CPU pool.

In: local paths. Out: `Files`, counts only. Lines are placed by the keys that the run must have sent, and not by the
code that made the part, whose mistakes would otherwise be made here again.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch.audit.compare import differing, file_sha256, indices, more, or_damaged, read_small
from gemini_batch.audit.facts import Files, Lines, Part, Remade, Requests, Rows, Spot, Unreadable
from gemini_batch.gemini.wire import Answer, line_key, read_answer
from gemini_batch.jobs.encode import EncodeTask, encode
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


@dataclass(frozen=True)
class Said:
    """What a row's line says, its text as a hash."""

    status: str
    text: int


def examine(task: FilesTask) -> Files:
    """Read everything that a shard has left."""
    rows, keys = _pair(_if_there(task.rows, lambda path: _rows(task.plan, path)))
    requests, record = _pair(_if_there(task.requests, lambda path: _requests(task.plan, path)))
    if isinstance(requests, Requests) and isinstance(rows, Rows):
        remade = or_damaged(lambda: _remade(task, record))
        if isinstance(remade, Unreadable):
            rows = remade
        else:
            requests = replace(requests, remade=remade[0], unlike=remade[1])
    digests = None if record is None else record["request_digest"]
    lines, said = _pair(None if digests is None else or_damaged(lambda: _lines(task, digests)))
    part = _if_there(task.part, lambda path: _PartReading(task, keys, digests, said).read(path))
    return Files(rows, requests, lines, part)


def _pair(read: tuple[R, D] | Unreadable | None) -> tuple[R | Unreadable | None, D | None]:
    """What was seen, and what the next step needs of it."""
    return read if isinstance(read, tuple) else (read, None)


def _if_there(path: Path | None, read: Callable[[Path], R]) -> R | Unreadable | None:
    return None if path is None else or_damaged(lambda: read(path))


# --- rows and requests ------------------------------------------------------------------------------------------------


def _rows(plan: ShardPlan, path: Path) -> tuple[Rows, pa.Array]:
    table = read_small(path, ["index", "key"])
    misplaced = more(Spot(), differing(table["index"], indices(plan.first_index, table.num_rows)), plan.first_index)
    return Rows(table.num_rows, misplaced), table["key"]


def _requests(plan: ShardPlan, path: Path) -> tuple[Requests, pa.RecordBatch]:
    table, first = read_small(path), plan.first_index
    misplaced = more(Spot(), differing(table["index"], indices(first, table.num_rows)), first)
    return Requests(table.num_rows, table["error_kind"].null_count, misplaced), table


def _remade(task: FilesTask, stored: pa.RecordBatch) -> tuple[Remade | None, Spot]:
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
        )
    )
    if encoded.to_upload:
        return None, Spot()
    again = read_small(requests)
    differs = [differing(stored[name], again[name]) for name in ("request_digest", "error_kind")]
    unlike = more(Spot(), pc.or_(*differs), task.plan.first_index)
    return Remade(encoded.sha256, encoded.size_bytes, encoded.lines), unlike


def _names_pictures(rows: Path) -> bool:
    """Whether a row's picture lies in a file of its own, which may have moved since."""
    for block in read_blocks(rows, ["parts"]):
        paths = pc.struct_field(pc.list_flatten(block.column("parts")), "path")
        if paths.null_count < len(paths):
            return True
    return False


# --- raw --------------------------------------------------------------------------------------------------------------


def _lines(task: FilesTask, digests: pa.Array) -> tuple[Lines, dict[int, Said]]:
    """Count the lines, and say what the first one of each row says."""
    nonce, first = task.nonce.encode(), task.plan.first_index
    sent = digests.is_valid().to_pylist()
    expected = {line_key(nonce, first + place, 0).decode(): place for place, was in enumerate(sent) if was}
    digest = hashlib.sha256()
    counts, said, kept = Counter[str](), dict[int, Said](), dict[int, bytes]()
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


def _place(entry: dict[str, object], expected: dict[str, int]) -> int | None:
    key = entry.get("key")
    return expected.get(key) if isinstance(key, str) else None


def _hash(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()


def _said(answer: Answer) -> Said:
    return Said(answer.status, hash(answer.text))


# --- part -------------------------------------------------------------------------------------------------------------

COLUMNS = ("index", "key", "status", "text", "error", "usage", "request_digest")


class _PartReading:
    """One pass over a part, held against whatever of the rest could be read."""

    def __init__(
        self, task: FilesTask, keys: pa.Array | None, digests: pa.Array | None, said: dict[int, Said] | None
    ) -> None:
        self._first = task.plan.first_index
        self._keys = keys
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
        at, count = self._first + self._rows, block.num_rows
        statuses = block.column("status").to_pylist()
        self._statuses.update(statuses)
        self._kinds.update(kind for kind in pc.struct_field(block.column("error"), "kind").to_pylist() if kind)
        self._tokens.update(_tokens(block.column("usage")))
        misplaced = differing(block.column("index"), indices(at, count))
        if self._keys is not None:
            misplaced = pc.or_(misplaced, differing(block.column("key"), self._keys.slice(self._rows, count)))
        self._misplaced = more(self._misplaced, misplaced, at)
        if self._digests is not None:
            differs = differing(block.column("request_digest"), self._digests.slice(self._rows, count))
            self._unlike_request = more(self._unlike_request, differs, at)
        if self._said is not None:
            self._hold_against_lines(statuses, block.column("text").to_pylist(), self._said)
        self._rows += count

    def _hold_against_lines(self, statuses: list[str], texts: list[str | None], said: dict[int, Said]) -> None:
        lines = [said.get(place) for place in range(self._rows, self._rows + len(statuses))]
        without = [status == "ok" and line is None for status, line in zip(statuses, lines, strict=True)]
        other = [_says_other(*row) for row in zip(statuses, texts, lines, strict=True)]
        at = self._first + self._rows
        self._without_line = more(self._without_line, pa.array(without), at)
        self._unlike_line = more(self._unlike_line, pa.array(other), at)


def _says_other(status: str, text: str | None, line: Said | None) -> bool:
    """Whether a row says something else than its line. What no schema accepts is `invalid`, whatever the line says."""
    if line is None:
        return text is not None
    return hash(text) != line.text or (status != line.status and (status, line.status) != ("invalid", "ok"))


def _tokens(usage: pa.Array) -> dict[str, int]:
    names = ("prompt_tokens", "output_tokens", "thoughts_tokens")
    return {name: pc.sum(pc.struct_field(usage, name)).as_py() or 0 for name in names}
