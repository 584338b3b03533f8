"""What to buy again, decided purely: which rows of which shards make the next round.

In: the plan of all rounds, the last record of every shard, the limits in force. Out: batches of rows that are packed
together. A shard's failed rows are taken up at most once, all of them; what fails again is a failed row of the later
shard. A few failed rows in each of 10,000 shards must not become 10,000 creates (some 700 a day are possible), so they
wait until a shard is full, or nothing else is left to do, or for a while.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from gemini_batch.gemini.estimate import OUTPUT_LIMIT
from gemini_batch.kinds import may_pass
from gemini_batch.records import Failed, Limits, RunRecord, ShardPlan, ShardRecord, ShardState

S = ShardState

LONGEST_WAIT = timedelta(hours=1)
"""For failed rows while other shards have yet to be sent: 24 rounds a day at most."""

LAST_WAIT = timedelta(minutes=10)
"""The same when everything is sent and the last jobs run."""

MAX_REFUSALS = 20
"""Creates that may be refused on the way to the lines at fault: 14 halvings find one among 10,000."""

UNSENT = frozenset({S.PLANNED, S.CLAIMED, S.READY})
LOST_JOBS = ("FAILED", "EXPIRED", "GONE")
"""Ends of a job without results; "resubmit in smaller jobs" (Batch API guide)."""


@dataclass(frozen=True)
class Pick:
    """Failed samples to take from shards: these kinds after so many attempts."""

    kinds: frozenset[tuple[str, int]] = frozenset()
    refused: bool = False
    """Rows whose create was refused; nothing was bought."""


@dataclass(frozen=True)
class Batch:
    """Rows that are packed into shards together."""

    picks: tuple[tuple[int, Pick], ...]
    """Shards, and what is taken of each."""
    max_requests: int
    refusals: int = 0
    settings: str | None = None

    @property
    def sources(self) -> tuple[int, ...]:
        return tuple(shard for shard, _ in self.picks)


@dataclass(frozen=True)
class Halt:
    """Buying again cannot help: a person is needed."""

    reason: str


def next_round(
    run: RunRecord,
    plan: Sequence[ShardPlan],
    records: Mapping[int, ShardRecord],
    limits: Limits,
    now: datetime,
    resumed_at: datetime | None = None,
) -> tuple[Batch, ...] | Halt:
    """The batches of the next round; empty when none is due.

    Args:
        now: the asking worker's clock; decides how long rows wait to be packed, and nothing else.
        resumed_at: when a person last said to go on; what was refused before does not halt the run again.
    """
    waiting = wanting(plan, records, limits)
    if not waiting:
        return ()
    refused = [record for record in waiting if record.refused]
    if halt := _alike(refused, plan, records, resumed_at):
        return halt
    halves = tuple(_halves(run, record, plan[record.shard]) for record in refused)
    others = [record for record in waiting if not record.refused]
    if not _due(others, records, limits, now):
        return halves
    return halves + tuple(_batches(run, others, plan, limits))


def wanting(plan: Sequence[ShardPlan], records: Mapping[int, ShardRecord], limits: Limits) -> list[ShardRecord]:
    """Final shards with rows that can be bought again and that no round has taken up, in the order of their rows.

    What failed before a person asked for a round was given up by then, and some of it is in that round, perhaps with
    other content: limits that allow more attempts now do not bring it back.
    """
    taken = {source for entry in plan for source in entry.sources}
    since = max((entry.round for entry in plan if entry.asked_for), default=0)
    found = [
        record
        for entry in plan
        if entry.round >= since
        and (record := records.get(entry.shard))
        and record.state is S.COLLECTED
        and record.shard not in taken
        if _splittable(record, entry) or any(passing(record, limits))
    ]
    return sorted(found, key=lambda record: plan[record.shard].first_index)


def passing(record: ShardRecord, limits: Limits) -> Iterator[Failed]:
    """What of a shard's failures may pass when it is bought again."""
    if record.tally and not record.refused:
        yield from (failed for failed in record.tally.failed if may_pass(failed.kind, failed.attempts, limits))


def rows_wanted(record: ShardRecord, limits: Limits) -> int:
    """How many rows of a shard among `wanting` are bought again; one that failed for two reasons counts twice."""
    return _refused_rows(record) if record.refused else sum(failed.rows for failed in passing(record, limits))


def _splittable(record: ShardRecord, entry: ShardPlan) -> bool:
    return bool(record.refused) and entry.refusals + 1 < MAX_REFUSALS and _refused_rows(record) > 1


