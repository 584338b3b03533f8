"""Death on the pay path of a fleet, and at what only a fleet does: a real broker, real Celery workers."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Worker
from tests.crash.lab import DIED, OPTIONS, At, Case
from tests.crash.stories import OF_A_FLEET, PLAIN

INSIDE = """
import json, os, signal, sys
from gemini_batch import effects

HERE = os.path.dirname(__file__)

def hook(point, phase):
    try:
        with open(f"{HERE}/order") as order:
            number, *what, place, word, who = json.load(order)
    except OSError:
        return
    frame = sys._getframe(2)
    while frame.f_code.co_filename.endswith("jobs/paced.py"):  # every call of the service passes it
        frame = frame.f_back
    module = frame.f_code.co_filename.removesuffix(".py")
    if what != [phase, point] or word not in repr(sys._getframe(1).f_locals["args"][1:]):
        return
    if place and not (module.endswith(place.partition(":")[0]) and frame.f_code.co_qualname == place.partition(":")[2]):
        return
    try:
        os.close(os.open(f"{HERE}/{number}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    chain = {"process": [], "worker": [os.getppid()], "machine": [os.environ["GEMINI_BATCH_SUPERVISOR"], os.getppid()]}
    for pid in (*chain[who], os.getpid()):
        os.kill(int(pid), signal.SIGKILL)

effects.observe(hook)
"""


@dataclass(frozen=True)
class Death:
    """Of a process of the pool; with Celery's main process, of a worker; with its supervisor too, of a machine."""

    phase: str
    point: str
    word: str = ""
    place: str = ""
    who: str = "process"

    def __str__(self) -> str:
        return " ".join(filter(None, (self.phase, self.point, self.word, self.place, f"({self.who})")))


DEATHS = (
    Death("after", "remote.upload", who="worker"),
    Death("before", "store.create", "SendBegan"),
    Death("before", "remote.create_job"),
    Death("after", "remote.create_job", who="machine"),
    Death("before", "store.create", "JobLearned", who="worker"),
    Death("before", "remote.list_jobs", place="fleet/sweep:_Sweep._listing"),
    Death("before", "store.create", "JobEnded"),
    Death("before", "store.create", "_SUCCESS"),
    Death("before", "store.sweep_scratch", place="fleet/host:Host.let_go"),
    Death("before", "store.delete", place="fleet/registry:Registry.remove"),
    Death("before", "store.create", place="fleet/registry:Registry.identity"),
)

HANDING_OVER = {
    At("before", "store.publish", ".active"): ("store.publish", "fleet/registry:Registry.add"),
    At("before", "store.delete", "stopped.json"): ("store.delete", "standing:lift_stop"),
}


class Fleet:
    """Workers that share a runs root."""

    def __init__(self, lab: Any, valkey: Any, look: Any, folder: Path) -> None:
        self._lab, self._valkey, self._look, self._folder = lab, valkey, look, folder
        self._runs, self._inside = folder / "runs", folder / "inside"
        self._crew: list[Worker] = []
        self._deaths = 0
        self._inside.mkdir()
        (self._inside / "sitecustomize.py").write_text(INSIDE)

    def join(self) -> None:
        path = os.pathsep.join([str(self._inside), *filter(None, [os.environ.get("PYTHONPATH")])])
        env = {"GOOGLE_GEMINI_BASE_URL": self._lab.emulator.url, "PYTHONPATH": path}
        name, where = f"worker-{len(self._crew)}", ("--broker", self._valkey.url, "--runs", self._runs)
        self._crew.append(Worker(f"{name}@host", self._folder / name / "here", env, *where))

    def new(self) -> Case:
        case = self._lab.new(PLAIN)
        case.run = self._runs / case.folder.name
        return case

    def hand_over(self, case: Case, die: At | None = None) -> int:
        options = {**OPTIONS, "runs": str(self._runs)}
        ended = case.fork("hand_over", die, out=str(case.run), broker=self._valkey.url, options=options)
        assert ended.code in (0, DIED), ended.said
        return ended.code

    def order(self, death: Death) -> Path:
        """Somebody is to die there. Returns what is there once he has."""
        self._deaths += 1
        draft, dead = self._inside / "draft", self._inside / str(self._deaths)
        draft.write_text(json.dumps([dead.name, death.phase, death.point, death.place, death.word, death.who]))
        draft.rename(self._inside / "order")
        return dead

    def forget(self, root: bool = False) -> None:
        """Redis loses everything: also who was busy with what, which spares the test the half minute until others take
        over. The root loses its name, too."""
        if root:
            (self._runs / ".active" / "root").unlink()
        self._valkey.client.flushall()

    def await_end(self, case: Case) -> None:
        self._look.until((case.run / "_SUCCESS").exists, "the run has finished")
        self._look.until(lambda: not list(self._runs.glob(".active/*.json")), "the fleet has let go of it")

    def close(self) -> None:
        for worker in self._crew:
            worker.close()


@pytest.fixture(scope="module")
def fleet(lab: Any, module_valkey: Any, look: Any, tmp_path_factory: Any) -> Iterator[Fleet]:
    made = Fleet(lab, module_valkey, look, tmp_path_factory.mktemp("fleet"))
    made.join()
    yield made
    made.close()


@pytest.mark.parametrize("death", DEATHS, ids=str)
def test_wherever_a_worker_dies_others_finish_and_buy_nothing_twice(
    death: Death, fleet: Fleet, lab: Any, told: Any, look: Any
) -> None:
    plain, case = told(PLAIN), fleet.new()
    if "identity" in death.place:
        fleet.forget(root=True)
    dead = fleet.order(death)
    fleet.hand_over(case)
    look.until(dead.exists, "somebody is dead")
    fleet.forget()
    if death.who == "machine":
        fleet.join()
    fleet.await_end(case)
    assert lab.differences(plain, case) == []


@pytest.mark.parametrize("at", HANDING_OVER, ids=str)
def test_a_hand_over_that_died_is_made_again_by_the_same_command(at: At, fleet: Fleet, lab: Any, told: Any) -> None:
    plain, case = told(PLAIN), fleet.new()
    assert fleet.hand_over(case, die=at) == DIED
    assert fleet.hand_over(case) == 0
    fleet.await_end(case)
    assert lab.differences(plain, case) == []


def test_nothing_that_only_a_fleet_does_is_left_out() -> None:
    assert {(death.point, death.place) for death in DEATHS} | set(HANDING_OVER.values()) >= OF_A_FLEET
