"""What the emulator does per second of CPU with one large job, and the memory it takes.

    python benchmarks/emulator.py [--lines 1000000] [--repeat 3] [--schema]

The job is uploaded in chunks of 8 MiB, created, answered and downloaded over HTTP; the CPU is the emulator's alone.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson

CHUNK = 8 << 20
TICKS = os.sysconf("SC_CLK_TCK")
STAGES = ("upload", "create", "answer", "download")
SCHEMA = {
    "type": "OBJECT",
    "properties": {"topic": {"type": "STRING"}, "words": {"type": "INTEGER"}},
    "required": ["topic", "words"],
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--lines", type=int, default=1_000_000)
    arguments.add_argument("--repeat", type=int, default=3)
    arguments.add_argument("--schema", action="store_true", help="structured answers")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "lines.jsonl"
        _write_lines(source, given.lines, given.schema)
        runs = [_measured(source) for _ in range(given.repeat)]
    seconds = {stage: statistics.median(run[stage] for run in runs) for stage in STAGES}
    total = statistics.median(sum(run[stage] for stage in STAGES) for run in runs)
    sys.stdout.write("| stage | lines/s of CPU | share |\n|---|---:|---:|\n")
    for stage in STAGES:
        rate = given.lines / max(seconds[stage], 1 / TICKS)
        sys.stdout.write(f"| {stage} | {rate:,.0f} | {seconds[stage] / total:.0%} |\n")
    peak = statistics.median(run["peak_kb"] for run in runs) / 1024
    sys.stdout.write(f"| all of {given.lines:,} lines, peak {peak:.0f} MB | {given.lines / total:,.0f} | 100% |\n")


def _write_lines(path: Path, lines: int, schema: bool) -> None:
    config: dict[str, Any] = {"temperature": 0}
    if schema:
        config |= {"responseMimeType": "application/json", "responseSchema": SCHEMA}
    with path.open("wb") as out:
        for number in range(lines):
            text = f"Summarise item {number}: the quick brown fox jumps over the lazy dog."
            request = {"contents": [{"role": "user", "parts": [{"text": text}]}], "generationConfig": config}
            out.write(orjson.dumps({"key": f"r{number}", "request": request}, option=orjson.OPT_APPEND_NEWLINE))


def _measured(source: Path) -> dict[str, float]:
    """CPU seconds of each stage, and the peak memory in KB."""
    with _emulator() as (pid, url):
        http = httpx2.Client(base_url=url, headers={"x-goog-api-key": "bench"}, trust_env=False, timeout=3600)
        marks = [_cpu(pid)]
        name = _upload(http, source)
        marks.append(_cpu(pid))
        model = "/v1/models/gemini-3.8-flash:batchGenerateContent"
        job = http.post(model, json={"batch": {"inputConfig": {"fileName": name}}}).raise_for_status().json()
        marks.append(_cpu(pid))
        while not (job := http.get(f"/v1/{job['name']}").json()).get("done"):
            threading.Event().wait(0.2)
        marks.append(_cpu(pid))
        with http.stream("GET", f"/v1/{job['response']['responsesFile']}:download?alt=media") as reply:
            for _ in reply.iter_bytes():
                pass
        marks.append(_cpu(pid))
        stages = dict(zip(STAGES, (after - before for before, after in itertools.pairwise(marks)), strict=True))
        return stages | {"peak_kb": _peak_kb(pid)}


def _upload(http: httpx2.Client, source: Path) -> str:
    started = http.post("/upload/v1/files", json={"file": {"mimeType": "jsonl"}}).raise_for_status()
    size, sent = source.stat().st_size, 0
    with source.open("rb") as content:
        while True:
            chunk = content.read(CHUNK)
            is_last = sent + len(chunk) >= size
            headers = {
                "x-goog-upload-command": "upload, finalize" if is_last else "upload",
                "x-goog-upload-offset": str(sent),
            }
            reply = http.post(started.headers["x-goog-upload-url"], content=chunk, headers=headers).raise_for_status()
            sent += len(chunk)
            if is_last:
                return str(reply.json()["file"]["name"])


@contextmanager
def _emulator() -> Iterator[tuple[int, str]]:
    command = [sys.executable, "-m", "gemini_batch", "emulator", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.pid, orjson.loads(process.stdout.readline())["url"] if process.stdout else ""
        finally:
            process.terminate()


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _peak_kb(pid: int) -> float:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return float(line.split()[1])


if __name__ == "__main__":
    main()
