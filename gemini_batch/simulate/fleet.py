"""A fleet on a virtual clock: sweeps, doorbells and workers as in `fleet/`, with the rules that those use.

What is due is `fleet.due`'s to say, who gets in the desk's, what to do the lifecycle's. Here is only when each happens.
Where nothing changes sweeps are spaced further than real ones, and a look at jobs that all still run is skipped: both
are known to find nothing new.
"""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain, count, islice, zip_longest
from math import ceil

from gemini_batch.fleet.due import Wake, due_shards
from gemini_batch.gemini.remote import Listing
from gemini_batch.jobs import lifecycle
from gemini_batch.jobs.advance import look
from gemini_batch.jobs.lifecycle import backoff, poll_delay
from gemini_batch.jobs.shop import Shop
from gemini_batch.jobs.verdicts import AwaitDesk, Rest, Verdict
from gemini_batch.quota.book import LEASE_SECONDS
from gemini_batch.quota.words import Applicant, ListedJob
from gemini_batch.records import ShardState
from gemini_batch.simulate.scenario import Scenario, Simulated
from gemini_batch.simulate.service import Service, VirtualClock
from gemini_batch.simulate.steps import Steps, VirtualBooks, make_shop

S = ShardState

SWEEP_SECONDS, NEWS_SECONDS, SOONEST_SECONDS = 5.0, 0.3, 0.2
"""As of `fleet/sweep.py` and `fleet/host.py`, which hold clients and so are not imported."""

AWAIT_DESK_SECONDS, SOONEST_WAKE_SECONDS = 10.0, 0.5
"""As of `fleet/host.py`."""

QUIET_SECONDS, QUIET_ALONE_SECONDS = 60.0, 300.0
"""Between sweeps while nothing changes, of several runs and of one, which need not keep its turn; more than a real
sweep's, so what is simulated is no faster than what is."""

AHEAD = 100
"""Shards of a run that have yet to begin of which a sweep looks for those that fit; a real one looks at all."""

SIZES = ("rows", "requests", "request_bytes", "tokens")

RENEW_SECONDS = LEASE_SECONDS / 3

EVENTS_OF_SHARD, EVENTS_OF_RUN = 10_000, 100_000
"""More of them and something goes round in circles: one after the other, jobs of 48 h have 2,880 quiet sweeps each."""


class Livelock(Exception):
    """The runs do not end."""


def simulate(scenario: Scenario) -> Simulated:
    """Take all runs to their end.

    Raises:
        Livelock: they do not end.
    """
    return _Fleet(scenario).drive()


@dataclass
class _Run:
    """A run as the fleet sees it."""

    number: int
    shop: Shop
    arrives: float
    planned: deque[int]
    """Not begun, the lowest first."""
    begun: set[int] = field(default_factory=set)
    """Begun, and not waiting for its job."""
    running: dict[str, int] = field(default_factory=dict)
    """Shards by their jobs."""
    fresh: set[str] = field(default_factory=set)
    """Jobs that no listing has shown yet."""
    busy: set[int] = field(default_factory=set)
    """Rung for, or in a worker's hands."""
    wakes: dict[int, Wake] = field(default_factory=dict)
    left: int = 0
    """Shards that are not collected."""
    turned_away: set[int] = field(default_factory=set)
    """By the desk, since it last let anyone in."""


def _ask_anew(run: _Run) -> None:
    """Who was turned away comes again when something has changed, as soon as a real one would."""
    for shard in run.turned_away & run.wakes.keys():
        wake = run.wakes[shard]
        run.wakes[shard] = Wake(wake.began, min(wake.until, wake.began + AWAIT_DESK_SECONDS), 0, "")
    run.turned_away.clear()


