"""What the pictures of a manifest weigh before they are encoded: bytes by their size on disk, tokens by their pixels.

In: parts of rows. Out: bytes of a file, estimated tokens. Where a model counts tiles, the first pictures are opened,
and all others count as those did on average: a plan of millions must not read each.
"""

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

from gemini_batch.errors import RowError
from gemini_batch.gemini.media import locate, picture_size
from gemini_batch.gemini.tokens import picture_part_tokens, size_matters

OPENED = 1_000
"""Pictures; a tenth of a second of reading their heads."""


class Pictures:
    """Weighs the pictures of one run, in the order of its rows."""

    def __init__(self, model: str, resolution: str, roots: Sequence[Path]) -> None:
        self._model = model
        self._resolution = resolution
        self._roots = roots
        self._tried = 0
        self._sizes: list[tuple[int, int]] = []
        self._means: dict[str | None, int] = {}
        """Of those opened, by a part's own resolution."""

    def tokens(self, part: dict[str, Any]) -> int:
        """Estimated tokens of a part that is no text; a file at the service is never opened."""
        own, of_run = part["media_resolution"], self._resolution
        if not size_matters(self._model, own, of_run):
            return picture_part_tokens(self._model, own, of_run)
        if self._tried < OPENED and part["uri"] is None:
            self._tried += 1
            if size := self._open(part):
                self._sizes.append(size)
                self._means.clear()
                return picture_part_tokens(self._model, own, of_run, size)
        return self._mean(own)

    def size_bytes(self, path: str) -> int:
        """0 for a picture that is not there: its row fails when it is encoded, which says why."""
        try:
            return locate(path, self._roots).stat().st_size
        except (RowError, OSError):
            return 0

    def _open(self, part: dict[str, Any]) -> tuple[int, int] | None:
        if part["data"] is not None:
            return picture_size(part["data"])
        try:
            return picture_size(locate(part["path"] or "", self._roots))
        except (RowError, OSError):
            return None

    def _mean(self, own: str | None) -> int:
        if own not in self._means:
            each: list[int] = [picture_part_tokens(self._model, own, self._resolution, size) for size in self._sizes]
            unseen = picture_part_tokens(self._model, own, self._resolution)
            self._means[own] = ceil(sum(each) / len(each)) if each else unseen
        return self._means[own]
