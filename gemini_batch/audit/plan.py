"""The plans of all rounds become findings where they do not fit together, and so do rows that are bought again. Pure.

Rows are bought again because they failed in a way that a recorded end names, or because a person asked. Whatever else
buys a row that another shard has bought is a finding.
"""

import re
from collections.abc import Iterator
from itertools import accumulate

import orjson

from gemini_batch.audit.facts import Again, RunFacts, ShardFacts, Spot, Unreadable
from gemini_batch.records import Asked, ShardPlan

RESTORE = "restore it from a copy of the run directory; do not resume before"
LEAVE = "nothing mends it; what was bought is there, and the dataset has the latest valid answer of each row"

Words = tuple[str, str, str]
"""Kind, what, fix."""

CAUSES = ("repair", "retry")
"""Of rounds: what failed is bought again by itself, or a person asked."""


def damage_of(found: object) -> str:
    return f"damaged ({found.why})" if isinstance(found, Unreadable) else "missing"


def at(spot: Spot) -> str:
    return f" ({spot.count:,}, the first is row {spot.first})" if spot.count else ""


# --- the plans of a run -----------------------------------------------------------------------------------------------


def judge_plan(facts: RunFacts) -> Iterator[Words]:
    """What is wrong with the plans; each of their entries is judged with its shard."""
    plan = facts.plan
    if not isinstance(plan, tuple):
        yield "plan", f"the plan is {damage_of(plan)}", RESTORE
        return
    first = [shard for shard in plan if shard.round == 0]
    rows = [shard.rows for shard in first]
    starts = list(accumulate(rows, initial=0))
    numbered = [(shard.shard, shard.first_index) for shard in first] == list(enumerate(starts[:-1]))
    if not numbered or starts[-1] != facts.run.asked.rows or len(first) != facts.run.shards or 0 in rows:
        yield "plan", "the plan does not hold the rows that run.json asks for, one after the other", RESTORE
    if not facts.is_of_question:
        yield "plan", "the plan was made for another question than run.json asks", RESTORE
    yield from (("plan", what, RESTORE) for what in facts.plan_faults)
    yield from _rounds(facts, plan)


def _rounds(facts: RunFacts, plan: tuple[ShardPlan, ...]) -> Iterator[Words]:
    numbers = [number for number, of_one in enumerate(facts.rounds, 1) for _ in range(of_one.shards)]
    later = [(shard.shard, shard.round) for shard in plan[facts.run.shards :]]
    if later != list(enumerate(numbers, facts.run.shards)) or any(not shard.rows for shard in plan):
        yield "plan", "the plans of later rounds do not number their shards and rounds one after the other", RESTORE
    for number, of_one in enumerate(facts.rounds, 1):
        if of_one.cause not in CAUSES:
            yield "plan", f"the plan of round {number} says that {of_one.cause!r} made it", RESTORE


# --- one shard of a plan ----------------------------------------------------------------------------------------------


def judge_entry(run: RunFacts, facts: ShardFacts) -> Iterator[Words]:
    """What is wrong with a shard's line of the plan, and with its being bought."""
    entry = facts.plan
    if entry.round == 0:
        said = (entry.frozen, entry.sources, entry.refusals, entry.settings, entry.replaced, entry.asked_for)
        if said != (None, (), 0, None, False, False):
            yield "plan", "the plan of round 0 says of the shard what only later rounds have", RESTORE
        return
    if not entry.frozen or not re.fullmatch(rf"shards/{entry.shard:06d}-[0-9a-f]{{12}}\.parquet", entry.frozen):
        yield "plan", f"the plan names {entry.frozen}, which cannot hold the rows of the shard", RESTORE
    if not _are_settings(entry.settings):
        yield "plan", f"the plan has settings for the shard that nobody can ask for: {entry.settings}", RESTORE
    if facts.again is not None and isinstance(run.plan, tuple) and entry.round <= len(run.rounds):
        yield from _again(run, run.plan, entry, facts)


def _are_settings(said: str | None) -> bool:
    try:
        return said is None or orjson.loads(said).keys() <= Asked.model_fields.keys()
    except (orjson.JSONDecodeError, AttributeError):
        return False


def _again(run: RunFacts, plan: tuple[ShardPlan, ...], entry: ShardPlan, facts: ShardFacts) -> Iterator[Words]:
    again = facts.again or Again()
    if again.unfinished:
        first, count = again.unfinished[0], len(again.unfinished)
        what = f"buys rows of shard {first:06d} again, whose end is not recorded ({count:,} such shards)"
        yield ("bought_twice", what, LEAVE) if facts.record.job else ("plan", what, RESTORE)
    if again.unseen:
        return
    if set(again.sources) != set(entry.sources):
        yield "plan", f"the plan says that the rows are of shards {_few(entry)}, which they are not", RESTORE
    sources = [plan[source] for source in again.sources if source < len(plan)]
    expected = 1 + max((source.refusals for source in sources), default=0) if again.refused else 0
    if entry.refusals != expected:
        what = f"the plan counts {entry.refusals} refused creates on the way to the shard, not {expected}"
        yield "plan", what, RESTORE
    asked_for = run.rounds[entry.round - 1].cause == "retry"
    if entry.replaced and not asked_for:
        yield "plan", "the plan says that rows have new content, and nobody asked for that", RESTORE
    if entry.asked_for != asked_for:
        yield "plan", "the plan does not say the same everywhere of whether a person asked for the shard", RESTORE
    if again.unknown.count:
        yield "plan", f"the plan has rows that its sources do not have{at(again.unknown)}", RESTORE
    if again.unlike.count:
        what = f"rows are bought again with another request, or after other attempts, than before{at(again.unlike)}"
        yield "rows", what, RESTORE
    for spot, why in (
        (again.unasked, "though they had an answer, or could not be answered, and nobody asked"),
        (again.doubled, "for the same failure as by another shard"),
    ):
        if spot.count:
            what = f"rows are bought again {why}{at(spot)}"
            yield ("bought_twice", what, LEAVE) if facts.record.job else ("plan", what, RESTORE)


def _few(entry: ShardPlan) -> str:
    told = ", ".join(map(str, entry.sources[:5]))
    return f"{told} …" if len(entry.sources) > 5 else told
