"""How often each request was bought: the emulator's witness for "nothing is paid for twice".

SQLite on disk, a row for each (key, body); a purchase is put down line by line and counts once committed.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from gemini_batch.emulator.state import claim
from gemini_batch.emulator.wire import Json

_LINES_HELD = 4096
_SHOWN = 100
_BUSY_SECONDS = 60


class Purchase:
    """The lines of one create; `commit` makes them count, `close` without it forgets them."""

    def __init__(self, path: Path, committed: Callable[[], None]) -> None:
        self._committed = committed
        self._db = _connected(path)
        self._db.execute("CREATE TEMP TABLE staged (pair INTEGER, body INTEGER, key TEXT)")
        self._held: list[tuple[int, int, str]] = []

    def note(self, pair: int, body: int, key: str) -> None:
        self._held.append((pair, body, key))
        if len(self._held) >= _LINES_HELD:
            self._flush()

    def commit(self, job_id: str) -> None:
        self._flush()
        self._db.execute("INSERT INTO jobs VALUES (?)", (job_id,))
        # In the order of the table: it grows at one place after the other, not everywhere at once.
        self._db.execute(
            "INSERT INTO bought SELECT pair, body, 1, key FROM staged WHERE true ORDER BY pair "
            "ON CONFLICT (pair) DO UPDATE SET count = count + 1"
        )
        self._db.commit()
        self._committed()

    def close(self) -> None:
        self._db.close()

    def _flush(self) -> None:
        self._db.executemany("INSERT INTO staged VALUES (?, ?, ?)", self._held)
        self._held.clear()


class Bought:
    def __init__(self, path: Path) -> None:
        claim(path)
        self._path = path
        self._db = _connected(path)
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS bought (pair INTEGER PRIMARY KEY, body INTEGER, count INTEGER, key TEXT)"
        )
        self._db.execute("CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY)")
        self._db.commit()
        self._changes = 0
        self._counted: tuple[int, Json] | None = None

    def begin(self) -> Purchase:
        return Purchase(self._path, self._changed)

    def holds(self, job_id: str) -> bool:
        """Whether what a job asks for is counted."""
        return self._db.execute("SELECT 1 FROM jobs WHERE id = ?", (job_id,)).fetchone() is not None

    def clear(self) -> None:
        self._db.execute("DELETE FROM bought")
        self._db.execute("DELETE FROM jobs")
        self._db.commit()
        self._changed()

    def close(self) -> None:
        self._db.close()

    def _changed(self) -> None:
        self._changes += 1

    def stats(self) -> Json:
        """Counted anew only after a purchase, even one that came while it was counted: it reads the whole table."""
        changes, counted = self._changes, self._counted
        if counted is None or counted[0] != changes:
            counted = self._counted = changes, self._count()
        return counted[1]

    def _count(self) -> Json:
        total, distinct, repeated = self._db.execute(
            "SELECT coalesce(sum(count), 0), count(*), coalesce(sum(count > 1), 0) FROM bought"
        ).fetchone()
        return {"bought_total": total, "distinct": distinct, "bought_more_than_once": repeated}

    def more_than(self, times: int, by_body: bool) -> list[Json]:
        """Up to 100 requests bought more often than `times`, the most bought first."""
        counted = (
            "SELECT min(key) AS key, sum(count) AS count FROM bought GROUP BY body"
            if by_body
            else "SELECT key, count FROM bought"
        )
        found = self._db.execute(
            f"SELECT key, count FROM ({counted}) WHERE count > ? ORDER BY count DESC, key LIMIT ?",  # noqa: S608
            (times, _SHOWN),
        )
        return [{"key": key, "count": count} for key, count in found]


def _connected(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = OFF")
    db.execute("PRAGMA temp_store = FILE")
    return db
