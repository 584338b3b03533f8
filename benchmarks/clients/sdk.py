"""The SDK as its guide uses it, the floor: one file, one job, results by key. `sdk.py PROMPTS FOLDER`"""

import json
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
from google import genai

MODEL, DONE = "gemini-2.5-flash", {"JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_EXPIRED"}


def main(path: str, folder: Path) -> None:
    prompts, client, lines = pq.read_table(path)["prompt"].to_pylist(), genai.Client(), folder / "lines.jsonl"
    with lines.open("w") as out:
        for row, prompt in enumerate(prompts):
            request = {"contents": [{"role": "user", "parts": [{"text": prompt}]}]}
            out.write(json.dumps({"key": str(row), "request": request}) + "\n")
    uploaded = client.files.upload(file=lines, config={"mime_type": "jsonl", "display_name": "lines"})
    job = client.batches.create(model=MODEL, src=uploaded.name)
    while job.state.name not in DONE:
        time.sleep(1)
        job = client.batches.get(name=job.name)
    answers: list[str | None] = [None] * len(prompts)
    for line in client.files.download(file=job.dest.file_name).splitlines():
        found = json.loads(line)
        candidates = found.get("response", {}).get("candidates")
        if candidates:
            answers[int(found["key"])] = candidates[0]["content"]["parts"][0]["text"]
    (folder / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
