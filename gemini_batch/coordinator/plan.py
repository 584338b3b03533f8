"""How rows become shards, decided purely.

In: what each row weighs. Out: where one shard ends and the next begins. The cut depends on the rows alone, not on how
they arrive in blocks, so the same manifest always gives the same plan.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from gemini_batch.records import Limits, ShardPlan

SHARDS = 2_000
"""A run of fewer is planned, if it can be: a project makes some hundreds of jobs a day (`quota/limits.toml`)."""

GROWN_REQUESTS = 200_000
"""The most requests of a job that the service documents anywhere: Vertex AI's ("Batch inference with Gemini")."""


@dataclass(frozen=True)
class Weights:
    """Per row of a block: bytes of its request lines and estimated input tokens, both 0 for a row that cannot be
    sent."""

    request_bytes: Sequence[int]
    tokens: Sequence[int]
    samples: int = 1
    """Requests that each row takes."""


@dataclass(frozen=True)
class Cut:
    """Rows `start` to `stop` of the block belong to the open shard; `full` closes it."""

    start: int
    stop: int
    full: ShardPlan | None


@dataclass
class _Open:
    first_index: int
    rows: int = 0
    requests: int = 0
    request_bytes: int = 0
    tokens: int = 0


@dataclass
class Splitter:
    """Fills shards in row order up to the first limit met: requests, bytes or tokens.

    All samples of a row are in one shard, and a row that cannot be sent takes their room too. A row that alone passes
    the token limit gets a shard of its own: the limit is an estimate, the row is not.
    """

    limits: Limits
    _shard: int = 0
    _open: _Open = field(default_factory=lambda: _Open(0))

    def feed(self, weights: Weights) -> Iterator[Cut]:
        """Place one block of rows."""
        sums = _Sums(weights)
        start = 0
        while start < sums.rows:
            stop = self._room(sums, start)
            if stop == start and self._open.rows == 0:
                stop = start + 1
            self._add(sums, start, stop)
            yield Cut(start, stop, self._close() if stop < sums.rows else None)
            start = stop

    def finish(self) -> ShardPlan | None:
        """The last, partly filled shard."""
        return self._close() if self._open.rows else None

    def _room(self, sums: "_Sums", start: int) -> int:
        """The row before which the open shard is full."""
        limits, used = self.limits, self._open
        stop = min(sums.rows, start + limits.max_requests_per_shard // sums.samples - used.rows)
        stop = min(stop, _fits(sums.request_bytes, start, limits.max_bytes_per_shard - used.request_bytes))
        if limits.max_tokens_per_shard is not None:
            stop = min(stop, _fits(sums.tokens, start, limits.max_tokens_per_shard - used.tokens))
        return max(stop, start)

    def _add(self, sums: "_Sums", start: int, stop: int) -> None:
        used = self._open
        used.rows += stop - start
        used.requests += sums.requests[stop] - sums.requests[start]
        used.request_bytes += sums.request_bytes[stop] - sums.request_bytes[start]
        used.tokens += sums.tokens[stop] - sums.tokens[start]

    def _close(self) -> ShardPlan:
        used = self._open
        made = ShardPlan(
            shard=self._shard,
            first_index=used.first_index,
            rows=used.rows,
            requests=used.requests,
            request_bytes=used.request_bytes,
            tokens=used.tokens,
        )
        self._shard += 1
        self._open = _Open(used.first_index + used.rows)
        return made


@dataclass
class Retracer:
    """Cuts where a plan has cut already."""

    shards: Sequence[ShardPlan]
    _shard: int = 0
    _row: int = 0

    def feed(self, rows: int) -> Iterator[Cut]:
        """Place one block of so many rows; those behind the last shard stay in an open one."""
        start = 0
        while start < rows:
            here = self.shards[self._shard] if self._shard < len(self.shards) else None
            end = here.first_index + here.rows - self._row if here else rows + 1
            stop = min(rows, end)
            yield Cut(start, stop, here if stop == end else None)
            self._shard += stop == end
            start = stop
        self._row += rows


def grow(
    shards: Sequence[ShardPlan], max_bytes: int, max_tokens: int | None, fewer_than: int = SHARDS
) -> list[ShardPlan]:
    """Neighbours of a first round in one shard, as few as it takes, within these limits and `GROWN_REQUESTS`.

    A plan of fewer shards than asked for stays; one that cannot have fewer gets as few as it can.
    """
    if len(shards) < fewer_than:
        return list(shards)

    def merged(most: int) -> list[tuple[int, int]]:
        return list(_runs_of(shards, most, max_bytes, max_tokens))

    several = range(2, len(shards))  # more at once never make more shards, so the fewest are found by halving
    most = 2 + bisect_left(several, True, key=lambda most: len(merged(most)) < fewer_than)
    return [_as_one(at, shards[start:stop]) for at, (start, stop) in enumerate(merged(most))]


def _runs_of(
    shards: Sequence[ShardPlan], most: int, max_bytes: int, max_tokens: int | None
) -> Iterator[tuple[int, int]]:
    """Where each stretch of at most so many shards starts and stops."""
    start = requests = request_bytes = tokens = 0
    for at, shard in enumerate(shards):
        requests, request_bytes = requests + shard.requests, request_bytes + shard.request_bytes
        tokens += shard.tokens
        over = (
            requests > GROWN_REQUESTS or request_bytes > max_bytes or (max_tokens is not None and tokens > max_tokens)
        )
        if at > start and (over or at - start == most):
            yield start, at
            start, requests, request_bytes, tokens = at, shard.requests, shard.request_bytes, shard.tokens
    yield start, len(shards)


def _as_one(number: int, shards: Sequence[ShardPlan]) -> ShardPlan:
    names = ("rows", "requests", "request_bytes", "tokens")
    sums = {name: sum(getattr(shard, name) for shard in shards) for name in names}
    return ShardPlan(shard=number, first_index=shards[0].first_index, **sums)


class _Sums:
    """Prefix sums, so that the end of a shard is one binary search."""

    def __init__(self, weights: Weights) -> None:
        self.rows = len(weights.request_bytes)
        self.samples = weights.samples
        self.request_bytes = list(accumulate(weights.request_bytes, initial=0))
        self.tokens = list(accumulate(weights.tokens, initial=0))
        self.requests: Sequence[int] = range(0, (self.rows + 1) * self.samples, self.samples)
        if not all(weights.request_bytes):
            self.requests = list(accumulate((self.samples * (size > 0) for size in weights.request_bytes), initial=0))


def _fits(sums: list[int], start: int, room: int) -> int:
    return bisect_right(sums, sums[start] + room) - 1
