"""This client: `ours.py PROMPTS FOLDER` writes FOLDER/answers.json, a text or null for each prompt."""

import json
import sys
from pathlib import Path

from gemini_batch import distributed_batch_process


def main(prompts: str, folder: Path) -> None:
    run = distributed_batch_process(prompts, out=str(folder / "run"), poll_interval=1.0, yes=True, max_attempts=1)
    run.wait()
    (folder / "answers.json").write_text(json.dumps([row.text for row in run.results()]))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
