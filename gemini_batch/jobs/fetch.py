"""Pictures that rows name by URI, fetched right before the create: from object stores, and by http(s) where allowed.

In: the URIs. Out: for each a file, or why there is none, which is for its row alone to say. What a store does not give
now is an `OSError`, and the shard waits.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from shutil import copyfile

from gemini_batch.clock import Clock
from gemini_batch.errors import BadInput, RowError
from gemini_batch.gemini.media import MAX_PICTURE_BYTES
from gemini_batch.jobs.web import fetch_url
from gemini_batch.ledger.objects import NoBucket, ObjectStore
from gemini_batch.ledger.places import open_object_store, split

AT_ONCE = 8


def fetch_media(uris: Sequence[str], folder: Path, clock: Clock) -> dict[str, Path | str]:
    """Fetch each into a file of `folder`.

    Returns:
        URI -> its file, or why there is none.

    Raises:
        OSError: a store cannot be reached now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stores = cache(open_object_store)
    with ThreadPoolExecutor(AT_ONCE) as fetching:
        found = fetching.map(partial(_fetched, folder=folder, stores=stores, clock=clock), uris)
        return dict(zip(uris, found, strict=True))


def _fetched(uri: str, folder: Path, stores: Callable[[str], ObjectStore], clock: Clock) -> Path | str:
    target = folder / sha256(uri.encode()).hexdigest()
    try:
        if uri.startswith(("http://", "https://")):
            fetch_url(uri, target, clock)
        else:
            _from_store(uri, target, stores)
    except RowError as error:
        return error.message
    return target


def _from_store(uri: str, target: Path, stores: Callable[[str], ObjectStore]) -> None:
    try:
        folder, name = split(uri)
        store = stores(folder)
        size = store.size_of(name)
        if size is None:
            raise RowError("media_unreadable", f"picture {uri!r} does not exist")
        if size > MAX_PICTURE_BYTES:
            raise RowError("oversized", f"picture {uri!r} is larger than {MAX_PICTURE_BYTES:,} bytes")
        with store.local(name) as path:
            copyfile(path, target)
    except BadInput as error:
        raise RowError("bad_row", f"picture {uri!r}: {error}") from None
    except (FileNotFoundError, PermissionError, NoBucket) as error:
        raise RowError("media_unreadable", f"picture {uri!r} cannot be read: {error}") from None
