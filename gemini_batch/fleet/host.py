"""One worker process: opens runs by id, answers doorbells, sweeps.

Holds clients and what it last saw; everything that matters is in the run directories, so a process may be killed,
frozen or doubled at any point.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

from gemini_batch.access import is_ours, refuse_schema, refuse_stranger
from gemini_batch.clock import Clock, SystemClock
from gemini_batch.config import Account
from gemini_batch.cpu import InProcess
from gemini_batch.errors import BadInput, GeminiBatchError, RemoteError, RunStopped
from gemini_batch.finish import begin_round, finish
from gemini_batch.fleet.broker import Broker
from gemini_batch.fleet.gates import HintedGates
from gemini_batch.fleet.hints import Hints
from gemini_batch.fleet.messages import ADVANCE, MERGE, Doorbell, Ring, read
from gemini_batch.fleet.registry import Registry
from gemini_batch.gemini.remote import Remote
from gemini_batch.jobs.advance import record_overdue, work
from gemini_batch.jobs.lifecycle import backoff
from gemini_batch.jobs.paced import Paced
from gemini_batch.jobs.shop import Shop
from gemini_batch.jobs.verdicts import AwaitDesk, Rest, Stop, Verdict
from gemini_batch.ledger.places import join, open_store
from gemini_batch.ledger.run import RunFiles
from gemini_batch.quota.desk import Desk
from gemini_batch.quota.redis_books import RedisBooks
from gemini_batch.records import RunRecord, ShardState
from gemini_batch.standing import stop, why_stopped

log = logging.getLogger(__name__)

AWAIT_DESK = timedelta(seconds=10)
"""A shard that the desk turned away is rung for again after this long, or when it is its turn."""

SOONEST = timedelta(seconds=0.5)

NEWS_SECONDS = 0.3
"""A sweep follows a doorbell that changed something after this long at least: several make one sweep."""

PASSES, PASSING_SECONDS = 8, 5
"""How often, in how many seconds, a doorbell is passed on by workers that cannot serve its run: often enough to find
one that can, and no busy loop if there is none."""

MERGING = -1
"""Stands for the whole run where a shard's number is due."""


@dataclass(frozen=True)
class Serving:
    """What a worker is told when it starts."""

    runs: str
    account: Account
    broker: Broker
    allow_schema: tuple[str, ...]
    node: str
    """Its name among the workers."""
    allow_http: bool = False
    """Whether it may fetch pictures by http(s)."""
    media_root: tuple[str, ...] = ()
    """Where its machine has pictures."""


@dataclass
class Open:
    """A run as this process knows it."""

    shop: Shop
    place: str
    ours: bool
    """Its jobs are visible to this worker, and count at its desk."""
    problem: str | None = None
    """Why this worker leaves the run alone."""


