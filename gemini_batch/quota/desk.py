"""The quota desk: who may have a job in flight.

The rules are `book.py`'s; here is where a book lies (in this process, or in Redis for a whole fleet) and the desk that
the shards of one run go to. A desk that cannot be reached lets nobody in and forgets nothing: the ledger is the truth.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from threading import Lock
from typing import Protocol, TypeVar

from gemini_batch.clock import SystemClock, fraction
from gemini_batch.quota.book import Book
from gemini_batch.quota.words import Applicant, ListedJob, Room, Wait
from gemini_batch.records import Limits, RunRecord, ShardRecord

R = TypeVar("R")

FILE_LIFE = timedelta(hours=48)
"""Files at the service are deleted after so long (Files API guide); so are results, by some reports."""


class DeskClosed(Exception):
    """The book cannot be read or is not complete: nobody is let in. The text is the reason to wait."""


class Books(Protocol):
    def change(self, step: Callable[[Book, float], R]) -> R:
        """Apply `step(book, desk time)` as if nobody else did anything meanwhile.

        Raises:
            DeskClosed: there is no book to go by now.
        """


class MemoryBooks:
    """The book of one process. Safe between threads. No lease expires: whoever holds one lives as long as the book.

    Args:
        now: the desk's time, in seconds since 1970.
    """

    def __init__(self, now: Callable[[], float] = lambda: SystemClock().now().timestamp()) -> None:
        self._book = Book(lasting=True)
        self._lock = Lock()
        self._now = now

    def change(self, step: Callable[[Book, float], R]) -> R:
        with self._lock:
            return step(self._book, self._now())


class Desk:
    """The desk as the shards of one run see it. `tokens` and `request_bytes` of a shard are those of its plan."""

    def __init__(self, books: Books, run: RunRecord, limits: Limits) -> None:
        self.limits = limits
        self._books = books
        self._run = run

    def ask(self, record: ShardRecord, tokens: int, request_bytes: int = 0) -> Wait | None:
        """None with a lease; otherwise why to wait. Asking again with a lease renews it."""
        who = self.applicant(record, tokens, request_bytes)
        return self._answer(lambda book, now: book.ask(who, self.limits, now))

    def may_send(self, record: ShardRecord, tokens: int, request_bytes: int = 0) -> Wait | None:
        """None when the shard may create its job now; otherwise why to wait."""
        who = self.applicant(record, tokens, request_bytes)
        return self._answer(lambda book, now: book.may_send(who, self.limits, now))

    def refused(self, record: ShardRecord, tokens: int, request_bytes: int = 0) -> bool:
        """The service answered 429 to this shard's create. Returns whether it may be larger than the limit, so that it
        is to be split if it can be."""
        who, spread = self.applicant(record, tokens, request_bytes), fraction()
        try:
            return self._books.change(lambda book, now: book.refused(who, now, spread))
        except DeskClosed:
            return False

    def follow(self, record: ShardRecord, tokens: int, request_bytes: int = 0) -> None:
        """Hold or give back the shard's lease as its record says."""
        who = self.applicant(record, tokens, request_bytes)
        self._tell(lambda book, now: book.follow(who, now))

    def follow_run(self, ledger: Callable[[], Iterable[Applicant]]) -> None:
        """Hold the book against all records of the run, and count anew what its shards still take.

        Args:
            ledger: read while nobody else changes the book, so that no older record overtakes a newer one.
        """
        self._tell(lambda book, now: book.follow_run(self._run.run_id, ledger(), now))

    def see(self, listed: Iterable[ListedJob]) -> None:
        """Count the jobs of others that a listing shows."""
        jobs = list(listed)
        self._tell(lambda book, now: book.see(jobs, now))

    def calibrate(self, scale: float) -> None:
        """Weigh the run's estimated tokens by what came back: actual over estimated input tokens."""
        self._tell(lambda book, now: book.calibrate(self._run.run_id, scale))

    def room(self, head: Applicant | None = None) -> Room:
        """What of the run could be let in now.

        Args:
            head: its first shard that has not begun; None if there is none.
        """
        run = self._run
        try:
            return self._books.change(lambda book, now: book.room(run.run_id, run.asked.model, self.limits, now, head))
        except DeskClosed as closed:
            return Room(0, None, Wait(str(closed)))

    def applicant(self, record: ShardRecord, tokens: int, request_bytes: int = 0) -> Applicant:
        return Applicant(
            run=self._run.run_id,
            shard=record.shard,
            model=self._run.asked.model,
            tokens=tokens,
            state=record.state,
            version=record.version,
            has_job=record.job is not None,
            request_bytes=request_bytes,
            creates=tuple(send.began_at.timestamp() for send in record.sends),
            files=tuple(_files(record)),
        )

    def _answer(self, step: Callable[[Book, float], Wait | None]) -> Wait | None:
        try:
            return self._books.change(step)
        except DeskClosed as closed:
            return Wait(str(closed))

    def _tell(self, step: Callable[[Book, float], None]) -> None:
        try:
            self._books.change(step)
        except DeskClosed:
            return  # the next sweep tells it what the ledger says


def _files(record: ShardRecord) -> Iterator[tuple[float, int]]:
    """Files of a shard at the service, as far as its record tells: when they are gone, and their bytes."""
    upload = record.upload
    if upload and upload.stored_bytes:
        yield (upload.uploaded_at + FILE_LIFE).timestamp(), upload.stored_bytes
    job, tally = record.job, record.tally
    if job and job.responses_file and job.ended_at and tally and tally.raw_bytes:
        yield (job.ended_at + FILE_LIFE).timestamp(), tally.raw_bytes
