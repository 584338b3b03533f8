"""Result lines of one job become answers in the order of the prompts, matched by key.

In: a result file, or its lines as dicts. Out: one answer per request, None where there is none.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Source = str | os.PathLike[str] | Iterable[Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class BatchResult:
    """One result line."""

    key: str | None
    index: int | None
    """Of the prompt; None where the key does not tell."""
    sample: int
    result: Any
    """An instance of the schema, or text; None unless `status` is ok."""
    status: str
    """`ok`, `failed`, `blocked`, `truncated` or `invalid`, as in a dataset."""
    text: str | None
    """The raw answer, whenever one came."""
    error: dict[str, Any] | None
    """`kind`, `code` and `message` as in a dataset; None if ok."""
    metadata: dict[str, Any] | None
    """`usageMetadata` and `modelVersion` as the service gave them."""


def parse_batch_results(
    results: Source,
    schema: Any = None,
    validate: bool = True,
    return_metadata: bool = False,
    *,
    n: int | None = None,
    n_samples: int | None = None,
    keys: Sequence[str] | None = None,
) -> Any:
    """Answers in the order of the requests: prompt by prompt, the samples of a prompt one after the other.

    Args:
        results: path of a JSONL file, or result lines as dicts, such as `get_inline_results` gives.
        schema: pydantic model, or anything TypeAdapter takes, such as `list[Model]`; None for text.
        validate: has no effect: an instance is always validated, as it was in the public library.
        return_metadata: return `(results, metadata)`.
        n: how many prompts there were; without it, as many as the keys and lines tell, or `keys` has.
        n_samples: how many samples of each; without it, as many as the keys tell.
        keys: the prompts' own keys, in the order of the prompts.

    Returns:
        A list of instances of `schema` (or str), None where the line failed, is broken or is missing: `n * n_samples`
        entries. With `return_metadata` also a list of the same length of `{"usageMetadata": …, "modelVersion": …}`,
        None where the result is.

    Raises:
        BadInput: no such file, or the lines cannot be told apart.
    """
    raise NotImplementedError


def iter_batch_results(
    results: Source, schema: Any = None, *, keys: Sequence[str] | None = None
) -> Iterator[BatchResult]:
    """The result lines one by one, in the order in which they stand, a block in memory at a time.

    Args:
        results, schema, keys: as `parse_batch_results`.

    Raises:
        BadInput: no such file.
    """
    raise NotImplementedError
