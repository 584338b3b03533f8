"""A way through the model, gone by real workers: threads that run the real `advance` over a real ledger.

A thread stops at each of its effects; the way says which one goes on, and what the service or the disk answers. After
each step the ledger and all workers have to be where the model says.
"""

from collections import defaultdict
from dataclasses import replace
from random import Random
from threading import Semaphore, Thread
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

from calls import REFUSALS, SIBLING, Append, Ask, Calls, Create, End, Script, fake_prepare
from frame import HAS_JOB, SETTLE_TICKS, TICK, UNSENT
from made import make_asked, make_limits
from rules import Rules, Worker
from shops import Clock, make_shop
from world import Worlds

from gemini_batch.errors import RunStopped, Unavailable
from gemini_batch.jobs import advance as advancing
from gemini_batch.jobs import looking, twins
from gemini_batch.jobs.lifecycle import GONE
from gemini_batch.jobs.shop import Shop
from gemini_batch.ledger.objects import ObjectStore
from gemini_batch.quota.desk import Desk, MemoryBooks
from gemini_batch.records import ShardRecord, ShardState

MOST_TICKS = 20
"""Uploads, which really age here, are not to become stale."""


class Stop(NamedTuple):
    """A step of the way, and what there is after it."""

    label: tuple[Any, ...]
    record: ShardRecord
    workers: tuple[tuple[Any, Worker], ...]
    """The effect of each worker's call, and the worker."""


def random_way(rules: Rules, dice: Random, most: int) -> list[Stop]:
    """A way of at most so many steps through the model."""
    with Calls(rules.policy) as calls:
        worlds, stops, ticks = _placed(rules, calls), [], 0
        world = worlds.first()
        while len(stops) < most:
            steps = [step for step in _steps(worlds, world) if step.label[0] != "tick" or ticks < MOST_TICKS]
            if not steps:
                break
            label, _, world = dice.choice(steps)
            ticks += label[0] == "tick"
            stops.append(_stop(worlds, label, world))
    return stops


def shortest_ways(rules: Rules, causes: set[str]) -> dict[str, list[Stop]]:
    """The shortest way to a record of each of the causes."""
    with Calls(rules.policy) as calls:
        worlds, found = _placed(rules, calls), {}
        order = [worlds.first()]
        origin = {order[0]: (None, None)}
        for world in order:
            for label, _, after in _steps(worlds, world):
                if after not in origin:
                    origin[after] = label, world
                    order.append(after)
                if label[1:2] == ("append",) and label[2] not in found:
                    found[label[2]] = [*_path(worlds, origin, world), _stop(worlds, label, after)]
            if causes <= set(found):
                return found
    raise AssertionError(f"no way to {causes - set(found)}")


def _placed(rules, calls):
    """The model with workers that keep their places."""
    worlds = Worlds(rules, calls)
    worlds.sorted = list
    return worlds


def _steps(worlds, world):
    return [step for step in worlds.steps(world) if step.label[0] != "upload grows stale"]


def _path(worlds, origin, world):
    path = []
    while origin[world][1] is not None:
        label, before = origin[world]
        path.append(_stop(worlds, label, world))
        world = before
    return path[::-1]


def _stop(worlds, label, world):
    workers = tuple((worlds.calls.step(worker.call), worker) for worker in world.workers)
    return Stop(label, worlds.calls.records[world.ledger], workers)


def go(rules: Rules, stops: list[Stop], folder) -> None:
    """Go the way. Raises AssertionError where the real code is elsewhere."""
    stage = _Stage(rules, folder)
    with (
        patch.object(advancing, "prepare", fake_prepare),
        patch.object(looking, "collect", lambda shop, record: shop.remote.collect(record)),
    ):
        try:
            for number, stop in enumerate(stops):
                stage.take(stop)
                found, expected = stage.shape(), _expected(stop)
                assert found == expected, [*(stop.label for stop in stops[: number + 1]), found, expected]
        finally:
            stage.close()


class _Stage:
    def __init__(self, rules, folder):
        self.clock = _Ticking()
        buckets = defaultdict(lambda: ObjectStore("memory:///"))
        settle = SETTLE_TICKS * TICK.total_seconds()
        limits = make_limits(on_unknown=rules.policy, settle=settle, max_requests_per_shard=1)
        self.shop = make_shop(folder, make_asked, limits, None, self.clock, buckets.__getitem__, rows=2)
        self.shop.files.history(1).append(SIBLING)
        self.display: dict[int, str] = {}
        self.real: dict[int, int] = {}
        """Numbers of sends: the model's to the ledger's."""
        self.processes = [_Process(self) for _ in range(rules.workers)]

    def take(self, stop):
        match stop.label:
            case ("tick",):
                self.clock.passed += TICK
            case (int() as slot, "crash"):
                self.processes[slot].die()
                self.processes[slot] = _Process(self)
            case (int() as slot, kind):
                self.processes[slot].begin(kind)
            case (int() as slot, "append", cause, answer):
                self.processes[slot].go((answer,))
                if (cause, answer) in (("SendBegan", "ok"), ("SendBegan", "disk, done")):
                    self.real[stop.record.sends[-1].number] = self.last().sends[-1].number
            case (int() as slot, "create", answer) if answer in (*REFUSALS, "job"):
                self.processes[slot].go((answer,))
            case (int() as slot, _, tuple() as answer):
                self.processes[slot].go(answer)
        for process in self.processes:  # a write that must fail does so at once
            while isinstance(process.at, Append) and process.at.record <= self.last().version:
                process.go(("no",))

    def last(self):
        return self.shop.files.last(0)

    def shape(self):
        return _shape(self.last()), [process.at and _name(process.at) for process in self.processes]

    def close(self):
        for process in self.processes:
            process.die()


