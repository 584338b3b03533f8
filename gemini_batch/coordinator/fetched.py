"""A manifest at a URL: each file fetched once, read from its copy, by the credentials that run directories use.

Pictures beside it are not fetched: it has no root, and a row that names one by path fails alone.
"""

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path

import pyarrow as pa

from gemini_batch.coordinator.columns import Columns
from gemini_batch.coordinator.found import chosen, matching, split_glob
from gemini_batch.coordinator.manifest import File, FileManifest, Manifest, TableManifest, open_manifest
from gemini_batch.errors import BadInput
from gemini_batch.ledger.places import is_url, names_below, open_store, split


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
        files = [File(name, cache(partial(_fetch, name, copies))) for name in _files(url)]
        self._manifest = FileManifest(url, None, files, columns)

    def blocks(self) -> Iterator[pa.RecordBatch]:
        return self._manifest.blocks()

    @property
    def empty(self) -> Counter[str]:
        """As `Manifest`."""
        return self._manifest.empty

    def place_of(self, row: int) -> str:
        """As `Manifest`."""
        return self._manifest.place_of(row)


def _files(url: str) -> list[str]:
    """URLs of the files that a URL means."""
    fixed, pattern = split_glob(url)
    try:
        if not pattern and not url.endswith("/"):
            folder, name = split(url)
            if open_store(folder).exists(name):
                return [url]
        below = names_below(fixed)
    except OSError as error:
        raise BadInput(f"manifest {url} cannot be read: {error}") from None
    if not below:
        raise BadInput(f"manifest {url} does not exist")
    names = matching(below, pattern) if pattern else below
    return [f"{fixed.rstrip('/')}/{name}" for name in chosen(url, names, is_glob=bool(pattern))]


def _fetch(url: str, copies: ExitStack) -> Path:
    folder, name = split(url)
    try:
        return copies.enter_context(open_store(folder).local(name))
    except FileNotFoundError:
        raise BadInput(f"manifest {url} does not exist") from None
    except OSError as error:
        raise BadInput(f"manifest {url} cannot be read: {error}") from None
