"""All that is known of one row: what was sent for it, in which jobs, what came back, how that was read, what it cost.

In: a run and a row's index. Out: `explain --json`, and the same in words. Reads the run directory only; what was sent
is encoded once more from the frozen row.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch import rundir
from gemini_batch.errors import BadInput
from gemini_batch.gemini.roots import MediaRoots, media_roots
from gemini_batch.gemini.wire import line_key, read_answer
from gemini_batch.jobs.encode import EncodeTask, encode
from gemini_batch.jobs.parse import read_lines
from gemini_batch.jobs.sent import asked_samples
from gemini_batch.kinds import KINDS
from gemini_batch.ledger.run import RunFiles
from gemini_batch.parquet import Writer, read_own_blocks
from gemini_batch.records import Limits, RunRecord, ShardPlan, ShardRecord, most_bytes
from gemini_batch.reducer.assemble import later_of

SHOWN_CHARACTERS = 2_000
"""Of a line, in words; a picture in it is long."""

Explained = dict[str, Any]


@dataclass(frozen=True)
class _Here:
    """How this process would encode the row."""

    limits: Limits
    roots: MediaRoots


def explain(files: RunFiles, run: RunRecord, index: int, media_root: Sequence[str] = ()) -> Explained:
    """What is known of a row.

    Args:
        media_root: where this machine has pictures, as `gemini.roots` reads it.

    Raises:
        BadInput: the run has no such row.
        RunStopped: a file of the run is damaged.
    """
    if not 0 <= index < run.asked.rows:
        raise BadInput(f"run {run.run_id} has rows 0 to {run.asked.rows - 1:,}, no row {index}")
    here = _Here(files.limits(run), media_roots(run.media_roots, media_root))
    rounds = [_of_shard(files, run, entry, index, here) for entry in _shards_of(files.reread_plan(), index)]
    return {
        "run": files.store.url,
        "run_id": run.run_id,
        "index": index,
        "rounds": [found for found in rounds if found],
        "row": _in_dataset(files, index),
    }


def _shards_of(plan: list[ShardPlan], index: int) -> list[ShardPlan]:
    """The shard of round 0 that holds the row, and those of later rounds that may."""
    first = next(entry for entry in plan if entry.first_index <= index < entry.first_index + entry.rows)
    return [first, *later_of(plan).get(first.shard, ())]


def _of_shard(files: RunFiles, run: RunRecord, entry: ShardPlan, index: int, here: "_Here") -> Explained | None:
    """What a shard has to do with the row; None if it does not hold it."""
    row = _frozen_row(files, entry, index)
    if row is None:
        return None
    record = files.last(entry.shard)
    samples = list(asked_samples(row, run.asked.n_samples)[0])
    keys = {sample: line_key(run.nonce.encode(), index, sample).decode() for sample in samples}
    received = list(_received(files, entry, set(keys.values())))
    sent, not_sent, not_shown = _sent(run, entry, record, row, here)
    return {
        "round": entry.round,
        "shard": entry.shard,
        "state": record.state,
        "problem": record.problem,
        "sends": [send.display_name for send in record.sends],
        "jobs": [job.model_dump(mode="json") for job in (record.job, *record.twins) if job],
        "key": row["key"][0].as_py(),
        "not_sent": not_sent,
        "not_shown": not_shown,
        "samples": [
            {
                "sample": sample,
                "line_key": key,
                "sent": sent.get(key),
                "received": [line for line_of, line in received if line_of == key],
                "read_as": [_read(line) for line_of, line in received if line_of == key],
            }
            for sample, key in keys.items()
        ],
    }


def _frozen_row(files: RunFiles, entry: ShardPlan, index: int) -> pa.RecordBatch | None:
    with files.store.local(entry.frozen or rundir.rows_of(entry.shard)) as path:
        for block in read_own_blocks(path):
            row = block.filter(pc.equal(block.column("index"), index))
            if row.num_rows:
                return row
    return None


def _sent(
    run: RunRecord, entry: ShardPlan, record: ShardRecord, row: pa.RecordBatch, here: "_Here"
) -> tuple[dict[str, str], str | None, str | None]:
    """The row's lines by their key; why there are none; why they are not known."""
    left_out = {out.index: out.why for out in record.left_out}
    asked = run.asked.model_copy(update=orjson.loads(entry.settings) if entry.settings else {})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        with Writer(folder / "rows", row.schema) as writer:
            writer.write(row)
        task = EncodeTask(
            asked=asked, nonce=run.nonce, roots=here.roots, max_bytes=most_bytes(run, entry),
            left_out=left_out, allow_http=here.limits.allow_http,
            rows=folder / "rows", lines=folder / "lines", requests=folder / "requests", media=folder / "media",
        )  # fmt: skip
        encoded = encode(task)
        if encoded.to_upload:
            return {}, None, "its pictures were uploaded, and the line names them as the service did"
        if encoded.to_fetch:
            return {}, None, "its pictures were fetched from where they lie, and are not fetched again"
        lines = (folder / "lines").read_bytes().splitlines()
        outcome = next(iter(read_own_blocks(folder / "requests"))).to_pylist()[0]
    return {orjson.loads(line)["key"]: line.decode() for line in lines}, outcome["error_message"], None


