"""A fleet whose broker is full, frozen or moved, and whose workers freeze or have wrong clocks."""

import json
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

PROMPTS, SHARDS, LIVE = 80, 8, 2
OPTIONS = ("--poll-interval", "1", "--settle", "5", "--max-requests-per-shard", PROMPTS // SHARDS)

FAILPOINTS = """
import json, os, signal, sys
from gemini_batch import effects

def hook(point, phase):
    args = repr(sys._getframe(1).f_locals["args"][1:])
    caller = sys._getframe(2).f_code.co_name
    for number, (where, when, word, by, what) in enumerate(json.loads(os.environ["FAILPOINTS"])):
        if (where, when) != (point, phase) or word not in args or by not in caller:
            continue
        try:
            os.close(os.open(os.path.join(os.path.dirname(__file__), str(number)), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        os.kill(os.getpid(), what)

effects.observe(hook)
"""

WRONG_CLOCK = """
import os, time
from datetime import timedelta
from gemini_batch import clock

wrong, right, now = float(os.environ["WRONG_BY"]), time.time, clock.SystemClock.now
time.time = lambda: right() + wrong
clock.SystemClock.now = lambda self: now(self) + timedelta(seconds=wrong)
"""


@pytest.fixture
def detach(cli: Any, valkey: Any, look: Any, folder: Path) -> Callable[..., None]:
    """Hand a run over and leave."""

    def hand_over(*more: object) -> None:
        manifest = look.prompts(folder / "m.parquet", PROMPTS)
        done = cli("submit", manifest, *OPTIONS, *more, "--broker", valkey.url, "--out", "runs/run", "--detach")
        assert done.code == 0, done.err

    return hand_over


@pytest.fixture
def exact(answered: Callable[[int, int], None], run: Path, cli: Any) -> Callable[[], None]:
    """Wait for the dataset; every answer is right, was bought once and is accounted for."""

    def wait() -> None:
        answered(PROMPTS, SHARDS)
        audited = cli("audit", run)
        assert audited.code == 0, audited.words

    return wait


@pytest.fixture
def inside(folder: Path) -> Callable[..., dict[str, str]]:
    """The environment of a worker that runs this code before its own."""

    def environment(code: str, **more: object) -> dict[str, str]:
        place = folder.parent / "inside"
        place.mkdir(exist_ok=True)
        (place / "sitecustomize.py").write_text(code)
        path = os.pathsep.join([str(place), *filter(None, [os.environ.get("PYTHONPATH")])])
        return {"PYTHONPATH": path} | {name: json.dumps(value) for name, value in more.items()}

    return environment


# --- the broker -------------------------------------------------------------------------------------------------------


def _stands_still(emulator: Any, looks: int) -> Callable[[], bool]:
    """Whether so many looks in a row found no new call of the service."""
    seen: list[int] = []

    def look() -> bool:
        seen.append(sum(emulator.stats()["calls"].values()))
        return len(seen) > looks and len(set(seen[-looks:])) == 1

    return look


@pytest.fixture
def half_done(detach: Any, emulator: Any, start_worker: Any, look: Any) -> list[Any]:
    """Two workers in the middle of a run."""
    emulator.settings(job_seconds=0.5)
    crew = [start_worker(name) for name in ("a@host-one", "b@host-two")]
    detach("--max-live-jobs", LIVE)
    look.until(lambda: emulator.creates >= 3, "the run is under way")
    return crew


def test_a_run_goes_on_when_a_full_redis_has_room_again(
    half_done: Any, valkey: Any, emulator: Any, exact: Any, look: Any
) -> None:
    """A full Redis refuses doorbells and ends workers; none of that may need a hand."""
    valkey.client.config_set("maxmemory", 1)
    look.until(_stands_still(emulator, 100), "the fleet stands still")
    assert emulator.creates < SHARDS, "finished too early to be of use"
    valkey.client.config_set("maxmemory", 0)
    exact()
    assert emulator.stats()["jobs"]["live_max"] <= LIVE


def test_a_run_goes_on_when_a_frozen_redis_answers_again(
    half_done: Any, valkey: Any, emulator: Any, exact: Any, look: Any
) -> None:
    """A connection that is open and silent is worse than a closed one: nothing may wait on it for ever."""
    valkey.signal(signal.SIGSTOP)
    look.until(_stands_still(emulator, 200), "the fleet stands still")
    assert emulator.creates < SHARDS, "finished too early to be of use"
    valkey.signal(signal.SIGCONT)
    exact()
    assert emulator.stats()["jobs"]["live_max"] <= LIVE


def test_a_run_goes_on_from_another_redis(
    half_done: Any, valkey: Any, other_valkey: Any, emulator: Any, exact: Any, start_worker: Any
) -> None:
    """Nothing that matters was in the old one: workers of the new one find the run below their root."""
    valkey.kill()
    assert [worker.stop().code for worker in half_done] == [0, 0]
    assert emulator.creates < SHARDS, "finished too early to be of use"
    for name in ("a@host-one", "b@host-two"):
        start_worker(name, "--broker", other_valkey.url)
    exact()
    assert emulator.stats()["jobs"]["live_max"] <= LIVE


# --- frozen workers ---------------------------------------------------------------------------------------------------

UPLOADS = ("remote.upload", "before", "", "", signal.SIGSTOP)
MAY_SEND = ("store.create", "after", '"state":"SENDING"', "", signal.SIGSTOP)
SENT = ("remote.create_job", "after", "", "", signal.SIGSTOP)
MERGES = ("store.exists", "after", "_SUCCESS", "finish", signal.SIGSTOP)
DIES_MERGING = ("store.delete", "after", "_SUCCESS", "merge", signal.SIGKILL)


@pytest.mark.parametrize(
    ("points", "forgets"),
    [([UPLOADS], True), ([SENT], True), ([MAY_SEND], False), ([MERGES], True), ([MERGES, DIES_MERGING], True)],
    ids=["uploads", "has sent", "may send", "merges", "merges and dies"],
)
def test_a_frozen_worker_whose_work_others_took_over_does_no_harm_when_it_thaws(
    points: list[Any], forgets: bool, inside: Any, detach: Any, exact: Any, run: Path, valkey: Any, start_worker: Any,
    look: Any
) -> None:  # fmt: skip
    """A suspended machine comes back in the middle of a step that is no longer its own. Where the step does not buy,
    Redis forgets who was busy, which spares the test the half minute until others take over."""
    frozen = start_worker("frozen@host-one", env=inside(FAILPOINTS, FAILPOINTS=points))
    detach()
    look.until(lambda: "T" in frozen.states, "the worker comes to the point")
    frozen.freeze()
    if forgets:
        valkey.client.flushall()
    start_worker("other@host-two")
    exact()
    frozen.thaw()
    assert frozen.stop().code == 0
    assert (run / "_SUCCESS").exists(), "a finished run stays finished"
    exact()


def test_a_finished_run_keeps_no_debris_of_a_worker_that_died(
    inside: Any, detach: Any, exact: Any, run: Path, valkey: Any, start_worker: Any, look: Any
) -> None:
    """A request file may have 2 GB; nobody else would ever remove it."""
    doomed = start_worker("doomed@host-one", env=inside(FAILPOINTS, FAILPOINTS=[UPLOADS]))
    detach()
    look.until(lambda: "T" in doomed.states, "the worker comes to the point")
    assert list((run / ".scratch").iterdir()), "killed too early to be of use"
    doomed.kill()
    valkey.client.flushall()
    start_worker("other@host-two")
    exact()
    look.until(lambda: not list((run / ".scratch").glob("*")), "the debris is swept up", 20)


# --- wrong clocks -----------------------------------------------------------------------------------------------------


def test_workers_with_wrong_clocks_change_nothing(
    inside: Any, detach: Any, exact: Any, run: Path, emulator: Any, start_worker: Any, look: Any
) -> None:
    """Lost creates settle by the service's time and Redis rests by its own; a worker's clock decides nothing."""
    emulator.settings(job_seconds=0.5)
    emulator.fault("create_503", after=2)
    emulator.fault("create_reply_lost", after=4)
    start_worker("ahead@host-one", env=inside(WRONG_CLOCK, WRONG_BY=7200))
    start_worker("behind@host-two", env=inside(WRONG_CLOCK, WRONG_BY=-7200))
    detach("--max-live-jobs", LIVE)
    exact()
    assert emulator.pending_faults() == []
    times = [datetime.fromisoformat(look.json(path)["at"]) for path in run.glob("ledger/*/*.json")]
    hours = {round((at - datetime.now(UTC)) / timedelta(hours=1)) for at in times}
    assert {2, -2} <= hours, "both clocks were at work"