class Host:
    """Safe between threads; not to be carried over a fork."""

    def __init__(self, serving: Serving, ring: Ring, clock: Clock | None = None) -> None:
        self.serving = serving
        self.ring = ring
        self.clock = clock or SystemClock()
        self.hints = Hints(serving.broker.connect())
        self.registry = Registry(open_store(serving.runs))
        self.news_seconds = NEWS_SECONDS
        self._client = serving.broker.connect()
        self._open: dict[str, Open] = {}
        self._complaints: dict[str, str | None] = {}

    @cached_property
    def remote(self) -> Remote:
        from gemini_batch.gemini.client import GeminiClient  # noqa: PLC0415 - the SDK takes a second to import

        return Paced(GeminiClient(self.serving.account), HintedGates(self.hints, self.serving.account.project))

    @cached_property
    def books(self) -> RedisBooks:
        """The desk of this worker's project."""
        account = self.serving.account
        return RedisBooks(self._client, account.endpoint, account.project)

    # --- doorbells

    def advance(self, run: Any, shard: Any) -> None:
        """Answer a doorbell: take a shard as far as it goes."""
        if (bell := read(run, shard)) is None:
            log.warning("refused a message: it does not name a run and a shard")
            return
        opened = self._answer(ADVANCE, bell)
        if opened is None or not self._knows(opened.shop, bell.shard):
            return
        with self.hints.hold(bell.run, bell.shard) as mine:
            if not mine:
                return
            self._note(opened, bell, self._work(opened, bell.shard))

    def merge(self, run: Any) -> None:
        """Answer a doorbell: plan the next round of a run if one is due; write the dataset of one whose shards are all
        collected, and let go of it."""
        if (bell := read(run)) is None:
            log.warning("refused a message: it does not name a run")
            return
        opened = self._answer(MERGE, bell)
        if opened is None:
            return
        with self.hints.hold(bell.run, MERGING) as mine, self._trouble(opened):
            if mine and not self._begin_round(opened.shop) and self._is_collected(opened.shop):
                finish(opened.shop)
                if opened.shop.files.is_finished():
                    self.let_go(opened)

    def let_go(self, opened: Open) -> None:
        """A run has ended: no worker looks at it again, and what dead ones left in passing goes."""
        run = opened.shop.run.run_id
        opened.shop.files.store.sweep_scratch()
        self.registry.remove(run)
        self.hints.forget(run)
        self._open.pop(run, None)
        log.info("run %s has finished", run)

    def _answer(self, task: str, bell: Doorbell) -> Open | None:
        """The run of a doorbell, if this worker may work on it."""
        try:
            opened = self.open(bell.run)
            elsewhere = opened is None and self.serves_other_root()
        except (GeminiBatchError, OSError) as error:
            self.complain(bell.run, str(error))
            self._pass_on(task, bell)
            return None
        if opened is None and not elsewhere:
            log.warning("refused a message: run %s is not one that is being worked on", bell.run)
            return None
        if opened is None or opened.problem:
            self._pass_on(task, bell)
            return None
        return None if why_stopped(opened.shop.files) else opened

    def _pass_on(self, task: str, bell: Doorbell) -> None:
        """Let another worker have it. Redis hands messages out in turn, so without this one that is not fit could get
        every doorbell and the fit one every sweep, for ever."""
        if self.hints.count("passed-on", bell.run, bell.shard, seconds=PASSING_SECONDS) <= PASSES:
            self.ring(task, bell)

    def serves_other_root(self) -> bool:
        """Whether the broker is for the workers of another runs root.

        Raises:
            OSError: the root cannot be read, or not be written.
        """
        return self.hints.claimed("root") not in (self.registry.identity(), None)

    def _work(self, opened: Open, shard: int) -> Verdict:
        with self._trouble(opened):
            return work(opened.shop, shard)
        return Rest("something went wrong; see the log of the worker")

    @contextmanager
    def _trouble(self, opened: Open) -> Iterator[None]:
        """What a step may raise, told to whom it concerns. The next sweep tries again."""
        try:
            yield
        except RunStopped as error:
            self.stop(opened, error)
        except (RemoteError, OSError) as error:
            log.warning("run %s: %s", opened.shop.run.run_id, error)
        except Exception:
            log.exception("run %s", opened.shop.run.run_id)

    def _note(self, opened: Open, bell: Doorbell, verdict: Verdict) -> None:
        """Remember when the shard is due again, and let a sweep follow if there is news."""
        run, shard, shop = bell.run, bell.shard, opened.shop
        match verdict:
            case AwaitDesk(reason, until):
                known = until.timestamp() if until else None
                wait = min(AWAIT_DESK, max(SOONEST, until - self.clock.now())) if until else AWAIT_DESK
                self.hints.rest(run, shard, wait, reason, known=known)
                return
            case Rest(reason, delay) if delay is None:
                failures = self.hints.failures(run, shard) + 1
                self.hints.rest(run, shard, backoff(failures, shop.limits.poll_interval), reason, failures)
                return
            case Rest(reason, delay) if delay:
                self.hints.rest(run, shard, delay, reason)
            case Rest() | Stop():
                self.hints.forget_rest(run, shard)
        if shop.records[shard].state is ShardState.SUBMITTED:
            self.hints.hasten("list", self.serving.account.project, seconds=self.news_seconds)
        self.hints.hasten("sweep", seconds=self.news_seconds)

    # --- runs

    def open(self, run: str) -> Open | None:
        """A run that is being worked on, with its limits as they are now; None when nobody handed it over.

        Raises:
            BadInput, OSError: it cannot be read.
        """
        folder = self.registry.where(run)
        if folder is None:
            return None
        known, place = self._open.get(run), join(self.serving.runs, folder)
        files = known.shop.files if known and known.place == place else RunFiles(open_store(place))
        record = files.record()
        if record is None or record.run_id != run:
            return None
        if known is None or known.shop.files is not files or known.shop.run.nonce != record.nonce:
            known = self._open[run] = self._opened(place, record)
        self._heed(known)
        record_overdue(known.shop)
        return known

    def keep(self, runs: list[str]) -> None:
        """Forget what is known of all other runs."""
        self._open = {run: opened for run, opened in self._open.items() if run in runs}

    def complain(self, run: str, problem: str | None) -> None:
        """Show, or take back, what keeps this worker from a run."""
        if problem and self._complaints.get(run) != problem:
            log.warning("left run %s alone: %s", run, problem)
        self._complaints[run] = problem
        self.hints.complain(self.serving.node, run, problem)

    def stop(self, opened: Open, error: RunStopped) -> None:
        """The run needs a person; `resume` or `submit` lifts it."""
        log.error("run %s stopped: %s", opened.shop.run.run_id, error)
        try:
            stop(opened.shop.files, error, self.clock)
        except OSError as trouble:
            log.error("run %s: cannot leave word: %s", opened.shop.run.run_id, trouble)

    def _opened(self, place: str, record: RunRecord) -> Open:
        shop = self._shop(RunFiles(open_store(place)), record)
        shop.heed()
        opened = Open(shop, place, ours=False)
        self._judge(opened)
        return opened

    def _judge(self, opened: Open) -> None:
        """Whether this worker may work on a run. The worker's project is its desk's: no other name will do."""
        record, limits, account = opened.shop.run, opened.shop.limits, self.serving.account
        opened.ours, opened.problem = is_ours(record, limits, account), None
        try:
            refuse_stranger(record, limits, account, by_key=False)
            refuse_schema(record, self.serving.allow_schema)
        except BadInput as error:
            opened.problem = str(error)

    def _shop(self, files: RunFiles, record: RunRecord) -> Shop:
        return Shop(
            run=record,
            limits=record.limits,
            files=files,
            plan=files.plan(),
            remote=self.remote,
            desk=Desk(self.books, record, record.limits),
            pool=InProcess(),
            clock=self.clock,
            owner=f"{self.serving.node}:{os.getpid()}",
            allow_http=self.serving.allow_http,
            media_root=self.serving.media_root,
        )

    def _heed(self, opened: Open) -> None:
        """Take over what was said last. After another order everything is looked at anew, at once."""
        shop = opened.shop
        order, project = shop.order, shop.limits.project
        shop.heed()
        if shop.limits.project != project:
            self._judge(opened)
        if shop.order != order:
            self.hints.forget(shop.run.run_id)
            self.hints.hasten("list", self.serving.account.project, seconds=0)

    @staticmethod
    def _knows(shop: Shop, shard: int) -> bool:
        """Whether there is such a shard, perhaps since a moment ago."""
        return shard < len(shop.plan) or shard < len(shop.files.reread_plan())

    @staticmethod
    def _begin_round(shop: Shop) -> bool:
        """Whether the run has shards that it had not; by its ledger, not by what this process last saw."""
        shop.files.refresh(shop.plan, shop.records)
        return not shop.files.is_finished() and begin_round(shop)

    @staticmethod
    def _is_collected(shop: Shop) -> bool:
        """Whether every shard is, by its ledger."""
        shop.records |= {record.shard: record for record in shop.files.last_records(shop.plan, shop.records)}
        return all(record.state is ShardState.COLLECTED for record in shop.records.values())
