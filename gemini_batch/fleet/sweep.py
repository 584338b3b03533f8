"""The heartbeat of a fleet: one worker at a time reads the ledgers, looks at all jobs at once, and rings what is due.

Level-triggered: it looks at how things are, never at what was sent, so whatever was lost since the last sweep (a
message, a worker, all of Redis) costs one interval.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import chain, zip_longest

from gemini_batch.errors import Denied, GeminiBatchError, RemoteError, RunStopped
from gemini_batch.finish import due_batches
from gemini_batch.fleet.due import due_shards, until_next
from gemini_batch.fleet.hints import Hold
from gemini_batch.fleet.host import MERGING, NEWS_SECONDS, Host, Open
from gemini_batch.fleet.messages import ADVANCE, AFTER, MERGE, Doorbell, list_of
from gemini_batch.gemini.remote import Listing
from gemini_batch.jobs.advance import look
from gemini_batch.jobs.orders import HELD_BACK
from gemini_batch.jobs.others import listed
from gemini_batch.jobs.spending import settle_all
from gemini_batch.jobs.twins import learn_listed
from gemini_batch.jobs.verdicts import Rest
from gemini_batch.quota.desk import DeskClosed
from gemini_batch.quota.words import Applicant, ListedJob
from gemini_batch.records import ShardRecord, ShardState
from gemini_batch.standing import why_stopped

log = logging.getLogger(__name__)

SWEEP_SECONDS = 5.0
"""Between two sweeps when nothing happens."""

SOONEST_SECONDS = 0.2

UNFIT_SECONDS = 1.0
"""A sweep by a worker that may not serve every run is soon followed by another one's."""

LONGEST_SECONDS = 600.0
"""A sweep that takes longer hangs, on a dead mount perhaps; another worker takes over."""

SHARE = 4
"""A sweep that took a while is followed by so many times as long without one, however much is new."""

RING_AGAIN = timedelta(seconds=10)
"""A doorbell that nobody answered for so long is rung again: it was lost, or the queue is long."""

QUEUE_LENGTH = 128
"""Doorbells that may wait at once. More would only be older by the time they are answered."""

LIST_AGAIN_SECONDS = 10.0
"""After a listing that failed."""

OTHERS_SECONDS = 180.0
"""Between two looks at what others have in the project, when no job of ours is to be looked for."""

OTHER_ROOT = "workers of another runs root use this broker; give each root a broker, or a database number, of its own"

DELETIONS = 20
"""Request files that a sweep deletes at most; a call may take a second, and every run waits for the sweep."""

LOOKED_AT = (ShardState.SUBMITTED, ShardState.UNKNOWN)


def sweep(host: Host) -> None:
    """Look at every run that is being worked on. Does nothing while another worker sweeps."""
    with host.hints.hold("sweeping", longest=LONGEST_SECONDS) as hold:
        if hold is None:
            return
        began = host.clock.boottime()
        try:
            seconds = _Sweep(host, hold).go()
        except DeskClosed as closed:
            log.warning("swept in vain: %s", closed)
            return
        except OSError as error:
            log.warning("the runs root cannot be read: %s", error)
            seconds = UNFIT_SECONDS
    rested = SHARE * (host.clock.boottime() - began)
    host.news_seconds = max(NEWS_SECONDS, rested)
    host.hints.hasten("sweep", seconds=max(seconds, SOONEST_SECONDS, rested))


