"""What `plan` says of a request, for programs and for people.

In: a request, and what of it is to be looked at more closely. Out: one JSON object, or lines of text.
"""

from dataclasses import dataclass
from typing import Any

from gemini_batch import runs
from gemini_batch.ask import cost_in_words
from gemini_batch.clock import SystemClock
from gemini_batch.preview import Sight, failing_rows, first_lines
from gemini_batch.simulate import MEDIAN_HOURS, forecast, forecast_in_words


@dataclass(frozen=True)
class Closer:
    """What is to be told besides the totals."""

    simulate: bool = False
    job_hours: float | None = None
    show: int = 0
    """Request lines."""
    check_media: bool = False


def plan_as_json(request: runs.Request, closer: Closer) -> dict[str, Any]:
    """
    Raises:
        BadInput: a store that holds pictures cannot be reached.
    """
    cost = runs.estimate(request)
    told = {
        **request.plan.totals(),
        "template_nulls": request.plan.empty,
        "cost_usd": cost and cost.as_json(),
        "cost_assumptions": cost.assumptions if cost else [],
        "model": request.options.model,
        "plan": [shard.model_dump() for shard in request.plan.shards],
    }
    if closer.simulate:
        told["simulated"] = _time(request, closer).as_json()
    if closer.show:
        told["show"] = first_lines(_sight(request), closer.show)
    if closer.check_media:
        told["bad_rows"] = list(failing_rows(_sight(request)))
    return told


def plan_in_words(request: runs.Request, closer: Closer) -> list[str]:
    """
    Raises:
        BadInput: a store that holds pictures cannot be reached.
    """
    totals = request.plan.totals()
    said = [f"{totals['rows']:,} rows of {request.manifest.name} for {request.options.model}"]
    for name, unit in (("shards", "jobs"), ("requests", ""), ("request_bytes", "bytes"), ("tokens", "estimated input")):
        said.append(f"  {name.replace('request_', ''):<9}{totals[name]:>16,}  {unit}".rstrip())
    for column, rows in request.plan.empty.items():
        said.append(f"  {rows:,} rows have nothing in {{{column}}} of the template")
    if bad := totals["rows"] - totals["requests"]:
        said.append(f"  {bad:,} rows cannot be sent and will be marked failed, unpaid")
    said.append(f"  {cost_in_words(runs.estimate(request))}")
    if closer.simulate:
        said.append(f"  {forecast_in_words(_time(request, closer))}")
    if closer.show:
        said += [_row_in_words(row) for row in first_lines(_sight(request), closer.show)]
    if closer.check_media:
        failing = [_row_in_words(row) for row in failing_rows(_sight(request))]
        said += [*failing, f"{len(failing):,} rows would fail unsent" if failing else "every picture can be read"]
    return said


def _row_in_words(row: dict[str, Any]) -> str:
    return str(row["line"]) if "line" in row else f"row {row['index']} (key {row['key']}): {row['error']}"


def _time(request: runs.Request, closer: Closer) -> Any:
    return forecast(request.plan.shards, request.limits, closer.job_hours or MEDIAN_HOURS)


def _sight(request: runs.Request) -> Sight:
    limits = request.limits
    return Sight(
        request.manifest,
        request.asked,
        request.roots,
        limits.max_bytes_per_shard,
        limits.allow_http,
        SystemClock(),
    )
