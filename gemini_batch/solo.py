"""One process drives a whole run: threads for the network, processes for encode and parse, no server.

Level-triggered like the fleet: it looks at a shard whenever it is due and keeps nothing that matters in memory, so
kill -9 at any moment and a later `resume` end in the same dataset.
"""

import os
import socket
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from threading import Event

from gemini_batch.agenda import GLANCE_SECONDS, GLANCE_SHARE, Agenda
from gemini_batch.clock import Clock, SystemClock, fraction
from gemini_batch.coordinator.repair import UNSENT
from gemini_batch.cpu import InProcess, ProcessPool
from gemini_batch.errors import BadInput, RemoteError, RunStopped
from gemini_batch.finish import begin_round, due_batches, finish
from gemini_batch.gemini.remote import Remote
from gemini_batch.jobs.advance import advance
from gemini_batch.jobs.orders import HELD_BACK
from gemini_batch.jobs.others import listed
from gemini_batch.jobs.paced import Paced
from gemini_batch.jobs.shop import Shop
from gemini_batch.jobs.verdicts import Stop, Verdict
from gemini_batch.ledger.run import RunFiles
from gemini_batch.quota.desk import Desk, MemoryBooks
from gemini_batch.quota.gates import MemoryGates
from gemini_batch.records import Limits, ShardPlan, ShardState
from gemini_batch.standing import lift_stop, stop
from gemini_batch.status import Status, summarise

THREADS = 16
"""At once in calls to the service or the disk; each holds at most one shard."""

OTHERS_SECONDS = 180.0
"""Between two looks at what others have in the project, while shards have yet to begin."""

ORDER_SECONDS = 1.0
"""Between two looks at what operators say."""

NEAR = 100
"""So many of the shards that have yet to begin are looked at for one that fits."""

ROUND_SECONDS = 5.0
"""Between two looks at whether failed rows are worth another round yet."""

NEXT_ROUND, OTHERS, ORDERS = -1, -2, -3
"""Stand for them where a shard's number is due."""

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