class _Ticking(Clock):
    """No two looks at it show the same instant."""

    looks = 0

    def boottime(self):
        self.looks += 1
        return super().boottime() + self.looks * 1e-6


class _Died(BaseException):
    """The process is gone."""


class _Process(Script):
    """A worker process: its memory, its call, and the service as it sees it."""

    def __init__(self, stage):
        self._stage, self._files = stage, stage.shop.files
        self._calls = SimpleNamespace(display=stage.display, sibling=True)
        self._asked, self._answered = Semaphore(0), Semaphore(0)
        self.now, self.boottime = stage.clock.now, stage.clock.boottime
        self.at = None
        """The effect that its call waits at."""
        base = stage.shop
        self._shop = Shop(
            run=base.run, limits=base.limits, files=self, plan=base.plan, remote=self,
            desk=Desk(MemoryBooks(), base.run, base.limits), pool=None, clock=stage.clock, owner="o",
        )  # fmt: skip
        self._read_anew = False
        for shard in range(2):
            self._shop.last(shard)

    def begin(self, kind):
        self.kind, self._blind, self._read_anew = kind, False, kind == "finish"
        Thread(target=self._run, daemon=True).start()
        self._asked.acquire()

    def go(self, answer):
        """Answer the effect. Returns when the call asks for the next one, or has ended."""
        self.at, self._answer = None, answer
        self._answered.release()
        self._asked.acquire()

    def die(self):
        if self.at:
            self.go(_Died)

    def _run(self):
        try:
            self._perform()
        except (_Died, RunStopped, Unavailable, OSError):  # as whoever calls it would
            pass
        finally:
            self._asked.release()

    def _perform(self):
        match self.kind:
            case "advance":
                advancing.advance(self._shop, 0)
            case "work":
                advancing.work(self._shop, 0)
            case "finish":
                twins.end_all(self._shop)
            case "look":
                before, listing = self._shop.read(0), self.list_jobs()
                self._read_anew = True
                advancing.look(self._shop, before, listing)

    def _answer_to(self, step):
        self.at = step
        self._asked.release()
        self._answered.acquire()
        if self._answer is _Died:
            raise _Died
        return self._answer

    # --- the ledger is real

    def last(self, shard, known):
        if self._read_anew and shard == 0:
            self._read_anew = self.kind == "finish"
            self._take(Ask("read"))
        return self._files.last(shard, known)

    def _append(self, record):
        (answer,) = self._take(Append(record.cause, record.version, len(record.sends)))
        if answer == "disk":
            raise OSError(28, "No space left on device")
        won = self._files.history(0).append(record)
        self.display.update({send.number: send.display_name for send in record.sends})
        if answer == "disk, done":
            raise OSError(5, "Input/output error")
        if won and record.cause == "SendBegan":
            self._take(Ask("kept"))
        return won

    @property
    def display(self):
        return self._stage.display

    # --- the service says what the model says, at the time there is

    def listing(self, answer):
        _, mode, shown, _ = answer
        known = [(self._stage.real[number], life) for number, life in shown]
        return replace(super().listing(("list", mode, known, 0)), at=self.now())

    def get_job(self, name):
        return replace(super().get_job(name), at=self.now())


def _expected(stop):
    places = [
        None if isinstance(step, End) else "kept" if worker.wire == "kept" else _name(step)
        for step, worker in stop.workers
    ]
    return _shape(stop.record), places


def _name(step):
    return {Append: lambda: step.cause, Create: lambda: "create", Ask: lambda: step.what}[type(step)]()


def _shape(record):
    """What the records of the model and of the ledger have in common."""
    absence = None if record.state in UNSENT or record.state is ShardState.COLLECTED else record.absence
    return (
        record.state,
        record.requests,
        record.upload.name if record.upload and record.state in UNSENT else None,
        [send.requests for send in record.sends],
        record.job and record.job.state == GONE,
        len(record.twins),
        absence and (absence.times, absence.of),
        None if record.state in HAS_JOB else record.refusals,
    )
