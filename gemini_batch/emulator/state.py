"""What outlives a restart: one SQLite file of small JSON records, written through. Without a folder nothing is kept.

A kill loses nothing that a reply has told of; only a power failure can (`synchronous` is off).
"""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

FORMAT = 1
_OURS = 0x47424445


class StateError(Exception):
    """The folder cannot be used; the message says why."""


class State:
    def __init__(self, folder: Path | None) -> None:
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        if folder is not None:
            self._db = _opened(folder / "state.sqlite")

    @property
    def is_kept(self) -> bool:
        return self._db is not None

    def put(self, kind: str, name: str, record: bytes) -> None:
        self._run(
            "INSERT INTO records VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET record = excluded.record",
            (kind, name, record),
        )

    def drop(self, kind: str, name: str) -> None:
        self._run("DELETE FROM records WHERE kind = ? AND name = ?", (kind, name))

    def clear(self) -> None:
        self._run("DELETE FROM records", ())

    def all(self, kind: str) -> Iterator[bytes]:
        """In the order of their first writing."""
        if self._db is not None:
            with self._lock:
                found = self._db.execute("SELECT record FROM records WHERE kind = ? ORDER BY rowid", (kind,)).fetchall()
            yield from (record for (record,) in found)

    def close(self) -> None:
        if self._db is not None:
            self._db.close()

    def _run(self, statement: str, values: tuple[object, ...]) -> None:
        if self._db is not None:
            with self._lock:
                self._db.execute(statement, values)


@contextlib.contextmanager
def refused_in_words(path: Path) -> Iterator[None]:
    """Raises StateError for what SQLite raises."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StateError(f"{path} cannot be used ({error}): is another emulator at work there?") from None
    except sqlite3.DatabaseError as error:
        raise StateError(f"{path} is not of this emulator ({error}); take another folder.") from None


def claim(path: Path) -> None:
    """Mark a new database as ours; one that is another program's or release's stays as it is: raises StateError."""
    with refused_in_words(path), contextlib.closing(sqlite3.connect(path, timeout=1)) as db:
        tables, owner, found = (
            db.execute(question).fetchone()[0]
            for question in ("SELECT count(*) FROM sqlite_master", "PRAGMA application_id", "PRAGMA user_version")
        )
        if not (tables or owner or found):
            db.execute(f"PRAGMA application_id = {_OURS}")
            db.execute(f"PRAGMA user_version = {FORMAT}")
        elif owner != _OURS:
            raise StateError(f"{path} is not of this emulator; take another folder.")
        elif found != FORMAT:
            raise StateError(f"{path} was written by another release (format {found}); take another folder.")


def _opened(path: Path) -> sqlite3.Connection:
    """Held for this process alone: two emulators on one folder would mix their jobs."""
    claim(path)
    with refused_in_words(path):
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1)
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("CREATE TABLE IF NOT EXISTS records (kind TEXT, name TEXT, record BLOB, UNIQUE (kind, name))")
    return db
