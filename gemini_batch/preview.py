"""What a manifest would become, before anything is bought: its first request lines, and the rows that would fail.

In: a manifest and what is asked of it. Out: lines as they would be sent, pictures abbreviated; rows with their reason.
Pictures are opened, and fetched where they lie elsewhere; nothing is sent to the service.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from gemini_batch.clock import Clock
from gemini_batch.coordinator.freeze import frozen
from gemini_batch.coordinator.manifest import Manifest
from gemini_batch.errors import BadInput
from gemini_batch.jobs.encode import EncodeTask, Encoding
from gemini_batch.jobs.fetch import fetch_media
from gemini_batch.parts import is_kept
from gemini_batch.records import Asked

NONCE = "0" * 16
"""A run's own is drawn when it begins."""

ROWS_AT_ONCE = 64
"""Whose pictures are on disk at once, where they are fetched."""

BASE64 = re.compile(rb'"data":"([A-Za-z0-9+/=]*)"')


@dataclass(frozen=True)
class Sight:
    """How the rows of a manifest are looked at."""

    manifest: Manifest
    asked: Asked
    roots: tuple[Path, ...]
    max_bytes: int
    allow_http: bool
    clock: Clock


@dataclass(frozen=True)
class Shown:
    """A row that was looked at: its lines, or why it has none."""

    index: int
    key: str
    lines: bytes
    error_kind: str | None
    error: str | None


def first_lines(sight: Sight, count: int) -> list[dict[str, Any]]:
    """The first lines that would be sent, and the rows among them that would not: `index`, `key`, `line` or `error`. Of
    rows that fail one after the other no more than a few.

    Raises:
        BadInput: a store that holds pictures cannot be reached.
    """
    told: list[dict[str, Any]] = []
    lines = 0
    for row in _looked_at(sight):
        place = {"index": row.index, "key": row.key}
        if row.error is not None:
            told.append({**place, "error": row.error})
        for line in row.lines.splitlines()[: count - lines]:
            told.append({**place, "line": _abbreviated(line)})
            lines += 1
        if lines == count or len(told) >= count + ROWS_AT_ONCE:
            break
    return told


def failing_rows(sight: Sight) -> Iterator[dict[str, Any]]:
    """Every row that would fail unsent, its pictures opened: `index`, `key`, `kind`, `error`.

    Raises:
        BadInput: a store that holds pictures cannot be reached.
    """
    inline = replace(sight, asked=sight.asked.model_copy(update={"media": "inline"}), max_bytes=2**62)
    for row in _looked_at(inline):
        if row.error is not None:
            yield {"index": row.index, "key": row.key, "kind": row.error_kind, "error": row.error}


def _looked_at(sight: Sight) -> Iterator[Shown]:
    first = 0
    for block in sight.manifest.blocks():
        rows = frozen(block.select([name for name in block.schema.names if not is_kept(name)]), first)
        for start in range(0, rows.num_rows, ROWS_AT_ONCE):
            yield from _encoded(sight, rows.slice(start, ROWS_AT_ONCE))
        first += rows.num_rows


def _encoded(sight: Sight, rows: pa.RecordBatch) -> Iterator[Shown]:
    """Encode as a shard is: what has to be fetched is, what has to be uploaded gets a name that says so."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="gemini-batch-")))
        task = EncodeTask(
            asked=sight.asked, nonce=NONCE, roots=sight.roots, max_bytes=sight.max_bytes, allow_http=sight.allow_http,
            rows=folder, lines=folder, requests=folder, media=folder / "media",
        )  # fmt: skip
        held = rows.to_pylist()
        encoding = _passed(task, held)
        if encoding.unfetched:
            task = replace(task, fetched=_fetched(sight, tuple(encoding.unfetched), folder / "fetched"))
            encoding = _passed(task, held)
        if encoding.missing:
            task = replace(task, uris={name: f"(uploaded, sha256 {name[:12]}…)" for name in encoding.missing})
        encoding = Encoding(task)
        for row in held:
            lines, outcome = encoding.row(row)
            yield Shown(row["index"], row["key"], lines, outcome.get("error_kind"), outcome.get("error_message"))


def _passed(task: EncodeTask, rows: Sequence[dict[str, Any]]) -> Encoding:
    encoding = Encoding(task)
    for row in rows:
        encoding.row(row)
    return encoding


def _fetched(sight: Sight, uris: Sequence[str], folder: Path) -> Mapping[str, Path | str]:
    try:
        return fetch_media(uris, folder, sight.clock)
    except OSError as error:
        raise BadInput(f"manifest {sight.manifest.name}: pictures cannot be fetched: {error}") from None


def _abbreviated(line: bytes) -> str:
    short = BASE64.sub(lambda found: b'"data":"(%d characters of base64)"' % len(found[1]), line)
    return short.decode()
