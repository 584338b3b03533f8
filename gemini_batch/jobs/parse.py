"""A shard's raw results become its part. Runs in a process of the CPU pool.

In: a `ParseTask`. Out: the part under the given scratch path, every row of the shard in index order, and a `Tally`.
The rows are any rows of the manifest; of those that were bought before, only what this shard asked for is in its part.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from gemini_batch.errors import RunStopped
from gemini_batch.gemini.prices import BatchPrice
from gemini_batch.jobs.align import align
from gemini_batch.jobs.asked import NoAnswer, Shard, Taken
from gemini_batch.jobs.counted import Count
from gemini_batch.parquet import Writer
from gemini_batch.records import SchemaSpec, Tally
from gemini_batch.reducer.rows import RowMaker

CHUNK_BYTES = 1 << 22


@dataclass(frozen=True)
class ParseTask:
    nonce: str
    response_schema: SchemaSpec | None
    rows: Path
    requests: Path
    raw: Path | None
    part: Path
    no_answer: NoAnswer
    n_samples: int = 1
    min_valid: int = 1
    """Samples that have to be valid for a row to be answered."""
    round: int = 0
    bought: bool = True
    """Whether there was a job: what was only sent in vain was not bought."""
    replaced: bool = False
    """Whether earlier answers to the rows are to other content, so that none of them stands."""
    price: BatchPrice | None = None
    """Of the run's model when the job was made; None where nobody knows."""


@dataclass(frozen=True)
class Packed:
    """A result file after compression: of its plain bytes."""

    sha256: str
    size_bytes: int
    lines: int
    ends_line: bool
    """Whether the last line has its line feed: one that has not may be cut."""


@dataclass(frozen=True)
class PackTask:
    plain: Path
    packed: Path


def pack(task: PackTask) -> Packed:
    """Compress a downloaded result file (zstd) and say what it was."""
    with pa.CompressedOutputStream(str(task.packed), "zstd") as out:
        return measure(task.plain, out.write)


def measure(plain: Path, seen: Callable[[bytes], object] = bool) -> Packed:
    """What a result file is; `seen` is given every byte, in order."""
    digest, size, lines, last = hashlib.sha256(), 0, 0, b"\n"
    with plain.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            seen(chunk)
            size, lines, last = size + len(chunk), lines + chunk.count(b"\n"), chunk[-1:]
    return Packed(digest.hexdigest(), size, lines + (last != b"\n"), last == b"\n")


def parse(task: ParseTask) -> Tally:
    """Write the part of a shard.

    Raises:
        BadInput: the schema of the run cannot be used here.
        RunStopped: a file of the run is damaged.
        OSError: a scratch file cannot be written.
    """
    taken = Taken(task.n_samples, task.round, task.bought, task.no_answer, task.price)
    shard = Shard(task.rows, task.requests, taken)
    maker = RowMaker(task.response_schema, task.n_samples, task.min_valid)
    digest, sizes = hashlib.sha256(), list[int]()

    def seen(chunk: bytes) -> None:
        digest.update(chunk)
        sizes.append(len(chunk))

    first = read_bodies(task.raw, seen) if task.raw else ()
    aligned = align(first, shard.keys(task.nonce), lambda: read_bodies(task.raw) if task.raw else ())
    count = Count(task.min_valid, task.replaced)
    with Writer(task.part, maker.schema) as writer:
        for block in shard.blocks(aligned):
            made = maker.make(block.rows)
            writer.write(made.table)
            count.add(block, made)
    raw_sha256 = digest.hexdigest() if task.raw else None
    return count.tally(aligned).model_copy(
        update={"raw_sha256": raw_sha256, "raw_bytes": sum(sizes), "part_sha256": _sha256(task.part)}
    )


def read_lines(raw: Path, seen: Callable[[bytes], object] = bool) -> Iterator[bytes]:
    """Lines of a packed result file, split at line feeds only: texts may hold U+2028.

    Args:
        seen: is given every byte, in order.

    Raises:
        RunStopped: it is damaged.
        OSError: not now.
    """
    return split_lines(_seen_by(seen, _unpacked(raw)))


def split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines of a file that comes in pieces; the last one may be empty."""
    for body in whole_lines(chunks):
        yield from body.split(b"\n")


def read_bodies(raw: Path, seen: Callable[[bytes], object] = bool) -> Iterator[bytes]:
    """The bytes of a packed result file in stretches that end where a line does; raises as `read_lines`."""
    return whole_lines(_seen_by(seen, _unpacked(raw)))


def whole_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces that end behind a line, but for the last."""
    rest = list[bytes]()
    for chunk in chunks:
        end = chunk.rfind(b"\n") + 1
        if end:
            yield b"".join([*rest, chunk[: end - 1]])
            rest = []
        rest.append(chunk[end:])
    yield b"".join(rest)


def _seen_by(seen: Callable[[bytes], object], chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        seen(chunk)
        yield chunk


def _unpacked(raw: Path) -> Iterator[bytes]:
    try:
        with pa.CompressedInputStream(str(raw), "zstd") as source:
            while chunk := source.read(CHUNK_BYTES):
                yield chunk
        damage = "" if raw.stat().st_size else "empty"  # packed, even nothing has some bytes
    except OSError as error:
        if error.errno is not None:  # the disk's word, not Arrow's
            raise
        damage = str(error)
    if damage:
        raise RunStopped(f"{raw} is damaged ({damage}); restore it, or delete it and resume: it is fetched again")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
