"""A cap holds whoever asks, however far behind the ledger, and whoever dies; and no money is counted twice or lost."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gemini_batch import budget
from gemini_batch.errors import BadInput
from gemini_batch.jobs import events, lifecycle
from gemini_batch.records import Job, Reservation, Send, ShardPlan, ShardRecord, ShardState, SpendRecord, Tally, Upload

S = ShardState
AT = datetime(2026, 11, 1, tzinfo=UTC)
CAP, SHARDS, LINES = 10.0, 5, 4
HIGHEST = 3.0
PLAN = [
    ShardPlan(shard=n, first_index=n, rows=LINES, requests=LINES, request_bytes=9, tokens=100) for n in range(SHARDS)
]
UPLOAD = Upload(name="files/a", size_bytes=1, sha256="0", lines=LINES, uploaded_at=AT)
SHARD, ACTOR = st.integers(0, SHARDS - 1), st.integers(0, 2)


def of_shard(shard):
    return HIGHEST


class AnyOrder(RuleBasedStateMachine):
    """Workers that know the ledger as of some time, one chain that has one writer per version."""

    def __init__(self):
        super().__init__()
        self.ledger = {
            shard: ShardRecord(shard=shard, version=1, state=S.READY, upload=UPLOAD) for shard in range(SHARDS)
        }
        self.chain = [budget.settle(SpendRecord(), self.ledger, PLAN, of_shard)]
        self.known = [dict(self.ledger) for _ in range(3)]
        self.twins = 0
        self.sent = {}  # display name -> USD, of every send that was ever made

    def _write(self, shard, event):
        record = lifecycle.apply(self.ledger[shard], event)
        self.ledger[shard] = record.model_copy(update={"version": record.version + 1})

    @rule(actor=ACTOR)
    def reads_the_ledger(self, actor):
        self.known[actor] = dict(self.ledger)

    @rule(actor=ACTOR, shard=SHARD, usd=st.floats(0.5, HIGHEST), dies=st.booleans())
    def sends(self, actor, shard, usd, dies):
        """By a record that may be old, as a worker does that was frozen after it had read it."""
        mine = self.known[actor][shard]
        if mine.state is not S.READY:
            return
        book, want = self.chain[-1], Reservation(shard=shard, version=mine.version, usd=usd)
        known = {held.shard: self.known[actor][held.shard] for held in book.held}
        wanted = budget.reserve(budget.settle(book, known, PLAN, of_shard), want, CAP)
        if wanted is None:
            fresh = {held.shard: self.ledger[held.shard] for held in book.held}
            wanted = budget.reserve(budget.settle(book, fresh, PLAN, of_shard), want, CAP)
        if wanted is None:
            return
        if not self.twins:
            assert budget.committed(wanted) <= CAP + 1e-9
        self.chain.append(wanted)
        if dies or self.ledger[shard].version != mine.version:
            return
        usd, number = budget.held_for(wanted, shard).usd, mine.version + 1
        send = Send(
            number=number, display_name=f"{shard}-{number}", sha256="0", lines=LINES, requests="r", owner="o",
            began_at=AT, reserved_usd=usd,
        )  # fmt: skip
        self._write(shard, events.SendBegan(send))
        self.sent[send.display_name] = (shard, usd)

    @rule(shard=SHARD)
    def a_create_is_throttled(self, shard):
        if self.ledger[shard].state in {S.SENDING, S.UNKNOWN}:
            self._write(shard, events.SendFailed(self.ledger[shard].sends[-1].number, "429"))

    @rule(shard=SHARD)
    def an_answer_is_lost(self, shard):
        if self.ledger[shard].state is S.SENDING:
            self._write(shard, events.OutcomeUnknown("cut"))

    @rule(shard=SHARD)
    def a_lost_send_is_given_up(self, shard):
        if self.ledger[shard].state is S.UNKNOWN:
            self._write(shard, events.Settled())

    @rule(shard=SHARD)
    def a_job_is_learned(self, shard):
        if self.ledger[shard].state in {S.SENDING, S.UNKNOWN}:
            name = self.ledger[shard].sends[-1].display_name
            self._write(shard, events.JobLearned(Job(name=f"batches/{name}", display_name=name)))

    @rule(shard=SHARD)
    def a_second_job_turns_up(self, shard):
        record = self.ledger[shard]
        if record.job and self.twins < 2:
            self.twins += 1
            twin = Job(name=f"batches/twin-{self.twins}", display_name=record.job.display_name)
            self._write(shard, events.JobLearned(twin))

    @rule(data=st.data())
    def a_send_that_was_given_up_turns_up(self, data):
        """One that was answered with a 429, or stayed absent for so long that the shard may be sent again."""
        recorded = {job.display_name for record in self.ledger.values() for job in (record.job, *record.twins) if job}
        if self.twins < 2 and (lost := sorted(self.sent.keys() - recorded)):
            name = data.draw(st.sampled_from(lost))
            self.twins += 1
            self._write(self.sent[name][0], events.JobLearned(Job(name=f"batches/{name}", display_name=name)))

    @rule(shard=SHARD, share=st.floats(0, 1), unpriced=st.integers(0, LINES))
    def a_shard_is_collected(self, shard, share, unpriced):
        record = self.ledger[shard]
        if record.state is not S.SUBMITTED:
            return
        self._write(shard, events.JobEnded(record.job))
        known = self.sent[record.job.display_name][1] * share * (LINES - unpriced) / LINES
        tally = Tally(rows=LINES, by_status={}, by_kind={}, cost_usd=known, unpriced=unpriced, part_sha256="")
        self._write(shard, events.Collected(tally))

    @precondition(lambda self: len(self.chain) > 1)
    @rule()
    def all_is_settled(self):
        self.chain.append(budget.settle(self.chain[-1], self.ledger, PLAN, of_shard))

    @invariant()
    def no_more_is_committed_than_the_book_says(self):
        """What is paid, and what may be: at any moment, whatever a worker has yet to take into the chain."""
        settled = budget.settle(self.chain[-1], self.ledger, PLAN, of_shard)
        worst = sum(map(self._worst, self.ledger.values()))
        assert worst <= budget.committed(settled) + 1e-9
        assert budget.settle(settled, self.ledger, PLAN, of_shard) == settled, "settling twice changes nothing"

    @invariant()
    def what_a_person_is_told_is_what_is_held(self):
        settled = budget.settle(self.chain[-1], self.ledger, PLAN, of_shard)
        known = sum(record.tally.cost_usd for record in self.ledger.values() if record.tally)
        assert settled.settled_usd == pytest.approx(known)
        if not self.twins:  # what a send that left the ledger may cost is not in the ledger
            told = sum(map(budget.unsettled_usd, self.ledger.values()))
            waiting = sum(held.usd - self._reserved(self.ledger[held.shard]) for held in settled.held)
            assert budget.committed(settled) == pytest.approx(known + told + waiting)

    @staticmethod
    def _reserved(record):
        return record.sends[-1].reserved_usd if record.state in budget.PAYING else 0.0

    def _worst(self, record):
        own = record.sends[-1].reserved_usd if record.state in budget.PAYING and record.sends else 0.0
        if record.job:
            own = self.sent[record.job.display_name][1]
        if record.tally:
            own = record.tally.cost_usd + own * record.tally.unpriced / LINES
        return own + sum(self.sent[twin.display_name][1] for twin in record.twins)


TestAnyOrder = AnyOrder.TestCase


def test_a_reservation_whose_maker_died_does_not_pass_a_cap_that_is_lower_now():
    book = SpendRecord(held=(Reservation(shard=0, version=1, usd=8.0),))
    want = Reservation(shard=0, version=1, usd=8.0)
    assert budget.reserve(book, want, 10.0) == book
    assert budget.reserve(book, want, 1.0) is None


# --- a run that had no cap --------------------------------------------------------------------------------------------


def sent(shard, state, **changes):
    send = Send(
        number=2, display_name="d", sha256="0", lines=LINES, requests="r", owner="o", began_at=AT
    )  # fmt: skip
    job = Job(name=f"batches/{shard}", display_name="d")
    return ShardRecord(shard=shard, version=5, state=state, sends=(send,), job=job, **changes)


def test_what_was_sent_before_there_was_a_cap_counts_once():
    tally = Tally(rows=LINES, by_status={}, by_kind={}, cost_usd=1.0, unpriced=1, part_sha256="")
    records = {0: sent(0, S.COLLECTED, tally=tally), 1: sent(1, S.SUBMITTED), 3: sent(3, S.COLLECTED, tally=tally)}
    book = budget.settle(SpendRecord(), records, PLAN, of_shard)
    assert (book.settled_usd, book.unknown_usd) == (2.0, 2 * HIGHEST / LINES)
    assert [(held.shard, held.usd) for held in book.held] == [(1, HIGHEST)]
    assert book.counted == ((0, 1), (3, 4))
    records[1] = sent(1, S.COLLECTED, tally=tally)
    later = budget.settle(book, records, PLAN, of_shard)
    assert (later.settled_usd, later.held) == (3.0, ())
    assert budget.settle(later, records, PLAN, of_shard) == later


def test_a_shard_that_was_refused_cost_nothing():
    refused = sent(0, S.COLLECTED, tally=Tally(rows=LINES, by_status={}, by_kind={}, part_sha256="", unpriced=LINES))
    refused = refused.model_copy(update={"job": None})
    held = SpendRecord(held=(Reservation(shard=0, version=1, usd=2.0),))
    assert budget.committed(budget.settle(held, {0: refused}, PLAN, of_shard)) == 0


# --- amounts ----------------------------------------------------------------------------------------------------------


def test_a_send_is_reserved_at_its_highest(asked):
    run = asked(model="gemini-2.5-flash", generation_config={"maxOutputTokens": 100})
    tariff = budget.tariff_of(run, AT, (1, 10))
    assert tariff.highest(1000, 500_000, Decimal(2)) == 1.0 + 1.0
    assert budget.input_factor(SpendRecord()) == 2
    assert budget.input_factor(SpendRecord(highest_ratio=0.4)) == 1
    assert budget.input_factor(SpendRecord(highest_ratio=4.0)) == 5


def test_on_the_eve_of_a_new_price_the_higher_one_holds(asked):
    """Introductory prices end on 2026-12-31: a job that is created after midnight has the new one."""
    run = asked(model="gemini-3.8-flash", generation_config={"maxOutputTokens": 100})
    eve, after = (
        budget.tariff_of(run, at, None)
        for at in (datetime(2026, 12, 31, 23, tzinfo=UTC), datetime(2027, 1, 2, tzinfo=UTC))
    )
    assert eve.price.output_usd >= after.price.output_usd


@pytest.mark.parametrize(
    ("config", "model", "price", "fix"),
    [({}, "gemini-2.5-flash", None, "--max-output-tokens"), ({"maxOutputTokens": 9}, "nobody-knows", None, "--price")],
)
def test_a_cap_that_cannot_be_kept_is_refused(asked, limits, config, model, price, fix):
    capped = limits(max_cost=1.0, price=price)
    with pytest.raises(BadInput, match=fix):
        budget.refuse_uncappable(asked(model=model, generation_config=config), capped, AT)
    budget.refuse_uncappable(asked(model=model, generation_config=config), limits(), AT)


def test_a_cap_pays_for_eight_shards_at_once(asked, limits):
    run = asked(model="gemini-2.5-flash", generation_config={"maxOutputTokens": 1000})
    capped = budget.sized(limits(max_cost=16.0, price=(1.0, 1.0), max_requests_per_shard=10**6), run, AT)
    tariff = budget.tariff_of(run, AT, (1.0, 1.0))
    assert tariff.highest(capped.max_requests_per_shard, capped.max_tokens_per_shard, Decimal(2)) == pytest.approx(2.0)
    assert budget.sized(limits(), run, AT) == limits()
    assert budget.sized(limits(max_cost=1e-9), run, AT).max_requests_per_shard == 1
