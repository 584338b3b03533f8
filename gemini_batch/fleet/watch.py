"""The side of a fleet that people are on: hand a run over, watch it, leave it. Nothing here works on a run."""

from collections.abc import Callable
from datetime import UTC, datetime
from math import inf
from threading import Event

from gemini_batch.agenda import GLANCE_SHARE
from gemini_batch.clock import Clock, SystemClock
from gemini_batch.errors import BadInput, RunStopped
from gemini_batch.fleet.broker import Broker
from gemini_batch.fleet.hints import Hints
from gemini_batch.fleet.registry import Registry
from gemini_batch.ledger.places import open_store, relative
from gemini_batch.ledger.run import RunFiles
from gemini_batch.records import ShardRecord
from gemini_batch.standing import Drivers, lift_stop, read_status
from gemini_batch.status import Status, is_held_back, is_over

LOOK_SECONDS = 1.0
"""Between two looks at the run directory."""


def hand_over(files: RunFiles, run_id: str, runs: str, broker: Broker) -> None:
    """Let a fleet work on a run. Again is fine.

    Raises:
        BadInput: the run does not lie where the workers look, or the broker does not answer.
    """
    folder = relative(files.store.url, runs)
    if folder is None:
        raise BadInput(
            f"{files.store.url} does not lie below {runs}: workers find runs by the root they share. Give --out below "
            "--runs, or --runs above it."
        )
    broker.ping()
    lift_stop(files)
    Registry(open_store(runs)).add(run_id, folder)
    Hints(broker.connect()).hasten("sweep", seconds=0.1)


def take_back(run_id: str, runs: str) -> bool:
    """Take a run from the fleet that shares `runs`. Returns whether one had it."""
    registry = Registry(open_store(runs))
    had = registry.where(run_id) is not None
    if had:
        registry.remove(run_id)
    return had


def see(run_id: str, registry: Registry, hints: Hints | None) -> Drivers:
    """Who works on a run, as far as the broker and the registry say."""
    handed_over = registry.where(run_id) is not None
    if hints is None or not handed_over:
        return Drivers(handed_over=handed_over, unseen=handed_over)
    workers = hints.workers(run_id)
    working = any(worker["problem"] is None for worker in workers)
    wakes, now = hints.wakes(run_id)
    waiting = {shard: wake.reason for shard, wake in wakes.items() if wake.rests(now)}
    says, says_until = hints.explanation(run_id)
    until = {wake.reason: wake.known for wake in wakes.values() if wake.known and wake.rests(now)}
    if says and says_until:
        until[says] = says_until
    return Drivers(
        working,
        waiting if working else None,
        says,
        {reason: datetime.fromtimestamp(at, UTC) for reason, at in until.items()},
        tuple(workers),
        hints.looked_at(run_id),
        handed_over,
        trouble=hints.blinded(run_id),
    )


class Watcher:
    """Watches a run until it ends. Leaving it changes nothing."""

    def __init__(
        self,
        files: RunFiles,
        run_id: str,
        runs: str,
        broker: Broker | None,
        clock: Clock | None = None,
        only_looks: bool = False,
    ) -> None:
        self._files = files
        self._only_looks = only_looks
        self._run_id = run_id
        self._registry = Registry(open_store(runs))
        self._hints = Hints(broker.connect()) if broker else None
        self._clock = clock or SystemClock()
        self._plan = files.plan()
        self._records: dict[int, ShardRecord] = {}
        self._closing = Event()

    @property
    def farewell(self) -> str:
        left = "waits no longer" if self._only_looks else "detached; the workers go on"
        return f"{left}. See how it stands with:\n  gemini-batch-dist status"

    def close(self) -> None:
        """Stop watching."""
        self._closing.set()

    def drive(self, watch: Callable[[Status], None] | None = None, timeout: float = inf, once: bool = False) -> Status:
        """Watch until the run is over, for `timeout` seconds, or until `close`. One that is paused is left when nothing
        of it is in flight, except by who only looks: somebody may go on with it.

        Args:
            watch: called with the status about once a second.
            once: look one time.

        Raises:
            RunStopped: a person is needed.
        """
        deadline = self._clock.boottime() + (0.0 if once else timeout)
        while True:
            began = self._clock.boottime()
            status = self.status()
            if watch:
                watch(status)
            if status["state"] == "stopped":
                raise RunStopped(status["reason"])
            if is_over(status) or (is_held_back(status) and not self._only_looks):
                return status
            now = self._clock.boottime()
            left, rest = deadline - now, max(LOOK_SECONDS, GLANCE_SHARE * (now - began))
            if left <= 0 or self._closing.wait(min(rest, left)):
                return status

    def status(self) -> Status:
        self._files.refresh(self._plan, self._records)
        drivers = see(self._run_id, self._registry, self._hints)
        status = read_status(self._files, self._clock, drivers, list(self._records.values()))
        if status is None:
            raise BadInput(f"{self._files.store.url}: the run has gone")
        return status