class _Fleet:
    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._clock = VirtualClock()
        self._found = Simulated(finished=[0.0] * len(scenario.runs))
        shards = sum(len(run.shards) for run in scenario.runs)
        self._service = Service(scenario.service, self._clock, self._found, half=shards // 2)
        self._books = VirtualBooks(self._clock)
        self._most_events = EVENTS_OF_RUN + EVENTS_OF_SHARD * shards
        self._runs: list[_Run] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._bells: deque[tuple[_Run, int]] = deque()
        self._free = scenario.workers
        self._sweep_at = self._list_at = float("inf")
        self._newest_job = 0.0
        self._renewed = -RENEW_SECONDS
        self._freed = False
        self._quiet, self._ask_at = SWEEP_SECONDS, 0.0
        self._longest_quiet = QUIET_SECONDS if len(scenario.runs) > 1 else QUIET_ALONE_SECONDS
        self._ceiling = min(run.limits.poll_interval for run in scenario.runs)

    def drive(self) -> Simulated:
        arrivals = [run.arrives for run in self._scenario.runs]
        for number, at in enumerate(arrivals):
            self._at(at, lambda number=number: self._arrive(number))  # type: ignore[misc]
        while self._events:
            self._found.events += 1
            if self._found.events > self._most_events:
                raise Livelock(f"{self._found.events:,} events, and the runs have not ended")
            self._clock.seconds, _, event = heapq.heappop(self._events)
            event()
        if any(run.left for run in self._runs):
            raise Livelock("nothing is due, and the runs have not ended")
        self._found.seconds = self._clock_of_end(arrivals)
        return self._found

    def _clock_of_end(self, arrivals: list[float]) -> float:
        ends = [at + taken for at, taken in zip(arrivals, self._found.finished, strict=True)]
        return max(ends) - min(arrivals)

    def _at(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(seconds, self._clock.seconds), next(self._order), event))

    def _arrive(self, number: int) -> None:
        shop = make_shop(self._scenario, number, self._service, self._books)
        planned = deque(entry.shard for entry in shop.plan)
        self._runs.append(_Run(number, shop, self._clock.seconds, planned, left=len(planned)))
        self._tell(freed=True)

    # --- sweeps

    def _tell(self, freed: bool) -> None:
        """There is news: a sweep follows soon.

        Args:
            freed: whether the desk may now let in who had to wait.
        """
        self._freed |= freed
        self._sweep_by(self._clock.seconds + NEWS_SECONDS)

    def _sweep_by(self, at: float) -> None:
        if at < self._sweep_at:
            self._sweep_at = at
            self._at(at, lambda: self._sweep(at))

    def _sweep(self, at: float) -> None:
        if at != self._sweep_at:
            return  # another was due sooner
        self._sweep_at = float("inf")
        self._renew()
        runs, now = [run for run in self._runs if run.left], self._clock.seconds
        asks = self._freed or now >= self._ask_at
        if self._freed:
            for run in runs:
                _ask_anew(run)
        if asks:
            self._quiet = SWEEP_SECONDS if self._freed else min(2 * self._quiet, self._longest_quiet)
            self._freed, self._ask_at = False, now + self._quiet
        self._ring([self._due(run, asks) for run in runs])
        if any(run.planned for run in runs):
            self._sweep_by(self._ask_at)
        soonest = [run.wakes[shard].until for run in runs for shard in run.begun if shard in run.wakes]
        if soonest:
            self._sweep_by(max(min(soonest), self._clock.seconds + SOONEST_SECONDS))

    def _renew(self) -> None:
        """Leases follow the ledger, and what others have is seen anew."""
        if self._clock.seconds - self._renewed < RENEW_SECONDS:
            return
        self._renewed = self._clock.seconds
        others = [ListedJob(None, live=True)] * self._scenario.service.foreign_jobs
        self._books.change(lambda book, now: book.see(others, now))
        for run in self._runs:
            for shard in chain(run.begun, run.running.values()):
                run.shop.desk.follow(run.shop.records[shard], *run.shop.size(shard))

    def _due(self, run: _Run, asks: bool) -> list[tuple[_Run, int]]:
        now, shop = self._clock.seconds, run.shop
        room = shop.desk.room(self._head(run)) if asks and run.planned else None
        ahead = list(islice(run.planned, AHEAD)) if room and room.shards > 0 else []
        waiting = (shard for shard in ahead if shard not in run.busy)
        begun = (shard for shard in run.begun if shard not in run.busy)
        records = [shop.records.get(shard) or shop.read(shard) for shard in chain(begun, waiting)]
        if room is None:
            return [(run, shard) for shard in due_shards(records, run.wakes, now, 0)]
        tokens = {shard: shop.plan[shard].tokens for shard in ahead}
        return [(run, shard) for shard in due_shards(records, run.wakes, now, room.shards, room.tokens, tokens)]

    @staticmethod
    def _head(run: _Run) -> Applicant:
        shard = run.planned[0]
        return run.shop.applicant(run.shop.records.get(shard) or run.shop.read(shard))

    def _ring(self, bells: list[list[tuple[_Run, int]]]) -> None:
        """The runs in turn."""
        for bell in chain.from_iterable(zip_longest(*bells)):
            if bell:
                run, shard = bell
                run.busy.add(shard)
                self._bells.append(bell)
        self._serve()

    # --- workers

    def _serve(self) -> None:
        while self._free and self._bells:
            run, shard = self._bells.popleft()
            self._free -= 1
            self._begin(run, Steps(run.shop, shard))

    def _begin(self, run: _Run, steps: Steps) -> None:
        if steps.collects:
            self._at(self._clock.seconds + self._scenario.delays.collect, lambda: self._resume(run, steps))
        else:
            self._go(run, steps)

    def _go(self, run: _Run, steps: Steps) -> None:
        """The next step of a shard, at once; what takes time ends later."""
        while (verdict := steps.step()) is None:
            if (seconds := self._seconds(steps)) is not None:
                self._at(self._clock.seconds + seconds, lambda: self._resume(run, steps))
                return
        self._free += 1
        self._note(run, steps.shard, verdict)

    def _resume(self, run: _Run, steps: Steps) -> None:
        self._go(run, steps)
        self._serve()

    def _seconds(self, steps: Steps) -> float | None:
        """How long the step takes that is under way or comes next; None for no time at all."""
        delays = self._scenario.delays
        if steps.on_the_wire:
            return delays.create
        if isinstance(steps.next, lifecycle.Prepare):
            return delays.upload
        return None

    def _note(self, run: _Run, shard: int, verdict: Verdict) -> None:
        """Remember when the shard is due again."""
        run.busy.discard(shard)
        now, shop = self._clock.seconds, run.shop
        wait, failures = 0.0, 0
        match verdict:
            case AwaitDesk(_, until):
                failures = run.wakes[shard].failures + 1 if shard in run.wakes and shard in run.turned_away else 0
                wait = min(AWAIT_DESK_SECONDS * 2 ** min(failures, 9), QUIET_SECONDS)
                if until:
                    wait = min(wait, max(SOONEST_WAKE_SECONDS, (until - self._clock.now()).total_seconds()))
                run.turned_away.add(shard)
            case Rest(_, delay) if delay is None:
                failures = run.wakes[shard].failures + 1 if shard in run.wakes else 1
                wait = backoff(failures, shop.limits.poll_interval).total_seconds()
            case Rest(_, delay) if delay:
                wait = delay.total_seconds()
        run.wakes.pop(shard, None)
        if wait:
            run.wakes[shard] = Wake(now, now + wait, failures, "")
        self._place(run, shard)
        if not isinstance(verdict, AwaitDesk):
            self._tell(freed=shop.records[shard].state is not S.COLLECTED)

    def _place(self, run: _Run, shard: int) -> None:
        """Where the shard belongs by its record."""
        record = run.shop.records[shard]
        run.begun.discard(shard)
        if record.state is S.SUBMITTED and record.job:
            self._unplan(run, shard)
            run.running[record.job.name] = shard
            run.fresh.add(record.job.name)
            self._newest_job = self._clock.seconds
            self._list_by(self._clock.seconds + NEWS_SECONDS)
        elif record.state is S.COLLECTED:
            self._collected(run, shard)
        elif record.state is not S.PLANNED:
            self._unplan(run, shard)
            run.begun.add(shard)

    @staticmethod
    def _unplan(run: _Run, shard: int) -> None:
        if run.planned and run.planned[0] == shard:
            run.planned.popleft()
        elif shard not in run.begun and shard in run.planned:
            run.planned.remove(shard)

    def _collected(self, run: _Run, shard: int) -> None:
        run.left -= 1
        if run.shop.records[shard].refused:
            self._halve(run, shard)
        if not run.left:
            self._found.finished[run.number] = self._clock.seconds - run.arrives

    def _halve(self, run: _Run, shard: int) -> None:
        """Its rows in two shards of the next round, as `coordinator/repair.py` plans them."""
        self._found.split += 1
        plan, whole = run.shop.plan, run.shop.plan[shard]
        for half in (0, 1):
            parts = {name: (getattr(whole, name) + half) // 2 for name in SIZES}
            number = len(plan)
            plan.append(whole.model_copy(update={**parts, "shard": number, "round": whole.round + 1}))
            run.planned.append(number)
            run.left += 1
        self._tell(freed=True)

    # --- looks at jobs

    def _list_by(self, at: float) -> None:
        if at < self._list_at:
            self._list_at = at
            self._at(at, lambda: self._list(at))

    def _list(self, at: float) -> None:
        """Look at all jobs at once. Those that still run say something new once: their requests were read."""
        if at != self._list_at:
            return
        self._list_at = float("inf")
        self._service.settle()
        ended, self._service.ended[:] = set(self._service.ended), []
        for run in self._runs:
            news = (ended | run.fresh) & run.running.keys()
            run.fresh.clear()
            if not news:
                continue
            live = tuple(self._service.get_job(name).job for name in news - ended)
            listing = Listing(jobs={}, names=frozenset(), at=self._clock.now(), every=live)
            for name in sorted(news):
                look(run.shop, run.shop.records[run.running[name]], listing)
            for name in news & ended:
                run.begun.add(run.running.pop(name))
                self._tell(freed=True)
        if any(run.running for run in self._runs):
            self._list_by(self._next_listing())

    def _next_listing(self) -> float:
        """The first listing from which something is to be learned, if nothing is sent until then."""
        at, end = self._clock.seconds, self._service.next_end()
        while True:
            age = timedelta(seconds=max(0.0, at - self._newest_job))
            delay = max(poll_delay(age, self._ceiling).total_seconds(), SOONEST_SECONDS)
            at += delay if delay < self._ceiling or end is None else delay * max(1, ceil((end - at) / delay))
            if end is None or at >= end:
                return at
