"""Lines per CPU second that the results of one job are parsed at, into instances of a model with two fields.

    python benchmarks/parse.py [--lines 1000000] [--repeat 3]

Prints medians, each also as a share of the speed of a bare loop of orjson and pydantic over the same lines, which puts
nothing in order and knows one form of line; and the peak of memory beside that of the results themselves.
"""

import argparse
import gc
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel

from gemini_batch import iter_batch_results, parse_batch_results

PAGE_MB = resource.getpagesize() / 1e6


class Answer(BaseModel):
    label: str
    score: float


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--lines", type=int, default=1_000_000)
    arguments.add_argument("--repeat", type=int, default=3)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.jsonl"
        _write(path, given.lines)
        before = _memory_mb()
        held = parse_batch_results(path, Answer)
        peak, kept = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, _memory_mb()
        _check(held, given.lines)
        del held
        ways: dict[str, Callable[[], Any]] = {
            "bare loop": lambda: _bare(path),
            "parse_batch_results": lambda: parse_batch_results(path, Answer),
            "iter_batch_results": lambda: sum(result.status == "ok" for result in iter_batch_results(path, Answer)),
        }
        turns = [{name: _seconds(work) for name, work in ways.items()} for _ in range(given.repeat)]
    medians = {name: statistics.median(turn[name] for turn in turns) for name in ways}
    print(f"| {given.lines:,} lines, median of {given.repeat} | lines per CPU second | of the bare loop |")  # noqa: T201
    print("|---|---:|---:|")  # noqa: T201
    for name, taken in medians.items():
        print(f"| {name} | {given.lines / taken:,.0f} | {medians['bare loop'] / taken:.2f} |")  # noqa: T201
    print(f"\nMemory: {kept - before:,.0f} MB of results, {peak - before:,.0f} MB at the peak")  # noqa: T201


def _write(path: Path, lines: int) -> None:
    """What the service returns, in another order than it was asked."""
    usage = {"promptTokenCount": 30, "candidatesTokenCount": 9, "totalTokenCount": 39}
    step = next(step for step in (7919, 7907, 7901) if lines % step)  # a prime, so that every line comes once
    with path.open("wb") as out:
        for line in range(lines):
            number = line * step % lines
            answer = {"label": f"label {number}", "score": number / 4}
            content = {"parts": [{"text": orjson.dumps(answer).decode()}], "role": "model"}
            response = {
                "candidates": [{"content": content, "finishReason": "STOP", "index": 0}],
                "usageMetadata": usage,
                "modelVersion": "gemini-2.5-flash",
            }
            out.write(orjson.dumps({"key": f"prompt_{number}_sample_0", "response": response}) + b"\n")


def _bare(path: Path) -> list[Answer]:
    validate, found = Answer.model_validate_json, list[Answer]()
    with path.open("rb") as stream:
        for line in stream:
            found.append(validate(orjson.loads(line)["response"]["candidates"][0]["content"]["parts"][0]["text"]))
    return found


def _check(found: list[Answer], lines: int) -> None:
    for place in range(0, lines, 1 + lines // 1000):
        if found[place].score != place / 4:
            raise SystemExit(f"the answer of prompt {place} is not in its place")


def _memory_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_MB


def _seconds(work: Callable[[], Any]) -> float:
    gc.collect()
    began = time.process_time()
    held = work()
    taken = time.process_time() - began
    del held
    return taken


if __name__ == "__main__":
    main()
