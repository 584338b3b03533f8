"""Findings of an audit or of a diagnosis in words, for people. Pure."""

from collections import Counter
from typing import Any

MOST_TOLD = 20
"""Findings that are told; the rest is counted, and stands in the JSON."""


def findings_in_words(findings: list[dict[str, Any]], clean: str) -> list[str]:
    """The findings with their mends, then the verdict."""
    said = [f"{_place(one)}{one['kind']}: {one['what']}. To mend: {one['fix']}" for one in findings[:MOST_TOLD]]
    if more := len(findings) - MOST_TOLD:
        said += [f"and {more:,} more"] if more > 0 else []
    kinds = Counter(one["kind"] for one in findings)
    counted = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    return [*said, f"{len(findings):,} findings: {counted}" if findings else f"clean: {clean}"]


def _place(finding: dict[str, Any]) -> str:
    run = f"run {finding['run']}, " if finding.get("run") else ""
    return run + (f"shard {finding['shard']:06d}, " if finding.get("shard") is not None else "")
