"""Prompts in, answers out, by one job: the front door of the single-job library.

In: prompts as lists of parts. Out: an answer per prompt in their order, None where there is none; or the job's name.
What more than one job holds is for `distributed_batch_process`.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pydantic import BaseModel, ValidationError

from gemini_batch.errors import JobFailed
from gemini_batch.gemini.client import GeminiClient
from gemini_batch.reducer.vote import aggregate_records, vote
from gemini_batch.single.create import DEFAULT_MODEL, Order, refuse_folder, request_file
from gemini_batch.single.download import download_batch_results
from gemini_batch.single.media import UPLOADS_AT_ONCE, Uploads, read_resolution
from gemini_batch.single.monitor import SUCCEEDED, Watch, telling
from gemini_batch.single.requests import line_keys, read_rows, read_settings, what_is_asked, write_requests
from gemini_batch.single.results import parse_batch_results
from gemini_batch.single.service import connect


def batch_process(
    prompts: Sequence[Sequence[Any]],
    schema: Any = None,
    model: str = DEFAULT_MODEL,
    wait: bool = True,
    n_samples: int = 1,
    job_display_name: str | None = None,
    poll_interval: float = 60,
    output_dir: str | os.PathLike[str] = ".",
    jsonl_dir: str | os.PathLike[str] | None = None,
    return_metadata: bool = False,
    media_resolution: str | None = None,
    *,
    keys: Sequence[str] | None = None,
    part_media_resolution: str | None = None,
    media: str = "upload",
    max_upload_workers: int = UPLOADS_AT_ONCE,
    show_progress: bool = True,
    client: GeminiClient | None = None,
    **generation_kwargs: Any,
) -> Any:
    """Ask the same of every prompt, as one Gemini Batch job.

    Args:
        prompts: a list of prompts, each a list of str, Path, PIL.Image, bytes or `types.Part`.
        schema: a pydantic model, or anything TypeAdapter takes, such as `list[Model]`; None for text.
        wait: False returns the job's name as soon as it is made.
        n_samples: answers to ask for each prompt; a result is what most of the valid ones say, by `aggregate_records`.
        job_display_name: what lists call the job; by default a unique name.
        poll_interval: longest pause between two looks at the job, in seconds.
        output_dir: where the result file is kept, under a name that no file has.
        jsonl_dir: where the request file is kept, likewise; by default it is not.
        return_metadata: return `(results, metadata)`: for each prompt `usageMetadata`, summed over its samples, and
            `modelVersion`; None where the result is.
        media_resolution: detail of all pictures, such as `MEDIA_RESOLUTION_LOW`.
        keys: a unique name of each prompt, for who reads the files: lines are called `3_name`, of several samples
            `name_sample_0`, and without keys `prompt_3_sample_0`.
        part_media_resolution: detail, set on each picture that has none of its own.
        media: `upload` pictures, each distinct one once; or `inline` in the requests; or `auto`, small ones inline.
        max_upload_workers: uploads at a time.
        show_progress: draw a bar for uploads where there is a terminal.
        client: the service; by default that of the environment.
        generation_kwargs: `temperature`, `top_p`, `top_k`, `max_output_tokens`, `thinking_budget`, `thinking_level`,
            `seed`, `stop_sequences`, `system_instruction`, `safety_settings`; and `generation_config`, a dict of raw
            fields that these win over.

    Returns:
        A list as long as `prompts`: an instance of `schema` (or str) for each, None where it failed. With `wait=False`
        the name of the job, for `monitor_batch_job`, `download_batch_results` and `parse_batch_results`.

    Raises:
        BadInput: something cannot be sent as given (the prompt and part are named), or is more than one job holds;
            nothing was sent.
        JobFailed: the job ended otherwise than by success; `state` and `reason` say how.
        CreateUnknown: the answer to the create was lost, and the job is not to be found.
        RemoteError: the service refuses the job, or cannot be reached.
    """
    options, raw = read_settings(model, n_samples, media, media_resolution, generation_kwargs)
    rows = read_rows(prompts, read_resolution(part_media_resolution, "part_media_resolution"))
    asked = what_is_asked(options, schema, raw)
    key = line_keys(keys, len(rows), n_samples)
    if wait:
        refuse_folder(output_dir)
    order = Order(connect(client), options.model, job_display_name)
    uploads = Uploads(order.service, max_upload_workers, show_progress)
    with uploads.wasted_if_refused(), request_file(jsonl_dir, order.unique) as (path, out):
        write_requests(out, rows, asked, key, uploads, order.unique)
        job_name = order.create(path, uploads)
    if not wait:
        return job_name
    with telling(job_name):
        file = fetch_when_over(order.service, job_name, poll_interval, output_dir, uploads)
        read = partial(parse_batch_results, file, schema, n=len(rows), n_samples=n_samples, keys=keys)
        vote_on = partial(voted_result, schema=schema)
        if not return_metadata:
            return grouped(read(), n_samples, vote_on)
        results, metadata = read(return_metadata=True)
        return grouped(results, n_samples, vote_on), grouped(metadata, n_samples, summed_metadata)


def fetch_when_over(
    service: GeminiClient,
    job_name: str,
    poll_interval: float,
    output_dir: str | os.PathLike[str],
    uploads: Uploads,
) -> str:
    """Wait for a job that was just made, and fetch what it holds. What was uploaded for it is deleted then.

    Returns:
        Path of the results.

    Raises:
        JobFailed: it has none, because it did not succeed.
        RemoteError: the service cannot be asked, or the results not be fetched.
    """
    job = Watch(job_name, poll_interval, known=True).until_over(lambda: service.show_job(job_name))
    if job.state != SUCCEEDED:
        uploads.delete()
        raise JobFailed(job_name, job.state, job.error)
    file = download_batch_results(job_name, output_dir, client=service)
    uploads.delete()
    return file


# --- samples ----------------------------------------------------------------------------------------------------------


def grouped(samples: Sequence[Any], n_samples: int, into_one: Callable[[Sequence[Any]], Any]) -> list[Any]:
    """Of each prompt's samples, which follow one another, what they come to."""
    if n_samples == 1:
        return list(samples)
    return [into_one(samples[start : start + n_samples]) for start in range(0, len(samples), n_samples)]


def voted_result(samples: Sequence[Any], schema: Any) -> Any:
    """What most of the valid samples say, down to the last field; None if none is valid.

    Where that is no value of the schema (a validator may forbid what no sample says as a whole), the sample that has
    most of it.
    """
    valid = [sample for sample in samples if sample is not None]
    if len(valid) < 2:
        return valid[0] if valid else None
    try:
        return aggregate_records(valid, as_model=None if isinstance(schema, str) else schema).aggregated
    except ValidationError:
        plain = [one.model_dump(mode="json") if isinstance(one, BaseModel) else one for one in valid]
        return valid[vote(plain).winner]


def summed_metadata(samples: Sequence[dict[str, Any] | None]) -> dict[str, Any] | None:
    """Counts of tokens of all samples together, other members of the first; None where no sample has any."""
    known = [sample for sample in samples if sample is not None]
    if len(known) < 2:
        return known[0] if known else None
    usages = [sample.get("usageMetadata") or {} for sample in known]
    names = dict.fromkeys(name for usage in usages for name in usage if type(usage[name]) is int)
    usage = {**usages[0], **{name: sum(usage.get(name) or 0 for usage in usages) for name in names}}
    return {**known[0], "usageMetadata": usage}
