"""The quota desk: who may have a job in flight.

The rules are `book.py`'s; here is where a book lies (in this process, or in Redis for a whole fleet) and the desk that
the shards of one run go to. A desk that cannot be reached lets nobody in and forgets nothing: the ledger is the truth.
"""

from collections.abc import Callable
from threading import Lock
from typing import Protocol, TypeVar

from gemini_batch.quota.book import Applicant, Book
from gemini_batch.records import Limits, RunRecord, ShardRecord

R = TypeVar("R")


class DeskClosed(Exception):
    """The book cannot be read or is not complete: nobody is let in. The text is the reason to wait."""


class Books(Protocol):
    def change(self, step: Callable[[Book, float], R]) -> R:
        """Apply `step(book, desk time)` as if nobody else did anything meanwhile.

        Raises:
            DeskClosed: there is no book to go by now.
        """


class MemoryBooks:
    """The book of one process. Safe between threads.

    Its time stands still: no lease expires, since whoever holds one lives as long as the book.
    """

    def __init__(self) -> None:
        self._book = Book()
        self._lock = Lock()

    def change(self, step: Callable[[Book, float], R]) -> R:
        with self._lock:
            return step(self._book, 0.0)


class Desk:
    """The desk as the shards of one run see it."""

    def __init__(self, books: Books, run: RunRecord, limits: Limits) -> None:
        self.limits = limits
        self._books = books
        self._run = run

    def ask(self, record: ShardRecord, tokens: int) -> str | None:
        """None with a lease; otherwise the reason to wait. Asking again with a lease renews it."""
        return self._reason(lambda book, now: book.ask(self.applicant(record, tokens), self.limits, now))

    def may_send(self, record: ShardRecord, tokens: int) -> str | None:
        """None when the shard may create its job now; otherwise the reason to wait."""
        return self._reason(lambda book, now: book.may_send(self.applicant(record, tokens), self.limits, now))

    def refused(self, record: ShardRecord, tokens: int) -> None:
        """The service answered 429 to this shard's create: it alone tries again, the others wait for it."""
        self._tell(lambda book, now: book.refused(self.applicant(record, tokens), now))

    def follow(self, record: ShardRecord, tokens: int) -> None:
        """Hold or give back the shard's lease as its record says."""
        self._tell(lambda book, now: book.follow(self.applicant(record, tokens), now))

    def calibrate(self, scale: float) -> None:
        """Weigh the run's tokens by `scale`: actual over estimated input tokens of what has come back."""
        self._tell(lambda book, now: book.calibrate(self._run.run_id, scale))

    def room(self) -> tuple[int, str]:
        """How many more shards could be let in now, and why no more."""
        run = self._run
        try:
            return self._books.change(lambda book, now: book.room(run.run_id, run.asked.model, self.limits, now))
        except DeskClosed as closed:
            return 0, str(closed)

    def applicant(self, record: ShardRecord, tokens: int) -> Applicant:
        return Applicant(
            run=self._run.run_id,
            shard=record.shard,
            model=self._run.asked.model,
            tokens=tokens,
            state=record.state,
            version=record.version,
            has_job=record.job is not None,
        )

    def _reason(self, step: Callable[[Book, float], str | None]) -> str | None:
        try:
            return self._books.change(step)
        except DeskClosed as closed:
            return str(closed)

    def _tell(self, step: Callable[[Book, float], None]) -> None:
        try:
            self._books.change(step)
        except DeskClosed:
            return  # the next sweep tells it what the ledger says
