"""Texts in, vectors out, by one batch job of embeddings.

In: texts. Out: a list of numbers per text in their order, matched by key; None where there is none.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from gemini_batch.errors import BadInput
from gemini_batch.gemini.client import GeminiClient
from gemini_batch.gemini.lines import parsed_line
from gemini_batch.single.create import Order, refuse_folder, request_file, write_lines
from gemini_batch.single.media import Uploads
from gemini_batch.single.monitor import telling
from gemini_batch.single.process import fetch_when_over
from gemini_batch.single.service import connect

DEFAULT_EMBEDDER = "gemini-embedding-001"

MOST_DIMENSIONS = 3072
"""Of gemini-embedding-001 ("Embeddings" guide)."""

TASK_TYPES = (
    "RETRIEVAL_DOCUMENT",
    "RETRIEVAL_QUERY",
    "SEMANTIC_SIMILARITY",
    "CLASSIFICATION",
    "CLUSTERING",
    "QUESTION_ANSWERING",
    "FACT_VERIFICATION",
    "CODE_RETRIEVAL_QUERY",
)
"""What vectors are made for ("Embeddings" guide)."""

EMBED = "asyncBatchEmbedContent"


def batch_embed(
    texts: Sequence[str],
    model: str = DEFAULT_EMBEDDER,
    task_type: str | None = "RETRIEVAL_DOCUMENT",
    wait: bool = True,
    job_display_name: str | None = None,
    poll_interval: float = 60,
    output_dir: str | os.PathLike[str] = ".",
    jsonl_dir: str | os.PathLike[str] | None = None,
    return_metadata: bool = False,
    *,
    output_dimensionality: int | None = None,
    title: str | None = None,
    client: GeminiClient | None = None,
) -> Any:
    """Embed texts, as one Gemini Batch job.

    Args:
        task_type: what the vectors are for, one of `TASK_TYPES`; None leaves it to the model.
        output_dimensionality: length of the vectors; by default the model's (3,072). Shorter ones are not of length 1
            (`normalize_embeddings`).
        title: of the documents, for `RETRIEVAL_DOCUMENT`.
        wait: as in `batch_process`, and so are the others.
        return_metadata: return `(vectors, metadata)`, the latter `{"tokenCount": …}` each.

    Returns:
        A list as long as `texts`: a list of floats for each, None where it failed. With `wait=False` the name of the
        job; `parse_embedding_results` reads what `download_batch_results` brings.

    Raises:
        BadInput, JobFailed, CreateUnknown, RemoteError: as `batch_process`.
    """
    if isinstance(texts, str) or not texts or not all(isinstance(text, str) for text in texts):
        raise BadInput("texts has to be a list of one or more str")
    settings = _settings(task_type, output_dimensionality, title)
    if wait:
        refuse_folder(output_dir)
    order = Order(connect(client), model.removeprefix("models/"), job_display_name)
    uploads = Uploads(order.service, show=False)
    with uploads.wasted_if_refused(), request_file(jsonl_dir, order.unique) as (path, out):
        write_lines(out, (_line(place, text, settings) for place, text in enumerate(texts)))
        job_name = order.create(path, uploads, EMBED)
    if not wait:
        return job_name
    with telling(job_name):
        file = fetch_when_over(order.service, job_name, poll_interval, output_dir, uploads)
        return parse_embedding_results(file, return_metadata, n=len(texts))


def parse_embedding_results(
    results: str | os.PathLike[str], return_metadata: bool = False, *, n: int | None = None
) -> Any:
    """Vectors from a result file of `batch_embed`, in the order of the texts, matched by key.

    Args:
        n: how many texts there were; without it, as many as the keys tell.

    Returns:
        A list of vectors, None where a text failed or is missing; with `return_metadata` `(vectors, metadata)`.

    Raises:
        BadInput: no such file.
    """
    found = dict[int, tuple[list[float], dict[str, Any]]]()
    last = -1
    for entry in _entries(Path(results)):
        key = entry.get("key")
        place = int(key) if isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) < 10 else None
        if place is None:
            continue
        last = max(last, place)
        if (vector := _vector(entry)) is not None:
            found.setdefault(place, vector)
    places = range(last + 1 if n is None else n)
    vectors = [found[place][0] if place in found else None for place in places]
    if not return_metadata:
        return vectors
    return vectors, [found[place][1] if place in found else None for place in places]


def _settings(task_type: str | None, dimensions: int | None, title: str | None) -> dict[str, Any]:
    if task_type is not None and (task_type := str(getattr(task_type, "value", task_type)).upper()) not in TASK_TYPES:
        raise BadInput(f"task_type has to be one of {', '.join(TASK_TYPES)} (got {task_type!r})")
    if dimensions is not None and not 1 <= dimensions <= MOST_DIMENSIONS:
        raise BadInput(f"output_dimensionality has to be 1 to {MOST_DIMENSIONS:,} (got {dimensions})")
    given = {"taskType": task_type, "outputDimensionality": dimensions, "title": title}
    return {name: value for name, value in given.items() if value is not None}


def _line(place: int, text: str, settings: dict[str, Any]) -> bytes:
    try:
        return (
            orjson.dumps({"key": str(place), "request": {"content": {"parts": [{"text": text}]}, **settings}}) + b"\n"
        )
    except orjson.JSONEncodeError as error:
        raise BadInput(f"text {place} cannot be written as JSON: {error}") from None


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file of results")
    with path.open("rb") as stream:
        for line in stream:
            entry = parsed_line(line)
            if entry is not None:
                yield entry


def _vector(entry: dict[str, Any]) -> tuple[list[float], dict[str, Any]] | None:
    """The vector on a line and what else is said of it; None for a line that has none."""
    response = entry.get("response")
    embedding = response.get("embedding") if isinstance(response, dict) else None
    values = embedding.get("values") if isinstance(embedding, dict) else None
    if not isinstance(response, dict) or not isinstance(values, list) or not values:
        return None
    if not all(type(value) in (int, float) for value in values):
        return None
    said = {name: value for name, value in response.items() if name != "embedding"}
    if isinstance(count := said.get("tokenCount"), str) and count.isascii() and count.isdecimal():
        said["tokenCount"] = int(count)  # int64 is text on the wire
    return [float(value) for value in values], said
