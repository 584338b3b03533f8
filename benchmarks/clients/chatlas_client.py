"""chatlas' `batch_chat`. `chatlas_client.py PROMPTS FOLDER`"""

import json
import os
import sys
from pathlib import Path

import pyarrow.parquet as pq
from chatlas import ChatGoogle, batch_chat


def main(path: str, folder: Path) -> None:
    prompts = pq.read_table(path)["prompt"].to_pylist()
    options = {"http_options": {"base_url": os.environ["GOOGLE_GEMINI_BASE_URL"]}}
    chat = ChatGoogle(model="gemini-2.5-flash", api_key="bench", kwargs=options)
    chats = batch_chat(chat, prompts, folder / "state.json")
    answers = [None if one is None else one.get_last_turn().text for one in chats or []]
    (folder / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
