"""What is bought again: the decider alone, by tables and against a provider that answers whatever it likes."""

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import make_asked, make_limits, make_run

from gemini_batch.coordinator import repair
from gemini_batch.coordinator.repair import Batch, Halt, Pick, next_round
from gemini_batch.kinds import KINDS, may_pass
from gemini_batch.records import Failed, Job, LeftOut, Limits, ShardPlan, ShardRecord, ShardState, Tally

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
RUN = make_run()
SECOND = timedelta(seconds=1)


def entry(shard: int = 0, rows: int = 4, **changes: Any) -> ShardPlan:
    made = {"shard": shard, "first_index": shard * rows, "rows": rows, "requests": rows}
    return ShardPlan(**{"request_bytes": 9, "tokens": 9, **made, **changes})


def collected(shard: int = 0, *failed: tuple[str, int, int], received: int = 4, **changes: Any) -> ShardRecord:
    """A final shard with so many rows of (kind, attempts, rows) failed."""
    of = tuple(Failed(kind=kind, attempts=times, rows=rows, requests=rows) for kind, times, rows in failed)
    tally = Tally(rows=4, by_status={}, by_kind={}, failed=of, received=received, part_sha256="")
    job = (
        None if "refused" in changes else Job(name=f"batches/{shard}", display_name="d", state="BATCH_STATE_SUCCEEDED")
    )
    made = {"shard": shard, "state": ShardState.COLLECTED, "tally": tally, "at": NOON, "job": job}
    return ShardRecord(**{**made, **changes})


def refused(shard: int = 0, rows: int = 4, why: str = "no", **changes: Any) -> ShardRecord:
    return collected(shard, ("invalid_argument", 0, rows), received=0, refused=why, **changes)


def lost(shard: int = 0, rows: int = 4, state: str = "BATCH_STATE_FAILED", attempts: int = 1) -> ShardRecord:
    job = Job(name=f"batches/{shard}", display_name="d", state=state)
    return collected(shard, ("transient", attempts, rows), received=0, job=job)


def decide(
    plan: list[ShardPlan], *records: ShardRecord, limits: Limits | None = None, at: datetime = NOON, **more: Any
) -> Any:
    return next_round(
        more.pop("run", RUN), plan, {one.shard: one for one in records}, limits or make_limits(), at, **more
    )


# --- which rows -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attempts", [1, 2, 3])
@pytest.mark.parametrize("asked_for", [{}, {"retry_truncated": True}, {"retry_invalid": True}])
def test_a_kind_is_taken_exactly_if_it_may_pass(kind: str, attempts: int, asked_for: dict[str, bool]) -> None:
    limits = make_limits(max_attempts=3, **asked_for)
    found = decide([entry()], collected(0, (kind, attempts, 1)), limits=limits)
    pick = Pick(frozenset({(kind, attempts)}))
    assert found == ((Batch(((0, pick),), 10_000),) if may_pass(kind, attempts, limits) else ())


def test_of_each_shard_only_its_own_failures_are_taken() -> None:
    """What needs a larger output limit in one shard may have had it in another."""
    limits = make_limits(retry_truncated=True, max_attempts=9)
    run = make_run(asked=make_asked(generation_config={"maxOutputTokens": 100}))
    doubled = '{"generation_config":{"maxOutputTokens":200}}'
    plan = [entry(0, sources=()), entry(1, settings=doubled, round=1, sources=(7,))]
    found = decide(
        plan, collected(0, ("truncated", 2, 1)), collected(1, ("transient", 2, 1), ("truncated", 2, 1)),
        limits=limits, run=run,
    )  # fmt: skip
    limit_of = {orjson.loads(one.settings)["generation_config"]["maxOutputTokens"]: one for one in found}
    assert limit_of[200].picks == (
        (0, Pick(frozenset({("truncated", 2)}))),
        (1, Pick(frozenset({("transient", 2)}))),
    )
    assert limit_of[400].picks == ((1, Pick(frozenset({("truncated", 2)}))),)


