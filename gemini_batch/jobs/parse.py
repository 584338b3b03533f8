"""A shard's raw results become its part. Runs in a process of the CPU pool.

In: a `ParseTask`. Out: the part under the given scratch path, every row of the shard in index order, and a `Tally`.
The rows are any rows of the manifest; of those that were bought before, only what this shard asked for is in its part.
"""

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch.errors import RunStopped
from gemini_batch.gemini.prices import BatchPrice
from gemini_batch.gemini.wire import Answer
from gemini_batch.jobs.align import Aligned, align
from gemini_batch.jobs.sent import Samples, asked_samples, sent_samples
from gemini_batch.parquet import Writer, read_own_columns, read_own_table
from gemini_batch.records import Failed, SchemaSpec, Tally
from gemini_batch.reducer.rows import (
    TOKENS,
    Made,
    RowMaker,
    Rows,
    Usage,
    cost_of,
    per_token,
    sum_cost,
    sum_usage,
    usage_of,
)

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class NoAnswer:
    """What to say of a row that was sent and has no line: `kind` and `message` of its error."""

    kind: str
    message: str


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
    shard = _Shard(task)
    digest, sizes = hashlib.sha256(), list[int]()

    def seen(chunk: bytes) -> None:
        digest.update(chunk)
        sizes.append(len(chunk))

    lines = read_lines(task.raw, seen) if task.raw else ()
    aligned = align(lines, task.nonce, shard.indices, shard.sent)
    rows, costs = shard.answered(aligned)
    made = RowMaker(task.response_schema, task.n_samples, task.min_valid).make(rows)
    with Writer(task.part, made.table.schema) as writer:
        writer.write(made.table)
    tally = shard.tally(aligned, rows, costs, made)
    raw_sha256 = digest.hexdigest() if task.raw else None
    return tally.model_copy(
        update={"raw_sha256": raw_sha256, "raw_bytes": sum(sizes), "part_sha256": _sha256(task.part)}
    )


