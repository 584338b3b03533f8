"""pollux' deferred delivery. `pollux_client.py PROMPTS FOLDER`"""

import asyncio
import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
from pollux import Config, collect_deferred, defer, inspect_deferred


async def main(path: str, folder: Path) -> None:
    prompts = pq.read_table(path)["prompt"].to_pylist()
    handle = await defer(prompts, config=Config(provider="gemini", model="gemini-2.5-flash"))
    while not (await inspect_deferred(handle)).is_terminal:
        await asyncio.sleep(1)
    found = await collect_deferred(handle)
    (folder / "answers.json").write_text(json.dumps([output.text or None for output in found.outputs]))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
