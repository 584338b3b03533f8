"""A shard of any rows and samples on disk, its result lines, and what parsing makes of them."""

import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq

from gemini_batch.dataset import part_schema
from gemini_batch.gemini.wire import line_key
from gemini_batch.jobs.asked import NoAnswer
from gemini_batch.jobs.encode import REQUESTS
from gemini_batch.jobs.parse import PackTask, ParseTask, pack, parse

NONCE = "00c0ffee00c0ffee"
OPTIONAL = {"samples": pa.list_(pa.int32()), "attempts": pa.int32(), "was": pa.string(), "valid": pa.int32()}


def key(index, sample=0, nonce=NONCE):
    return line_key(nonce.encode(), index, sample).decode()


def answer(index, sample=0, text="fine", usage=True, **response):
    """A line with an answer; `usage=False` has no token counts."""
    candidate = {"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}
    counts = {"promptTokenCount": 10, "candidatesTokenCount": 2, "thoughtsTokenCount": 1}
    found = {"candidates": [candidate], "modelVersion": f"v{sample}", **response}
    return json.dumps(
        {"key": key(index, sample), "response": found | ({"usageMetadata": counts} if usage else {})}
    ).encode()


def error(index, sample=0, code=13):
    return json.dumps({"key": key(index, sample), "error": {"code": code, "message": "said so"}}).encode()


def write_rows(path, rows):
    """Frozen rows: dicts with `index`, and the optional columns if any row has them."""
    columns = {
        "index": pa.array([row["index"] for row in rows], pa.int64()),
        "key": pa.array([f"k{row['index']}" for row in rows]),
        "prompt": pa.array(["p"] * len(rows)),
    }
    for name, kind in OPTIONAL.items():
        if any(name in row for row in rows):
            columns[name] = pa.array([row.get(name) for row in rows], kind)
    pq.write_table(pa.table(columns), path)


def write_requests(path, rows):
    """A row with `bad` was left out for that kind of error."""
    outcomes = [
        {"index": row["index"], "error_kind": row["bad"], "error_message": "why"}
        if row.get("bad")
        else {"index": row["index"], "request_digest": f"d{row['index']}"}
        for row in rows
    ]
    pq.write_table(pa.Table.from_pylist(outcomes, REQUESTS), path)


def parsed(folder, rows, lines, n_samples=1, spec=None, raw=True, **task):
    """(rows of the part, tally); `lines` are joined by line feeds."""
    write_rows(folder / "rows", rows)
    write_requests(folder / "requests", rows)
    (folder / "plain").write_bytes(b"\n".join(lines))
    pack(PackTask(folder / "plain", folder / "raw"))
    made = ParseTask(
        nonce=NONCE,
        response_schema=spec,
        rows=folder / "rows",
        requests=folder / "requests",
        raw=folder / "raw" if raw else None,
        part=folder / "part",
        no_answer=NoAnswer("missing", "no line"),
        n_samples=n_samples,
        **task,
    )
    tally = parse(made)
    part = pq.read_table(folder / "part")
    assert part.schema.equals(part_schema(spec, n_samples))
    assert part["index"].to_pylist() == [row["index"] for row in rows]
    assert tally.part_sha256 == hashlib.sha256((folder / "part").read_bytes()).hexdigest()
    assert sum(tally.by_status.values()) == tally.rows == len(rows)
    return part.to_pylist(), tally
