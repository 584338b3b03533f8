"""Which runs a fleet works on: `.active/` below the runs root, one small object per run.

Messages carry ids; the directory an id means comes from here, and lies below the root.
"""

from pathlib import PurePosixPath

import orjson
from pydantic import ValidationError, field_validator

from gemini_batch.clock import new_nonce
from gemini_batch.errors import BadInput
from gemini_batch.ledger.store import Store
from gemini_batch.records import Frozen

FOLDER = ".active"
IDENTITY = f"{FOLDER}/root"


class Entry(Frozen):
    """Where a run lies, relative to the root."""

    folder: str

    @field_validator("folder")
    @classmethod
    def _below(cls, folder: str) -> str:
        steps = PurePosixPath(folder)
        if not folder or "\0" in folder or steps.is_absolute() or ".." in steps.parts or folder.startswith("."):
            raise ValueError("lies outside the runs root, or is hidden")
        return folder


class Registry:
    def __init__(self, root: Store) -> None:
        self._root = root

    def identity(self) -> str:
        """What tells this root from any other, by whatever path it is reached.

        Raises:
            OSError: the root cannot be read, or not be written.
        """
        while (known := self._root.read(IDENTITY)) is None:
            self._root.create(IDENTITY, new_nonce().encode())
        return known.decode()

    def ids(self) -> list[str]:
        """The runs that are being worked on."""
        return [name.removesuffix(".json") for name in self._root.names(FOLDER) if name.endswith(".json")]

    def where(self, run_id: str) -> str | None:
        """The folder of a run, None when nobody handed it over (or took it back).

        Raises:
            BadInput: the entry is damaged.
        """
        body = self._root.read(_name(run_id))
        if body is None:
            return None
        try:
            return Entry.model_validate(orjson.loads(body)).folder
        except (ValidationError, ValueError):
            raise BadInput(f"{self._root.url}/{_name(run_id)} is damaged; submit the run again") from None

    def add(self, run_id: str, folder: str) -> None:
        """Hand a run over. Again is fine.

        Raises:
            BadInput: the folder is not one that workers would open.
        """
        try:
            entry = Entry(folder=folder)
        except ValidationError:
            raise BadInput(f"workers do not look into {folder!r}: it lies outside the runs root or is hidden") from None
        with self._root.scratch(run_id) as scratch:
            scratch.write_bytes(orjson.dumps(entry.model_dump()))
            self._root.publish(_name(run_id), scratch)

    def remove(self, run_id: str) -> None:
        self._root.delete(_name(run_id))


def _name(run_id: str) -> str:
    return f"{FOLDER}/{run_id}.json"
