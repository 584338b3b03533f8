"""An audit or a diagnosis in words, for people. Pure."""

from collections import Counter
from typing import Any

MOST_TOLD = 20
"""Findings that are told; the rest is counted, and stands in the JSON."""


def audit_in_words(audit: dict[str, Any]) -> list[str]:
    totals = audit["totals"]
    jobs, lines = totals["jobs"], totals["lines"]
    shards = ", ".join(f"{count:,} {state}" for state, count in sorted(totals["shards"].items()))
    rows = ", ".join(f"{count:,} {status}" for status, count in sorted(totals["by_status"].items()))
    said = [f"run {audit['run_id']} in {audit['run']}"]
    said.append(f"shards: {shards or 'none'}")
    said.append(f"rows: {totals['rows']:,}" + (f", of them {rows}" if rows else ""))
    said.append("jobs: " + _counts(jobs, ("created", "adopted", "twins", "unrecorded")))
    said.append("lines: " + _counts(lines, ("sent", "received", "missing", "duplicate", "foreign", "broken")))
    if twice := totals["rows_bought_more_than_once"]:
        said.append(f"bought more than once: {twice:,} rows")
    if audit["looked_at"]:
        said.append(f"the provider's jobs as of {audit['looked_at']}")
    said += audit["notes"]
    return [*said, *findings_in_words(audit["findings"], "everything that was looked at is accounted for")]


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


def _counts(counts: dict[str, int], names: tuple[str, ...]) -> str:
    return ", ".join(f"{counts.get(name, 0):,} {name}" for name in names)