def _received(files: RunFiles, entry: ShardPlan, keys: set[str]) -> Iterator[tuple[str, str]]:
    """Raw lines of the row, with their keys, in the order of the result file."""
    name = rundir.raw_of(entry.shard)
    if not files.store.exists(name):
        return
    needles = [key.encode() for key in keys]
    with files.store.local(name) as path:
        for line in read_lines(path):
            if any(needle in line for needle in needles) and (key := _key_of(line)) in keys:
                yield key, line.decode(errors="replace")


def _key_of(line: bytes) -> str:
    try:
        return str(orjson.loads(line)["key"])
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return ""


def _read(line: str) -> Explained:
    """How the line is understood, before any schema has looked at its text."""
    answer = asdict(read_answer(orjson.loads(line)))
    return {name: value for name, value in answer.items() if value is not None and name != "text"}


def _in_dataset(files: RunFiles, index: int) -> Explained | None:
    if not files.is_finished():
        return None
    first = 0
    for name in files.store.names("dataset"):
        with files.store.local(f"dataset/{name}") as path:
            for block in read_own_blocks(path):
                if first <= index < first + block.num_rows:
                    found: Explained = block.slice(index - first, 1).to_pylist()[0]
                    return found
                first += block.num_rows
    return None


# --- in words ---------------------------------------------------------------------------------------------------------


def explanation_in_words(found: Explained) -> list[str]:
    """The same for people."""
    said = [f"row {found['index']} of run {found['run_id']} in {found['run']}"]
    for one in found["rounds"]:
        said.append(f"round {one['round']}, shard {one['shard']}: {one['state']}" + _because(one["problem"]))
        said += [f"  job {job['name']}, {job['state']}, created as {job['display_name']}" for job in one["jobs"]]
        said += [f"  nothing was sent: {one['not_sent']}"] if one["not_sent"] else []
        said += [f"  the line cannot be shown: {one['not_shown']}"] if one["not_shown"] else []
        for sample in one["samples"]:
            said.append(f"  sample {sample['sample']}, key {sample['line_key']}")
            said += [f"    sent      {_short(sample['sent'])}"] if sample["sent"] else []
            for line, read in zip(sample["received"], sample["read_as"], strict=True):
                said += [f"    received  {_short(line)}", f"    read as   {_answer(read)}"]
    return said + _row_in_words(found["row"])


def _row_in_words(row: Explained | None) -> list[str]:
    if row is None:
        return ["the run has not finished: the row is in no dataset yet"]
    error = row["error"]
    said = [f"in the dataset: {row['status']}, of round {row['round']}, bought {row['attempts']} times"]
    if error:
        kind = KINDS.get(error["kind"])
        said.append(f"  {error['kind']}: {error['message']}")
        said += [f"  ({kind.meaning}; bought again {kind.again})"] if kind else []
    if row["samples"]:
        statuses = ", ".join(sample["status"] for sample in row["samples"])
        said.append(f"  {row['n_valid']} of {len(row['samples'])} samples voted ({statuses})")
        divided = f", divided over {', '.join(row['disagreements'])}" if row["disagreements"] else ""
        said += [f"  agreement {row['agreement']:.2f}{divided}"] if row["agreement"] is not None else []
    cost = "not known" if row["cost_usd"] is None else f"{row['cost_usd']:.6f} USD"
    return [*said, f"  cost {cost}, {row['usage'] or 'no usage told'}"]


def _because(problem: str | None) -> str:
    return f" ({problem})" if problem else ""


def _answer(read: Explained) -> str:
    said = [str(read["status"]), *(f"{name} {value}" for name, value in read.items() if name != "status")]
    return ", ".join(said)


def _short(line: str) -> str:
    more = len(line) - SHOWN_CHARACTERS
    return line if more <= 0 else f"{line[:SHOWN_CHARACTERS]}… ({more:,} more characters)"
