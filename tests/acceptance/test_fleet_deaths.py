"""A fleet whose machines and broker die at random: every answer on its row, every request bought once.

`make chaos` is the long form: CHAOS_EVENTS deaths among CHAOS_ROWS rows, under CHAOS_SEED; with CHAOS_ONLY those of a
kind that it matches, with CHAOS_PAUSE=5-40 so many seconds apart; jobs of CHAOS_JOB_SECONDS.
"""

import os
import random
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

SEED = int(os.environ.get("CHAOS_SEED", "20261124"))
ROWS = int(os.environ.get("CHAOS_ROWS", "20000"))
EVENTS = int(os.environ.get("CHAOS_EVENTS", "10"))
ONLY = os.environ.get("CHAOS_ONLY", "")
PAUSE = tuple(map(float, os.environ.get("CHAOS_PAUSE", "0-0").split("-")))
"""Seconds from one event to the next; without it they follow what the fleet gets done."""
JOB_SECONDS = float(os.environ.get("CHAOS_JOB_SECONDS", "1.5"))
TO_THE_END = 120 + ROWS / 50
"""Seconds that only a defect needs."""
SHARD = 100
AT_ONCE = 8
MISHAPS = 0.03
"""The share of calls, jobs and lines that meet a fault of the service."""
KINDS = (
    "Redis forgets everything",
    "Redis dies and comes back empty",
    "death of a process of",
    "death of the main process of",
    "death of",
)


