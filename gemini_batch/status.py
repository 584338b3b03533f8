"""How a run stands, from its records alone. Pure.

Out: the object that `status --json` prints; names and meaning are the contract's.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from gemini_batch.budget import lines_of_twins, unsettled_usd
from gemini_batch.coordinator.repair import rows_wanted, wanting
from gemini_batch.jobs.stored import miscounts
from gemini_batch.outlook import Books, failed_by_kind, pace_of
from gemini_batch.records import FORMAT, Limits, Order, RunRecord, ShardPlan, ShardRecord, ShardState

Status = dict[str, Any]

UNDER_WAY = ("SENDING", "UNKNOWN", "SUBMITTED", "ENDED")
"""States of shards that have cost something, or may have, and are not collected."""

NEXT_ROUND = "rows that failed are bought again in a later round, together"
"""Why collected shards wait: their failed rows are packed with others'."""


EXIT_SOME_FAILED = 3
"""The run has finished, and rows of it are not ok."""

PAUSED = "the run is paused: no new job is created until somebody resumes it"
UNSEEN = "a fleet has the run, and without its broker no worker can be seen"
CANCELLING = "the run is being cancelled: what its jobs hold is collected, nothing more is sent"


def is_over(status: Status) -> bool:
    """Whether nothing is left to do."""
    return status["state"] in ("finished", "cancelled")


def is_held_back(status: Status) -> bool:
    """Whether the run is paused, and nothing of it is in flight."""
    return status["state"] == "paused" and not any(status["shards"].get(state) for state in UNDER_WAY)


def forgiven(status: Status, allowed: float) -> Status:
    """The status with exit code 0 if no more than so many rows failed."""
    some_failed = status["exit_code"] == EXIT_SOME_FAILED
    return {**status, "exit_code": 0} if some_failed and status["rows"]["failed"] <= allowed else status


def summarise(
    where: str,
    run: RunRecord,
    plan: list[ShardPlan],
    records: list[ShardRecord],
    finished: bool,
    now: datetime,
    *,
    limits: Limits | None = None,
    waiting: Mapping[int, str] | None = None,
    desk_says: str | None = None,
    until: Mapping[str, datetime] | None = None,
    stopped: str | None = None,
    resume_with: str | None = None,
    working: bool = True,
    handed_over: bool = False,
    unseen: bool = False,
    workers: Sequence[dict[str, Any]] = (),
    looked_at: datetime | None = None,
    order: Order = "run",
    trouble: str | None = None,
) -> Status:
    """The status of a run.

    Args:
        finished: `_SUCCESS` is there.
        limits: in force now; by default those that the run began with.
        waiting: shard -> why it rests, from whoever drives the run; of other shards it is read off the record.
        desk_says: why other shards that have not begun do not.
        until: of reasons to wait, when it is worth asking again, where that is known.
        stopped: why the run cannot go on, if it cannot.
        resume_with: options with which a `resume` goes on, where that is all it takes.
        working: some process drives it, as far as can be seen.
        handed_over: it is for a fleet to drive.
        unseen: its workers cannot be seen: then nobody says that there are none.
        workers: those of the fleet that live.
        order: what was said last: go on, pause or cancel.
        looked_at: when the fleet last looked at the run; now, for a process that drives it itself.
        trouble: why the fleet cannot see how the jobs stand, if it cannot.
    """
    states = Counter(record.state.value for record in records)
    by_shard = {record.shard: record for record in records}
    limits = limits or run.limits
    unplanned = [] if finished or order == "cancel" else wanting(plan, by_shard, limits)
    rows = _rows(run.asked.rows, plan, by_shard, sum(rows_wanted(record, limits) for record in unplanned))
    state = _state(finished, stopped, states, len(plan), waiting is not None, order)
    held_back = is_held_back({"state": state, "shards": states})
    at_rest = finished or bool(stopped) or held_back
    idle = not (at_rest or working or unseen)
    moves = not (finished or stopped or idle or order == "pause")
    if order == "pause":
        desk_says = PAUSED
    books = Books(run, plan, by_shard, limits, unplanned, now)
    pace = pace_of(books, states, moves=moves, is_full=bool(desk_says), finished=finished)
    cost = _cost(records, limits.max_cost)
    return {
        "format": FORMAT,
        "run": where,
        "run_id": run.run_id,
        "state": state,
        "reason": stopped or (None if finished else {"pause": PAUSED, "cancel": CANCELLING}.get(order)),
        "exit_code": _exit_code(state, rows["failed"]),
        "endpoint": run.asked.endpoint,
        "owner": limits.owner,
        "rows": rows,
        "rows_per_s": pace.rows_per_s,
        "failed_by_kind": failed_by_kind(books),
        "eta": pace.eta,
        "shards": dict(states),
        "waiting": [
            {"reason": reason, "shards": shards, "until": _text(_ahead((until or {}).get(reason), now))}
            for reason, shards in _reasons(records, waiting or {}, desk_says, len(unplanned)).items()
        ],
        "jobs": _jobs(records, now),
        "cost_usd": {**cost, "expected": cost["spent"] if finished else pace.expected_usd},
        "last_progress_at": max((record.at for record in records if record.at), default=run.created_at).isoformat(),
        "last_looked_at": _text(looked_at or (None if handed_over else now)),
        "stalled": idle,
        "workers": list(workers),
        "problems": [
            *_problems(where, stopped, resume_with, idle, handed_over),
            *(_unseen(where) if unseen and not at_rest else ()),
            *_complaints(workers),
            *_blind(trouble),
            *_twins(where, records),
            *_miscounted(where, records),
        ],
        "dataset": f"{where}/dataset" if finished else None,
    }