def test_the_samples_of_a_row_stay_together_whatever_each_failed_of() -> None:
    """Else neither shard could tell whether the row is answered now."""
    run = make_run(asked=make_asked(generation_config={"maxOutputTokens": 100}, n_samples=3))
    limits = make_limits(retry_truncated=True)
    (batch,) = decide([entry()], collected(0, ("transient", 1, 1), ("truncated", 1, 1)), limits=limits, run=run)
    assert batch.picks == ((0, Pick(frozenset({("transient", 1), ("truncated", 1)}))),)
    assert batch.settings == '{"generation_config":{"maxOutputTokens":200}}'


def test_a_shard_that_a_round_has_taken_is_not_taken_again() -> None:
    plan = [entry(0), entry(1, round=1, sources=(0,))]
    assert decide(plan, collected(0, ("transient", 1, 2)), collected(1)) == ()
    (batch,) = decide(plan, collected(0, ("transient", 1, 2)), collected(1, ("transient", 2, 1)))
    assert batch.sources == (1,)


def test_shards_are_taken_in_the_order_of_their_rows() -> None:
    plan = [entry(0), entry(1), entry(2, round=1, sources=(9,), first_index=2)]
    records = [collected(n, ("missing", 1, 1)) for n in (2, 1, 0)]
    assert decide(plan, *records)[0].sources == (0, 2, 1)


# --- when -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "patience"),
    [
        (ShardState.PLANNED, timedelta(hours=1)),
        (ShardState.READY, timedelta(hours=1)),
        (ShardState.SUBMITTED, timedelta(minutes=10)),
        (ShardState.UNKNOWN, timedelta(minutes=10)),
    ],
)
def test_a_few_rows_wait_for_more_but_not_for_ever(other: ShardState, patience: timedelta) -> None:
    plan = [entry(0), entry(1)]
    records = [collected(0, ("transient", 1, 2)), ShardRecord(shard=1, state=other)]
    assert decide(plan, *records, at=NOON + patience - SECOND) == ()
    assert decide(plan, *records, at=NOON + patience)


def test_nobody_waits_when_a_shard_is_full_or_nothing_else_is_left() -> None:
    plan, unsent = [entry(0), entry(1)], ShardRecord(shard=1)
    assert decide(plan, collected(0, ("transient", 1, 2)), unsent, limits=make_limits(max_requests_per_shard=2))
    assert decide(plan, collected(0, ("transient", 1, 2)), collected(1))


def test_rows_of_a_refused_shard_do_not_wait() -> None:
    assert decide([entry(0), entry(1)], refused(0), ShardRecord(shard=1))


# --- how --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["BATCH_STATE_FAILED", "JOB_STATE_EXPIRED", "GONE"])
@pytest.mark.parametrize(("rows", "samples", "half"), [(4, 1, 2), (5, 1, 3), (1, 1, 1), (3, 3, 6)])
def test_a_lost_job_comes_back_in_halves_by_itself(state: str, rows: int, samples: int, half: int) -> None:
    run = make_run(asked=make_asked(n_samples=samples))
    plan = [entry(0), entry(1), entry(2)]
    found = decide(plan, lost(0, rows, state), collected(1, ("missing", 1, 1)), collected(2), run=run)
    assert [(batch.sources, batch.max_requests) for batch in found] == [((0,), half), ((1,), 10_000)]


@pytest.mark.parametrize(
    ("limit", "then"), [(100, 200), (40_000, 65_536), (65_536, None), (70_000, None), (None, None)]
)
def test_a_cut_answer_gets_twice_the_room_up_to_what_models_have(limit: int | None, then: int | None) -> None:
    config = {"temperature": 0.5, "maxOutputTokens": limit} if limit else {"temperature": 0.5}
    run = make_run(asked=make_asked(generation_config=config))
    found = decide([entry()], collected(0, ("truncated", 1, 1)), limits=make_limits(retry_truncated=True), run=run)
    settings = found[0].settings and orjson.loads(found[0].settings)
    assert settings == (then and {"generation_config": {"temperature": 0.5, "maxOutputTokens": then}})


def test_settings_of_a_shard_survive() -> None:
    said = '{"generation_config":{"topK":3},"system_instruction":"Be brief."}'
    limits = make_limits(retry_truncated=True)
    for record in (collected(0, ("truncated", 1, 1), ("missing", 1, 1)), lost(0), refused(0)):
        assert {batch.settings for batch in decide([entry(settings=said)], record, limits=limits)} == {said}


# --- refused creates --------------------------------------------------------------------------------------------------


