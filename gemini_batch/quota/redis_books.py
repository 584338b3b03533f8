"""A project's book in Redis, shared by all workers and runs of the project.

One hash per project, changed by WATCH / MULTI / EXEC around the same rules that a single process uses. Redis may lose
it at any moment: the book counts only while its generation key is there, which is set after every ledger of the project
has been read anew (`restore`). Without it nobody is let in, so a flush cannot pass a limit. Time is Redis's own.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import redis

from gemini_batch.quota.belief import Belief
from gemini_batch.quota.book import Book, follow_all
from gemini_batch.quota.desk import DeskClosed
from gemini_batch.quota.turns import Waiter
from gemini_batch.quota.uses import Uses
from gemini_batch.quota.words import Applicant, Foreign, Lease, ListedJob
from gemini_batch.records import Frozen

R = TypeVar("R")

GENERATION_SECONDS = 600
"""Without a sweep for so long the book is not believed: shorter than a lease, so no lease expires in a believed one."""

TRIES = 100
"""Lost races before a change gives up; each means that somebody else's change went through."""

Fields = dict[bytes, bytes]


class RedisBooks:
    """The book of one project. Safe between threads, processes and machines."""

    def __init__(self, client: "redis.Redis", endpoint: str, project: str) -> None:
        whose = hashlib.sha256(f"{endpoint} {project}".encode()).hexdigest()[:16]
        self._client = client
        self._key = f"gemini-batch:desk:{whose}"
        self._generation = f"{self._key}:generation"

    def change(self, step: Callable[[Book, float], R]) -> R:
        return self._transact(step, _Condition(self._generation, b"1", "the quota desk is being rebuilt"))

    def is_believed(self) -> bool:
        """Whether a generation is there: no one needs to rebuild.

        Raises:
            DeskClosed: Redis cannot be asked.
        """
        try:
            return bool(self._client.exists(self._generation))
        except redis.RedisError as error:
            raise _away(error) from None

    def renew(self, ledger: Iterable[Applicant], scales: Mapping[str, float] | None = None) -> None:
        """Hold the book against what a sweep read of the ledgers; a generation that is there stays for longer.

        Args:
            ledger: the last records of every shard of the runs that are named.
            scales: by run, actual over estimated input tokens.

        Raises:
            DeskClosed: Redis cannot be asked, or the book has gone meanwhile.
        """
        known = list(ledger)
        self.change(lambda book, now: _follow(book, known, scales, now))
        try:
            self._client.expire(self._generation, GENERATION_SECONDS)
        except redis.RedisError as error:
            raise _away(error) from None

    def see(self, listed: Iterable[ListedJob]) -> None:
        """Count the jobs of others that a listing shows.

        Raises:
            DeskClosed: Redis cannot be asked, or the book is not complete.
        """
        jobs = list(listed)
        self.change(lambda book, now: book.see(jobs, now))

    def restore(
        self,
        ledger: Iterable[Applicant],
        key: str,
        value: bytes,
        scales: Mapping[str, float] | None = None,
        listed: Iterable[ListedJob] = (),
    ) -> None:
        """Make the book anew and believe it.

        Args:
            ledger: the last records of every shard of every run of the project, read while the token was held.
            key: of a token that was set before the reading began; it vanishes with everything else in a flush.
            value: of the token.
            scales: by run, actual over estimated input tokens.
            listed: what a listing shows.

        Raises:
            DeskClosed: Redis cannot be asked, or the token has gone: something may have been sent since that
                this does not know.
        """

        known, jobs = list(ledger), list(listed)

        def step(book: Book, now: float) -> None:
            _follow(book, known, scales, now)
            book.see(jobs, now)

        held = _Condition(key, value, "Redis lost its data while the quota desk was being rebuilt")
        self._transact(step, held, believe=True)

    def _transact(self, step: Callable[[Book, float], R], condition: "_Condition", believe: bool = False) -> R:
        try:
            for _ in range(TRIES):
                with self._client.pipeline() as pipe:
                    try:
                        return self._attempt(pipe, step, condition, believe)
                    except redis.WatchError:
                        continue
        except redis.RedisError as error:
            raise _away(error) from None
        raise DeskClosed("the quota desk is busy")

    def _attempt(self, pipe: Any, step: Callable[[Book, float], R], condition: "_Condition", believe: bool) -> R:
        pipe.watch(self._key, condition.key)
        if pipe.get(condition.key) != condition.value:
            raise DeskClosed(condition.reason)
        seconds, microseconds = pipe.time()
        before: Fields = pipe.hgetall(self._key)
        book = _read(before)
        result = step(book, float(seconds) + microseconds / 1e6)
        after = _written(book)
        changed = {name: value for name, value in after.items() if before.get(name) != value}
        gone = [name for name in before if name not in after]
        if not (changed or gone or believe):
            return result
        pipe.multi()
        if changed:
            pipe.hset(self._key, mapping=changed)
        if gone:
            pipe.hdel(self._key, *gone)
        if believe:
            pipe.set(self._generation, "1", ex=GENERATION_SECONDS)
        pipe.execute()
        return result


@dataclass(frozen=True)
class _Condition:
    """What must be in Redis, until a change is made, for the change to be made."""

    key: str
    value: bytes
    reason: str
    """Why not, when it is not."""


def _away(error: redis.RedisError) -> DeskClosed:
    return DeskClosed(f"the quota desk cannot be reached ({type(error).__name__})")


def _follow(book: Book, ledger: Iterable[Applicant], scales: Mapping[str, float] | None, now: float) -> None:
    for run, scale in (scales or {}).items():
        book.calibrate(run, scale)
    follow_all(book, ledger, now)
    if scales is not None:  # of runs that have ended nobody asks any more
        held = {lease.run for lease in book.leases.values()}
        book.scales = {run: scale for run, scale in book.scales.items() if run in scales or run in held}


RECORDS: dict[str, type[Frozen]] = {"leases": Lease, "beliefs": Belief, "uses": Uses, "heads": Waiter}
NUMBERS: dict[str, type[int] | type[float]] = {"largest": int, "scales": float}
"""Tables of the book, by what a row is. A field of the hash is `table:row`."""


def _read(fields: Fields) -> Book:
    book = Book()
    for name, value in fields.items():
        table, _, row = name.decode().partition(":")
        if kind := RECORDS.get(table):
            getattr(book, table)[row] = kind.model_validate_json(value)
        elif number := NUMBERS.get(table):
            getattr(book, table)[row] = number(value)
        elif table == "proven":
            book.proven.add(row)
        elif table == "foreign":
            book.foreign = Foreign.model_validate_json(value)
    return book


def _written(book: Book) -> Fields:
    fields = {f"proven:{run}": b"1" for run in book.proven}
    fields["foreign:"] = book.foreign.model_dump_json().encode()
    for table in RECORDS:
        fields |= {f"{table}:{row}": made.model_dump_json().encode() for row, made in getattr(book, table).items()}
    for table in NUMBERS:
        fields |= {f"{table}:{row}": repr(number).encode() for row, number in getattr(book, table).items()}
    return {name.encode(): value for name, value in fields.items()}
