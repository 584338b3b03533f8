"""How a run stands, from its records alone. Pure.

Out: the object that `status --json` prints; names and meaning are the contract's.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gemini_batch.records import FORMAT, RunRecord, ShardPlan, ShardRecord, ShardState

Status = dict[str, Any]


def summarise(
    where: str,
    run: RunRecord,
    plan: list[ShardPlan],
    records: list[ShardRecord],
    finished: bool,
    now: datetime,
    waiting: Mapping[str, int] | None = None,
    stopped: str | None = None,
    idle: bool = False,
) -> Status:
    """The status of a run.

    Args:
        finished: `_SUCCESS` is there.
        waiting: reason -> shards, from whoever drives the run; otherwise read off the records.
        stopped: why the run cannot go on, if it cannot.
        idle: it could go on, and no process drives it.
    """
    states = Counter(record.state.value for record in records)
    statuses = Counter[str]()
    for record in records:
        statuses.update(record.tally.by_status if record.tally else {})
    collected = sum(statuses.values())
    state = _state(finished, stopped, states, len(plan), driven=waiting is not None)
    failed = collected - statuses["ok"]
    return {
        "format": FORMAT,
        "run": where,
        "run_id": run.run_id,
        "state": state,
        "reason": stopped,
        "exit_code": _exit_code(state, failed),
        "endpoint": run.asked.endpoint,
        "rows": {
            "total": run.asked.rows,
            "ok": statuses["ok"],
            "failed": failed,
            "pending": run.asked.rows - collected,
        },
        "shards": dict(states),
        "waiting": [
            {"reason": reason, "shards": shards, "until": None}
            for reason, shards in (waiting if waiting is not None else _reasons(records)).items()
        ],
        "jobs": _jobs(records, now),
        "cost_usd": {"spent": None, "reserved": None, "cap": None},
        "last_progress_at": max((record.at for record in records if record.at), default=run.created_at).isoformat(),
        "last_looked_at": now.isoformat(),
        "stalled": False,
        "workers": [],
        "problems": _problems(where, stopped, idle),
        "dataset": f"{where}/dataset" if finished else None,
    }


def _jobs(records: list[ShardRecord], now: datetime) -> dict[str, int | None]:
    live = [record.job for record in records if record.state is ShardState.SUBMITTED and record.job]
    ages = [round((now - job.created_at).total_seconds()) for job in live if job.created_at]
    return {"live": len(live), "oldest_age_s": max(ages, default=None)}


def _problems(where: str, stopped: str | None, idle: bool) -> list[dict[str, str]]:
    if stopped:
        return [{"what": stopped, "fix": f"mend it, then: gemini-batch-dist resume {where}"}]
    if idle:
        return [{"what": "no process works on this run", "fix": f"gemini-batch-dist resume {where}"}]
    return []


def _state(finished: bool, stopped: str | None, states: Counter[str], shards: int, driven: bool) -> str:
    if finished:
        return "finished"
    if stopped:
        return "stopped"
    if not driven and states["PLANNED"] and states["PLANNED"] + states["COLLECTED"] == sum(states.values()):
        return "waiting"
    return "merging" if states["COLLECTED"] == shards else "running"


def _exit_code(state: str, failed: int) -> int:
    if state == "finished":
        return 3 if failed else 0
    return 1 if state == "stopped" else 4


def _reasons(records: list[ShardRecord]) -> dict[str, int]:
    counted = Counter(
        record.problem for record in records if record.problem and record.state is not ShardState.COLLECTED
    )
    if running := sum(record.state is ShardState.SUBMITTED for record in records):
        counted["jobs are running"] += running
    return {str(reason): count for reason, count in counted.items()}