def test_a_refused_shard_is_halved_without_the_rows_that_were_left_out() -> None:
    out = (LeftOut(index=1, line=2, why="no"),)
    (batch,) = decide([entry(refusals=3)], refused(0, rows=4, left_out=out))
    assert batch == Batch(((0, Pick(refused=True)),), 2, refusals=4)


def test_a_row_that_is_refused_by_itself_is_given_up() -> None:
    assert decide([entry()], refused(0, rows=1)) == ()
    assert decide([entry()], refused(0, rows=2, left_out=(LeftOut(index=1, line=2, why="no"),))) == ()


def test_halving_ends_after_twenty_refusals() -> None:
    assert decide([entry(refusals=repair.MAX_REFUSALS - 2)], refused(0))
    assert decide([entry(refusals=repair.MAX_REFUSALS - 1)], refused(0)) == ()


def halves(first: str, second: str | None) -> tuple[list[ShardPlan], list[ShardRecord]]:
    """A refused shard and its halves, and what was said of each: of the second perhaps nothing yet."""
    plan = [entry(0), *(entry(n, rows=2, round=1, sources=(0,), refusals=1) for n in (1, 2))]
    last = ShardRecord(shard=2) if second is None else refused(2, rows=2, why=second)
    return plan, [refused(0), refused(1, rows=2, why=first), last]


def test_halves_refused_alike_halt_the_run_whichever_line_they_name() -> None:
    plan, records = halves("line 3 is bad", "line 7 is bad")
    found = decide(plan, *records)
    assert isinstance(found, Halt)
    assert "shard 0" in found.reason and "line 3 is bad" in found.reason and "resume" in found.reason


@pytest.mark.parametrize("second", ["something else", None])
def test_halves_refused_for_different_reasons_are_halved(second: str | None) -> None:
    plan, records = halves("line 3 is bad", second)
    found = decide(plan, *records)
    assert {batch.sources for batch in found} == ({(1,), (2,)} if second else {(1,)})


def test_who_resumes_has_them_halved_and_is_asked_again_only_about_what_is_refused_later() -> None:
    plan, records = halves("no", "no")
    assert decide(plan, *records, resumed_at=NOON - SECOND) == decide(plan, *records)
    found = decide(plan, *records, resumed_at=NOON)
    assert [batch.sources for batch in found] == [(1,), (2,)]


# --- whatever the provider says ---------------------------------------------------------------------------------------


