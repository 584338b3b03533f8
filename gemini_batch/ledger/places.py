"""Where run directories and manifests are: a local path or the URL of an object store, always as text.

`Path("s3://b/x")` drops a slash, so nothing that may be a URL is ever a `Path`.
"""

from pathlib import Path

from gemini_batch import rundir
from gemini_batch.errors import BadInput
from gemini_batch.ledger.objects import ObjectStore
from gemini_batch.ledger.posix import PosixStore
from gemini_batch.ledger.store import Store

SCHEMES = ("s3", "gs", "az")


def is_url(place: str) -> bool:
    return "://" in place


def open_store(place: str) -> Store:
    """The store at a path or URL. Touches neither disk nor network.

    Raises:
        BadInput: a URL that is none of ours, or that holds what must not be written down.
    """
    return ObjectStore(_checked(place)) if is_url(place) else PosixStore(_local(place))


def join(root: str, name: str) -> str:
    """The place `name` below the place `root`."""
    return f"{root.rstrip('/')}/{name}" if is_url(root) else str(Path(root) / name)


def relative(place: str, root: str) -> str | None:
    """The name of `place` below `root`, None when it lies elsewhere.

    Raises:
        BadInput: as `open_store`.
    """
    if is_url(place) != is_url(root):
        return None
    if is_url(place):
        above, below = f"{_checked(root)}/", _checked(place)
        return below.removeprefix(above) if below.startswith(above) else None
    found, top = Path(place).resolve(), Path(root).resolve()
    return found.relative_to(top).as_posix() if found != top and found.is_relative_to(top) else None


def split(url: str) -> tuple[str, str]:
    """The URL of the folder that an object lies in, and its name there.

    Raises:
        BadInput: as `open_store`, or the URL names a whole bucket.
    """
    folder, _, name = _checked(url).rpartition("/")
    if folder.endswith("/"):
        raise BadInput(f"{url} names a bucket; name an object in it")
    return folder, name


def names_below(url: str) -> list[str]:
    """The names of all objects below the URL of a folder, however deep.

    Raises:
        BadInput: as `open_store`.
        OSError: the store could not say.
    """
    return open_object_store(url).tree()


def open_object_store(url: str) -> ObjectStore:
    """The store at a URL, as `open_store`."""
    return ObjectStore(_checked(url))


def newest(runs: str) -> str | None:
    """The run below `runs` that was begun last.

    Raises:
        OSError: the store could not say.
    """
    store = open_store(runs)
    begun = [(at, name) for name in store.names("") if (at := store.modified(f"{name}/{rundir.RUN}"))]
    return join(runs, max(begun)[1]) if begun else None


def why_not(place: str, error: OSError) -> str:
    """The place and what is wrong with it; errors of an object store name it themselves."""
    return f"{place}: {error.strerror}" if error.strerror else str(error)


def _local(place: str) -> Path:
    for scheme in SCHEMES:
        if place.startswith(f"{scheme}:/"):
            raise BadInput(f"{place} has lost a slash: {scheme}://…; give a URL as text, a Path drops it")
    return Path(place)


def _checked(url: str) -> str:
    """The URL in its one spelling."""
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    bucket, *folders = rest.split("/")
    if scheme not in SCHEMES:
        raise BadInput(f"a URL that starts with {scheme}:// is not known; known are {', '.join(SCHEMES)}, or a path")
    if set(rest) & set("?#@") or ":" in bucket:
        raise BadInput(
            f"a {scheme}:// URL must hold no user, password, port, query or fragment (no @ ? #): it is written into "
            "the run. Credentials and endpoints come from the environment."
        )
    if not bucket or {".", ".."} & set(folders):
        raise BadInput(f"{url} must be {scheme}://, a bucket and a path without . and ..")
    return "/".join((f"{scheme}://{bucket}", *filter(None, folders)))
