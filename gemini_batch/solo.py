"""One process drives a whole run: threads for the network, processes for encode and parse, no server.

Level-triggered like the fleet: it looks at a shard whenever it is due and keeps nothing that matters in memory, so
kill -9 at any moment and a later `resume` end in the same dataset.
"""

import heapq
import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event

from gemini_batch.clock import Clock, SystemClock
from gemini_batch.cpu import InProcess, ProcessPool
from gemini_batch.errors import BadInput, RemoteError, RunStopped
from gemini_batch.finish import begin_round, due_batches, finish
from gemini_batch.gemini.remote import Remote
from gemini_batch.jobs.advance import advance
from gemini_batch.jobs.lifecycle import backoff
from gemini_batch.jobs.shop import Shop
from gemini_batch.jobs.verdicts import AwaitDesk, Stop, Verdict
from gemini_batch.ledger.run import RunFiles
from gemini_batch.quota.desk import Desk, MemoryBooks
from gemini_batch.records import Limits, ShardPlan, ShardState
from gemini_batch.standing import lift_stop, stop
from gemini_batch.status import Status, summarise

THREADS = 16
"""At once in calls to the service or the disk; each holds at most one shard."""

GLANCE_SECONDS = 0.5
"""Between two reports of progress, and the longest that an interrupt goes unnoticed."""

ROUND_SECONDS = 5.0
"""Between two looks at whether failed rows are worth another round yet."""

NEXT_ROUND = -1
"""Stands for it where a shard's number is due."""

SMALL_ROWS, SMALL_BYTES = 2_000, 20_000_000
"""A run of no more is encoded and parsed in this process, in a tenth of a second: making others takes longer."""

JOIN_SECONDS = 1.0
"""Between two looks at a run that another process drives."""

LEAVE_SECONDS = 10.0
"""An interrupt lets creates that are on the wire end, at most so long."""

Watch = Callable[[Status], None]


def _is_small(plan: list[ShardPlan]) -> bool:
    return sum(shard.rows for shard in plan) <= SMALL_ROWS and sum(shard.request_bytes for shard in plan) <= SMALL_BYTES


def _owner() -> str:
    """Who writes a record, for people. Asked for late: a forked process is another one."""
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass
class _Due:
    """When each shard is looked at again. Times are boottime seconds."""

    backlog: deque[int]
    """Not begun, or turned away by the desk."""
    timed: list[tuple[float, int]] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)
    failures: Counter[int] = field(default_factory=Counter)
    desk_closed: bool = False

    def pop(self, now: float) -> int | None:
        if self.timed and self.timed[0][0] <= now:
            return heapq.heappop(self.timed)[1]
        return self.backlog.popleft() if self.backlog and not self.desk_closed else None

    def put(self, shard: int, verdict: Verdict, now: float, ceiling: float) -> None:
        """Place a shard by what its last look said."""
        self.desk_closed = False
        if isinstance(verdict, Stop):
            self.reasons.pop(shard, None)
            return
        self.reasons[shard] = verdict.reason
        if isinstance(verdict, AwaitDesk):
            self.backlog.appendleft(shard)
            self.desk_closed = True
        elif verdict.delay is not None:
            self.failures.pop(shard, None)
            heapq.heappush(self.timed, (now + verdict.delay.total_seconds(), shard))
        else:
            self.failures[shard] += 1
            heapq.heappush(self.timed, (now + backoff(self.failures[shard] - 1, ceiling).total_seconds(), shard))

    def until_next(self, now: float) -> float:
        return max(0.0, min(GLANCE_SECONDS, self.timed[0][0] - now)) if self.timed else GLANCE_SECONDS


