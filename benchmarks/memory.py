"""The most memory of every process of a run, at several sizes: it must not grow with the rows.

    python benchmarks/run.py --only memory [--long]

300,000, 1,000,000 and 3,000,000 rows; at length 10,000,000 and 20,000 pictures of 1 MB as well, in one process and by
two workers. The emulator is the service and does not count.
"""

import os
import tempfile
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from e2e import SHARD, fleet, solo, write_manifest
from measured import Given, table
from PIL import Image

SIZES, LONG_SIZES = (0.3, 1.0, 3.0), (10.0,)
"""Of the rows that were asked for."""

ROWS = "rows"

PICTURES, BLOCK = 20_000, 50
PICTURES_A_SHARD = 1_000
"""A shard's pictures lie beside it until they are uploaded: few at a time, so that some 50 GB of disk will do."""

SIDE = 1290
"""Of a square JPEG file of noise, in pixels: 1 MB."""

OUTSIDE = ("emulator", "valkey", "tracker", "python")


def measure(given: Given) -> dict[str, Any]:
    shares = SIZES + (LONG_SIZES if given.long else ())
    sizes = [max(1, int(given.rows * share)) for share in shares]
    peaks = {f"{rows:,} {ROWS}": _peaks(partial(write_manifest, rows=rows)) for rows in sizes}
    if given.long:
        peaks[f"{PICTURES:,} pictures of 1 MB"] = _peaks(write_pictures, PICTURES_A_SHARD)
    return {"peaks": peaks}


def _peaks(write: Callable[[Path], Path], shard: int = SHARD) -> dict[str, dict[str, float]]:
    """Peak memory in MB of each process, of both ways to run."""
    found = {}
    for name, run in (("one process and its pool", solo), ("two workers", fleet)):
        with tempfile.TemporaryDirectory() as folder:
            manifest = write(Path(folder))
            own = Path(folder) / "own"
            own.mkdir()
            found[name] = run(own, manifest, shard)["peak_mb"]
    return found


def write_pictures(folder: Path) -> Path:
    """A manifest that holds its pictures: noise, which nothing makes smaller, and no two of the same bytes."""
    path = write_manifest(folder, 1)
    part = pa.struct([("text", pa.string()), ("data", pa.binary()), ("mime_type", pa.string())])
    noise = BytesIO()
    Image.frombytes("RGB", (SIDE, SIDE), os.urandom(3 * SIDE * SIDE)).save(noise, "JPEG")
    with pq.ParquetWriter(path, pa.schema([("parts", pa.list_(part))]), compression="none") as writer:
        for _ in range(0, PICTURES, BLOCK):
            data = [noise.getvalue() + os.urandom(16) for _ in range(BLOCK)]
            rows = [[{"text": "What is it?"}, {"data": held, "mime_type": "image/jpeg"}] for held in data]
            writer.write_table(pa.table({"parts": pa.array(rows, pa.list_(part))}))
    return path


def markdown(figures: dict[str, Any]) -> str:
    sizes = list(figures["peaks"])
    by_process: dict[str, dict[str, float]] = {}
    for size, ways in figures["peaks"].items():
        for way, peaks in ways.items():
            for role, peak in peaks.items():
                if role not in OUTSIDE:
                    by_process.setdefault(f"{way}: {role}", {})[size] = peak
    lines = []
    for process, peaks in by_process.items():
        known = [peaks[size] for size in sizes if size in peaks and size.endswith(ROWS)]
        shown = [f"{peaks[size]:,.0f} MB" if size in peaks else "" for size in sizes]
        lines.append([process, *shown, f"{max(known) / min(known):.2f}"])
    heads = ["process", *sizes, "largest / smallest, of rows"]
    return "Peak resident memory (VmHWM).\n\n" + table(heads, lines)