class _Sweep:
    """One sweep."""

    def __init__(self, host: Host, hold: Hold) -> None:
        self._host = host
        self._hold = hold
        self._blind: list[str] = []
        """Runs that cannot be read: what they have in flight is not known."""

    def go(self) -> float:
        """Sweep. Returns the seconds until there is something to do again, but for news."""
        active = self._host.registry.ids()
        if not active or not self._is_alone(active):
            return UNFIT_SECONDS if self._host.serves_other_root() else SWEEP_SECONDS
        rebuild = not self._host.books.is_believed()
        runs = self._runs(active, rebuild)
        self._tell_desk([run for run in runs if run.ours], rebuild)
        served = [run for run in runs if run.problem is None and not self._is_over(run)]
        until_listing = self._look(served)
        until_due = self._ring(served)
        until_other = UNFIT_SECONDS if any(run.problem for run in runs) else SWEEP_SECONDS
        return min(until_listing, until_due.total_seconds(), until_other)

    def _is_alone(self, active: list[str]) -> bool:
        """Whether this runs root has the broker to itself. Two would take each other's doorbells, and neither could
        rebuild the desk: nobody sees all that is in flight."""
        ours = self._host.registry.identity()
        alone = self._host.hints.claim("root", ours) in (ours, None)
        for run in [] if alone else active:
            self._host.complain(run, OTHER_ROOT)
        return alone

    def _runs(self, active: list[str], strict: bool) -> list[Open]:
        """Every run that was handed over, its records as of now."""
        opened = []
        self._host.keep(active)
        for run in active:
            try:
                found = self._host.open(run)
                if found is None:
                    continue
                if found.ours:
                    found.shop.files.refresh(found.shop.plan, found.shop.records, strict)
                self._host.complain(run, found.problem)
                opened.append(found)
            except (GeminiBatchError, OSError) as error:
                self._blind.append(run)
                self._host.complain(run, str(error))
        return opened

    def _tell_desk(self, runs: list[Open], rebuild: bool) -> None:
        """Leases follow the ledger; a book that was lost is made anew, if everything that counts could be read."""
        ledger = [applicant for run in runs for applicant in _applicants(run)]
        scales = {run.shop.run.run_id: run.shop.scale() for run in runs}
        if not rebuild:
            self._host.books.renew(ledger, scales)
        elif self._blind:
            log.warning("the quota desk stays closed: %s", self._blind_reason())
        else:
            self._host.books.restore(ledger, self._hold.key, self._hold.value, scales, self._others(runs))

    def _others(self, runs: list[Open]) -> list[ListedJob]:
        """What others have in the project, if there is a listing. Without one they are learnt of by refusals."""
        served = [run for run in runs if run.problem is None]
        listing = self._listing(served) if served else None
        return listed(listing, _records(runs)) if listing else []

    def _blind_reason(self) -> str:
        return f"what run {self._blind[0]} has in flight cannot be read: mend it, or remove it from .active"

    def _is_over(self, run: Open) -> bool:
        """Whether there is nothing to do for a fleet: finished, or a person is needed."""
        files = run.shop.files
        if _collected(run) and files.is_finished():
            self._host.let_go(run)
            return True
        return why_stopped(files) is not None

    # --- jobs

    def _look(self, runs: list[Open]) -> float:
        """Look at all jobs of all runs in one listing, if it is time for one. Returns the seconds until it is."""
        wanted = [(run, record) for run in runs for record in run.shop.records.values() if record.state in LOOKED_AT]
        project, hints = self._host.serving.account.project, self._host.hints
        if not wanted and not (_backlog(runs) and hints.take("others", project, seconds=OTHERS_SECONDS)):
            return SWEEP_SECONDS
        if not hints.take("list", project, seconds=LIST_AGAIN_SECONDS):
            return SWEEP_SECONDS
        listing = self._listing(runs)
        if listing is None:
            return SWEEP_SECONDS
        self._learn(runs, listing)
        with suppress(DeskClosed):  # the next sweep restores it, with a listing of its own
            self._host.books.see(listed(listing, _records(runs)))
        for run in runs:
            run.shop.deletions = max(1, DELETIONS // len(runs))
        seconds = min((self._looked(run, record, listing) for run, record in wanted), default=SWEEP_SECONDS)
        self._host.hints.pace("list", project, seconds=max(seconds, SOONEST_SECONDS))
        return seconds

    def _learn(self, runs: list[Open], listing: Listing) -> None:
        """Jobs of the runs that nobody knows of: a create that landed after it was given up for lost."""
        for run in runs:
            try:
                learn_listed(run.shop, listing)
                settle_all(run.shop)
            except (OSError, RunStopped) as error:
                log.warning("run %s: %s", run.shop.run.run_id, error)

    def _listing(self, runs: list[Open]) -> Listing | None:
        try:
            found = self._host.remote.list_jobs()
        except Denied as error:
            for run in runs:
                self._host.stop(run, RunStopped(f"the service refuses the key or the project: {error}"))
        except RemoteError as error:
            log.warning("the jobs cannot be listed: %s", error)
            for run in runs:
                self._host.hints.blind(run.shop.run.run_id, str(error))
        else:
            for run in runs:
                self._host.hints.blind(run.shop.run.run_id, None)
            return found
        return None

    def _looked(self, run: Open, record: ShardRecord, listing: Listing) -> float:
        """Look at one job. Returns the seconds until it is worth another look."""
        try:
            verdict = look(run.shop, record, listing)
        except RunStopped as error:
            self._host.stop(run, error)
            return SWEEP_SECONDS
        except Exception:  # a defect that shows in one shard must not hold up every run
            log.exception("run %s, shard %s", run.shop.run.run_id, record.shard)
            return LIST_AGAIN_SECONDS
        if isinstance(verdict, Rest) and verdict.delay:
            return verdict.delay.total_seconds()
        return SOONEST_SECONDS if isinstance(verdict, Rest) and verdict.delay is not None else LIST_AGAIN_SECONDS

    # --- doorbells

    def _ring(self, runs: list[Open]) -> timedelta:
        """Ring what is due, the runs in turn. Returns how long until something else is."""
        free = QUEUE_LENGTH - self._host.hints.waiting(list_of(AFTER))
        soonest, bells = timedelta(seconds=SWEEP_SECONDS), list[list[Doorbell]]()
        for run in runs:
            due, until = self._due(run)
            bells.append(due)
            soonest = min(soonest, until)
            self._host.hints.looked(run.shop.run.run_id)
        in_turn = [bell for bell in chain.from_iterable(zip_longest(*bells)) if bell][: max(0, free)]
        self._host.ring(ADVANCE, *in_turn)
        for run in runs:
            rung = [bell.shard for bell in in_turn if bell.run == run.shop.run.run_id]
            self._host.hints.rest_all(run.shop.run.run_id, rung, RING_AGAIN, "waits for a worker")
        return soonest

    def _due(self, run: Open) -> tuple[list[Doorbell], timedelta]:
        shop, run_id = run.shop, run.shop.run.run_id
        wakes, now = self._host.hints.wakes(run_id)
        if _collected(run) or self._round_is_due(run):
            self._ring_merge(run_id, MERGING not in wakes or not wakes[MERGING].rests(now))
        places, budget = self._room(run)
        tokens = {entry.shard: entry.tokens for entry in shop.plan}
        shards = due_shards(shop.records.values(), wakes, now, places, budget, tokens)
        held = self._host.hints.held(run_id, shards)
        until = until_next(wakes.values(), now, timedelta(seconds=SWEEP_SECONDS))
        return [Doorbell(run=run_id, shard=shard) for shard in shards if shard not in held], until

    def _room(self, run: Open) -> tuple[int, int | None]:
        """How many shards may begin, and the tokens of all these together; None for any. Says why no more."""
        shop, hints = run.shop, self._host.hints
        if shop.order == "cancel":
            return QUEUE_LENGTH, None  # they are given up: nothing of them gets to the service
        if shop.order == "pause":
            hints.explain(shop.run.run_id, HELD_BACK)
            return 0, None
        room = shop.desk.room(shop.head())
        why_no_more = "waits its turn" if room.shards else room.wait.reason
        known = None if room.shards else room.wait.until
        hints.explain(shop.run.run_id, f"{why_no_more}; {self._blind_reason()}" if self._blind else why_no_more, known)
        return room.shards, room.tokens

    def _round_is_due(self, run: Open) -> bool:
        try:
            return bool(due_batches(run.shop))
        except RunStopped as error:
            self._host.stop(run, error)
            return False

    def _ring_merge(self, run: str, due: bool) -> None:
        if due:
            self._host.ring(MERGE, Doorbell(run=run))
            self._host.hints.rest(run, MERGING, RING_AGAIN, "waits for a worker to merge it")


def _backlog(runs: list[Open]) -> bool:
    """Whether any shard has yet to begin."""
    return any(record.state is ShardState.PLANNED for record in _records(runs))


def _records(runs: list[Open]) -> Iterator[ShardRecord]:
    return (record for run in runs for record in run.shop.records.values())


def _collected(run: Open) -> bool:
    return all(record.state is ShardState.COLLECTED for record in run.shop.records.values())


def _applicants(run: Open) -> Iterator[Applicant]:
    """What the desk has to know of a run: what is in flight, and what has come back or has a job."""
    return (run.shop.applicant(record) for record in _told(run.shop.records.values()))


def _told(records: Iterable[ShardRecord]) -> Iterator[ShardRecord]:
    return (record for record in records if record.version)
