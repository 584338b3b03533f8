"""A service with limits and runs that want to be served, played against the quota desk's book on a clock of its own."""

import heapq
from dataclasses import dataclass, field
from random import Random

from made import make_limits

from gemini_batch.quota.book import Book
from gemini_batch.quota.words import Applicant
from gemini_batch.records import Limits, ShardState

S = ShardState
LOOK_SECONDS = 20.0
"""Between two looks at all that waits, as a sweep's."""


@dataclass
class Playing:
    run: str
    sizes: list[int]
    """Tokens of its shards."""
    begins: float = 0.0
    state: dict[int, ShardState] = field(default_factory=dict)
    version: dict[int, int] = field(default_factory=dict)
    ended: dict[int, float] = field(default_factory=dict)
    alive: set[int] = field(default_factory=set)

    def who(self, shard: int) -> Applicant:
        return Applicant(
            run=self.run, shard=shard, model="m", tokens=self.sizes[shard], version=self.version.get(shard, 0),
            state=self.state.get(shard, S.PLANNED), has_job=self.state.get(shard) in (S.SUBMITTED, S.ENDED),
        )  # fmt: skip

    def move(self, book: Book, shard: int, state: ShardState, now: float) -> None:
        self.version[shard] = self.version.get(shard, 0) + 1
        self.state[shard] = state
        book.follow(self.who(shard), now)

    def waiting(self) -> list[int]:
        return [shard for shard in range(len(self.sizes)) if shard not in self.state]


@dataclass
class Play:
    """What happened."""

    refused: list[float]
    creates: int
    makespan: float
    most_jobs: int
    most_tokens: int
    runs: list[Playing]
    split: set[str]


def play(
    runs: list[Playing],
    limits: Limits | None = None,
    jobs: int = 100,
    tokens: float = float("inf"),
    seconds: float = 600.0,
    seed: int = 0,
    foreign: int = 0,
    until: float = 30 * 86_400.0,
) -> Play:
    """Serve the runs.

    Args:
        limits: what the book is told.
        jobs, tokens: what the service takes.
        seconds: mean of the jobs' times, which are from half to one and a half of it.
    """
    dice, book, limits = Random(seed), Book(lasting=True), limits or make_limits()
    live: list[tuple[float, int, int]] = []  # end, run, shard
    played = Play([], 0, 0.0, 0, 0, runs, set())
    now = 0.0
    for run in runs:
        book.proven.add(run.run)
    while now < until and any(len(run.ended) < len(run.sizes) for run in runs):
        while live and live[0][0] <= now:
            end, which, shard = heapq.heappop(live)
            runs[which].ended[shard] = played.makespan = end
            runs[which].move(book, shard, S.ENDED, end)
        for which, run in enumerate(runs):
            if now < run.begins:
                continue
            waiting = run.waiting()
            room = book.room(run.run, "m", limits, now, run.who(waiting[0]) if waiting else None)
            for shard in waiting[: room.shards + 1]:
                if book.ask(run.who(shard), limits, now) is None:
                    run.move(book, shard, S.CLAIMED, now)
                    run.move(book, shard, S.READY, now)
            for shard in [shard for shard, state in run.state.items() if state is S.READY]:
                if book.may_send(run.who(shard), limits, now):
                    continue
                run.move(book, shard, S.SENDING, now)
                if book.may_send(run.who(shard), limits, now):
                    run.move(book, shard, S.READY, now)
                    continue
                load = sum(runs[at].sizes[one] for _, at, one in live)
                if len(live) + foreign >= jobs or load + run.sizes[shard] > tokens:
                    played.refused.append(now)
                    if book.refused(run.who(shard), now, dice.random()):
                        played.split.add(run.who(shard).name)
                    run.move(book, shard, S.READY, now)
                    continue
                played.creates += 1
                heapq.heappush(live, (now + seconds * dice.uniform(0.5, 1.5), which, shard))
                run.move(book, shard, S.SUBMITTED, now)
                played.most_jobs = max(played.most_jobs, len(live))
                played.most_tokens = max(played.most_tokens, load + run.sizes[shard])
        now = now + LOOK_SECONDS
    return played
