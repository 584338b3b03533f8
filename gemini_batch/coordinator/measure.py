"""What the rows of a block weigh, before anything is opened or sent.

In: a normalised block. Out: bytes and estimated tokens of each row, all its samples together, and the rows' share of
the run's identity. Text is exact to the byte; pictures count by their size on disk, and again when they are really
encoded. The system instruction and the schema stand in every request, and count in every one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from gemini_batch.coordinator.pictures import Pictures
from gemini_batch.coordinator.plan import Weights
from gemini_batch.gemini.generation import SCHEMA_FIELDS
from gemini_batch.gemini.media import INLINE_BYTES, goes_inline
from gemini_batch.gemini.scripts import text_tokens, text_tokens_of
from gemini_batch.gemini.tokens import schema_words
from gemini_batch.gemini.wire import Encoder, text_part
from gemini_batch.parts import FIELDS, have_content, is_fetched, nothing_beside_prompts
from gemini_batch.records import Asked

NO_PART: dict[str, Any] = dict.fromkeys(FIELDS)

PICTURE_BRACES = 150
"""Room for all that stands around a picture in its line, a media resolution included. Too much is harmless; with
too little the last rows of a full shard would no longer fit."""

REFERENCE_BYTES = 400
"""The same for an uploaded file, with its URI: ids have at most 40 characters (Files reference)."""


Sized = tuple[Sequence[int], Sequence[int], Sequence[bytes]]
"""Of each row: bytes of its request, 0 for one that cannot be sent; tokens of its parts; what it adds to the run's
identity."""

NOTHING = b"null"
"""What a row adds to the identity that asks nothing."""


@dataclass(frozen=True)
class Measured:
    weights: Weights
    identity: bytes
    """A stretch of the byte string whose hash identifies the rows; the same however the rows were cut into blocks."""


class Scale:
    """Weighs blocks for one run."""

    def __init__(self, asked: Asked, nonce: str, roots: Sequence[Path], max_row_bytes: int) -> None:
        self._encoder = Encoder(asked, nonce)
        self._system_tokens = text_tokens(asked.system_instruction) if asked.system_instruction else 0
        self._schema_tokens = _schema_tokens(asked.generation_config)
        self._media = asked.media
        self._samples = asked.n_samples
        resolution = str(asked.generation_config.get("mediaResolution") or "")
        self._pictures = Pictures(asked.model, resolution, roots)
        self._max_row_bytes = max_row_bytes

    def weigh(self, block: pa.RecordBatch, first_index: int) -> Measured:
        keys = _values(block, "key")
        sizes, counts, identity = self._sized(block)
        if keys:
            identity = [key + content for key, content in zip(map(orjson.dumps, keys), identity, strict=True)]
        lines = self._lines(sizes, first_index)
        every = self._every_request(block)
        tokens = [
            self._samples * (count + more) if line else 0
            for line, count, more in zip(lines, counts, every, strict=True)
        ]
        return Measured(Weights(lines, tokens, self._samples), b"\n".join([*identity, b""]))

    def _sized(self, block: pa.RecordBatch) -> Sized:
        prompts, prompt_tokens = _texts(block, "prompt")
        if nothing_beside_prompts(block):
            return self._plain(prompts, prompt_tokens)
        systems = _values(block, "system_instruction") or [None] * block.num_rows
        parts = _values(block, "parts") or [None] * block.num_rows
        texts = zip(prompts, prompt_tokens, systems, strict=True)
        counts = iter(_part_tokens(block))
        rows = [
            self._text(*text) if row is None else self._parts(row, [next(counts) for _ in row], text[-1])
            for row, text in zip(parts, texts, strict=True)
        ]
        sizes, tokens, identity = zip(*rows, strict=True)
        return sizes, tokens, identity

    def _plain(self, prompts: Sequence[str | None], tokens: Sequence[int]) -> Sized:
        """Of rows that are one text each, together: most manifests have no others."""
        requests = self._encoder.text_requests(prompt or "" for prompt in prompts)
        if all(prompts):
            return list(map(len, requests)), tokens, requests
        there = list(map(bool, prompts))
        sizes = [len(request) if has else 0 for request, has in zip(requests, there, strict=True)]
        return sizes, tokens, [request if has else NOTHING for request, has in zip(requests, there, strict=True)]

    def _every_request(self, block: pa.RecordBatch) -> list[int]:
        """Tokens that stand in each request beside its parts: the instruction in force, and the schema."""
        shared = self._schema_tokens + self._system_tokens
        if "system_instruction" not in block.schema.names:
            return [shared] * block.num_rows
        return [
            shared if system is None else self._schema_tokens + (count if system else 0)
            for system, count in zip(*_texts(block, "system_instruction"), strict=True)
        ]

    def _lines(self, sizes: Sequence[int], first_index: int) -> list[int]:
        """Bytes of each row's lines; 0 for a row that will fail, which nothing is sent for."""
        lines = self._encoder.row_bytes(first_index, sizes)
        most = self._max_row_bytes
        return lines if max(lines, default=0) <= most else [size if size <= most else 0 for size in lines]

    def _text(self, text: str | None, tokens: int, system: str | None) -> tuple[int, int, bytes]:
        if not text:
            return 0, 0, NOTHING
        request = self._encoder.request(b"[" + text_part(text) + b"]", system)
        return len(request), tokens, request

    def _parts(
        self, parts: list[dict[str, Any] | None], text_tokens: list[int], system: str | None
    ) -> tuple[int, int, bytes]:
        if not have_content(parts):
            return 0, 0, NOTHING
        size, tokens = len(self._encoder.request(b"[]", system)), 0
        for part, count in zip(parts, text_tokens, strict=True):
            part_bytes, part_tokens = self._part(part or NO_PART, count)
            size += part_bytes + 1
            tokens += part_tokens
        return size, tokens, orjson.dumps([[self._identity(part) for part in parts], system])

    def _part(self, part: dict[str, Any], text_tokens: int) -> tuple[int, int]:
        if part["text"] is not None:
            return len(text_part(part["text"])), text_tokens
        tokens = self._pictures.tokens(part)
        if part["data"] is not None:
            return self._picture_bytes(len(part["data"])), tokens
        if part["path"] is not None:
            return self._picture_bytes(self._pictures.size_bytes(part["path"])), tokens
        if self._media == "inline" and is_fetched(part["uri"]):  # nobody knows its size yet
            return self._picture_bytes(INLINE_BYTES), tokens
        return REFERENCE_BYTES + len(orjson.dumps(part["uri"] or "")), tokens

    def _identity(self, part: dict[str, Any] | None) -> Any:
        """What a part asks: a picture in the manifest by its bytes, one on disk by its path and size.

        Its content does not count before it is encoded, and its time of change would make a copied directory a new run,
        to be paid for again.
        """
        if part is None or part["data"] is not None:
            return part and {**part, "data": xxhash.xxh3_128_hexdigest(part["data"])}
        return part if part["path"] is None else [part, self._pictures.size_bytes(part["path"])]

    def _picture_bytes(self, size: int) -> int:
        if goes_inline(size, self._media):
            return (size + 2) // 3 * 4 + PICTURE_BRACES
        return REFERENCE_BYTES


def _schema_tokens(generation_config: Mapping[str, Any]) -> int:
    words = (word for field in SCHEMA_FIELDS for word in schema_words(generation_config.get(field)))
    return sum(text_tokens(word) for word in words)


def _texts(block: pa.RecordBatch, name: str) -> tuple[list[Any], list[int]]:
    """The texts of a column, and what each counts; nulls for a column that is not there."""
    if name not in block.schema.names:
        return [None] * block.num_rows, [0] * block.num_rows
    column = block.column(name)
    return column.to_pylist(), text_tokens_of(column)


def _values(block: pa.RecordBatch, name: str) -> list[Any] | None:
    return block.column(name).to_pylist() if name in block.schema.names else None


def _part_tokens(block: pa.RecordBatch) -> Sequence[int]:
    """Of every part of every row, one after the other."""
    if "parts" not in block.schema.names:
        return ()
    return text_tokens_of(pc.struct_field(block.column("parts").flatten(), "text"))
