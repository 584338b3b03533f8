"""Rows per second of each stage on one core, without the network: plan, encode, parse (align, validate, write), merge.

    python benchmarks/stages.py [--rows 200000] [--repeat 3]

Prints medians and, for each stage, its time over that of a bare loop of the same libraries over the same results, which
is steadier than any time on a shared machine.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import genai_prices.data  # noqa: F401 - a fifth of a second, once a process: no stage is to pay for it
import jsonschema_rs
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from measured import Given, cpu_timed, median_of, table
from pydantic import BaseModel

from gemini_batch import rundir
from gemini_batch.clock import SystemClock
from gemini_batch.coordinator.columns import Columns
from gemini_batch.coordinator.manifest import open_manifest
from gemini_batch.coordinator.start import begin, scan
from gemini_batch.dataset import USAGE
from gemini_batch.gemini.lines import to_columns
from gemini_batch.gemini.wire import Answer, line_key
from gemini_batch.jobs.asked import NoAnswer
from gemini_batch.jobs.encode import EncodeTask, encode
from gemini_batch.jobs.parse import PackTask, ParseTask, pack, parse
from gemini_batch.ledger.posix import PosixStore
from gemini_batch.ledger.run import RunFiles
from gemini_batch.parquet import Writer
from gemini_batch.records import Asked, Limits, RunRecord, SchemaSpec, ShardPlan, ShardRecord, Tally
from gemini_batch.reducer.merge import merge
from gemini_batch.reducer.rows import RowMaker, Rows
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


class Review(BaseModel):
    label: str
    score: float


TARGETS = {
    "plan": 400_000,
    "encode": 300_000,
    "parse": 190_000,
    "merge": 700_000,
    "vote and write, three samples": 60_000,
}
"""Rows a second of one core."""

FLOOR = "bare loop"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=200_000)
    arguments.add_argument("--repeat", type=int, default=3)
    given = arguments.parse_args()
    sys.stdout.write(markdown(measure(Given(given.rows, given.repeat))))


def measure(given: Given) -> dict[str, Any]:
    """CPU seconds of each stage, medians."""
    with tempfile.TemporaryDirectory() as folder:
        runs = [_once(Path(folder) / str(turn), given.rows) for turn in range(given.repeat)]
    return {"rows": given.rows, "repeat": given.repeat, "seconds": median_of(runs)}


def markdown(figures: dict[str, Any]) -> str:
    rows, seconds = figures["rows"], figures["seconds"]
    floor = seconds[FLOOR]
    lines = [
        [
            stage,
            f"{rows / taken:,.0f}",
            f"{TARGETS[stage]:,}" if stage in TARGETS else "",
            f"{taken / floor:.2f}",
        ]
        for stage, taken in seconds.items()
    ]
    heads = ["stage", "rows per CPU second", "target", "time / bare loop"]
    return f"{rows:,} rows, median of {figures['repeat']}.\n\n" + table(heads, lines)


def bars(figures: dict[str, Any]) -> list[tuple[str, float, float | None]]:
    """Name, rows per CPU second, target."""
    return [(name, figures["rows"] / taken, TARGETS.get(name)) for name, taken in figures["seconds"].items()]


def _once(folder: Path, rows: int) -> dict[str, float]:
    folder.mkdir()
    manifest = open_manifest(_manifest(folder, rows), Columns())
    spec = load_schema(Review).model_copy(update={"ref": None, "result_schema": None, "validate_by": "json-schema"})
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
    _merged(seconds, files, run, shards, tallies)
    _timed(seconds, FLOOR, lambda: [_bare(files, shard.shard, spec.json_schema, folder / "bare") for shard in shards])
    for shard in shards:
        _answer(files, run, shard, more=True)
    _timed(seconds, "parse, lines of full length", lambda: [_parse(files, run, shard.shard) for shard in shards])
    seconds["vote and write, three samples"] = sum(_vote(shard.rows, spec, folder / "voted") for shard in shards)
    return seconds


def stages_of(run_folder: Path, manifest: Path) -> dict[str, float]:
    """CPU seconds of the stages, one after the other in this process, for the rows of a run that has finished: the
    floor of what the run took."""
    files, seconds = RunFiles(PosixStore(run_folder)), dict[str, float]()
    run, shards = files.record(), files.plan()
    assert run is not None  # noqa: S101 - it has finished
    read = open_manifest(manifest, Columns())
    _timed(seconds, "plan", lambda: scan(read, run.asked, (manifest.parent,), run.limits))
    _timed(seconds, "encode", lambda: [_encode(files, run, shard.shard) for shard in shards])
    tallies = _timed(seconds, "parse", lambda: [_parse(files, run, shard.shard) for shard in shards])
    _merged(seconds, files, run, shards, tallies)
    return seconds


@contextmanager
def busy_core(run_folder: Path, manifest: Path) -> Iterator[None]:
    """Another process that works all the while: it plans the same rows, over and over."""
    process = get_context("spawn").Process(target=_plan_on, args=(run_folder, manifest), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _plan_on(run_folder: Path, manifest: Path) -> None:
    run = RunFiles(PosixStore(run_folder)).record()
    while run is not None:
        scan(open_manifest(manifest, Columns()), run.asked, (manifest.parent,), run.limits)


def _merged(
    seconds: dict[str, float], files: RunFiles, run: RunRecord, shards: list[ShardPlan], tallies: list[Tally]
) -> None:
    now = SystemClock().now()
    records = [ShardRecord(shard=number, at=now, tally=tally) for number, tally in enumerate(tallies)]
    _timed(seconds, "merge", lambda: merge(files.store, run, shards, records, SystemClock()))


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


def _text(row: int, differs: bool = False) -> str:
    """An answer that only this row has."""
    return f'{{"label":"{"bad" if differs else "good"}","score":{row / 8}}}'


def _answer(files: RunFiles, run: RunRecord, shard: ShardPlan, more: bool = False) -> None:
    """What the service would return, packed.

    Args:
        more: with the members that the service adds and that no column holds.
    """
    nonce, indexes = run.nonce.encode(), range(shard.first_index, shard.first_index + shard.rows)
    usage: dict[str, Any] = {"promptTokenCount": 30, "candidatesTokenCount": 9, "totalTokenCount": 39}
    usage |= {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": 30}]} if more else {}

    def line(index: int) -> bytes:
        content = {"parts": [{"text": _text(index)}], "role": "model"}
        candidate = {"content": content, "finishReason": "STOP", "index": 0}
        response = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": run.asked.model}
        response |= {"responseId": f"{index:022x}"} if more else {}
        return orjson.dumps({"key": line_key(nonce, index, 0).decode(), "response": response}) + b"\n"

    with files.store.scratch("plain") as plain, files.store.scratch("packed") as packed:
        plain.write_bytes(b"".join(map(line, indexes)))
        pack(PackTask(plain, packed))
        files.store.publish(rundir.raw_of(shard.shard), packed)


def _bare(files: RunFiles, shard: int, schema: dict[str, Any], path: Path) -> None:
    """What a script would do: each line read, its text read and checked, four columns written. No keys, no errors."""
    validator = jsonschema_rs.validator_for(schema)
    with files.store.local(rundir.raw_of(shard)) as raw, pa.CompressedInputStream(str(raw), "zstd") as packed:
        lines = packed.read().splitlines()
    texts, values, tokens = list[str](), list[Any](), list[int]()
    for line in lines:
        response = orjson.loads(line)["response"]
        text = response["candidates"][0]["content"]["parts"][0]["text"]
        value = orjson.loads(text)
        if not validator.is_valid(value):
            raise ValueError(text)
        texts.append(text)
        values.append(value)
        tokens.append(response["usageMetadata"]["promptTokenCount"])
    columns = {"index": range(len(texts)), "text": texts, "tokens": tokens, "result": pa.array(values)}
    pq.write_table(pa.table({name: pa.array(column) for name, column in columns.items()}), path, compression="zstd")


def _vote(rows: int, spec: SchemaSpec, path: Path) -> float:
    """CPU seconds to check, vote on and write rows of three samples; in one row of three one differs."""
    numbers = pa.array(range(rows), pa.int64())
    answers = [Answer("ok", _text(row, row % 3 == 0 and sample == 1)) for row in range(rows) for sample in range(3)]
    given = Rows(
        index=numbers,
        key=numbers.cast(pa.string()),
        samples=pa.array([[0, 1, 2]] * rows, pa.list_(pa.int32())),
        answers=to_columns(answers),
        attempts=pa.repeat(1, rows),
        round=pa.repeat(0, rows),
        usage=pa.nulls(rows, USAGE),
        cost_usd=pa.nulls(rows, pa.float64()),
        request_digest=pa.nulls(rows, pa.string()),
    )
    maker = RowMaker(spec, 3, 1)

    def work() -> None:
        with Writer(path, maker.schema) as writer:
            writer.write(maker.make(given).table)

    return cpu_timed(work)[0]


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
