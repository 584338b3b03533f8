"""Other clients beside this one: one server, one manifest of text prompts.

    python benchmarks/run.py --only peers [--rows 20000] [--long]

Each client is a script of its own below benchmarks/clients, run by the Python of an environment that has the versions
of benchmarks/peers.txt (`PEERS_PYTHON`, made with uv in a temporary directory if it is not set). A client that is not
there, or fails, is named with its error. Rows are wrong where the answer is not that of the prompt. In the last trial
each is killed once the service has its first job, and the same command is given again. At length all that is done with
five times the rows as well.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import httpx2
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from e2e import BLOCK
from measured import Given, Watch, emulator, environment, table

HERE = Path(__file__).resolve().parent
SCRIPTS = {
    "gemini-batch-dist": "ours.py",
    "google-genai, by hand": "sdk.py",
    "pydantic-ai": "pydantic_ai_client.py",
    "chatlas": "chatlas_client.py",
    "pollux": "pollux_client.py",
}
MISSING = "result_line_missing"
SHUFFLED = "result_shuffled"
LONGEST_SECONDS = 900
LONG = 5
"""Times the rows."""

KILLED = "killed after the first create, and begun again"
KILLED_JOB_SECONDS, GLANCE_SECONDS = 3, 0.02


@dataclass(frozen=True)
class Trial:
    """What goes wrong at the service."""

    name: str
    faults: Sequence[str] = ()


CLEAN, ODD = (
    Trial("clean"),
    Trial("shuffled and missing", ("--fault", f"{SHUFFLED},times=1000", "--fault", f"{MISSING},rate=0.01")),
)


def measure(given: Given) -> dict[str, Any]:
    sizes = [given.rows, LONG * given.rows] if given.long else [given.rows]
    with tempfile.TemporaryDirectory() as name:
        python = _python(Path(name))
        found = [{"rows": rows, "clients": _clients(python, rows)} for rows in sizes]
    return {"sizes": found, "versions": (HERE / "peers.txt").read_text().split()}


def _clients(python: str, rows: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        prompts = _write(Path(name), rows)
        return {client: _client(client, python, Path(name), prompts) for client in SCRIPTS}


def _python(folder: Path) -> str:
    """The Python that has the other clients."""
    if "PEERS_PYTHON" in os.environ:
        return os.environ["PEERS_PYTHON"]
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "venv", "-q", "-p", sys.executable, folder / "venv"], check=True)
    python = str(folder / "venv" / "bin" / "python")
    subprocess.run([uv, "pip", "install", "-q", "-p", python, "-r", HERE / "peers.txt"], check=True)
    return python


def _write(folder: Path, rows: int) -> list[str]:
    prompts = [f"Is review {row} good after {row % 17} days?" for row in range(rows)]
    with pq.ParquetWriter(folder / "prompts.parquet", pa.schema([("prompt", pa.string())])) as writer:
        for start in range(0, rows, BLOCK):
            writer.write_table(pa.table({"prompt": prompts[start : start + BLOCK]}))
    return prompts


def _client(client: str, python: str, folder: Path, prompts: list[str]) -> dict[str, Any]:
    used = sys.executable if client == "gemini-batch-dist" else python
    tries = {trial.name: partial(_once, trial=trial) for trial in (CLEAN, ODD)} | {KILLED: _killed}
    found: dict[str, Any] = {}
    for name, tried in tries.items():
        try:
            found[name] = tried(used, folder, prompts, SCRIPTS[client])
        except RuntimeError as error:
            found[name] = {"error": str(error)}
    return found


def _once(python: str, folder: Path, prompts: list[str], script: str, trial: Trial) -> dict[str, Any]:
    own = Path(tempfile.mkdtemp(dir=folder))
    with _answering(*trial.faults) as url:
        began = time.perf_counter()
        with _begun(python, script, folder, own, url) as process, Watch([process.pid]) as watch:
            _end(process)
        seconds = time.perf_counter() - began
        calls = sum(_stats(url)["calls"].values())
    return {
        "seconds": seconds,
        "peak_mb": max(used.peak_mb for used in watch.used.values()),
        "cpu": sum(used.cpu_seconds for used in watch.used.values()),
        "calls": calls,
        **_judged(prompts, orjson.loads((own / "answers.json").read_bytes())),
    }


def _killed(python: str, folder: Path, prompts: list[str], script: str) -> dict[str, Any]:
    """The client dies by SIGKILL as soon as the service has its first job, and the same command is given again."""
    own = Path(tempfile.mkdtemp(dir=folder))
    with _answering("--job-seconds", str(KILLED_JOB_SECONDS)) as url:
        with _begun(python, script, folder, own, url) as process:
            while process.poll() is None and not _stats(url)["creates"]:
                Event().wait(GLANCE_SECONDS)
            os.killpg(process.pid, signal.SIGKILL)
        with _begun(python, script, folder, own, url) as process:
            _end(process)
        stats = _stats(url)
    judged = _judged(prompts, orjson.loads((own / "answers.json").read_bytes()))
    return {"creates": stats["creates"], "twice": stats["requests"]["bought_more_than_once"], **judged}


@contextmanager
def _answering(*arguments: str) -> Iterator[str]:
    with emulator("--answers", "answers:answer", *arguments, folder=HERE / "clients") as (_, url):
        yield url


def _begun(python: str, script: str, folder: Path, own: Path, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python, HERE / "clients" / script, str(folder / "prompts.parquet"), str(own)],
        env=environment(url) | {"GEMINI_API_KEY": "bench", "GOOGLE_API_KEY": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[str]) -> None:
    """
    Raises:
        RuntimeError: it failed, with its last words.
    """
    try:
        _, said = process.communicate(timeout=LONGEST_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise RuntimeError(f"no end after {LONGEST_SECONDS} s") from None
    if process.returncode:
        raise RuntimeError((said.strip().splitlines() or ["no word"])[-1][:200])


def _stats(url: str) -> dict[str, Any]:
    return dict(httpx2.get(f"{url}/admin/stats", trust_env=False).json())


def _judged(prompts: list[str], answers: list[str | None]) -> dict[str, int]:
    """Rows by what became of them; a list that is too short has no answers at its end."""
    held = [*answers, *[None] * (len(prompts) - len(answers))]
    wrong = sum(text is not None and text != f"about: {prompt}" for prompt, text in zip(prompts, held, strict=False))
    return {"wrong": wrong, "without": sum(text is None for text in held)}


def markdown(figures: dict[str, Any]) -> str:
    said = f"One run each. Other clients: {', '.join(figures['versions'])}.\n\n"
    return said + "\n".join(_compared(size["rows"], size["clients"]) for size in figures["sizes"])


def _compared(rows: int, clients: Mapping[str, Any]) -> str:
    heads = ["client", "rows/s", "time / by hand", "CPU s", "peak memory", "HTTP calls", "wrong rows", "rows without"]
    floor, parts = clients["google-genai, by hand"][CLEAN.name].get("seconds"), []
    for trial in (CLEAN.name, ODD.name):
        lines = [_line(client, found[trial], rows, floor) for client, found in clients.items()]
        parts.append(f"{rows:,} rows, result lines {trial}:\n\n" + table(heads, lines))
    heads = ["client", "creates", "requests bought twice", "wrong rows", "rows without"]
    lines = [_outcome(client, found[KILLED]) for client, found in clients.items() if KILLED in found]
    parts.append(f"{rows:,} rows, the client is {KILLED}:\n\n" + table(heads, lines))
    return "\n".join(parts)


def _outcome(client: str, found: Mapping[str, Any]) -> list[str]:
    if "error" in found:
        return [client, f"failed: `{found['error']}`", *[""] * 3]
    return [client, *(f"{found[name]:,}" for name in ("creates", "twice", "wrong", "without"))]


def _line(client: str, found: Mapping[str, Any], rows: int, floor: float | None) -> list[str]:
    if "error" in found:
        return [client, f"failed: `{found['error']}`", *[""] * 6]
    return [
        client,
        f"{rows / found['seconds']:,.0f}",
        f"{found['seconds'] / floor:.2f}" if floor else "",
        f"{found['cpu']:.1f}",
        f"{found['peak_mb']:,.0f} MB",
        f"{found['calls']:,}",
        f"{found['wrong']:,}",
        f"{found['without']:,}",
    ]