class Solo:
    """Drives one run to its end. `close()` from any thread makes `drive` return soon."""

    def __init__(self, files: RunFiles, remote: Remote, limits: Limits, clock: Clock | None = None) -> None:
        run = files.record()
        if run is None:
            raise FileNotFoundError(f"{files.store.url} holds no run")
        self._clock = clock or SystemClock()
        plan = files.plan()
        self._pool = InProcess() if _is_small(plan) else ProcessPool()
        self._shop = Shop(
            run=run,
            limits=limits,
            files=files,
            plan=plan,
            remote=remote,
            desk=Desk(MemoryBooks(), run, limits),
            pool=self._pool,
            clock=self._clock,
            owner=_owner(),
            sees_all=True,
        )
        self._waiting: dict[int, str] = {}
        self._stopped: str | None = None

    farewell = "detached; jobs at the service go on. Finish with:\n  gemini-batch-dist resume"

    def close(self) -> None:
        """Begin no further step. Steps under way are finished; the rest is for `resume`."""
        self._shop.closing.set()

    def drive(self, watch: Watch | None = None) -> Status:
        """Advance every shard to its end and merge.

        Args:
            watch: called with the status about twice a second.

        Raises:
            RunStopped: a person is needed; all that was learned is recorded.
        """
        try:
            return self._drive_alone(watch)
        except RunStopped as error:
            self._stop(str(error))
            if watch:
                watch(self.status())
            raise
        finally:
            self.close()
            self._pool.close()

    def _drive_alone(self, watch: Watch | None) -> Status:
        where = self._shop.files.store.url
        try:
            with self._alone(watch):
                return self._drive(watch)
        except OSError as error:
            raise RunStopped(f"{where}: {error}; mend it and resume") from error
        except RemoteError as error:
            raise RunStopped(f"the service: {error}; resume later") from error
        except BadInput as error:
            raise RunStopped(str(error)) from error

    def _stop(self, reason: str) -> None:
        """Leave word for `status`. If not even that can be written, the caller still says it."""
        self._stopped = reason
        with suppress(OSError):
            stop(self._shop.files, reason, self._clock)

    def status(self) -> Status:
        shop = self._shop
        finished = shop.files.is_finished()
        records = list(shop.records.values())
        where, now = shop.files.store.url, self._clock.now()
        waiting = dict(self._waiting)
        return summarise(
            where, shop.run, shop.plan, records, finished, now,
            limits=shop.limits, waiting=waiting, stopped=self._stopped,
        )  # fmt: skip

    @contextmanager
    def _alone(self, watch: Watch | None) -> Iterator[None]:
        """Hold the run directory; while another process drives it, watch that one and take over when it goes."""
        store = self._shop.files.store
        while not self._shop.closing.is_set():
            with store.held() as alone:
                if alone:
                    store.sweep_scratch()
                    lift_stop(self._shop.files)
                    yield
                    return
            if watch:
                self._shop.load()
                self._waiting = dict.fromkeys(self._shop.records, "another process drives this run; this one watches")
                watch(self.status())
            self._shop.closing.wait(JOIN_SECONDS)
        yield

    def _drive(self, watch: Watch | None) -> Status:
        shop = self._shop
        while not shop.closing.is_set():
            shop.load()
            unfinished = [record for record in shop.records.values() if record.state is not ShardState.COLLECTED]
            unfinished.sort(key=lambda record: (record.state is ShardState.PLANNED, record.shard))
            if unfinished:
                self._advance_all(_Due(deque(record.shard for record in unfinished)), watch)
            elif shop.files.is_finished():
                break
            elif not begin_round(shop):
                finish(shop)
        status = self.status()
        if watch:
            watch(status)
        return status

    def _advance_all(self, due: _Due, watch: Watch | None) -> None:
        self._waiting = due.reasons
        under_way: dict[Future[Verdict], int] = {}
        last_glance = last_round = self._clock.boottime()
        with self._threads() as threads:
            while not self._shop.closing.is_set():
                now = self._clock.boottime()
                while len(under_way) < THREADS and (shard := due.pop(now)) is not None:
                    under_way[threads.submit(advance, self._shop, shard)] = shard
                if not under_way and not due.timed and not due.backlog:
                    return
                if now - last_round >= ROUND_SECONDS and NEXT_ROUND not in under_way.values():
                    last_round = now
                    if due_batches(self._shop):
                        under_way[threads.submit(self._begin_round, due)] = NEXT_ROUND
                self._pause(under_way, due.until_next(now))
                for future in [future for future in under_way if future.done()]:
                    ceiling = self._shop.limits.poll_interval
                    due.put(under_way.pop(future), future.result(), self._clock.boottime(), ceiling)
                if watch and now - last_glance >= GLANCE_SECONDS:
                    last_glance = now
                    watch(self.status())

    def _begin_round(self, due: _Due) -> Verdict:
        """Plan the next round while shards of this one are under way."""
        known = len(self._shop.plan)
        begin_round(self._shop)
        due.backlog.extend(entry.shard for entry in self._shop.plan[known:])
        return Stop()

    @contextmanager
    def _threads(self) -> Iterator[ThreadPoolExecutor]:
        """Threads that begin no further step once the block is left.

        After an error the steps under way are awaited, so that what they learn is recorded; after an interrupt they
        are not.
        """
        threads = ThreadPoolExecutor(THREADS, thread_name_prefix="shard")
        try:
            yield threads
        except Exception:
            self.close()
            threads.shutdown(cancel_futures=True)
            raise
        except BaseException:
            self.close()
            threads.shutdown(wait=False, cancel_futures=True)
            self._let_sends_end()
            raise
        threads.shutdown()

    def _let_sends_end(self) -> None:
        """Wait for creates that are on the wire: one that is cut has to be looked for for an hour."""
        deadline, pause = self._clock.boottime() + LEAVE_SECONDS, Event()
        while self._clock.boottime() < deadline and any(
            record.state is ShardState.SENDING and record.owner == self._shop.owner
            for record in self._shop.records.values()
        ):
            pause.wait(0.05)

    def _pause(self, under_way: dict[Future[Verdict], int], seconds: float) -> None:
        if under_way:
            wait(under_way, timeout=seconds, return_when=FIRST_COMPLETED)
        else:
            self._shop.closing.wait(seconds)
