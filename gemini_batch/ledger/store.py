"""The run directory as a store of objects: what every backend must do.

`create` is the only operation that safety rests on: of any number of racing callers exactly one gets True, and by then
the object is complete and durable.
"""

from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Protocol


class Store(Protocol):
    """Objects by relative name, `/` between folders."""

    url: str

    def create(self, name: str, body: bytes) -> bool:
        """Create `name` holding `body` if it does not exist. False when it does. OSError when neither is certain."""

    def read(self, name: str) -> bytes | None:
        """The whole object, None when absent."""

    def exists(self, name: str) -> bool: ...

    def modified(self, name: str) -> datetime | None:
        """When the object was last written; None when absent. For display: it is the store's clock."""

    def names(self, folder: str) -> list[str]:
        """Names directly below `folder`, sorted. A hint: what was created a moment ago may be missing."""

    def publish(self, name: str, scratch: Path) -> None:
        """Move a finished scratch file to `name` in one step, replacing what is there. Durable on return."""

    def delete(self, name: str) -> None:
        """Remove; absent is fine."""

    def local(self, name: str) -> AbstractContextManager[Path]:
        """A local path that holds the object while the block lasts, for readers that stream (Arrow).

        FileNotFoundError when it is absent.
        """

    def scratch(self, name: str) -> AbstractContextManager[Path]:
        """A fresh path for a file on its way in, removed at the end if still there. A dead process leaves debris."""

    def held(self) -> AbstractContextManager[bool]:
        """Whether this process has the run for itself while the block lasts. A courtesy: no promise rests on it."""

    def is_held(self) -> bool | None:
        """Whether a process has the run for itself right now; None where there are no locks."""

    def sweep_scratch(self) -> None:
        """Remove debris. Only for a process that has the run for itself."""
