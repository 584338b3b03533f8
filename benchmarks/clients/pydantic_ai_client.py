"""pydantic-ai's `model_request_batch`. `pydantic_ai_client.py PROMPTS FOLDER`"""

import asyncio
import json
import os
import sys
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
from pydantic_ai import ModelRequest
from pydantic_ai.direct import model_request_batch
from pydantic_ai.models.batch import BatchRequest
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.providers.google import GoogleProvider


async def main(path: str, folder: Path) -> None:
    prompts = pq.read_table(path)["prompt"].to_pylist()
    provider = GoogleProvider(api_key="bench", base_url=os.environ["GOOGLE_GEMINI_BASE_URL"])
    requests = [
        BatchRequest(custom_id=str(row), messages=[ModelRequest.user_text_prompt(prompt)])
        for row, prompt in enumerate(prompts)
    ]
    second = timedelta(seconds=1)
    found = await model_request_batch(
        GoogleModel("gemini-2.5-flash", provider=provider),
        requests,
        max_resubmissions=0,
        poll_interval=second,
        max_poll_interval=second,
    )
    answers = [None if isinstance(one, Exception) else "".join(part.content for part in one.parts) for one in found]
    (folder / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
