"""What was bought and what came of it, counted: `audit.json`. Pure.

One small object per shard, then totals over them; a run of 10,000 shards makes 4 MB.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import orjson

from gemini_batch.audit.facts import Finding, Lines, Part, RunFacts, Seen, ShardFacts, Success
from gemini_batch.audit.judge import reason, rows_of, state_of
from gemini_batch.audit.replay import sends_of
from gemini_batch.records import FORMAT, ShardRecord, ShardState

Account = dict[str, Any]

RECEIVED = ("received", "missing", "duplicate", "conflicting", "foreign", "broken")


def account_of(run: RunFacts, facts: ShardFacts) -> Account:
    """One shard: its jobs, its lines, what was bought more than once and why."""
    record, files = facts.record, facts.files
    is_told = record.state is ShardState.COLLECTED and record.job is not None
    lines = files.lines if is_told and isinstance(files.lines, Lines) else None
    part = files.part if isinstance(files.part, Part) else None
    twins, again = _twins(facts, record), _again(run, facts)
    return {
        "shard": facts.plan.shard,
        "round": facts.plan.round,
        "state": record.state.value,
        "rows": facts.plan.rows,
        "by_status": part.by_status if part else {},
        "jobs": _jobs(facts, record),
        "lines": {"sent": _lines_sent(facts, record)} | {name: getattr(lines, name, 0) for name in RECEIVED},
        "bought_more_than_once": {
            "rows": sum(one["rows"] for one in (*twins, again) if one),
            "jobs": twins,
            "again": again,
        },
        "raw_sha256": lines.sha256 if lines else None,
        "part_sha256": part.sha256 if part else None,
    }


def _jobs(facts: ShardFacts, record: ShardRecord) -> dict[str, int]:
    recorded = [job.name for job in (record.job, *record.twins) if job]
    listed = {job.name for job in facts.listed or ()}
    return {
        "created": len(recorded),
        "adopted": sum(_is_adoption(facts, number) for number in range(len(facts.history))),
        "twins": len(record.twins),
        "unrecorded": len(listed - set(recorded)),
        "listed": len(listed),
        "no_longer_listed": len(set(recorded) - listed) if facts.listed is not None else 0,
    }


def _is_adoption(facts: ShardFacts, number: int) -> bool:
    """Whether the shard's job was found by its name, its create's answer having been lost."""
    after = facts.history[number].record
    before = facts.history[number - 1].record if number else None
    learned = after is not None and before is not None and before.job is None and after.job is not None
    return learned and before is not None and before.state is not ShardState.SENDING


def _lines_sent(facts: ShardFacts, record: ShardRecord) -> int:
    """Lines of every create that is known to have made a job."""
    return sum(rows_of(facts, job) for job in (record.job, *record.twins) if job)


def _again(run: RunFacts, facts: ShardFacts) -> dict[str, Any] | None:
    """Of a later round's job: how many of its rows had been bought before, and what they were then."""
    again = facts.again
    if again is None or facts.record.job is None:
        return None
    number = facts.plan.round
    by = run.rounds[number - 1].cause if 0 < number <= len(run.rounds) else None
    return {"round": number, "by": by, "rows": again.bought, "why": again.were}


def _twins(facts: ShardFacts, record: ShardRecord) -> list[dict[str, Any]]:
    """Jobs beside the shard's own that hold its rows: recorded as twins, or not at all."""
    listed = {job.name: job for job in facts.listed or ()}
    twins, ours = [listed.get(twin.name, twin) for twin in record.twins], sends_of(facts.history)
    known = {job.name for job in (record.job, *twins) if job}
    unrecorded = [job for job in listed.values() if record.job and job.name not in known and job.display_name in ours]
    return [
        {"job": job.name, "state": state_of(job), "rows": rows_of(facts, job), "why": reason(facts, job)}
        for job in (*twins, *unrecorded)
    ]


def total_of(run: RunFacts, accounts: Iterable[Account]) -> Account:
    """Sums over shards. Rows are those of the manifest, as the dataset has them; without one, as the first round left
    them."""
    shards, rows, statuses = Counter[str](), 0, Counter[str]()
    groups = {name: Counter[str]() for name in ("jobs", "lines")}
    twice, why = 0, Counter[str]()
    for account in accounts:
        shards[account["state"]] += 1
        if account["round"] == 0:
            rows += account["rows"]
            statuses.update(account["by_status"])
        twice += account["bought_more_than_once"]["rows"]
        why.update((account["bought_more_than_once"]["again"] or {}).get("why", {}))
        for name, counts in groups.items():
            counts.update(account[name])
    return {
        "shards": dict(shards),
        "rows": rows,
        "by_status": dict(_of_dataset(run) or statuses),
        **{name: dict(counts) for name, counts in groups.items()},
        "rows_bought_more_than_once": twice,
        "bought_again": dict(why),
    }


def _of_dataset(run: RunFacts) -> Counter[str]:
    """Rows of the dataset of the last round by status; none when it is not there or damaged."""
    if not run.finished or not isinstance(run.success, Success):
        return Counter()
    seen = [file.seen for file in run.success.files]
    return sum((Counter(one.by_status) for one in seen if isinstance(one, Seen)), Counter[str]())


def audit_of(
    run: RunFacts, accounts: Sequence[Account], findings: Sequence[Finding], at: datetime, unmade: int
) -> dict[str, Any]:
    """The whole of `audit.json`.

    Args:
        at: when it was made.
        unmade: shards whose request lines hold pictures and were not made again.
    """
    finished = run.finished
    return {
        "format": FORMAT,
        "run": run.where,
        "run_id": run.run.run_id,
        "made_at": at.isoformat(),
        "looked_at": run.looked_at.isoformat() if run.looked_at else None,
        "clean": not findings,
        "finished": finished,
        "notes": _notes(run, accounts, unmade, finished),
        "totals": total_of(run, accounts),
        "findings": [{"kind": one.kind, "shard": one.shard, "what": one.what, "fix": one.fix} for one in findings],
        "shards": list(accounts),
    }


def _notes(run: RunFacts, accounts: Sequence[Account], unmade: int, finished: bool) -> list[str]:
    """What bounds the verdict."""
    said = []
    if run.looked_at is None:
        said.append("the provider's jobs were not looked at")
    if not isinstance(run.plan, tuple):
        said.append("no shard was looked at, for want of the plan")
    elif not finished:
        collected = sum(account["state"] == "COLLECTED" for account in accounts)
        said.append(f"the run is not finished: {collected:,} of {len(accounts):,} shards are collected")
    if unmade:
        said.append(f"the requests of {unmade:,} shards hold pictures: their bytes were not made again from the rows")
    if gone := sum(account["jobs"]["no_longer_listed"] for account in accounts):
        said.append(f"{gone:,} recorded jobs are no longer listed by the provider")
    return said


def as_file(audit: dict[str, Any]) -> bytes:
    """The bytes of `audit.json`: one shard a line."""
    head = orjson.dumps({name: value for name, value in audit.items() if name != "shards"}, option=orjson.OPT_INDENT_2)
    shards = b",\n".join(orjson.dumps(account) for account in audit["shards"])
    return head.removesuffix(b"\n}") + b',\n  "shards": [\n' + shards + b"\n  ]\n}\n"
