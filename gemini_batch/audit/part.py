"""A part, held against the frozen rows, the requests and the raw lines of its shard, row by row.

In: what of those could be read. Out: counts, and where the part says something else. Nothing here is of the code that
made the part.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch.audit.compare import differing, file_sha256, indices
from gemini_batch.audit.facts import Part, Spot
from gemini_batch.jobs.sent import Samples
from gemini_batch.parquet import read_blocks
from gemini_batch.records import Asked, Failed, ShardPlan

COLUMNS = (
    "index", "key", "status", "text", "error", "n_valid", "samples", "attempts", "round", "usage", "cost_usd",
    "request_digest",
)  # fmt: skip

Place = tuple[int, int]
"""A row's place in its shard, and a sample."""


@dataclass(frozen=True)
class Frozen:
    """The frozen rows, as far as other files are held against them. One entry per row."""

    index: pa.Array
    key: pa.Array
    samples: list[Samples]
    """That the row is asked for."""
    attempts: list[int]
    was: list[str] | None
    """What the row was before; None in round 0."""
    valid: list[int]
    """Samples that were valid before."""


@dataclass(frozen=True)
class Sent:
    """What was sent for each row."""

    digests: pa.Array
    samples: list[Samples] | None
    """That have a line; None where there is no telling, for want of the rows."""


@dataclass(frozen=True)
class Said:
    """What a sample's line says, its text as a hash."""

    status: str
    text: int


@dataclass(frozen=True)
class _Sample:
    """A sample as the part has it."""

    number: int
    status: str
    text: str | None
    kind: str | None


