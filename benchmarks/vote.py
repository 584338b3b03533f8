"""Votes per CPU second: three samples of three fields each, of which one in three rows disagrees on one.

    python benchmarks/vote.py [--rows 200000] [--repeat 5]

Prints the median, and the ratio to reading the same samples from JSON, which any vote has to do first.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import orjson

from gemini_batch.reducer.vote import vote

SAMPLES = 3


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=200_000)
    arguments.add_argument("--repeat", type=int, default=5)
    given = arguments.parse_args()
    texts = [[orjson.dumps(_answer(row, sample)) for sample in range(SAMPLES)] for row in range(given.rows)]
    rows = [[orjson.loads(text) for text in of_row] for of_row in texts]
    reading = _median(given.repeat, lambda: [[orjson.loads(text) for text in of_row] for of_row in texts])
    voting = _median(given.repeat, lambda: [vote(of_row) for of_row in rows])
    print(f"| | rows per CPU second (median of {given.repeat}, {given.rows:,} rows of {SAMPLES} samples) |\n|---|---:|")  # noqa: T201
    print(f"| vote | {given.rows / voting:,.0f} |\n| read the samples' JSON | {given.rows / reading:,.0f} |")  # noqa: T201
    print(f"\nA vote takes {voting / reading:.1f} times as long as reading what it is about.")  # noqa: T201


def _answer(row: int, sample: int) -> dict[str, Any]:
    differs = row % 3 == 0 and sample == 1
    return {"label": "good" if differs else "bad", "score": row % 7 / 2, "count": row}


def _median(repeat: int, work: Callable[[], object]) -> float:
    return statistics.median(_seconds(work) for _ in range(repeat))


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


if __name__ == "__main__":
    main()
