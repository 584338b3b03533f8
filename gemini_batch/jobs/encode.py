"""A shard's frozen rows become its request file. Runs in a process of the CPU pool, which holds no SDK and no network.

Any rows, by rising index; each has a line per sample that it is asked for.
In: an `EncodeTask`. Out: the request file and a record of every row (digest, or why it is left out) under the given
scratch paths; or, where pictures have to be uploaded first, those pictures.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product, starmap
from pathlib import Path
from typing import Any, get_args

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch.config import Resolution
from gemini_batch.errors import RowError
from gemini_batch.gemini.keys import hex_column, line_keys
from gemini_batch.gemini.media import Picture, goes_inline, read_picture
from gemini_batch.gemini.wire import DIGEST_BYTES, Encoder, file_part, inline_part, text_part
from gemini_batch.parquet import Writer, own_names, read_own_blocks, row_numbers
from gemini_batch.parts import (
    BESIDE_PROMPTS,
    CLOUDS,
    CONTENT,
    PASSED_ON,
    WEB,
    have_content,
    is_fetched,
    nothing_beside_prompts,
)
from gemini_batch.records import Asked

REQUESTS = pa.schema(
    [
        pa.field("index", pa.int64(), nullable=False),
        ("request_digest", pa.string()),
        ("error_kind", pa.string()),
        ("error_message", pa.string()),
    ]
)
"""What became of each row: a digest when it was sent, an error when it was not."""

GIVEN_UP, NOT_SENT = "cancelled", "the run was cancelled before the row was sent"
"""Kind and message of rows of a run that was cancelled."""

RESOLUTIONS = {None, *get_args(Resolution)}

MIME_TYPE = re.compile(r"[a-z0-9.+-]+/[a-z0-9.+-]+")


@dataclass(frozen=True)
class EncodeTask:
    asked: Asked
    nonce: str
    roots: tuple[Path, ...]
    max_bytes: int
    rows: Path
    lines: Path
    requests: Path
    media: Path
    """Folder for pictures that need an upload, each named by its sha256."""
    uris: dict[str, str] = field(default_factory=dict)
    """sha256 -> URI of the pictures already uploaded for this shard."""
    left_out: Mapping[int, str] = field(default_factory=dict)
    """Index -> why, of rows that are not to be sent: the service named their lines when it refused them all."""
    fetched: Mapping[str, Path | str] = field(default_factory=dict)
    """URI -> its file, or why there is none."""
    allow_http: bool = False
    key: Callable[[int, int], bytes] | None = None
    """As `Encoder` takes it: lines that others read are named as they expect."""


@dataclass(frozen=True)
class ToUpload:
    sha256: str
    mime_type: str


@dataclass(frozen=True)
class Encoded:
    lines: int
    size_bytes: int
    sha256: str
    to_upload: tuple[ToUpload, ...]
    """Not empty: nothing was finished, upload these and encode again."""
    to_fetch: tuple[str, ...] = ()
    """The same of URIs that are to be fetched, before anything is uploaded."""


def encode(task: EncodeTask) -> Encoded:
    """Write the request lines of a shard.

    Raises:
        RunStopped: the shard's rows are damaged.
        OSError: a scratch file cannot be written.
    """
    run = Encoding(task)
    with task.lines.open("wb") as out, Writer(task.requests, REQUESTS) as record:
        for block in read_own_blocks(task.rows, asked_columns(task.rows)):
            body, outcomes = run.texts(block) or run.rows(block)
            run.digest.update(body)
            out.write(body)
            record.write(outcomes)
    missing = tuple(ToUpload(sha256, mime_type) for sha256, mime_type in run.missing.items())
    return Encoded(run.lines, run.size_bytes, run.digest.hexdigest(), missing, tuple(run.unfetched))


def write_given_up(rows: Path, requests: Path, left_out: Mapping[int, str]) -> None:
    """Write the record of a shard of which nothing is sent, because its run was cancelled before.

    Args:
        left_out: as in a task.
    """
    with Writer(requests, REQUESTS) as record:
        for block in read_own_blocks(rows, ["index"]):
            indices = block.column("index").to_pylist()
            whys = [left_out.get(index) for index in indices]
            kinds = [GIVEN_UP if why is None else "invalid_argument" for why in whys]
            messages = [NOT_SENT if why is None else why for why in whys]
            digests = pa.nulls(len(indices), pa.string())
            columns = [pa.array(indices), digests, pa.array(kinds, pa.string()), pa.array(messages, pa.string())]
            record.write(pa.RecordBatch.from_arrays(columns, schema=REQUESTS))


def asked_columns(rows: Path) -> list[str]:
    """Columns of a shard's rows that say what is asked.

    Raises:
        RunStopped: the rows are damaged.
    """
    there = own_names(rows)
    return [name for name in ("index", "prompt", *BESIDE_PROMPTS) if name in there]


class Encoding:
    """One pass over a shard."""

    def __init__(self, task: EncodeTask) -> None:
        self._task = task
        self._encoder = Encoder(task.asked, task.nonce, task.key)
        self._every = range(task.asked.n_samples)
        self.digest = hashlib.sha256()
        self.lines = 0
        self.size_bytes = 0
        self.missing: dict[str, str] = {}
        self.unfetched: dict[str, None] = {}

    def texts(self, block: pa.RecordBatch) -> tuple[bytes, pa.RecordBatch] | None:
        """The same of a block in which every row is a text to be sent, and nothing else; None for any other."""
        index, prompts = block.column("index"), block.column("prompt")
        if prompts.null_count or not nothing_beside_prompts(block):
            return None
        texts, left_out = prompts.to_pylist(), self._task.left_out
        if not all(texts) or (left_out and not left_out.keys().isdisjoint(index.to_pylist())):
            return None
        requests = self._encoder.text_requests(texts)
        lines = self._encoder.lines(self._keys(index), requests)
        body = b"".join(lines)
        if self.size_bytes + len(body) > self._task.max_bytes:
            return None
        self.lines += len(lines)
        self.size_bytes += len(body)
        digests = hex_column(b"".join(self._encoder.digests(requests)), DIGEST_BYTES)
        nothing = pa.nulls(len(index), pa.string())
        return body, pa.RecordBatch.from_arrays([index, digests, nothing, nothing], schema=REQUESTS)

    def _keys(self, index: pa.Array) -> Iterable[bytes]:
        """Of the lines of all samples of those rows."""
        if self._task.key is not None:
            return starmap(self._task.key, product(index.to_pylist(), self._every))
        count = len(self._every)
        lines = row_numbers(0, count * len(index))
        of = pc.divide(lines, count)
        samples = pc.subtract(lines, pc.multiply(of, count))
        keys: list[bytes] = line_keys(self._task.nonce.encode(), index.take(of), samples).cast(pa.binary()).to_pylist()
        return keys

    def rows(self, block: pa.RecordBatch) -> tuple[bytes, pa.RecordBatch]:
        """The lines of the rows of a block, and what became of each."""
        rows = [self.row(row) for row in block.to_pylist()]
        return b"".join([lines for lines, _ in rows]), pa.RecordBatch.from_pylist([made for _, made in rows], REQUESTS)

    def row(self, row: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
        """The row's lines, one per sample, and its entry in the record; a bad row has none."""
        index, samples = row["index"], row.get("samples")
        samples = self._every if samples is None else samples
        try:
            if index in self._task.left_out:
                raise RowError("invalid_argument", self._task.left_out[index])
            wire, content = self._parts(row)
            request = self._encoder.request(wire, row["system_instruction"])
            lines = b"".join([self._encoder.line(index, sample, request) for sample in samples])
            if self.size_bytes + len(lines) > self._task.max_bytes:
                raise RowError("oversized", f"its requests have {len(lines):,} bytes, too many for its shard")
        except RowError as error:
            return b"", {"index": index, "error_kind": error.kind, "error_message": error.message}
        self.lines += len(samples)
        self.size_bytes += len(lines)
        meant = request if content is wire else self._encoder.request(content, row["system_instruction"])
        digest = self._encoder.digest(meant)
        return lines, {"index": index, "request_digest": digest}

    def _parts(self, row: dict[str, Any]) -> tuple[bytes, bytes]:
        """The parts as sent, and as what they mean: a picture by its content, however it travels."""
        if row["parts"] is None:
            if not row["prompt"]:
                raise RowError("bad_row", "the row has no prompt")
            wire = b"[" + text_part(row["prompt"]) + b"]"
            return wire, wire
        if not have_content(row["parts"]):
            raise RowError("bad_row", "the row has no parts with content")
        pairs = [self._numbered(part, number) for number, part in enumerate(row["parts"])]
        return b"[" + b",".join(wire for wire, _ in pairs) + b"]", b"[" + b",".join(same for _, same in pairs) + b"]"

    def _numbered(self, part: dict[str, Any] | None, number: int) -> tuple[bytes, bytes]:
        """A part; what is wrong with it says which one it is."""
        try:
            return self._part(part, number)
        except RowError as error:
            place = f"part {number}"
            raise (
                error if error.message.startswith(place) else RowError(error.kind, f"{place}: {error.message}")
            ) from None

    def _part(self, part: dict[str, Any] | None, number: int) -> tuple[bytes, bytes]:
        given = [name for name in CONTENT if part and part[name] is not None]
        if part is None or len(given) != 1:
            raise RowError(
                "bad_row",
                f"part {number} has {' and '.join(given) or 'neither'} of text, path, uri, data; one is due",
            )
        if part["media_resolution"] not in RESOLUTIONS:
            raise RowError("bad_row", f"part {number}: unknown media_resolution {part['media_resolution']!r}")
        if given == ["text"]:
            wire = text_part(part["text"])
            return wire, wire
        if given == ["uri"] and part["uri"].startswith(PASSED_ON):
            return self._passed_on(part, number)
        if given == ["uri"]:
            return self._fetched(part, number)
        return self._picture(read_picture(part["path"], part["data"], self._task.roots), part["media_resolution"])

    @staticmethod
    def _passed_on(part: dict[str, Any], number: int) -> tuple[bytes, bytes]:
        if part["mime_type"] and not MIME_TYPE.fullmatch(part["mime_type"]):
            raise RowError("bad_row", f"part {number}: {part['mime_type']!r} is not a MIME type")
        wire = file_part(part["mime_type"], part["uri"], part["media_resolution"])
        return wire, wire

    def _fetched(self, part: dict[str, Any], number: int) -> tuple[bytes, bytes]:
        """A picture elsewhere. Its size was not known when the shard was cut, so it is uploaded, not sent inline."""
        uri = part["uri"]
        if not is_fetched(uri):
            known = ", ".join(("files/…", *CLOUDS, *WEB))
            raise RowError("bad_row", f"part {number}: the uri {uri!r} is none of {known}")
        if uri.startswith(WEB) and not self._task.allow_http:
            raise RowError("bad_row", f"part {number}: the uri {uri!r} is read only with --allow-http")
        found = self._task.fetched.get(uri)
        if found is None:
            self.unfetched[uri] = None
            return b"", b""
        if isinstance(found, str):
            raise RowError("media_unreadable", found)
        picture = read_picture(None, found.read_bytes(), (), shown=uri.partition("?")[0])
        return self._picture(picture, part["media_resolution"], always_uploaded=self._task.asked.media != "inline")

    def _picture(self, picture: Picture, resolution: str | None, always_uploaded: bool = False) -> tuple[bytes, bytes]:
        meaning = orjson.dumps([picture.mime_type, picture.sha256, resolution])
        if not always_uploaded and goes_inline(len(picture.body), self._task.asked.media):
            return inline_part(picture.mime_type, base64.b64encode(picture.body), resolution), meaning
        uri = self._task.uris.get(picture.sha256)
        if uri is None:
            self._leave_for_upload(picture)
        return file_part(picture.mime_type, uri or "", resolution), meaning

    def _leave_for_upload(self, picture: Picture) -> None:
        if picture.sha256 not in self.missing:
            self._task.media.mkdir(parents=True, exist_ok=True)
            (self._task.media / picture.sha256).write_bytes(picture.body)
            self.missing[picture.sha256] = picture.mime_type
