"""A manifest at a URL: fetched once, read from its copy, by the credentials that run directories use.

Pictures beside it are not fetched: it has no root, and a row that names one by path fails alone.
"""

import weakref
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa

from gemini_batch.coordinator.manifest import Columns, Manifest, open_manifest
from gemini_batch.errors import BadInput
from gemini_batch.ledger.places import is_url, open_store, split


def open_source(source: str | Path, columns: Columns) -> Manifest:
    """The manifest at a path or URL.

    Raises:
        BadInput: missing, empty, unreadable, or without a column of prompts.
    """
    if is_url(str(source)):
        return FetchedManifest(str(source), columns)
    return open_manifest(Path(source), columns)


class FetchedManifest:
    """Its copy goes when the last one who may read it lets go of this object, at the latest at exit."""

    root = None

    def __init__(self, url: str, columns: Columns) -> None:
        self.name = url
        with ExitStack() as copy:
            self._manifest = open_manifest(_fetch(url, copy), columns, url)
            weakref.finalize(self, copy.pop_all().close)

    def blocks(self) -> Iterator[pa.RecordBatch]:
        return self._manifest.blocks()


def _fetch(url: str, copy: ExitStack) -> Path:
    folder, name = split(url)
    try:
        return copy.enter_context(open_store(folder).local(name))
    except FileNotFoundError:
        raise BadInput(f"manifest {url} does not exist") from None
    except OSError as error:
        raise BadInput(f"manifest {url} cannot be read: {error}") from None
