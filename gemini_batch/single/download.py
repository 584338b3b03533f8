"""The results of one job, as the service holds them: a file on disk, or the lines themselves.

In: the name of an ended job. Out: a file that is there whole or not at all, under a name that no file had; or a list of
result lines. Nothing here parses an answer.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from gemini_batch.clock import new_nonce
from gemini_batch.errors import BadInput, NoResults, Unavailable
from gemini_batch.gemini.client import GeminiClient
from gemini_batch.gemini.remote import BatchJob
from gemini_batch.jobs.parse import Packed, measure
from gemini_batch.jobs.whole import fetch_whole
from gemini_batch.single.monitor import SUCCEEDED
from gemini_batch.single.service import connect, patiently

NAME_CHARACTERS = 100
"""Of a job's display name in a file's; file systems take 255 bytes, of which a character may have four."""


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
    service = connect(client)
    job = patiently(lambda: _with_output(service.show_job(batch_job_name)[0]))
    file_name = job.responses_file
    if file_name is None:
        hint = "; its requests were inline: get_inline_results has the results" if job.has_output else ""
        raise _nothing(job, f"has no result file{hint}")
    folder = Path(output_dir)
    scratch = folder / f".{new_nonce()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        patiently(lambda: _fetch(service, job, file_name, scratch))
        return str(_put(scratch, folder, _file_name(job), overwrite))
    except OSError as error:
        raise BadInput(f"{folder}: the results cannot be written: {error}") from None
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


def get_inline_results(batch_job_name: str, *, client: GeminiClient | None = None) -> list[dict[str, Any]]:
    """The results of a job whose requests were inline.

    Returns:
        One dict per line in the order of the service, as a line of a result file has it: `{"key": …, "response": …}` or
        `{"key": …, "error": …}`; without `key` where the request had none, and always with `index`, its place.

    Raises:
        NoResults: the job has not ended, or its results are a file.
        RemoteError: the service cannot be asked.
    """
    service = connect(client)
    job, held = patiently(lambda: _with_lines(*service.inline_results(batch_job_name)))
    if held is None:
        hint = "; they are a file: download_batch_results fetches it" if job.responses_file else ""
        raise _nothing(job, f"has no inline results{hint}")
    return [_as_on_a_line(index, entry) for index, entry in enumerate(held)]


def _with_output(job: BatchJob) -> BatchJob:
    """Results are shown a moment after the success, now and then."""
    if job.state == SUCCEEDED and not job.has_output:
        raise Unavailable(f"the job {job.name} has succeeded, but the service does not show its results yet")
    return job


def _with_lines(job: BatchJob, held: list[Any] | None) -> tuple[BatchJob, list[Any] | None]:
    return _with_output(job), held


def _nothing(job: BatchJob, what: str) -> NoResults:
    why = f": {job.error}" if job.error else ""
    return NoResults(f"the job {job.name} {what} ({job.state}{why})", job.state)


def _as_on_a_line(index: int, entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        return {"index": index}
    metadata = entry.get("metadata")
    key = metadata.get("key") if isinstance(metadata, dict) else None
    named = {} if key is None else {"key": key}
    return {"index": index, **named, **{name: value for name, value in entry.items() if name != "metadata"}}


# --- the file ---------------------------------------------------------------------------------------------------------


def _fetch(service: GeminiClient, job: BatchJob, file_name: str, target: Path) -> None:
    """Download to `target`, whole. The second download, where only that proves it, is not kept."""
    again = target.with_suffix(".again")
    targets: Iterator[Path] = iter((target, again))

    def download() -> Packed:
        place = next(targets)
        service.download(file_name, place)
        return measure(place)

    try:
        fetch_whole(service, job, file_name, download)
    finally:
        again.unlink(missing_ok=True)


def _file_name(job: BatchJob) -> str:
    """The display name as far as a file may be called so, else the job's own name."""
    shown = re.sub(r"[^\w.-]+", "_", job.display_name).strip("._")[:NAME_CHARACTERS]
    return shown or job.name.replace("/", "-")


def _put(scratch: Path, folder: Path, name: str, overwrite: bool) -> Path:
    """Give the file its name, on disk. `link` is exclusive: no process ever takes the name of another one's file."""
    with scratch.open("rb") as stream:
        os.fsync(stream.fileno())
    if overwrite:
        return scratch.replace(folder / f"{name}.jsonl")
    for number in count():
        target = folder / (f"{name}_{number}.jsonl" if number else f"{name}.jsonl")
        try:
            _take(scratch, target)
        except FileExistsError:
            continue
        return target
    raise AssertionError("there is always a next number")


def _take(scratch: Path, target: Path) -> None:
    """
    Raises:
        FileExistsError: the name is taken.
    """
    try:
        os.link(scratch, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: the name is taken first, and filled in one step
        target.open("xb").close()
        scratch.replace(target)
