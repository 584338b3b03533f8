"""Rows per second of each stage on one core, without the network: plan, encode, parse (align, validate, write), merge.

    python benchmarks/stages.py [--rows 200000] [--repeat 3]

Prints medians and, for each stage, its share of the sum, which is steadier than any time on a shared machine.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from gemini_batch import rundir
from gemini_batch.clock import SystemClock
from gemini_batch.coordinator.columns import Columns
from gemini_batch.coordinator.manifest import open_manifest
from gemini_batch.coordinator.start import begin, scan
from gemini_batch.gemini.wire import line_key
from gemini_batch.jobs.asked import NoAnswer
from gemini_batch.jobs.encode import EncodeTask, encode
from gemini_batch.jobs.parse import PackTask, ParseTask, pack, parse
from gemini_batch.ledger.posix import PosixStore
from gemini_batch.ledger.run import RunFiles
from gemini_batch.records import Asked, Limits, RunRecord, ShardPlan, ShardRecord, Tally
from gemini_batch.reducer.merge import merge
from gemini_batch.schema.load import load_schema

R = TypeVar("R")

LIMITS = Limits(
    max_requests_per_shard=10_000,
    max_bytes_per_shard=500_000_000,
    max_tokens_per_shard=None,
    max_live_jobs=100,
    max_enqueued_tokens=None,
    poll_interval=60,
    settle=3600,
    on_unknown="resubmit",
)


class Answer(BaseModel):
    label: str
    score: float


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=200_000)
    arguments.add_argument("--repeat", type=int, default=3)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = [_once(Path(folder) / str(turn), given.rows) for turn in range(given.repeat)]
    medians = {stage: statistics.median(turn[stage] for turn in seconds) for stage in seconds[0]}
    whole = sum(medians.values())
    print(f"| stage | rows/s, one core (median of {given.repeat}, {given.rows:,} rows) | share |\n|---|---:|---:|")  # noqa: T201
    for stage, taken in medians.items():
        print(f"| {stage} | {given.rows / taken:,.0f} | {taken / whole:.0%} |")  # noqa: T201


def _once(folder: Path, rows: int) -> dict[str, float]:
    folder.mkdir()
    manifest = open_manifest(_manifest(folder, rows), Columns())
    spec = load_schema(Answer).model_copy(update={"ref": None, "result_schema": None, "validate_by": "json-schema"})
    asked = Asked(
        rows=rows,
        rows_digest="",
        model="gemini-2.5-flash",
        response_schema=spec,
        generation_config={"temperature": 0, "responseSchema": spec.json_schema},
        system_instruction=None,
        media="auto",
        n_samples=1,
        endpoint="http://127.0.0.1",
        project="p",
    )
    seconds: dict[str, float] = {}
    plan = _timed(seconds, "plan", lambda: scan(manifest, asked, (folder,), LIMITS))
    asked = asked.model_copy(update={"rows_digest": plan.rows_digest})
    files = RunFiles(PosixStore(folder / "run"))
    begin(files, manifest, asked, plan, (folder,), LIMITS, "bench", SystemClock())
    run = files.record()
    assert run is not None  # noqa: S101 - begun above
    shards = files.plan()
    _timed(seconds, "encode", lambda: [_encode(files, run, shard.shard) for shard in shards])
    for shard in shards:
        _answer(files, run, shard)
    tallies = _timed(seconds, "parse", lambda: [_parse(files, run, shard.shard) for shard in shards])
    now = SystemClock().now()
    records = [ShardRecord(shard=number, at=now, tally=tally) for number, tally in enumerate(tallies)]
    _timed(seconds, "merge", lambda: merge(files.store, run, shards, records, SystemClock()))
    return seconds


def _timed(seconds: dict[str, float], stage: str, work: Callable[[], R]) -> R:
    began = time.process_time()
    result = work()
    seconds[stage] = time.process_time() - began
    return result


def _manifest(folder: Path, rows: int) -> Path:
    path = folder / "manifest.parquet"
    prompts = [
        f"Classify review {row}: it was {'good' if row % 3 else 'bad'} and came after {row % 17} days"
        for row in range(rows)
    ]
    pq.write_table(pa.table({"key": [f"k{row}" for row in range(rows)], "prompt": prompts}), path)
    return path


def _encode(files: RunFiles, run: RunRecord, shard: int) -> None:
    store = files.store
    with ExitStack() as scratch:
        requests = scratch.enter_context(store.scratch("requests"))
        encode(
            EncodeTask(
                asked=run.asked,
                nonce=run.nonce,
                roots=(),
                max_bytes=LIMITS.max_bytes_per_shard,
                rows=scratch.enter_context(store.local(rundir.rows_of(shard))),
                lines=scratch.enter_context(store.scratch("lines")),
                requests=requests,
                media=scratch.enter_context(store.scratch("media")),
            )
        )
        store.publish(rundir.requests_of(shard, "bench"), requests)


def _answer(files: RunFiles, run: RunRecord, shard: ShardPlan) -> None:
    """What the service would return, packed."""
    response = {
        "candidates": [{"content": {"parts": [{"text": '{"label":"good","score":0.5}'}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 30, "candidatesTokenCount": 9, "totalTokenCount": 39},
        "modelVersion": run.asked.model,
    }
    nonce, indexes = run.nonce.encode(), range(shard.first_index, shard.first_index + shard.rows)
    lines = ({"key": line_key(nonce, index, 0).decode(), "response": response} for index in indexes)
    with files.store.scratch("plain") as plain, files.store.scratch("packed") as packed:
        plain.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
        pack(PackTask(plain, packed))
        files.store.publish(rundir.raw_of(shard.shard), packed)


def _parse(files: RunFiles, run: RunRecord, shard: int) -> Tally:
    store = files.store
    with ExitStack() as scratch:
        part = scratch.enter_context(store.scratch("part"))
        tally = parse(
            ParseTask(
                nonce=run.nonce,
                response_schema=run.asked.response_schema,
                rows=scratch.enter_context(store.local(rundir.rows_of(shard))),
                requests=scratch.enter_context(store.local(rundir.requests_of(shard, "bench"))),
                raw=scratch.enter_context(store.local(rundir.raw_of(shard))),
                part=part,
                no_answer=NoAnswer("missing", ""),
            )
        )
        store.publish(rundir.part_of(shard), part)
    return tally


if __name__ == "__main__":
    main()
