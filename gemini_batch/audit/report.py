"""An audit in words, for people. Pure."""

from typing import Any

from gemini_batch.findings import findings_in_words


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
        why = ", ".join(f"{count:,} {kind}" for kind, count in sorted(totals["bought_again"].items()))
        said.append(f"bought more than once: {twice:,} rows" + (f", which had been {why}" if why else ""))
    if audit["looked_at"]:
        said.append(f"the provider's jobs as of {audit['looked_at']}")
    said += audit["notes"]
    return [*said, *findings_in_words(audit["findings"], "everything that was looked at is accounted for")]


def _counts(counts: dict[str, int], names: tuple[str, ...]) -> str:
    return ", ".join(f"{counts.get(name, 0):,} {name}" for name in names)
