"""How long the emulator takes from the command to the first reply, and from a signal to its end.

python benchmarks/emulator_start.py [--repeat 5]
"""

import argparse
import statistics
import subprocess
import sys
import time

import httpx2
import orjson

STAGES = ("start", "stop")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeat", type=int, default=5)
    runs = [_measured() for _ in range(arguments.parse_args().repeat)]
    sys.stdout.write("| stage | seconds, median | longest |\n|---|---:|---:|\n")
    for stage, seconds in zip(STAGES, zip(*runs, strict=True), strict=True):
        sys.stdout.write(f"| {stage} | {statistics.median(seconds):.2f} | {max(seconds):.2f} |\n")


def _measured() -> tuple[float, float]:
    """Seconds to the first reply, and to the end."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "gemini_batch", "emulator", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = orjson.loads(process.stdout.readline())["url"] if process.stdout else ""
        httpx2.get(f"{url}/v1/models?key=bench", trust_env=False).raise_for_status()
        served = time.perf_counter()
        process.terminate()
        process.wait()
    return served - begun, time.perf_counter() - served


if __name__ == "__main__":
    main()
