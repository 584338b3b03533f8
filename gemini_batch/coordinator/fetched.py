"""A manifest at a URL: each file fetched once, read from its copy, by the credentials that run directories use.

It has no directory here: a picture that a row names by a relative path is the object beside it, for workers to fetch.
"""

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch.coordinator.columns import Columns
from gemini_batch.coordinator.found import chosen, matching, split_glob
from gemini_batch.coordinator.manifest import File, FileManifest, Manifest, TableManifest, open_manifest
from gemini_batch.errors import BadInput
from gemini_batch.ledger.places import is_url, names_below, open_store, split
from gemini_batch.parts import PART

OUTSIDE = r"^/|^\s*$|(^|/)\.\.(/|$)"
"""Paths that are absolute, empty, or go upwards."""


def open_source(source: str | Path | pa.Table, columns: Columns) -> Manifest:
    """The manifest at a path or URL: a file, a directory or a glob; or a table, whose relative paths start in the
    current directory.

    Raises:
        BadInput: missing, empty, unreadable, or without a column of prompts.
    """
    if isinstance(source, pa.Table):
        return TableManifest(source, "the table", Path.cwd(), columns)
    if is_url(str(source)):
        return FetchedManifest(str(source), columns)
    return open_manifest(Path(source), columns)


class FetchedManifest:
    """Its copies go when the last one who may read it lets go of this object, at the latest at exit."""

    root = None

    def __init__(self, url: str, columns: Columns) -> None:
        self.name, self.columns = url, columns
        copies = ExitStack()
        weakref.finalize(self, copies.close)
        folder, names = _files(url)
        files = [File(name, cache(partial(_fetch, name, copies))) for name in names]
        self._folder, self._manifest = folder, FileManifest(url, None, files, columns)

    def blocks(self) -> Iterator[pa.RecordBatch]:
        return (with_objects(block, self._folder) for block in self._manifest.blocks())

    @property
    def empty(self) -> Counter[str]:
        """As `Manifest`."""
        return self._manifest.empty

    def place_of(self, row: int) -> str:
        """As `Manifest`."""
        return self._manifest.place_of(row)


def with_objects(block: pa.RecordBatch, folder: str) -> pa.RecordBatch:
    """A block whose relative paths of pictures are objects of `folder`; those that lead out of it stay, and fail."""
    if "parts" not in block.schema.names:
        return block
    parts = block.column("parts")
    items = parts.values
    path, uri = pc.struct_field(items, "path"), pc.struct_field(items, "uri")
    beside = pc.fill_null(pc.invert(pc.match_substring_regex(path, OUTSIDE)), False)
    objects = pc.binary_join_element_wise(folder.rstrip("/"), pc.replace_substring_regex(path, r"^(\./+)+", ""), "/")
    new = {"path": pc.if_else(beside, pa.scalar(None, pa.string()), path), "uri": pc.if_else(beside, objects, uri)}
    children = [new.get(field.name, pc.struct_field(items, field.name)) for field in PART]
    made = pa.StructArray.from_arrays(children, fields=list(PART), mask=items.is_null())
    lists = pa.ListArray.from_arrays(parts.offsets, made, mask=parts.is_null() if parts.null_count else None)
    return block.set_column(block.schema.get_field_index("parts"), "parts", lists)


def _files(url: str) -> tuple[str, list[str]]:
    """The folder that relative paths start in, and URLs of the files that a URL means."""
    fixed, pattern = split_glob(url)
    try:
        if not pattern and not url.endswith("/"):
            folder, name = split(url)
            if open_store(folder).exists(name):
                return folder, [url]
        below = names_below(fixed)
    except OSError as error:
        raise BadInput(f"manifest {url} cannot be read: {error}") from None
    if not below:
        raise BadInput(f"manifest {url} does not exist")
    names = matching(below, pattern) if pattern else below
    return fixed, [f"{fixed.rstrip('/')}/{name}" for name in chosen(url, names, is_glob=bool(pattern))]


def _fetch(url: str, copies: ExitStack) -> Path:
    folder, name = split(url)
    try:
        return copies.enter_context(open_store(folder).local(name))
    except FileNotFoundError:
        raise BadInput(f"manifest {url} does not exist") from None
    except OSError as error:
        raise BadInput(f"manifest {url} cannot be read: {error}") from None
