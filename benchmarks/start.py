"""How long a process takes that does nothing yet: wall time and CPU, also as multiples of Python's own start.

python benchmarks/start.py [--repeat 21]

Commands take turns, so that what else the machine does falls on all of them.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

COMMAND = Path(sys.executable).parent / "gemini-batch-dist"
STARTS = {
    "Python's own start": (sys.executable, "-c", "pass"),
    "`import gemini_batch`": (sys.executable, "-c", "import gemini_batch"),
    "`gemini-batch-dist --help`": (str(COMMAND), "--help"),
    "`gemini-batch-dist submit --help`": (str(COMMAND), "submit", "--help"),
    "`gemini_batch.distributed_batch_process`": (
        sys.executable, "-c", "from gemini_batch import distributed_batch_process"
    ),
    "what a worker imports before it forks": (
        sys.executable, "-P", "-c", "import workers.tasks, gemini_batch.gemini.client"
    ),
}  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeat", type=int, default=21)
    sys.stdout.writelines(f"{line}\n" for line in _table(arguments.parse_args().repeat))


def _table(repeat: int) -> Iterator[str]:
    runs = [[_measured(command) for command in STARTS.values()] for _ in range(repeat)]
    wall, cpu = ([statistics.median(column) for column in zip(*seconds, strict=True)] for seconds in _split(runs))
    yield "| | ms | ms of CPU | times Python's own start |"
    yield "|---|---:|---:|---:|"
    for name, seconds, of_cpu in zip(STARTS, wall, cpu, strict=True):
        yield f"| {name} | {1000 * seconds:.0f} | {1000 * of_cpu:.0f} | {of_cpu / cpu[0]:.1f} |"


def _split(runs: list[list[tuple[float, float]]]) -> tuple[list[list[float]], list[list[float]]]:
    return [[wall for wall, _ in run] for run in runs], [[cpu for _, cpu in run] for run in runs]


def _measured(command: tuple[str, ...]) -> tuple[float, float]:
    """Wall and CPU seconds of a process."""
    begun = time.perf_counter()
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    _, status, used = os.wait4(os.posix_spawn(command[0], command, os.environ, file_actions=silent), 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - begun, used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