class Solo:
    """Drives one run to its end. `close()` from any thread makes `drive` return soon."""

    def __init__(
        self,
        files: RunFiles,
        remote: Remote,
        limits: Limits,
        clock: Clock | None = None,
        media_root: tuple[str, ...] = (),
    ) -> None:
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
            remote=Paced(remote, MemoryGates(self._clock.boottime, fraction)),
            desk=Desk(MemoryBooks(lambda: self._clock.now().timestamp()), run, limits),
            pool=self._pool,
            clock=self._clock,
            owner=_owner(),
            sees_all=True,
            allow_http=True,  # who drives the run is who allowed it
            media_root=media_root,
        )
        self._waiting: dict[int, str] = {}
        self._until: dict[str, datetime] = {}
        self._desk_says: str | None = None
        self._others_seen = False
        self._once = False
        self._reordered = Event()
        """Set when there is another order, so that everything is looked at anew."""
        self._stopped: RunStopped | None = None

    farewell = "detached; jobs at the service go on. Finish with:\n  gemini-batch-dist resume"

    def close(self) -> None:
        """Begin no further step. Steps under way are finished; the rest is for `resume`."""
        self._shop.closing.set()

    def drive(self, watch: Watch | None = None, once: bool = False) -> Status:
        """Advance every shard to its end and merge.

        Args:
            watch: called with the status about twice a second.
            once: look at each shard one time, plan a round or merge if that is due, and leave; at once if another
                process drives the run.

        Raises:
            RunStopped: a person is needed; all that was learned is recorded.
        """
        self._once = once
        try:
            return self._drive_alone(watch)
        except RunStopped as error:
            self._stop(error)
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

    def _stop(self, error: RunStopped) -> None:
        """Leave word for `status`. If not even that can be written, the caller still says it."""
        self._stopped = error
        with suppress(OSError):
            stop(self._shop.files, error, self._clock)

    def status(self) -> Status:
        shop = self._shop
        finished = shop.files.is_finished()
        records = list(shop.records.values())
        where, now = shop.files.store.url, self._clock.now()
        waiting, stopped = dict(self._waiting), self._stopped
        return summarise(
            where, shop.run, shop.plan, records, finished, now,
            limits=shop.limits, waiting=waiting, desk_says=self._desk_says, until=dict(self._until),
            stopped=None if stopped is None else str(stopped),
            resume_with=None if stopped is None else stopped.resume_with, order=shop.order,
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
            if watch or self._once:
                self._shop.load()
                self._waiting = dict.fromkeys(self._shop.records, "another process drives this run; this one watches")
            if watch:
                watch(self.status())
            if self._once:
                self.close()
            self._shop.closing.wait(JOIN_SECONDS)
        yield

    def _drive(self, watch: Watch | None) -> Status:
        shop, looked = self._shop, False
        while not shop.closing.is_set():
            shop.load()
            shop.heed()
            unfinished = [record for record in shop.records.values() if record.state is not ShardState.COLLECTED]
            unfinished.sort(key=lambda record: (record.state is ShardState.PLANNED, record.shard))
            held_back = shop.order == "pause" and {record.state for record in unfinished} <= UNSENT
            if unfinished and (held_back or (self._once and looked)):
                break
            looked = True
            if unfinished:
                begun = [(0.0, record.shard) for record in unfinished if record.state is not ShardState.PLANNED]
                planned = (record.shard for record in unfinished if record.state is ShardState.PLANNED)
                self._advance_all(Agenda(deque(planned), begun, once=self._once), watch)
            elif shop.files.is_finished():
                break
            elif not begin_round(shop):
                finish(shop)
        status = self.status()
        if watch:
            watch(status)
        return status

    def _advance_all(self, due: Agenda, watch: Watch | None) -> None:
        self._waiting, self._until = due.reasons, due.until
        under_way: dict[Future[Verdict], int] = {}
        glance_at = last_round = self._clock.boottime()
        others_at = orders_at = glance_at
        with self._threads() as threads:
            while not self._shop.closing.is_set():
                now = self._clock.boottime()
                if due.backlog and now >= others_at and OTHERS not in under_way.values():
                    others_at = now + OTHERS_SECONDS
                    under_way[threads.submit(self._see_others)] = OTHERS
                if now >= orders_at and ORDERS not in under_way.values():
                    orders_at = now + ORDER_SECONDS
                    under_way[threads.submit(self._heed)] = ORDERS
                if self._reordered.is_set():
                    self._reordered.clear()
                    due.hasten()
                while len(under_way) < THREADS and (shard := due.pop(now, self._choose)) is not None:
                    under_way[threads.submit(advance, self._shop, shard)] = shard
                may_begin = (due.backlog or due.parked) and self._shop.order != "pause"
                if not under_way and (self._once or not (due.timed or may_begin)):
                    return
                if now - last_round >= ROUND_SECONDS and NEXT_ROUND not in under_way.values():
                    last_round = now
                    if due_batches(self._shop):
                        under_way[threads.submit(self._begin_round, due)] = NEXT_ROUND
                self._pause(under_way, due.until_next(now, hands=THREADS - len(under_way)))
                for future in [future for future in under_way if future.done()]:
                    ceiling, shard = self._shop.limits.poll_interval, under_way.pop(future)
                    due.put(shard, future.result(), self._clock.boottime(), ceiling, self._has_begun(shard))
                if watch and (began := self._clock.boottime()) >= glance_at:
                    watch(self.status())
                    ended = self._clock.boottime()
                    glance_at = ended + max(GLANCE_SECONDS, GLANCE_SHARE * (ended - began))

    def _has_begun(self, shard: int) -> bool:
        record = self._shop.records.get(shard)
        return record is not None and record.state is not ShardState.PLANNED

    def _choose(self, backlog: deque[int]) -> int | None:
        """The first shard of the backlog that the desk has room for; one that never fits has its turn all the same."""
        shop = self._shop
        if shop.order == "cancel":
            return backlog[0]  # to be given up
        if shop.order == "pause":
            self._desk_says = HELD_BACK
            return None
        if not self._others_seen and any(record.job for record in list(shop.records.values())):
            return None  # the pilot may go; how much room there is for more the first listing says
        near = list(islice(backlog, NEAR))
        room = shop.desk.room(shop.applicant(shop.records.get(near[0]) or shop.read(near[0])))
        self._desk_says = room.wait.reason if room.shards < 1 else None
        if self._desk_says:
            if room.wait.until is not None:
                self._until[self._desk_says] = datetime.fromtimestamp(room.wait.until, UTC)
            return None
        fits = (shard for shard in near if room.tokens is None or shop.plan[shard].tokens <= room.tokens)
        return next(fits, near[0])

    def _see_others(self) -> Verdict:
        """Tell the desk what others have in the project. Without a listing it goes by what it knows."""
        shop = self._shop
        with suppress(RemoteError, OSError):
            shop.desk.see(listed(shop.listing(self._clock.boottime()), shop.all_records()))
        self._others_seen = True
        shop.tell_desk()
        return Stop()

    def _heed(self) -> Verdict:
        """Hear what operators say. Without the store it is heard later."""
        before = self._shop.order
        with suppress(OSError):
            self._shop.heed()
        if self._shop.order != before:
            self._reordered.set()
        return Stop()

    def _begin_round(self, due: Agenda) -> Verdict:
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
