"""Directories that pictures may lie in, as one machine has them.

In: the directories that a run was begun with, and what is given here: `DIR` for one more, `OLD=NEW` where what a row
calls OLD lies at NEW. Out: `MediaRoots`, which says where a path leads; whether it may be read is for who opens it.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from gemini_batch.errors import BadInput


class MediaRoots(tuple[Path, ...]):
    """The directories on this machine. `recorded` are the same as rows name them; relative paths start at the first."""

    recorded: tuple[Path, ...]
    moved: tuple[tuple[Path, Path], ...]
    """OLD and NEW, the longest OLD first."""

    def __new__(
        cls, roots: Iterable[Path], recorded: Iterable[Path] = (), moved: Iterable[tuple[Path, Path]] = ()
    ) -> Self:
        made = super().__new__(cls, roots)
        made.recorded = tuple(recorded)
        made.moved = tuple(moved)
        return made

    def __getnewargs__(self) -> tuple[tuple[Path, ...]]:
        return (tuple(self),)

    def lead(self, path: str) -> Path:
        """Where a row's path is on this machine."""
        named = self.recorded[0] / path
        return _moved(named, self.moved)


def media_roots(recorded: Sequence[str | Path], given: Sequence[str] = ()) -> MediaRoots:
    """
    Args:
        recorded: of the run.
        given: `DIR` or `OLD=NEW`, on this machine.

    Raises:
        BadInput: an OLD that is no absolute path.
    """
    pairs, more = [], []
    for one in given:
        old, equals, new = one.partition("=")
        if equals and not Path(old).is_absolute():
            raise BadInput(f"--media-root {one}: OLD=NEW, with OLD as an absolute path")
        if equals:
            pairs.append((Path(os.path.normpath(old)), Path(new).absolute()))
        else:
            more.append(Path(one).resolve())
    named = dict.fromkeys([*map(Path, recorded), *more, *(old for old, _ in pairs)])
    moved = sorted(pairs, key=lambda pair: len(pair[0].parts), reverse=True)
    here = dict.fromkeys([*(_moved(root, moved) for root in named), *(new for _, new in moved)])
    return MediaRoots(here, named, moved)


def _moved(path: Path, moved: Iterable[tuple[Path, Path]]) -> Path:
    for old, new in moved:
        if path.is_relative_to(old):
            return new / path.relative_to(old)
    return path