def _text(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _ahead(at: datetime | None, now: datetime) -> datetime | None:
    """An instant that is not over."""
    return at if at and at > now else None


def _rows(total: int, plan: list[ShardPlan], by_shard: Mapping[int, ShardRecord], unplanned: int) -> dict[str, int]:
    """Rows of the manifest: one that failed and is bought again is pending until that has ended.

    Args:
        unplanned: rows that are to be bought again and are in no round yet.
    """
    ok, pending = 0, unplanned
    for entry in plan:
        record = by_shard.get(entry.shard)
        tally = record.tally if record else None
        if tally is None:
            pending += entry.rows if entry.unanswered is None else entry.unanswered
        else:
            ok += tally.mended if entry.round else tally.by_status.get("ok", 0)
    pending = min(pending, total - ok)
    return {"total": total, "ok": ok, "failed": total - ok - pending, "pending": pending}


def _cost(records: list[ShardRecord], cap: float | None) -> dict[str, float | int | None]:
    """What collected lines are known to have cost; null, not 0, where none of them has a known cost. Under a cap, what
    may come on top: of what is in flight, of lines without a known cost, of twins."""
    tallies = [record.tally for record in records if record.tally]
    spent = sum(tally.cost_usd for tally in tallies)
    unknown = sum(tally.unpriced for tally in tallies) + sum(map(lines_of_twins, records))
    known = None if unknown and not spent else round(float(spent), 6)
    reserved = None if cap is None else round(sum(map(unsettled_usd, records)), 6)
    return {"spent": known, "reserved": reserved, "cap": cap, "unknown_lines": unknown}


def _jobs(records: list[ShardRecord], now: datetime) -> dict[str, int | None]:
    live = [record.job for record in records if record.state is ShardState.SUBMITTED and record.job]
    ages = [round((now - job.created_at).total_seconds()) for job in live if job.created_at]
    return {"live": len(live), "oldest_age_s": max(ages, default=None)}


def _problems(
    where: str, stopped: str | None, resume_with: str | None, idle: bool, handed_over: bool
) -> list[dict[str, str]]:
    if stopped:
        resume = f"gemini-batch-dist resume {where}"
        return [{"what": stopped, "fix": f"{resume} {resume_with}" if resume_with else f"mend it, then: {resume}"}]
    if idle and handed_over:
        fix = "start one: gemini-batch-dist worker"
        return [{"what": "no worker that may serve the run is seen", "fix": fix}]
    if idle:
        return [{"what": "no process works on this run", "fix": f"gemini-batch-dist resume {where}"}]
    return []


def _unseen(where: str) -> list[dict[str, str]]:
    fix = f"gemini-batch-dist status {where} --broker URL (or GEMINI_BATCH_BROKER_URL)"
    return [{"what": UNSEEN, "fix": fix}]


def _blind(trouble: str | None) -> list[dict[str, str]]:
    if trouble is None:
        return []
    fix = "it is tried again all the time, and nothing is lost; if it stays, look at the key, the network, the service"
    return [{"what": f"how the jobs stand cannot be seen: {trouble}", "fix": fix}]


def _twins(where: str, records: list[ShardRecord]) -> list[dict[str, str]]:
    twins = [twin.name for record in records for twin in record.twins]
    if not twins:
        return []
    what = f"{len(twins)} jobs were created beside the one of their shard, {twins[0]} among them"
    return [{"what": what, "fix": f"see what was bought twice, and why: gemini-batch-dist audit {where}"}]


def _miscounted(where: str, records: list[ShardRecord]) -> list[dict[str, str]]:
    """Jobs that hold another number of requests than was sent."""
    found = [record.job for record in records if record.sent_lines is not None and miscounts(record, record.job)]
    if not found or found[0] is None:
        return []
    what = f"{len(found)} jobs have another number of requests than were sent, {found[0].name} among them"
    fix = f"what is missing is bought again; see what came back: gemini-batch-dist audit {where}"
    return [{"what": what, "fix": fix}]


def _complaints(workers: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "what": f"worker {worker['host']} leaves the run alone: {worker['problem'].rstrip('.')}",
            "fix": "mend it and restart the worker",
        }
        for worker in workers
        if worker["problem"]
    ]


def _state(finished: bool, stopped: str | None, states: Counter[str], shards: int, driven: bool, order: Order) -> str:
    if finished:
        return "cancelled" if order == "cancel" else "finished"
    if stopped:
        return "stopped"
    if order == "pause":
        return "paused"
    if not driven and states["PLANNED"] and states["PLANNED"] + states["COLLECTED"] == sum(states.values()):
        return "waiting"
    return "merging" if states["COLLECTED"] == shards else "running"


def _exit_code(state: str, failed: int) -> int:
    if state in ("finished", "cancelled"):
        return EXIT_SOME_FAILED if failed else 0
    return 1 if state == "stopped" else 4


def _reasons(
    records: list[ShardRecord], waiting: Mapping[int, str], desk_says: str | None, unplanned: int
) -> dict[str, int]:
    reasons = (
        waiting.get(record.shard) or (desk_says if record.state is ShardState.PLANNED else None) or _reason(record)
        for record in records
        if record.state is not ShardState.COLLECTED
    )
    return dict(Counter(reason for reason in reasons if reason)) | ({NEXT_ROUND: unplanned} if unplanned else {})


def _reason(record: ShardRecord) -> str | None:
    return "jobs are running" if record.state is ShardState.SUBMITTED else record.problem