def _refused_rows(record: ShardRecord) -> int:
    """Rows that were sent when the create of their shard was refused for good."""
    failed = record.tally.failed if record.tally else ()
    return sum(one.rows for one in failed if one.kind == "invalid_argument") - len(record.left_out)


def _due(waiting: list[ShardRecord], records: Mapping[int, ShardRecord], limits: Limits, now: datetime) -> bool:
    if not waiting:
        return False
    requests = sum(failed.requests for record in waiting for failed in passing(record, limits))
    if requests >= limits.max_requests_per_shard:
        return True
    open_states = {record.state for record in records.values()} - {S.COLLECTED}
    if not open_states:
        return True
    patience = LONGEST_WAIT if open_states & UNSENT else LAST_WAIT
    return now - min(record.at or now for record in waiting) >= patience


# --- how ------------------------------------------------------------------------------------------------------------


def _batches(run: RunRecord, waiting: list[ShardRecord], plan: Sequence[ShardPlan], limits: Limits) -> Iterator[Batch]:
    """Those of lost jobs by themselves, in halves; those that need other settings by settings; the rest together."""
    together: dict[str | None, dict[int, set[tuple[str, int]]]] = {}
    for record in waiting:
        before = plan[record.shard].settings
        picked = [(failed.kind, failed.attempts) for failed in passing(record, limits)]
        if _lost(record):
            half = min(limits.max_requests_per_shard, _half(run, rows_wanted(record, limits)))
            yield Batch(((record.shard, Pick(frozenset(picked))),), half, settings=before)
            continue
        for kind in picked:
            # The samples of a row share a shard, so one that was cut takes those that failed otherwise with it.
            cut = run.asked.n_samples > 1 and any(name == "truncated" for name, _ in picked)
            members = together.setdefault(_settings(run, before, "truncated" if cut else kind[0]), {})
            members.setdefault(record.shard, set()).add(kind)
    for settings, members in together.items():
        picks = tuple((shard, Pick(frozenset(kinds))) for shard, kinds in members.items())
        yield Batch(picks, limits.max_requests_per_shard, settings=settings)


def _lost(record: ShardRecord) -> bool:
    if record.job is None or record.tally is None or record.tally.received:
        return False
    return record.stuck_since is not None or record.job.state.endswith(LOST_JOBS)


def _halves(run: RunRecord, record: ShardRecord, entry: ShardPlan) -> Batch:
    pick = ((record.shard, Pick(refused=True)),)
    return Batch(pick, _half(run, _refused_rows(record)), entry.refusals + 1, entry.settings)


def _half(run: RunRecord, rows: int) -> int:
    """Requests of half the rows. The packing keeps room for every sample of a row, asked for or not."""
    return (rows + 1) // 2 * run.asked.n_samples


def _settings(run: RunRecord, before: str | None, kind: str) -> str | None:
    """Settings of rows that are bought again: an answer that met the output limit needs a larger one."""
    if kind != "truncated":
        return before
    changed: dict[str, Any] = orjson.loads(before) if before else {}
    config = {**run.asked.generation_config, **changed.get("generation_config", {})}
    limit = config.get("maxOutputTokens")
    if not limit or limit >= OUTPUT_LIMIT:
        return before
    config["maxOutputTokens"] = min(2 * limit, OUTPUT_LIMIT)
    return orjson.dumps({**changed, "generation_config": config}, option=orjson.OPT_SORT_KEYS).decode()


def _alike(
    refused: list[ShardRecord],
    plan: Sequence[ShardPlan],
    records: Mapping[int, ShardRecord],
    resumed_at: datetime | None,
) -> Halt | None:
    """Both halves of a refused shard refused for the same reason: it is not a row that is at fault."""
    for record in refused:
        entry = plan[record.shard]
        if not entry.refusals or record.too_large or not _is_late(record, resumed_at):
            continue
        halves = [other.shard for other in plan if other.sources == entry.sources and other.refusals]
        said = {_words(records[half].refused) if half in records else None for half in halves}
        if len(halves) > 1 and said == {_words(record.refused)}:
            return Halt(
                f"the service refuses both halves of shard {entry.sources[0]} for the same reason: {record.refused}. "
                "If rows are at fault, and not the settings, resume: the halves are halved again"
            )
    return None


def _is_late(record: ShardRecord, resumed_at: datetime | None) -> bool:
    return resumed_at is None or record.at is None or record.at > resumed_at


def _words(text: str | None) -> str | None:
    return text and re.sub(r"\d+", "#", text)
