"""The parts of a prompt as a column of a manifest and of a shard's rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

PART = pa.struct(
    [
        ("text", pa.string()),
        ("path", pa.string()),
        ("uri", pa.string()),
        ("data", pa.binary()),
        ("mime_type", pa.string()),
        ("media_resolution", pa.string()),
    ]
)
PARTS = pa.list_(PART)

FIELDS = tuple(field.name for field in PART)

CONTENT = ("text", "path", "uri", "data")
"""Of these a part has one."""

BESIDE_PROMPTS = ("parts", "system_instruction", "samples")
"""Columns that rows may have beside the prompt, for what is sent."""

CLOUDS, WEB = ("gs://", "s3://", "az://"), ("https://", "http://")
PASSED_ON = ("files/", "https://generativelanguage.googleapis.com/")
"""URIs of files that already lie at the service."""


def is_fetched(uri: str | None) -> bool:
    """Whether a URI names what has to be fetched before it can be sent."""
    return uri is not None and not uri.startswith(PASSED_ON) and uri.startswith((*CLOUDS, *WEB))


KEPT = "keep."
"""Before the names of columns that are only copied, in blocks and in a shard's rows: they may have any name."""


def is_kept(name: str) -> bool:
    """Whether a column of a shard's rows is only copied into the dataset."""
    return name.startswith(KEPT)


def have_content(parts: Sequence[Mapping[str, Any] | None] | None) -> bool:
    """Whether there is anything to send but empty text."""
    rest = CONTENT[1:]
    return any(part and (part["text"] or any(part[name] is not None for name in rest)) for part in parts or ())


def nothing_beside_prompts(block: pa.RecordBatch) -> bool:
    """Whether every row of a block is its prompt and nothing else, so that the rows can be taken together."""
    beside = (block.column(name) for name in BESIDE_PROMPTS if name in block.schema.names)
    return all(column.null_count == len(column) for column in beside)
