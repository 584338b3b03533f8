"""The results of one job, as the service holds them: a file on disk, or the lines themselves.

In: the name of an ended job. Out: a file that is there whole or not at all, under a name that no file had; or a list of
result lines. Nothing here parses an answer.
"""

import os
from typing import Any

from gemini_batch.gemini.client import GeminiClient


def download_batch_results(
    batch_job_name: str,
    output_dir: str | os.PathLike[str] = ".",
    overwrite: bool = False,
    *,
    client: GeminiClient | None = None,
) -> str:
    """Fetch the result file of a job; streamed, and accepted only if it is certainly whole.

    Args:
        output_dir: made if it is not there.
        overwrite: replace a file of the same name, in one step. Otherwise the new file is numbered: `name_1.jsonl`.
        client: the service; by default that of the environment.

    Returns:
        Path of the JSONL file, named after the job's display name.

    Raises:
        NoResults: the job has not ended, or left no result file.
        RemoteError: the service cannot be asked, or the download was damaged.
        BadInput: no API key, or the file cannot be written.
    """
    raise NotImplementedError


def get_inline_results(batch_job_name: str, *, client: GeminiClient | None = None) -> list[dict[str, Any]]:
    """The results of a job whose requests were inline.

    Returns:
        One dict per line in the order of the service, as a line of a result file has it: `{"key": …, "response": …}` or
        `{"key": …, "error": …}`; without `key` where the request had none, and always with `index`, its place.

    Raises:
        NoResults: the job has not ended, or its results are a file.
        RemoteError: the service cannot be asked.
    """
    raise NotImplementedError
