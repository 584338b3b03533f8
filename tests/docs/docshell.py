"""What a bash block of a page does, done: our command in this process, workers and emulators in their own.

In: a block, a folder with the page's files. Out: nothing, or an error where a command exits otherwise than it says.
What cannot be run here (an installation, a container) is in `CHECKED`, each with what is looked at instead.
"""

import io
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.metadata import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from docpages import ROOT, Block, Line, lines, needs_shell

from gemini_batch.cli import main

BROKERS = ("redis://broker:6379/0", "redis://127.0.0.1:6379/0", "redis://host/0")
SHARED = ("/shared/runs", "/mnt/gemini/runs")
EMULATOR = "http://127.0.0.1:8765"


class Shell:
    """Runs the bash blocks of one page.

    Args:
        folder: the current directory.
        cli: starts processes of ours and sees to it that they end.
        broker: the URL of a real server; started when a page first names one.
        until: waits for something.
    """

    def __init__(self, folder: Path, cli: Any, broker: Callable[[], str], until: Callable[..., Any]) -> None:
        self.folder = folder
        self._cli = cli
        self._broker = broker
        self._until = until
        self._emulator: str | None = None
        self._workers: list[Any] = []

    def run(self, block: Block) -> None:
        if needs_shell(block.text):
            self._in_bash(block)
            return
        for line in lines(block.text):
            self._run_line(line, block)

    def type(self, *words: str, exits: int = 0) -> str:
        """A command of ours, and what it says."""
        return self._ours(Line(words, False, exits), "typed")

    def finish(self) -> None:
        """What was left to workers is done before they are asked to leave."""
        if self._workers:
            self.type("wait", "--timeout", "100")
        for worker in self._workers:
            worker.signal(signal.SIGTERM)
        for worker in self._workers:
            done = worker.ended()
            assert done.code in (0, 143), done.words

    def _run_line(self, line: Line, block: Block) -> None:
        program, *words = line.words
        if program == "export":
            for name, _, value in (word.partition("=") for word in words):
                os.environ[name] = self._here(value)
        elif program == "gemini-batch-dist":
            meant = Line(tuple(map(self._here, words)), line.in_background, line.exits)
            self._command(meant, block.where)
        else:
            assert program in CHECKED, f"{block.where}: nothing here knows how to run or check {program!r}"
            CHECKED[program](words)

    def _command(self, line: Line, where: str) -> None:
        if line.words[0] in ("worker", "emulator"):
            self._stays(line)
        elif "--detach" in line.words:  # leaves without an end of its process that could be caught
            done = self._cli(*line.words, env=_own())
            assert done.code == line.exits, f"{where}: {line.words} exits {done.code}\n{done.words}"
        else:
            self._ours(line, where)

    def _here(self, word: str) -> str:
        """What stands for something of the reader's, as it is here."""
        if word == "RUN":
            return str(newest(self.folder))
        if word == "MANIFEST":
            return "reviews.parquet"
        if word in BROKERS:
            return self._broker()
        if word == EMULATOR and self._emulator:
            return self._emulator
        return "runs" if word in SHARED else word

    def _ours(self, line: Line, where: str) -> str:
        out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
        with _as_a_process(["gemini-batch-dist", *line.words], out):
            try:
                main()
            except SystemExit as end:
                code = end.code
        assert code == line.exits, f"{where}: {line.words} exits {code}\n{_said(out)}"
        return _said(out)

    def _stays(self, line: Line) -> None:
        """A process that goes on: a worker until the page ends; of an emulator the URL is what counts."""
        if line.words[0] == "worker":
            fewer = () if "-c" in line.words else ("-c", "1")  # not as many as the machine has cores
            self._workers.append(self._cli.start(*line.words, *fewer, env=_own()))
            return
        started = self._cli.start(*line.words, "--port", "0", env=_own())
        self._until(lambda: '"ready"' in started.said or not started.running, "the emulator is ready")
        self._emulator = re.findall(r'"url":"([^"]+)"', started.said)[0]

    def _in_bash(self, block: Block) -> None:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        script = block.text.replace(EMULATOR, self._emulator or EMULATOR)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], env=os.environ | {"PATH": path}, cwd=self.folder,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{block.where}\n{done.stdout}{done.stderr}"


def newest(folder: Path) -> Path:
    return max(folder.glob("runs/*/run.json"), key=lambda path: path.stat().st_mtime_ns).parent


def _own() -> dict[str, str]:
    """What a process of ours takes from the page: fixtures give it the rest."""
    return {name: value for name, value in os.environ.items() if name.startswith(("GEMINI_", "GOOGLE_"))}


def _said(out: io.TextIOWrapper) -> str:
    out.seek(0)
    return out.read()


@contextmanager
def _as_a_process(argv: list[str], out: io.TextIOWrapper) -> Iterator[None]:
    """What the command changes in its process is put back."""
    was, handler = sys.argv, signal.getsignal(signal.SIGTERM)
    sys.argv = argv
    try:
        with warnings.catch_warnings(), redirect_stdout(out), redirect_stderr(out):
            warnings.simplefilter("default")
            yield
    finally:
        sys.argv = was
        signal.signal(signal.SIGTERM, handler)


# --- what is not run, and what is looked at instead -------------------------------------------------------------------


def check_make(words: list[str]) -> None:
    """`make demo` and `make test` are what runs this test; that the targets exist is enough."""
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert words[0] in targets


def check_pip(words: list[str]) -> None:
    """Installs from the package index: our name, and extras that we have."""
    assert words[0] == "install"
    for name, extras in re.findall(r"^([\w-]+)(?:\[([\w,]+)\])?$", "\n".join(words[1:]), re.MULTILINE):
        extra = {one for one in extras.split(",") if one}
        assert name != "gemini-batch-dist" or extra <= set(metadata(name).get_all("Provides-Extra", []))


def check_docker(words: list[str]) -> None:
    """Containers need a daemon and images: services and the image are those of docker-compose.yml."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    if words[0] == "run":
        assert words[-1] in {service.get("image") for service in services.values()}
        return
    assert words[:2] == ["compose", "up"]
    scaled = [word.partition("=")[0] for before, word in pairwise(words) if before == "--scale"]
    assert set(scaled) <= services.keys()


CHECKED: dict[str, Callable[[list[str]], None]] = {"make": check_make, "pip": check_pip, "docker": check_docker}