class Chaos:
    """Random events among workers and their broker. Whoever dies is replaced."""

    def __init__(self, seed: int, emulator: Any, valkey: Any, start: Callable[[str], Any]) -> None:
        print(f"seed {seed}")
        self.crew: list[Any] = []
        self._dice = random.Random(seed)
        self._emulator = emulator
        self._valkey = valkey
        self._start = start

    def join(self, name: str) -> None:
        self.crew.append(self._start(name))
        self._tell(f"{name} joins")

    def leave(self) -> None:
        victim = self.crew.pop(0)
        victim.kill()
        self._tell(f"death of {victim.name}, for good")

    def strike(self, kind: str | None = None) -> None:
        kind = kind or self._dice.choice([kind for kind in KINDS if re.search(ONLY, kind)])
        victim = self._dice.choice(self.crew)
        match kind:
            case "Redis forgets everything":
                self._valkey.client.flushall()
            case "Redis dies and comes back empty":
                self._valkey.kill()
                self._valkey.start()
            case "death of a process of":
                victim.kill_one(self._dice)
            case "death of the main process of":
                victim.kill_main()
            case _:
                victim.kill()
                self.crew[self.crew.index(victim)] = self._start(victim.name)
        self._tell(kind if kind.startswith("Redis") else f"{kind} {victim.name}")

    def await_next(self, look: Any) -> None:
        if any(PAUSE):
            threading.Event().wait(self._dice.uniform(*PAUSE))
        else:
            self.await_calls(look, 10 * ROWS // SHARD // EVENTS)

    def await_calls(self, look: Any, at_most: int) -> None:
        """Let the fleet make up to so many calls of the service."""
        due = self._calls() + self._dice.randint(0, at_most)
        look.until(lambda: self._calls() >= due, f"{due} calls of the service", 90)

    def _calls(self) -> int:
        return sum(self._emulator.stats()["calls"].values())

    def _tell(self, what: str) -> None:
        print(f"{what} ({self._calls()} calls, {self._emulator.creates} jobs)")


def _order(valkey: Any, manifest: Path) -> list[object]:
    options = ("--poll-interval", "1", "--settle", "5", "--max-requests-per-shard", SHARD, "--max-live-jobs", AT_ONCE)
    return ["submit", manifest, "--yes", *options, "--broker", valkey.url, "--out", "runs/run"]


def _hand_over(cli: Any, valkey: Any, manifest: Path) -> Path:
    done = cli(*_order(valkey, manifest), "--detach")
    assert done.code == 0, done.err
    return cli.folder / "runs" / "run"


def _exact(run: Path, rows: int, shards: int, emulator: Any, look: Any, cli: Any) -> None:
    look.until((run / "_SUCCESS").exists, "the run has finished", TO_THE_END)
    assert emulator.bought_twice() == []
    assert (emulator.bought, emulator.creates) == (rows, shards)
    assert emulator.stats()["jobs"]["live_max"] <= AT_ONCE
    table = look.dataset(run)
    assert table["index"].to_pylist() == list(range(rows))
    assert table["text"].to_pylist() == [look.answer(f"Prompt number {i}") for i in range(rows)]
    assert set(table["status"].to_pylist()) == {"ok"}
    emulator.settings(chaos=0)
    audited = cli("audit", run, "--json")
    assert (audited.code, audited.json["findings"]) == (0, []), audited.words
    assert audited.json["looked_at"]


def test_deaths_at_random_a_join_and_mishaps_of_the_service_change_nothing_and_buy_nothing_twice(
    cli: Any, emulator: Any, valkey: Any, start_worker: Callable[..., Any], look: Any, folder: Path
) -> None:
    """What a fleet is for: machines come and go, Redis forgets, the service errs, and each prompt is answered once."""
    emulator.settings(job_seconds=JOB_SECONDS, chaos=MISHAPS)
    chaos = Chaos(SEED, emulator, valkey, start_worker)
    chaos.join("a@host-one")
    chaos.join("b@host-two")
    manifest = look.prompts(folder / "m.parquet", ROWS)
    doomed = cli.start(*_order(valkey, manifest))
    look.until((folder / "runs" / "run" / "run.json").exists, "the coordinator has begun")
    doomed.kill()
    run = _hand_over(cli, valkey, manifest)
    watching = cli.start("resume", run, "--broker", valkey.url, "--json")
    for number in range(EVENTS):
        chaos.await_next(look)
        assert not (run / "_SUCCESS").exists(), "finished too early to be of use"
        if number == 3:
            watching.kill()
            watching = cli.start("resume", run, "--broker", valkey.url, "--json")
        if number == 4:
            chaos.join("c@host-three")
        if number == 6:
            chaos.leave()
        chaos.strike()
    emulator.settings(job_seconds=min(JOB_SECONDS, 1.5))
    _exact(run, ROWS, ROWS // SHARD, emulator, look, cli)
    watched = watching.ended(20)
    assert (watched.code, watched.json["state"]) == (0, "finished"), watched.err
    assert [worker.stop().code for worker in chaos.crew] == [0, 0]
    look.until(lambda: not any(worker.all for worker in chaos.crew), "nobody is left")


def test_the_older_celery_loses_nothing_either(
    cli: Any, emulator: Any, valkey: Any, start_worker: Callable[..., Any], look: Any, folder: Path
) -> None:
    """Both lines of Celery are supported; they differ most in what a lost broker does to a busy worker."""
    older = Path(sys.prefix) / "celery56"
    assert (older / "celery").is_dir(), f"{older} is missing: `make test` creates it"
    path = os.pathsep.join([str(older), *filter(None, [os.environ.get("PYTHONPATH")])])
    emulator.settings(job_seconds=1)
    chaos = Chaos(SEED, emulator, valkey, lambda name: start_worker(name, env={"PYTHONPATH": path}))
    chaos.join("a@host-one")
    chaos.join("b@host-two")
    run = _hand_over(cli, valkey, look.prompts(folder / "m.parquet", 2_000))
    for kind in (
        "Redis dies and comes back empty",
        "death of the main process of",
        "Redis forgets everything",
        "death of",
    ):
        chaos.await_calls(look, 25)
        look.until(lambda: any(valkey.client.scan_iter("gemini-batch:hold:*")), "a worker is busy")
        chaos.strike(kind)
    _exact(run, 2_000, 20, emulator, look, cli)
    for worker in chaos.crew:
        assert "v5.6." in worker.said
        assert worker.stop().code == 0
