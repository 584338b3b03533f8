"""Which files a manifest is: a file, or those of a directory or a glob, in the byte order of their paths.

In: a path, or the names of all objects below a URL. Out: paths. Names that start with `_` or `.` are skipped (that is
how writers mark what is no data), and so is what lies in directories of such names. Of a directory only files whose
names say that they are rows count: pictures may lie beside them.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from gemini_batch.coordinator.sources import KINDS, kind_of
from gemini_batch.errors import BadInput

MAGIC = "*?["


def local_files(path: Path) -> tuple[Path, list[Path]]:
    """The directory that relative paths of pictures start at, and the files.

    Raises:
        BadInput: there are none, or files of several kinds.
    """
    if path.is_dir():
        return path.resolve(), [path / name for name in chosen(str(path), _below(path))]
    if path.exists():
        return path.parent.resolve(), [path]
    fixed, pattern = split_glob(str(path))
    if not pattern:
        raise BadInput(f"manifest {path} does not exist")
    root = Path(fixed or ".")
    if not root.is_dir():
        raise BadInput(f"manifest {path} does not exist: there is no directory {root}")
    names = matching(_below(root, pattern), pattern)
    return root.resolve(), [root / name for name in chosen(str(path), names, is_glob=True)]


def split_glob(place: str) -> tuple[str, str]:
    """The part of a path or URL before its first component with a wildcard, and the pattern from there on; an empty
    pattern where there is none."""
    parts = place.split("/")
    first = next((at for at, part in enumerate(parts) if set(part) & set(MAGIC)), len(parts))
    fixed = "/".join(parts[:first])
    return ("/" if fixed == "" and first == 1 and place.startswith("/") else fixed), "/".join(parts[first:])


def chosen(where: str, names: Iterable[str], is_glob: bool = False) -> list[str]:
    """Of relative names the files of rows, of one kind, in byte order: the Parquet files if there are any.

    Args:
        is_glob: a person named them, so that files are rows even if no name says of which kind; those are Parquet.

    Raises:
        BadInput: none are left, or they are of several kinds.
    """
    seen = sorted({name for name in names if not _is_skipped(name)}, key=os.fsencode)
    kinds = {kind for name in seen if (kind := kind_of(name))}
    if not kinds and is_glob and seen:
        return seen
    if not kinds:
        raise BadInput(
            f"manifest {where} is a directory or glob of no file that ends in {', '.join(KINDS)}; names that start "
            "with _ or . are skipped"
        )
    if len(kinds) > 1 and "Parquet" not in kinds:
        raise BadInput(f"manifest {where} holds files of several kinds ({', '.join(sorted(kinds))}); give a glob")
    kind = "Parquet" if "Parquet" in kinds else kinds.pop()
    return [name for name in seen if kind_of(name) == kind]


def matching(names: Iterable[str], pattern: str) -> list[str]:
    """Of relative names those that a glob means: that match it, or lie in a directory that does."""
    return [name for name in names if _matches(name.split("/"), pattern.split("/"))]


def _matches(name: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_matches(name[at:], pattern[1:]) for at in range(len(name)))
    return bool(name) and fnmatchcase(name[0], pattern[0]) and _matches(name[1:], pattern[1:])


def _is_skipped(name: str) -> bool:
    return any(part.startswith(("_", ".")) for part in name.split("/"))


def _leads(folder: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether something that a glob means may lie below a folder."""
    if not folder or not pattern or pattern[0] == "**":
        return True
    return fnmatchcase(folder[0], pattern[0]) and _leads(folder[1:], pattern[1:])


def _below(root: Path, pattern: str = "**") -> Iterator[str]:
    """Names of all files that may match. Links are followed, a circle of them once."""
    seen: set[str] = set()
    for here, folders, files in os.walk(root, followlinks=True):
        real, at = os.path.realpath(here), Path(here).relative_to(root).parts
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        wanted = [name for name in folders if not _is_skipped(name) and _leads((*at, name), pattern.split("/"))]
        folders[:] = wanted
        yield from ("/".join((*at, name)) for name in files)
