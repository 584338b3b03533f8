"""A local or shared POSIX directory as a store.

Create-if-absent is temporary file, fsync, `link()`, fsync of the folder: `link` is exclusive and shows only whole
files, also on NFS, where an O_EXCL file could stay empty after a crash.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from gemini_batch.clock import new_nonce
from gemini_batch.effects import effect

SCRATCH = ".scratch"
LOCK = ".lock"

SWEEPS = 5
"""So many times a create begins anew. A process sweeps once, when it takes the lock, and then keeps it."""


class PosixStore:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)
        self._made: set[Path] = set()

    @effect("store.create")
    def create(self, name: str, body: bytes) -> bool:
        target = self._target(name)
        for sweeps_left in reversed(range(SWEEPS)):
            with self.scratch(target.name) as scratch:
                try:
                    _write_durably(scratch, body)
                    os.link(scratch, target)
                except FileExistsError:
                    return False
                except FileNotFoundError:  # swept: an order is given without the lock that its holder sweeps under
                    if not sweeps_left:
                        raise
                    self._made.discard(self.root / SCRATCH)
                    continue
            break
        _sync_folder(target.parent)
        return True

    @effect("store.read")
    def read(self, name: str) -> bytes | None:
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    @effect("store.exists")
    def exists(self, name: str) -> bool:
        return (self.root / name).exists()

    @effect("store.modified")
    def modified(self, name: str) -> datetime | None:
        try:
            return datetime.fromtimestamp((self.root / name).stat().st_mtime, UTC)
        except (FileNotFoundError, NotADirectoryError):
            return None

    @effect("store.names")
    def names(self, folder: str) -> list[str]:
        try:
            return sorted(entry.name for entry in os.scandir(self.root / folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    @effect("store.publish")
    def publish(self, name: str, scratch: Path) -> None:
        with scratch.open("rb") as stream:
            os.fsync(stream.fileno())
        target = self._target(name)
        scratch.replace(target)
        _sync_folder(target.parent)

    @effect("store.delete")
    def delete(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        yield self.root / name

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        path = self._folder(self.root / SCRATCH) / f"{new_nonce(4)}-{name}"
        try:
            yield path
        finally:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)

    @contextmanager
    def held(self) -> Iterator[bool]:
        with (self._folder(self.root) / LOCK).open("a") as lock:
            yield _flock(lock.fileno(), fcntl.LOCK_EX)

    def is_held(self) -> bool:
        try:
            with (self.root / LOCK).open("rb") as lock:
                return not _flock(lock.fileno(), fcntl.LOCK_SH)
        except OSError:
            return False

    @effect("store.sweep_scratch")
    def sweep_scratch(self) -> None:
        shutil.rmtree(self.root / SCRATCH, ignore_errors=True)
        self._made.discard(self.root / SCRATCH)

    def _target(self, name: str) -> Path:
        target = self.root / name
        self._folder(target.parent)
        return target

    def _folder(self, folder: Path) -> Path:
        """Make `folder`, durably: a record in a folder that a power cut forgets is no record."""
        if folder not in self._made:
            if not folder.is_dir():
                if folder.parent != folder:
                    self._folder(folder.parent)
                folder.mkdir(exist_ok=True)
                _sync_folder(folder.parent)
            self._made.add(folder)
        return folder


def _flock(descriptor: int, kind: int) -> bool:
    """Whether the lock was had. A file system without locks grants it: it is a courtesy."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _write_durably(path: Path, body: bytes) -> None:
    with path.open("xb") as stream:
        stream.write(body)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
