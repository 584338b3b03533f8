"""A history of full snapshots: version v+1 is created once or not at all.

In: records that carry `version` and `nonce`. Out: the last one. Invariant: of two writers of one version exactly one
wins, and both learn who.
"""

from typing import Generic, TypeVar

from pydantic import ValidationError

from gemini_batch.errors import RunStopped
from gemini_batch.ledger.store import Store
from gemini_batch.records import Snapshot

R = TypeVar("R", bound=Snapshot)

DIGITS = 6


class Log(Generic[R]):
    """The records below one folder of a store."""

    def __init__(self, store: Store, folder: str, record_type: type[R]) -> None:
        self._store = store
        self._folder = folder
        self._type = record_type

    def last(self, known: R | None = None, listed: int | None = None) -> R | None:
        """The newest record, looked for from `known` on; None when there is none.

        A listing only says where to start: the end is the first version that is absent.

        Args:
            listed: the newest version in a listing that whoever asks has made; by default one is made.
        """
        version = known.version if known else self._listed_version() if listed is None else listed
        record = known or (self.at(version) if version else None)
        while (following := self.at(version + 1)) is not None:
            record, version = following, version + 1
        return record

    def end(self) -> int:
        """The newest version that is listed or there, whatever is missing before it."""
        version = self._listed_version()
        while self._store.exists(self._name(version + 1)):
            version += 1
        return version

    def append(self, record: R) -> bool:
        """Create the record as its version. False when another writer was first.

        On "exists" and on any error the object is read back: an NFS retransmit or a retried conditional put may report
        our own success as a failure.

        Raises:
            OSError: the store could not say.
        """
        name = self._name(record.version)
        try:
            if self._store.create(name, record.model_dump_json().encode()):
                return True
        except OSError:
            if (written := self.at(record.version)) is None:
                raise
        else:
            written = self.at(record.version)
        return written is not None and written.nonce == record.nonce

    def at(self, version: int) -> R | None:
        """One version, None when it is absent.

        Raises:
            RunStopped: it cannot be read.
        """
        body = self._store.read(self._name(version))
        if body is None:
            return None
        try:
            return self._type.model_validate_json(body)
        except ValidationError:
            where = f"{self._store.url}/{self._name(version)}"
            raise RunStopped(f"{where} cannot be read: damaged, or of a newer release; restore it") from None

    def _listed_version(self) -> int:
        return max(map(version_of, self._store.names(self._folder)), default=0)

    def _name(self, version: int) -> str:
        return f"{self._folder}/{version:0{DIGITS}d}.json"


def version_of(name: str) -> int:
    """The version that an object of a history holds; 0 for any other."""
    stem = name.removesuffix(".json")
    return int(stem) if stem != name and stem.isdecimal() and len(stem) == DIGITS else 0