class _Shard:
    """What a shard asked for, and what became of it."""

    def __init__(self, task: ParseTask) -> None:
        self._task = task
        self._rows = read_own_columns(task.rows, ["index", "key"], ["samples", "attempts", "was", "valid"])
        record = read_own_table(task.requests)
        self.indices: list[int] = self._rows["index"].to_pylist()
        self.asked = asked_samples(self._rows, task.n_samples)
        self.sent = sent_samples(self.asked, record)
        self._digests: list[str | None] = record["request_digest"].to_pylist()
        self._kinds: list[str | None] = record["error_kind"].to_pylist()
        self._messages: list[str | None] = record["error_message"].to_pylist()

    def _before(self, name: str, absent: Any) -> list[Any]:
        """What an optional column says of the rows."""
        if name not in self._rows.column_names:
            return [absent] * len(self.indices)
        return [absent if value is None else value for value in self._rows[name].to_pylist()]

    def answered(self, aligned: Aligned) -> tuple[Rows, list[float | None]]:
        """The shard's rows, and what each line that was bought cost."""
        bought = [self._task.bought and bool(samples) for samples in self.sent]
        usage, cost_usd, costs = self._used(aligned, bought)
        before: list[int] = self._before("attempts", 0)
        rows = Rows(
            index=self._rows["index"],
            key=self._rows["key"],
            samples=self.asked,
            answers=self._answers(aligned),
            attempts=[earlier + now for earlier, now in zip(before, bought, strict=True)],
            round=[self._task.round] * len(self.indices),
            usage=usage,
            cost_usd=cost_usd,
            request_digest=self._digests,
        )
        return rows, costs

    def _answers(self, aligned: Aligned) -> list[Answer]:
        """An answer for each sample that was asked for: its line's, or why there is none."""
        absent = Answer("failed", kind=self._task.no_answer.kind, message=self._task.no_answer.message)
        answers = list[Answer]()
        for place, (found, kind, samples) in enumerate(zip(aligned.answers, self._kinds, self.asked, strict=True)):
            if kind is not None:
                answers += [Answer("failed", kind=kind, message=self._messages[place])] * len(samples)
            elif len(samples) == 1:
                answers.append(found[samples[0]] or absent)
            else:
                answers += [found[sample] or absent for sample in samples]
        return answers

    def _used(self, aligned: Aligned, bought: list[bool]) -> tuple[list[Usage], list[float | None], list[float | None]]:
        """Per row its usage and cost, and per line that was bought its cost."""
        price = per_token(self._task.price) if self._task.price else None
        usage, cost_usd, costs = list[Usage](), list[float | None](), list[float | None]()
        for found, samples, was_bought in zip(aligned.answers, self.sent, bought, strict=True):
            answers = [found[sample] for sample in samples]
            came = [answer for answer in answers if answer]
            usage.append(usage_of(came[0]) if len(came) == 1 else sum_usage([usage_of(answer) for answer in came]))
            if not was_bought:
                cost_usd.append(None)
            elif price is None:
                cost_usd.append(None)
                costs += [None] * len(answers)
            else:
                of_lines = [cost_of(answer, price) if answer else None for answer in answers]
                cost_usd.append(of_lines[0] if len(of_lines) == 1 else sum_cost(of_lines))
                costs += of_lines
        return usage, cost_usd, costs

    def tally(self, aligned: Aligned, rows: Rows, costs: list[float | None], made: Made) -> Tally:
        """Counts of lines, rows, samples and tokens; the files' digests are the caller's."""
        statuses = made.table["status"].to_pylist()
        kinds = pc.drop_null(pc.struct_field(made.table["error"], "kind")).to_pylist()
        placed = aligned.received - aligned.duplicate - aligned.foreign - aligned.broken
        tokens = {name: pc.sum(pc.struct_field(made.table["usage"], name)).as_py() or 0 for name in TOKENS}
        known = [cost for cost in costs if cost is not None]
        return Tally(
            rows=len(statuses),
            by_status=dict(Counter(statuses)),
            by_kind=dict(Counter(kinds)),
            received=aligned.received,
            missing=sum(map(len, self.sent)) - placed,
            duplicate=aligned.duplicate,
            conflicting=aligned.conflicting,
            foreign=aligned.foreign,
            broken=aligned.broken,
            prompt_tokens=tokens["prompt_tokens"],
            output_tokens=tokens["output_tokens"],
            thoughts_tokens=tokens["thoughts_tokens"],
            failed=_failed(self.asked, made.answers, rows.attempts),
            mended=self._mended(made),
            cost_usd=sum(known),
            unpriced=len(costs) - len(known),
            counted=self._counted(aligned),
            part_sha256="",
        )

    def _counted(self, aligned: Aligned) -> int:
        """Lines that tell the tokens of their prompt."""
        pairs = zip(aligned.answers, self.sent, strict=True)
        answers = (found[sample] for found, samples in pairs for sample in samples)
        return sum(answer is not None and bool(answer.prompt_tokens) for answer in answers)

    def _mended(self, made: Made) -> int:
        """Rows that were not answered, and are with what this shard adds; less those that it leaves without the answer
        that they had."""
        if "was" not in self._rows.column_names:
            return 0
        valid = zip(made.table["n_valid"].to_pylist(), self._before("valid", 0), strict=True)
        enough = [now + earlier >= self._task.min_valid for now, earlier in valid]
        changes = Counter(zip(enough, (was == "ok" for was in self._before("was", "ok")), strict=True))
        return changes[True, False] - (changes[False, True] if self._task.replaced else 0)


def _failed(asked: Sequence[Samples], answers: Sequence[Answer], attempts: Sequence[int]) -> tuple[Failed, ...]:
    """Samples without a valid answer, by kind and attempts."""
    starts = list(accumulate(map(len, asked), initial=0))
    failed = [
        (bisect_right(starts, at) - 1, answer.kind) for at, answer in enumerate(answers) if answer.kind is not None
    ]
    requests = Counter((kind, attempts[place]) for place, kind in failed)
    rows = Counter((kind, attempts[place]) for place, kind in set(failed))
    return tuple(
        Failed(kind=kind, attempts=times, rows=rows[kind, times], requests=requests[kind, times])
        for kind, times in sorted(requests)
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
    for lines in split_chunks(chunks):
        yield from lines


def split_chunks(chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The same, with all lines that end in a piece at a time."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield whole
    yield [rest]


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
