"""What collecting a shard found, counted block by block. Pure.

In: blocks of a shard, and the rows that were made of them. Out: a `Tally`, the digests of files left to the caller.
"""

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch.gemini.lines import TOKENS
from gemini_batch.jobs.align import Aligned
from gemini_batch.jobs.asked import Block
from gemini_batch.records import Failed, Tally
from gemini_batch.reducer.rows import Made

Why = tuple[str, int]
"""Kind of failure, and times that its row was bought."""


class Count:
    """Adds up the blocks of one shard.

    Args:
        min_valid: samples that have to be valid for a row to be answered.
        replaced: whether earlier answers to the rows are to other content, so that none of them stands.
    """

    def __init__(self, min_valid: int, replaced: bool) -> None:
        self._min_valid, self._replaced = min_valid, replaced
        self._statuses, self._kinds, self._tokens = Counter[str](), Counter[str](), Counter[str]()
        self._failed_rows, self._failed_requests = Counter[Why](), Counter[Why]()
        self._rows = self._mended = self._unpriced = self._counted = self._sent = 0
        self._cost_usd = 0.0

    def add(self, block: Block, made: Made) -> None:
        table = made.table
        self._rows += len(table)
        self._statuses += _counts(table["status"])
        self._kinds += _counts(pc.drop_null(pc.struct_field(table["error"], "kind")))
        for name in TOKENS:
            self._tokens[name] += pc.sum(pc.struct_field(table["usage"], name)).as_py() or 0
        self._cost_usd = sum(pc.drop_null(block.costs).to_pylist(), self._cost_usd)
        self._unpriced += block.costs.null_count
        self._sent += len(block.prompt_tokens)
        self._counted += pc.sum(pc.greater(block.prompt_tokens, 0)).as_py() or 0
        self._mended += self._mended_in(block, table["n_valid"])
        self._add_failed(block, made)

    def _add_failed(self, block: Block, made: Made) -> None:
        """Samples without a valid answer, and the rows they are of."""
        kinds = made.answers.column("kind")
        failed = pc.is_valid(kinds)
        if not failed.true_count:
            return
        of = block.of.filter(failed)
        why = list(zip(kinds.filter(failed).to_pylist(), block.rows.attempts.take(of).to_pylist(), strict=True))
        self._failed_requests += Counter(why)
        self._failed_rows += Counter(why for _, why in set(zip(of.to_pylist(), why, strict=True)))

    def _mended_in(self, block: Block, n_valid: pa.ChunkedArray) -> int:
        """Rows that were not answered, and are with what this shard adds; less those that it leaves without the answer
        that they had."""
        if "was" not in block.was.column_names:
            return 0
        valid = block.was["valid"].to_pylist() if "valid" in block.was.column_names else [0] * len(n_valid)
        enough = [
            now + (before or 0) >= self._min_valid for now, before in zip(n_valid.to_pylist(), valid, strict=True)
        ]
        changes = Counter(zip(enough, (was in ("ok", None) for was in block.was["was"].to_pylist()), strict=True))
        return changes[True, False] - (changes[False, True] if self._replaced else 0)

    def tally(self, aligned: Aligned) -> Tally:
        placed = aligned.received - aligned.duplicate - aligned.foreign - aligned.broken
        failed = self._failed_requests
        return Tally(
            rows=self._rows,
            by_status=dict(self._statuses),
            by_kind=dict(self._kinds),
            received=aligned.received,
            missing=self._sent - placed,
            duplicate=aligned.duplicate,
            conflicting=aligned.conflicting,
            foreign=aligned.foreign,
            broken=aligned.broken,
            prompt_tokens=self._tokens["prompt_tokens"],
            output_tokens=self._tokens["output_tokens"],
            thoughts_tokens=self._tokens["thoughts_tokens"],
            failed=tuple(
                Failed(kind=why[0], attempts=why[1], rows=self._failed_rows[why], requests=failed[why])
                for why in sorted(failed)
            ),
            mended=self._mended,
            cost_usd=self._cost_usd,
            unpriced=self._unpriced,
            counted=self._counted,
            part_sha256="",
        )


def _counts(values: pa.ChunkedArray) -> Counter[str]:
    found = pc.value_counts(values)
    return Counter(dict(zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True)))