class PartReading:
    """One pass over a part, held against whatever of the rest could be read."""

    def __init__(
        self,
        asked: Asked,
        was_bought: bool,
        plan: ShardPlan,
        frozen: Frozen | None,
        sent: Sent | None,
        said: dict[Place, Said] | None,
    ) -> None:
        self._asked, self._was_bought, self._plan = asked, was_bought, plan
        self._frozen, self._sent, self._said = frozen, sent, said
        self._rows = self._mended = self._unpriced = self._requests = 0
        self._with_usage = 0
        self._cost_usd = 0.0
        self._statuses, self._kinds, self._tokens = Counter[str](), Counter[str](), Counter[str]()
        self._failed_rows, self._failed_requests = Counter[tuple[str, int]](), Counter[tuple[str, int]]()
        self._rounds = set[int]()
        self._spots = dict[str, Spot]()

    def read(self, path: Path) -> Part:
        for block in read_blocks(path, COLUMNS):
            self._take(block)
        failed = tuple(
            Failed(kind=kind, attempts=times, rows=self._failed_rows[kind, times], requests=requests)
            for (kind, times), requests in sorted(self._failed_requests.items())
        )
        return Part(
            sha256=file_sha256(path),
            rows=self._rows,
            by_status=dict(self._statuses),
            by_kind=dict(self._kinds),
            prompt_tokens=self._tokens["prompt_tokens"],
            output_tokens=self._tokens["output_tokens"],
            thoughts_tokens=self._tokens["thoughts_tokens"],
            failed=failed,
            mended=self._mended if self._frozen else None,
            requests=self._requests,
            cost_usd=self._cost_usd,
            unpriced=self._unpriced,
            with_usage=self._with_usage,
            rounds=frozenset(self._rounds),
            **self._spots,
        )

    def _take(self, block: pa.RecordBatch) -> None:
        names = ("index", "status", "text", "n_valid", "attempts", "cost_usd")
        columns = (block[name].to_pylist() for name in names)
        rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        kinds = pc.struct_field(block["error"], "kind").to_pylist()
        self._statuses.update(row["status"] for row in rows)
        self._kinds.update(kind for kind in kinds if kind)
        self._tokens.update(_tokens(block["usage"]))
        self._with_usage += pc.sum(pc.greater(pc.struct_field(block["usage"], "prompt_tokens"), 0)).as_py() or 0
        self._rounds.update(block["round"].to_pylist())
        samples = _samples_of(block, kinds)
        self._hold_places(block)
        self._hold_samples(rows, samples)
        self._count(rows, samples)
        if self._said is not None:
            self._hold_against_lines(samples, self._said)
        self._rows += block.num_rows

    def _note(self, name: str, differs: Any) -> None:
        """Add to a spot the rows of the block at hand that are not as they should be."""
        differs = differs if isinstance(differs, pa.Array) else pa.array(differs, pa.bool_())
        spot = self._spots.get(name, Spot())
        first, count = self._index_of(differs), differs.true_count
        self._spots[name] = Spot(spot.count + count, first if spot.first is None else spot.first)

    def _index_of(self, differs: pa.Array) -> int | None:
        if not differs.true_count:
            return None
        place = self._rows + differs.index(True).as_py()
        known = self._frozen.index if self._frozen else pa.array([], pa.int64())
        index: int = known[place].as_py() if place < len(known) else self._plan.first_index + place
        return index

    def _hold_places(self, block: pa.RecordBatch) -> None:
        at, count = self._rows, block.num_rows
        if self._frozen is not None:
            other = differing(block["index"], self._frozen.index.slice(at, count))
            self._note("misplaced", pc.or_(other, differing(block["key"], self._frozen.key.slice(at, count))))
        elif self._plan.round == 0:
            self._note("misplaced", differing(block["index"], indices(self._plan.first_index + at, count)))
        if self._sent is not None:
            self._note("unlike_request", differing(block["request_digest"], self._sent.digests.slice(at, count)))

    def _hold_samples(self, rows: list[dict[str, Any]], samples: list[list[_Sample]]) -> None:
        """Whether each row is what its samples come to, and has those that it was asked for."""
        at, wrong = self._rows, list[bool]()
        for place, (row, held) in enumerate(zip(rows, samples, strict=True)):
            asked = self._asked_of(at + place)
            numbers, valid = [sample.number for sample in held], sum(sample.status == "ok" for sample in held)
            is_ok = bool(valid) and valid >= min(self._asked.min_valid, len(held))
            fits = (row["n_valid"], row["status"] == "ok") == (valid, is_ok)
            texts = {sample.text for sample in held}
            wrong.append(not fits or row["text"] not in texts or (asked is not None and numbers != list(asked)))
        self._note("misvoted", wrong)

    def _asked_of(self, place: int) -> Samples | None:
        known = self._frozen.samples if self._frozen else []
        return known[place] if place < len(known) else None

    def _count(self, rows: list[dict[str, Any]], samples: list[list[_Sample]]) -> None:
        """Failures, purchases and costs."""
        at, uncounted = self._rows, list[bool]()
        for place, (row, held) in enumerate(zip(rows, samples, strict=True), at):
            kinds = [sample.kind for sample in held if sample.kind is not None]
            self._failed_requests.update((kind, row["attempts"]) for kind in kinds)
            self._failed_rows.update((kind, row["attempts"]) for kind in set(kinds))
            self._requests += len(held)
            self._cost_usd += row["cost_usd"] or 0.0
            if self._frozen is None or place >= len(self._frozen.samples):
                continue
            self._unpriced += row["attempts"] > self._frozen.attempts[place] and row["cost_usd"] is None
            self._mended += self._is_mended(self._frozen, place, row["n_valid"])
            if self._sent is not None and self._sent.samples is not None:
                was_bought = self._was_bought and bool(self._sent.samples[place])
                uncounted.append(row["attempts"] != self._frozen.attempts[place] + was_bought)
        self._note("uncounted", uncounted)

    def _is_mended(self, frozen: Frozen, place: int, valid: int) -> int:
        """1 for a row that is answered now and was not, -1 for one that was and, with new content, is not."""
        if frozen.was is None:
            return 0
        fine, was_fine = valid + frozen.valid[place] >= self._asked.min_valid, frozen.was[place] == "ok"
        return fine - was_fine if self._plan.replaced else int(fine and not was_fine)

    def _hold_against_lines(self, samples: list[list[_Sample]], said: dict[Place, Said]) -> None:
        without, other = list[bool](), list[bool]()
        for place, held in enumerate(samples, self._rows):
            lines = [(sample, said.get((place, sample.number))) for sample in held]
            without.append(any(sample.status == "ok" and line is None for sample, line in lines))
            other.append(any(_says_other(sample, line) for sample, line in lines))
        self._note("without_line", without)
        self._note("unlike_line", other)


def _samples_of(block: pa.RecordBatch, kinds: list[str | None]) -> list[list[_Sample]]:
    """The samples of each row; with one sample a row, the row is its sample."""
    if block["samples"].null_count == block.num_rows:
        rows = zip(block["status"].to_pylist(), block["text"].to_pylist(), kinds, strict=True)
        return [[_Sample(0, *row)] for row in rows]
    return [
        [_Sample(one["sample"], one["status"], one["text"], one["error_kind"]) for one in row or ()]
        for row in block["samples"].to_pylist()
    ]


def _says_other(sample: _Sample, line: Said | None) -> bool:
    """Whether a sample says something else than its line. What no schema accepts is `invalid`, whatever the line
    says."""
    if line is None:
        return sample.text is not None
    status = sample.status
    return hash(sample.text) != line.text or (status != line.status and (status, line.status) != ("invalid", "ok"))


def _tokens(usage: pa.Array) -> dict[str, int]:
    names = ("prompt_tokens", "output_tokens", "thoughts_tokens")
    return {name: pc.sum(pc.struct_field(usage, name)).as_py() or 0 for name in names}