@dataclass
class Simulated:
    """A run whose every job ends as dice say. Rows are packed as rounds pack them, one sample each."""

    dice: random.Random
    limits: Limits
    refuses: frozenset[int]
    """Rows with which no create is taken."""
    plan: list[ShardPlan] = field(default_factory=list)
    records: dict[int, ShardRecord] = field(default_factory=dict)
    rows: dict[int, dict[int, int]] = field(default_factory=dict)
    """Shard -> row -> times bought before."""
    became: dict[int, dict[int, tuple[str | None, int]]] = field(default_factory=dict)
    """Shard -> row -> why it failed, and times bought."""
    bought: Counter[int] = field(default_factory=Counter)
    ok: set[int] = field(default_factory=set)
    now: datetime = NOON
    resumed_at: datetime | None = None

    def pack(self, rows: list[tuple[int, int]], size: int, **more: Any) -> None:
        for start in range(0, len(rows), size):
            shard, part = len(self.plan), rows[start : start + size]
            self.plan.append(entry(shard, len(part), first_index=part[0][0], **more))
            self.records[shard] = ShardRecord(shard=shard)
            self.rows[shard] = dict(part)

    def collect(self, shard: int) -> None:
        rows = self.rows[shard]
        if self.refuses & rows.keys():
            kinds = {row: ("invalid_argument", times) for row, times in rows.items()}
            self._record(shard, kinds, refused=f"no, line {self.dice.randrange(9)}")
            return
        self.bought.update(rows.keys())
        if self.dice.random() < 0.2:
            kinds = {row: ("transient", times + 1) for row, times in rows.items()}
            self._record(shard, kinds, job=Job(name="j", display_name="d", state="BATCH_STATE_FAILED"))
            return
        said = {row: self.dice.choice([None, *KINDS]) for row in rows}
        self.ok |= {row for row, kind in said.items() if kind is None}
        self._record(shard, {row: (kind, rows[row] + 1) for row, kind in said.items()}, received=len(rows))

    def _record(self, shard: int, kinds: dict[int, tuple[str | None, int]], received: int = 0, **more: Any) -> None:
        self.became[shard] = kinds
        counted = Counter(kinds.values())
        failed = [(kind, times, rows) for (kind, times), rows in counted.items() if kind]
        self.records[shard] = collected(shard, *sorted(failed), received=received, at=self.now, **more)

    def step(self) -> bool:
        """Let some jobs end, then plan what is due. False when the run has ended."""
        open_shards = [shard for shard, one in self.records.items() if one.state is not ShardState.COLLECTED]
        for shard in self.dice.sample(open_shards, self.dice.randint(min(1, len(open_shards)), len(open_shards))):
            self.collect(shard)
        self.now += timedelta(minutes=self.dice.choice([1, 20, 90]))
        found = next_round(RUN, self.plan, self.records, self.limits, self.now, self.resumed_at)
        shuffled = dict(self.dice.sample(list(self.records.items()), len(self.records)))
        assert found == next_round(RUN, self.plan, shuffled, self.limits, self.now, self.resumed_at)
        if isinstance(found, Halt):
            self.resumed_at = self.now
            return True
        self._plan(found)
        return bool(found) or any(one.state is not ShardState.COLLECTED for one in self.records.values())

    def _plan(self, batches: tuple[Batch, ...]) -> None:
        taken_before = {source for one in self.plan for source in one.sources}
        number, taken = self.plan[-1].round + 1, Counter[int]()
        for batch in batches:
            assert not taken_before & set(batch.sources), "a shard is taken up by one round"
            rows = [
                (row, self.became[shard][row][1]) for shard, pick in batch.picks for row in self._picked(shard, pick)
            ]
            assert rows, "a batch holds something"
            taken.update(row for row, _ in rows)
            more = {"settings": batch.settings, "refusals": batch.refusals, "sources": batch.sources, "round": number}
            self.pack(sorted(rows), batch.max_requests, **more)
        assert not taken or max(taken.values()) == 1, "a row is planned once a round"

    def _picked(self, shard: int, pick: Pick) -> list[int]:
        if pick.refused:
            return [row for row, (kind, _) in self.became[shard].items() if kind == "invalid_argument"]
        for kind, attempts in pick.kinds:
            assert may_pass(kind, attempts, self.limits)
        return [row for row, became in self.became[shard].items() if became in pick.kinds]


@given(
    dice=st.randoms(use_true_random=False),
    rows=st.integers(1, 60),
    size=st.integers(1, 20),
    refuses=st.frozensets(st.integers(0, 59), max_size=4),
    max_attempts=st.integers(1, 4),
    retries=st.tuples(st.booleans(), st.booleans()),
)
def test_every_run_ends_and_buys_no_row_more_often_than_allowed(
    dice: random.Random, rows: int, size: int, refuses: frozenset[int], max_attempts: int, retries: tuple[bool, bool]
) -> None:
    limits = make_limits(
        max_requests_per_shard=size, max_attempts=max_attempts, retry_truncated=retries[0], retry_invalid=retries[1]
    )
    run = Simulated(dice, limits, refuses)
    run.pack([(row, 0) for row in range(rows)], size)
    for _ in range(5_000):
        if not run.step():
            break
    else:
        pytest.fail("the run goes on and on")
    assert max(run.bought.values(), default=0) <= max_attempts
    assert not refuses & run.bought.keys()
    depth = Counter[int]()
    for one in run.plan:
        depth[one.shard] = 1 + max((depth[source] for source in one.sources), default=0)
    assert max(depth.values()) <= max_attempts + 20
    _nothing_is_left(run, limits)


def _nothing_is_left(run: Simulated, limits: Limits) -> None:
    """Of every row the last word is an answer, or a failure that buying again cannot help."""
    last = {row: shard for shard in sorted(run.rows) for row in run.rows[shard]}
    for row, shard in last.items():
        kind, attempts = run.became[shard][row]
        assert kind is None or not may_pass(kind, attempts, limits)
        if row not in run.refuses and run.records[shard].refused:
            pytest.fail(f"row {row} was never bought, though the service takes it")
