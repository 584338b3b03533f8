"""Sums over what came back: tokens of metadata, length of vectors. Pure."""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gemini_batch.errors import BadInput

COUNTS = {
    "prompt": "promptTokenCount",
    "candidates": "candidatesTokenCount",
    "total": "totalTokenCount",
    "cached": "cachedContentTokenCount",
    "thoughts": "thoughtsTokenCount",
}
"""Counts of `usageMetadata` (GenerateContentResponse reference). Cached tokens are among those of the prompt; thoughts
are not among those of the candidates."""


@dataclass(frozen=True)
class TokenStatistics:
    """Tokens of many requests. An average is over the successful ones, None where there are none."""

    total_requests: int
    successful_requests: int
    """Those whose metadata have `usageMetadata`."""
    failed_requests: int
    total_prompt_tokens: int
    total_candidates_tokens: int
    total_tokens: int
    total_cached_tokens: int
    total_thoughts_tokens: int
    avg_prompt_tokens: float | None
    avg_candidates_tokens: float | None
    avg_total_tokens: float | None
    avg_cached_tokens: float | None
    avg_thoughts_tokens: float | None


def calculate_token_statistics(
    metadata_list: Iterable[Mapping[str, Any] | None], verbose: bool = False
) -> TokenStatistics:
    """Totals and averages of the metadata that `return_metadata=True` gives.

    Args:
        metadata_list: an entry per request, None for one that failed. A count the service left out is 0.
        verbose: print a table as well.
    """
    entries = list(metadata_list)
    usages = [usage for entry in entries if entry and isinstance(usage := entry.get("usageMetadata"), Mapping)]
    sums = {name: sum(usage.get(count) or 0 for usage in usages) for name, count in COUNTS.items()}
    means = {name: total / len(usages) if usages else None for name, total in sums.items()}
    statistics = TokenStatistics(
        total_requests=len(entries),
        successful_requests=len(usages),
        failed_requests=len(entries) - len(usages),
        total_prompt_tokens=sums["prompt"],
        total_candidates_tokens=sums["candidates"],
        total_tokens=sums["total"],
        total_cached_tokens=sums["cached"],
        total_thoughts_tokens=sums["thoughts"],
        avg_prompt_tokens=means["prompt"],
        avg_candidates_tokens=means["candidates"],
        avg_total_tokens=means["total"],
        avg_cached_tokens=means["cached"],
        avg_thoughts_tokens=means["thoughts"],
    )
    if verbose:
        sys.stdout.write(_table(statistics, sums, means))
    return statistics


def _table(statistics: TokenStatistics, sums: Mapping[str, int], means: Mapping[str, float | None]) -> str:
    head = f"{statistics.successful_requests:,} of {statistics.total_requests:,} requests answered\n"
    lines = [f"{'tokens':<12}{'total':>16}{'per request':>16}\n"]
    for name, total in sums.items():
        mean = means[name]
        lines.append(f"{name:<12}{total:>16,}{'-' if mean is None else format(mean, ',.1f'):>16}\n")
    return head + "".join(lines)


def normalize_embeddings(embeddings: Iterable[Sequence[float] | None]) -> list[list[float] | None]:
    """Each vector scaled to length 1, as a dot product needs it to be a cosine. Vectors that the service shortened
    (`output_dimensionality`) are not of length 1.

    Args:
        embeddings: lists, or rows of an array; None, a text that failed, stays None. A vector of zeros stays.

    Raises:
        BadInput: a vector holds a number that is not finite.
    """
    return [None if vector is None else _unit(vector, place) for place, vector in enumerate(embeddings)]


def _unit(vector: Sequence[float], place: int) -> list[float]:
    values = [float(value) for value in vector]
    length = math.hypot(*values)
    if not math.isfinite(length):
        raise BadInput(f"embedding {place} holds a number that is not finite, or too large to be scaled")
    return [value / length for value in values] if length else values
