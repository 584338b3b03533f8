"""Where run directories are."""

from pathlib import Path

from gemini_batch.ledger.posix import PosixStore
from gemini_batch.ledger.store import Store


def open_store(place: str) -> Store:
    return PosixStore(Path(place))


def join(root: str, name: str) -> str:
    return str(Path(root) / name)


def relative(place: str, root: str) -> str | None:
    """The name of `place` below `root`, None when it lies elsewhere."""
    try:
        found = Path(place).resolve().relative_to(Path(root).resolve())
    except ValueError:
        return None
    return None if found == Path() else found.as_posix()
