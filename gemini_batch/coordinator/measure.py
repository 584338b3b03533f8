"""What the rows of a block weigh, before anything is opened or sent.

In: a normalised block. Out: bytes and estimated tokens of each row, all its samples together, and the rows' share of
the run's identity. Text is exact to the byte; pictures count by their size on disk, and again when they are really
encoded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import xxhash

from gemini_batch.coordinator.plan import Weights
from gemini_batch.errors import RowError
from gemini_batch.gemini.media import goes_inline, locate
from gemini_batch.gemini.tokens import CHARACTERS_PER_TOKEN, unseen_picture_tokens
from gemini_batch.gemini.wire import Encoder, text_part
from gemini_batch.parts import FIELDS, have_content
from gemini_batch.records import Asked

BYTES_PER_TOKEN = CHARACTERS_PER_TOKEN
"""Bytes of UTF-8, so that scripts other than Latin come out higher, as they do."""

NO_PART: dict[str, Any] = dict.fromkeys(FIELDS)

PICTURE_BRACES = 150
"""Room for all that stands around a picture in its line, a media resolution included. Too much is harmless; with
too little the last rows of a full shard would no longer fit."""

REFERENCE_BYTES = 400
"""The same for an uploaded file, with its URI: ids have at most 40 characters (Files reference)."""


@dataclass(frozen=True)
class Measured:
    weights: Weights
    identity: bytes
    """A stretch of the byte string whose hash identifies the rows; the same however the rows were cut into blocks."""


class Scale:
    """Weighs blocks for one run."""

    def __init__(self, asked: Asked, nonce: str, roots: Sequence[Path], max_row_bytes: int) -> None:
        self._encoder = Encoder(asked, nonce)
        self._system = asked.system_instruction or ""
        self._media = asked.media
        self._samples = asked.n_samples
        self._model = asked.model
        self._resolution = str(asked.generation_config.get("mediaResolution"))
        self._roots = roots
        self._max_row_bytes = max_row_bytes

    def weigh(self, block: pa.RecordBatch, first_index: int) -> Measured:
        keys = _values(block, "key")
        systems = _values(block, "system_instruction") or [None] * block.num_rows
        prompts = _values(block, "prompt") or [None] * block.num_rows
        parts = _values(block, "parts") or [None] * block.num_rows  # frozen rows have both columns
        sized = [
            self._text(text, system) if row is None else self._parts(row, system)
            for text, row, system in zip(prompts, parts, systems, strict=True)
        ]
        identity = [content for _, _, content in sized]
        if keys:
            identity = [orjson.dumps(key) + content for key, content in zip(keys, identity, strict=True)]
        lines = [self._lines(first_index + at, size) for at, (size, _, _) in enumerate(sized)]
        tokens = [self._samples * count if line else 0 for line, (_, count, _) in zip(lines, sized, strict=True)]
        return Measured(Weights(lines, tokens, self._samples), b"".join(content + b"\n" for content in identity))

    def _lines(self, index: int, request_bytes: int) -> int:
        """Bytes of the row's lines; 0 for a row that will fail, which nothing is sent for."""
        size = self._encoder.row_bytes(index, request_bytes) if request_bytes else 0
        return size if size <= self._max_row_bytes else 0

    def _text(self, text: str | None, system: str | None) -> tuple[int, int, bytes]:
        if not text:
            return 0, 0, b"null"
        part = text_part(text)
        request = self._encoder.request(b"[" + part + b"]", system)
        return len(request), self._system_tokens(system) + _text_tokens(part), request

    def _parts(self, parts: list[dict[str, Any] | None], system: str | None) -> tuple[int, int, bytes]:
        if not have_content(parts):
            return 0, 0, b"null"
        size, tokens = len(self._encoder.request(b"[]", system)), self._system_tokens(system)
        for part in parts:
            part_bytes, part_tokens = self._part(part or NO_PART)
            size += part_bytes + 1
            tokens += part_tokens
        return size, tokens, orjson.dumps([[self._identity(part) for part in parts], system])

    def _system_tokens(self, system: str | None) -> int:
        """Of the instruction in force, which every line repeats and pays for."""
        return len((self._system if system is None else system).encode()) // BYTES_PER_TOKEN

    def _part(self, part: dict[str, Any]) -> tuple[int, int]:
        if part["text"] is not None:
            wire = text_part(part["text"])
            return len(wire), _text_tokens(wire)
        tokens = unseen_picture_tokens(self._model, part["media_resolution"], self._resolution)
        if part["data"] is not None:
            return self._picture_bytes(len(part["data"])), tokens
        if part["path"] is not None:
            return self._picture_bytes(self._size_of(part["path"])), tokens
        return REFERENCE_BYTES + len(orjson.dumps(part["uri"] or "")), tokens

    def _identity(self, part: dict[str, Any] | None) -> Any:
        """What a part asks: a picture in the manifest by its bytes, one on disk by its path and size.

        Its content is not opened before it is encoded, and its time of change would make a copied directory a new run,
        to be paid for again.
        """
        if part is None or part["data"] is not None:
            return part and {**part, "data": xxhash.xxh3_128_hexdigest(part["data"])}
        return part if part["path"] is None else [part, self._size_of(part["path"])]

    def _picture_bytes(self, size: int) -> int:
        if goes_inline(size, self._media):
            return (size + 2) // 3 * 4 + PICTURE_BRACES
        return REFERENCE_BYTES

    def _size_of(self, path: str) -> int:
        """0 for a picture that is not there: its row fails when it is encoded, which says why."""
        try:
            return locate(path, self._roots).stat().st_size
        except (RowError, OSError):
            return 0


def _text_tokens(part: bytes) -> int:
    """Estimated tokens of a text part, at least one."""
    return 1 + (len(part) - len(b'{"text":""}')) // BYTES_PER_TOKEN


def _values(block: pa.RecordBatch, name: str) -> list[Any] | None:
    return block.column(name).to_pylist() if name in block.schema.names else None
