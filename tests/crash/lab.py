"""Runs that die, resume, and have to end as if nobody had: over the real SDK, against a real emulator."""

import json
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from gemini_batch import inquiries, runs
from gemini_batch.config import Options

ZYGOTE = Path(__file__).parent / "zygote.py"
DIED, STOPPED = 86, 87

PROMPTS = [f"Prompt number {i}" for i in range(4)]
ANSWERS = {prompt: f"The answer to {prompt}" for prompt in PROMPTS}
SHARDS = 2

OPTIONS = {"media": "upload", "poll_interval": 0.1, "settle": 0, "max_requests_per_shard": len(PROMPTS) // SHARDS}
"""No settling is too quick: the emulator lists a job before it answers the create."""

TRIES = 10
"""Runs to come to an effect: how often a job is looked at is chance."""

CHANGES = {
    "store.create", "store.publish", "store.delete", "store.sweep_scratch", "remote.upload", "remote.create_job",
    "remote.delete_file",
}  # fmt: skip
"""Points that leave the world another one. Death before any other is death before the next of these."""

FROZEN = re.compile(r"-[0-9a-f]{12}(?=\.parquet)")
"""Tells the rows of later rounds' shards apart, of whoever planned them."""

NOTHING = {".probe", "stopped.json"}
"""In a plain run nobody reads them."""


class NotComeTo(AssertionError):
    """Chance kept the runs away from an effect."""


class At(NamedTuple):
    """An effect of a run: the n-th of those that are about the same."""

    phase: str
    point: str
    about: str
    n: int = 1

    def __str__(self) -> str:
        return f"{self.name}, number {self.n}"

    @property
    def name(self) -> str:
        return f"{self.phase} {self.point}" + (f" of {self.about}" if self.about else "")

    @property
    def counts(self) -> bool:
        """After a remote effect an answer is lost; after one of the store is before the next."""
        return self.phase == "before" or self.point.startswith("remote.")

    @property
    def changes(self) -> bool:
        return self.counts and self.point in CHANGES and self.about not in NOTHING


@dataclass(frozen=True)
class Ended:
    """A child that has ended."""

    code: int
    said: str
    seen: dict[At, tuple[str, ...]]
    """The effects that it came to, in order, each with the functions that were under way, the innermost first."""
    strays: list[str]
    """What it changed or called, and is no effect."""


class Parent:
    """The process that forks."""

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        self._folder = folder
        self._late: dict[str, list[str]] = {"modules": [], "models": []}
        self._process = subprocess.Popen(
            [sys.executable, str(ZYGOTE)], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        self.pid = self._process.pid

    def fork(self, order: dict[str, Any]) -> Ended:
        assert self._process.stdin and self._process.stdout
        report = self._folder / "report.json"
        self._process.stdin.write(json.dumps({**order, "report": str(report), "late": self._late}) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        log = report.with_suffix(".log")
        told: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {}
        self._late = told.get("late", {"modules": [], "models": []})
        seen = {At(*one["at"]): tuple(one["path"]) for one in told.get("seen", ())}
        ended = Ended(code, log.read_text(), seen, told.get("strays", []))
        log.unlink()
        report.unlink(missing_ok=True)
        return ended

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


@dataclass(frozen=True, eq=False)
class Story:
    """What happens to a run up to the process that may die, and how that one goes on."""

    name: str
    do: str = "submit"
    manifest: str = "pictures"
    faults: tuple[dict[str, Any], ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    until: At | None = None
    """Where an earlier process died."""
    finished: bool = False
    """An earlier process took the run to its end."""
    then: Callable[["Case"], None] | None = None
    """What the world did after that."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of the submit, beside the lab's own."""
    changed: dict[str, Any] = field(default_factory=dict)
    """Limits that are given on a resume."""
    code: int = 0
    creates: int = SHARDS
    bought_twice: int = 0
    """Requests that were, because the story itself bought them."""
    audit: tuple[str, ...] = ()
    """Findings that are the story's own."""
    one_fails: bool = False
    """Not both shards have the same lot, and which of them has which is chance."""


@dataclass(frozen=True)
class Told:
    """A story that nobody died in."""

    story: Story
    seen: dict[At, tuple[str, ...]]
    facts: dict[str, Any]


class Case:
    """One run of a story."""

    def __init__(self, lab: "Lab", story: Story, folder: Path) -> None:
        self.lab, self.story, self.folder = lab, story, folder
        self.run = folder / "run"
        for fault in story.faults:
            lab.call("POST", "/admin/faults", fault)
        lab.call("POST", "/admin/settings", story.settings)
        if story.until:
            ended = self.fork("submit", die=story.until)
            assert ended.code == DIED, ended.said
        if story.finished:
            ended = self.fork("submit")
            assert ended.code == 0, ended.said
        if story.then:
            story.then(self)

    def tell(self, **how: Any) -> Ended:
        """The part of the story that is under test."""
        return self.fork(self.story.do, changed=self.story.changed, **how)

    def again(self, **how: Any) -> Ended:
        """What a user does after a death: resume what has begun, else the same command once more."""
        if self.story.do == "retry" and not (self.run / "plan-0001.parquet").exists():
            return self.fork("retry", **how)
        if self.story.do == "cancel" and not (self.run / "control" / "000001.json").exists():
            return self.fork("cancel", **how)
        begun = (self.run / "run.json").exists()
        return self.fork("resume" if begun else "submit", changed=self.story.changed if begun else {}, **how)

    def finish(self, **how: Any) -> Ended:
        """Again, and once more where the story has a stop."""
        ended = self.again(**how)
        return self.again(**how) if ended.code == self.story.code == STOPPED else ended

    def fork(self, do: str, die: At | None = None, **how: Any) -> Ended:
        order = {
            "do": do, "url": self.lab.emulator.url, "out": str(self.run), "die": die, "torn": False, "observe": False,
            "pool": False, "changed": {}, "manifest": str(self.lab.folder / f"{self.story.manifest}.parquet"),
            "options": {**OPTIONS, **self.story.options, "runs": str(self.folder)},
        }  # fmt: skip
        return self.lab.parent.fork(order | how)

    def facts(self) -> dict[str, Any]:
        """What must be the same whoever died: the answers, what was bought, what is left."""
        stats, rows, report = self.lab.emulator.stats(), self.lab.look.rows(self.run), self._json("report.json")
        right, either = [ANSWERS[prompt] for prompt in PROMPTS], self.story.one_fails
        # A death may leave an encoding that no record names, the object of a probe, and a longer history; or no audit,
        # or nothing that a person has to say to.
        beside = ("requests/", "ledger/", "control/", ".probe-", "audit.json")
        # Rows of a later round that no plan names lie beside those of one that does.
        objects = sorted({FROZEN.sub("-any", name) for name in self.objects() if not name.startswith(beside)})
        return {
            "rows": sorted(row["status"] for row in rows) if either else [shown(row) for row in rows],
            "wrong": [row for row in rows if row["text"] not in (None, right[row["index"]])],
            "creates": stats["creates"],
            "requests": stats["requests"],
            "live jobs": stats["jobs"]["live"],
            "files left": self.files(),
            "report": {name: report[name] for name in ("by_status", "failed", "jobs", "twins", "requests_bought")},
            "objects": [re.sub("00000[01]", "either", name) for name in objects] if either else objects,
            "audit": sorted(finding["kind"] for finding in self.audit()["findings"]),
            "processes": self.lab.left(),
        }

    def files(self) -> list[str]:
        """Names of the uploads that the service still stores."""
        stored = self.lab.call("GET", "/v1beta/files").get("files", [])
        return sorted(file["displayName"] for file in stored if file.get("displayName", "").startswith("gbd-"))

    def audit(self) -> dict[str, Any]:
        """What the project's own audit says of the run's directory."""
        options = Options(runs=str(self.folder))
        return inquiries.audit_run(runs.find(str(self.run), options.runs), options, offline=True)

    def _json(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.lab.look.json(self.run / name)
        return found

    def objects(self) -> list[str]:
        """Names of all that lies in the run directory."""
        return sorted(name for name, content in self.lab.look.tree(self.run).items() if content != "/")


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """Without the words of an error, which name a job."""
    return {**row, "error": row["error"] and row["error"]["kind"]}


class Lab:
    """Tells stories, with deaths and without."""

    def __init__(self, emulator: Any, parent: Parent, folder: Path, look: Any, left: Callable[[], list[int]]) -> None:
        self.emulator, self.parent, self.folder, self.look, self.left = emulator, parent, folder, look, left
        self._cases = 0

    def new(self, story: Story) -> Case:
        self.emulator.reset()
        self._cases += 1
        folder = self.folder / f"case-{self._cases}"
        folder.mkdir()
        return Case(self, story, folder)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Of the service, as the run's own account, or of the emulator's admin."""
        headers = {"Content-Type": "application/json", "x-goog-api-key": "loopback"}
        given = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.emulator.url + path, given, headers, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as reply:
            return json.loads(reply.read())

    def tell(self, story: Story) -> Told:
        """The story as it goes when nobody dies."""
        case = self.new(story)
        ended = case.tell(observe=True)
        assert (ended.code, ended.strays) == (story.code, []), ended.said
        assert (case.run / "_SUCCESS").exists() or case.finish().code == 0
        facts = case.facts()
        due = {
            "creates": story.creates,
            "live jobs": 0,
            "files left": [],
            "wrong": [],
            "audit": list(story.audit),
            "processes": [],
        }
        assert {name: facts[name] for name in due} == due, facts
        assert facts["requests"]["bought_more_than_once"] == story.bought_twice, facts["requests"]
        return Told(story, ended.seen, facts)

    def died(self, told: Told, *deaths: At, **how: Any) -> Case:
        """A run of the story that died here, then, on its resume, there."""
        for _ in range(TRIES):
            case = self.new(told.story)
            steps = [
                partial(case.tell, die=deaths[0], **how),
                *(partial(case.again, die=at, **how) for at in deaths[1:]),
            ]
            ended = [step() for step in steps]
            if all(one.code == DIED for one in ended):
                return case
        raise NotComeTo(f"{'; '.join(map(str, deaths))}: in {TRIES} runs, {[(e.code, e.said) for e in ended]}")

    def trouble(self, told: Told, *deaths: At, torn: bool = False, pool: bool = False) -> list[str]:
        """What is wrong with a run that died there, once it has been resumed to its end."""
        case = self.died(told, *deaths, torn=torn, pool=pool)
        if (ended := case.finish(pool=pool)).code != 0:
            return [f"the resume ended with {ended.code}: {ended.said}"]
        if pool:
            self.look.until(lambda: not self.left(), "every process of the pools has gone", 20)
        return self.differences(told, case)

    def differences(self, told: Told, case: Case) -> list[str]:
        facts = case.facts()
        wrong = [f"{name}: {facts[name]} and not {fact}" for name, fact in told.facts.items() if facts[name] != fact]
        if not wrong:
            shutil.rmtree(case.folder)
        return wrong
