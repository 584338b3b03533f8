"""The life of a shard: what each state knows, and that nothing is bought twice without a recorded reason."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemini_batch.errors import IllegalTransition
from gemini_batch.jobs import lifecycle as life
from gemini_batch.records import Absence, Job, Send, ShardRecord, ShardState, Tally, Upload

S = ShardState
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
UPLOAD = Upload(name="files/a", size_bytes=1, sha256="s", lines=1, uploaded_at=NOW)
TALLY = Tally(rows=1, by_status={"ok": 1}, by_kind={}, part_sha256="p")


def send(number):
    return Send(number=number, display_name=f"d{number}", sha256="s", lines=1, requests="r", owner="o", began_at=NOW)


def job(name="batches/1", **changes):
    return Job(name=name, display_name="d1", **changes)


RECORDS = {
    S.PLANNED: ShardRecord(shard=0),
    S.CLAIMED: ShardRecord(shard=0, state=S.CLAIMED, nonce="n"),
    S.READY: ShardRecord(shard=0, state=S.READY, upload=UPLOAD, requests="r"),
    S.SENDING: ShardRecord(shard=0, state=S.SENDING, upload=UPLOAD, requests="r", sends=(send(1),)),
    S.UNKNOWN: ShardRecord(shard=0, state=S.UNKNOWN, upload=UPLOAD, requests="r", sends=(send(1),)),
    S.SUBMITTED: ShardRecord(shard=0, state=S.SUBMITTED, upload=UPLOAD, requests="r", sends=(send(1),), job=job()),
    S.ENDED: ShardRecord(shard=0, state=S.ENDED, upload=UPLOAD, requests="r", sends=(send(1),), job=job()),
    S.COLLECTED: ShardRecord(
        shard=0, state=S.COLLECTED, upload=UPLOAD, requests="r", sends=(send(1),), job=job(), tally=TALLY
    ),
}
EVENTS = {
    "Claimed": life.Claimed(),
    "Prepared": life.Prepared(UPLOAD, "r"),
    "NothingToSend": life.NothingToSend("r"),
    "SendBegan": life.SendBegan(send(2)),
    "JobLearned": life.JobLearned(job("batches/2")),
    "SendFailed": life.SendFailed(1, "why"),
    "UploadGone": life.UploadGone(1, "why"),
    "SendRefused": life.SendRefused(1, "why"),
    "OutcomeUnknown": life.OutcomeUnknown("why"),
    "Absent": life.Absent(NOW),
    "Settled": life.Settled(),
    "JobMissing": life.JobMissing(NOW),
    "ResultsMissing": life.ResultsMissing(NOW),
    "JobUnclear": life.JobUnclear(job(state="BATCH_STATE_SUCCEEDED"), NOW),
    "JobStuck": life.JobStuck(NOW),
    "JobEnded": life.JobEnded(job(state="BATCH_STATE_SUCCEEDED")),
    "FilesDeleted": life.FilesDeleted(input=True, media=False, requests=1),
    "Collected": life.Collected(TALLY),
}
LEGAL = {
    (S.PLANNED, "Claimed"): S.CLAIMED,
    (S.CLAIMED, "Claimed"): S.CLAIMED,
    (S.READY, "Claimed"): S.CLAIMED,
    (S.CLAIMED, "Prepared"): S.READY,
    (S.CLAIMED, "NothingToSend"): S.ENDED,
    (S.READY, "SendBegan"): S.SENDING,
    (S.SENDING, "SendFailed"): S.READY,
    (S.UNKNOWN, "SendFailed"): S.READY,
    (S.SENDING, "UploadGone"): S.PLANNED,
    (S.UNKNOWN, "UploadGone"): S.PLANNED,
    (S.SENDING, "SendRefused"): S.ENDED,
    (S.UNKNOWN, "SendRefused"): S.ENDED,
    (S.SENDING, "OutcomeUnknown"): S.UNKNOWN,
    (S.UNKNOWN, "Absent"): S.UNKNOWN,
    (S.UNKNOWN, "Settled"): S.READY,
    (S.SUBMITTED, "JobMissing"): S.SUBMITTED,
    (S.SUBMITTED, "JobUnclear"): S.SUBMITTED,
    (S.SUBMITTED, "JobStuck"): S.SUBMITTED,
    (S.SUBMITTED, "JobEnded"): S.ENDED,
    (S.ENDED, "ResultsMissing"): S.ENDED,
    (S.ENDED, "Collected"): S.COLLECTED,
    **{(state, "FilesDeleted"): state for state in (S.SUBMITTED, S.ENDED, S.COLLECTED)},
    **{(state, "JobLearned"): S.SUBMITTED for state in (S.PLANNED, S.CLAIMED, S.READY, S.SENDING, S.UNKNOWN)},
    **{(state, "JobLearned"): state for state in (S.SUBMITTED, S.ENDED, S.COLLECTED)},
}


def test_the_table_above_names_every_state_and_event():
    """A new state or event must be thought about here."""
    assert set(RECORDS) == set(ShardState)
    assert {type(event) for event in EVENTS.values()} == set(life.Event.__args__)


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", ShardState)
def test_every_pair_of_state_and_event_is_legal_or_refused(state, event):
    """There is no branch that takes the unknown for pending."""
    if (state, event) in LEGAL:
        assert life.apply(RECORDS[state], EVENTS[event]).state is LEGAL[state, event]
    else:
        with pytest.raises(IllegalTransition, match=event):
            life.apply(RECORDS[state], EVENTS[event])


@pytest.mark.parametrize("state", [S.SUBMITTED, S.ENDED, S.COLLECTED])
def test_an_adoption_is_never_swapped_and_a_twin_is_counted_once(state):
    """Two jobs for one shard: the first one's rows are the shard's, the other is reported."""
    record = RECORDS[state]
    for _ in range(2):
        record = life.apply(record, life.JobLearned(job("batches/2")))
    assert (record.job.name, [twin.name for twin in record.twins]) == ("batches/1", ["batches/2"])
    assert life.apply(record, life.JobLearned(job("batches/1", state="BATCH_STATE_FAILED"))) == record


@pytest.mark.parametrize("event", [life.SendFailed, life.UploadGone, life.SendRefused])
def test_a_word_about_an_earlier_send_does_not_speak_for_the_last(event):
    """The late failure of send 1 must not free send 2 to be made again."""
    record = RECORDS[S.SENDING].model_copy(update={"sends": (send(1), send(2))})
    with pytest.raises(IllegalTransition):
        life.apply(record, event(1, "late"))


def test_an_upload_that_keeps_vanishing_ends_the_shard():
    """Free retries still have an end."""
    record, states = RECORDS[S.SENDING], []
    for number in range(1, 4):
        record = life.apply(record, life.UploadGone(number, "gone"))
        states.append(record.state)
        if record.state is S.PLANNED:
            for event in (life.Claimed(), life.Prepared(UPLOAD, "r"), life.SendBegan(send(number + 1))):
                record = life.apply(record, event)
    assert states == [S.PLANNED, S.PLANNED, S.ENDED]


def test_a_job_that_appears_after_its_settled_shard_was_claimed_again_can_be_collected():
    """The settle rule let the shard be bought again, its upload was stale, and then the first create's answer came."""
    record = RECORDS[S.UNKNOWN]
    done = job(state="BATCH_STATE_SUCCEEDED")
    for event in (life.Settled(), life.Claimed(), life.JobLearned(job()), life.JobEnded(done)):
        record = life.apply(record, event)
    assert (record.state, record.requests) == (S.ENDED, "r")


# --- any sequence -----------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["batches/1", "batches/2", "batches/3"])
STEP = st.one_of(
    st.sampled_from([life.Claimed(), life.Prepared(UPLOAD, "r"), life.NothingToSend("r"), life.Settled()]),
    st.just("SendBegan"),
    st.just("SendBegan"),
    NAMES.map(lambda name: life.JobLearned(job(name))),
    st.builds(life.SendFailed, st.integers(1, 3), st.just("w")),
    st.builds(life.UploadGone, st.integers(1, 3), st.just("w")),
    st.builds(life.SendRefused, st.integers(1, 3), st.just("w")),
    st.just(life.OutcomeUnknown("w")),
    st.integers(0, 100).map(lambda m: life.Absent(NOW + timedelta(minutes=m))),
    st.integers(0, 100).map(lambda m: life.JobMissing(NOW + timedelta(minutes=m))),
    st.builds(life.FilesDeleted, st.booleans(), st.booleans(), st.sampled_from([None, 1])),
    NAMES.map(lambda name: life.JobEnded(job(name, state="BATCH_STATE_SUCCEEDED"))),
    st.just(life.Collected(TALLY)),
)
FREEING = (life.SendFailed, life.UploadGone, life.Settled)


def walk(steps, start=None):
    """The records and events of the legal ones among the steps."""
    record, taken = start or RECORDS[S.PLANNED], []
    for step in steps:
        event = life.SendBegan(send(len(record.sends) + 1)) if step == "SendBegan" else step
        if isinstance(event, life.JobEnded) and record.job and event.job.name != record.job.name:
            continue  # the shell only ends the job it polled
        if isinstance(event, life.JobLearned) and not record.sends:
            continue  # there is no job of ours before the first send
        try:
            following = life.apply(record, event)
        except IllegalTransition:
            continue
        taken.append((record, event, following))
        record = following
    return taken


@settings(max_examples=400)
@given(st.lists(STEP, max_size=40), st.sampled_from([S.PLANNED, S.READY, S.UNKNOWN]))
def test_no_send_follows_another_without_a_recorded_reason_between_them(steps, start):
    """Each SendBegan may cost money; only a refusal or the settle rule allows the next."""
    free = start is not S.UNKNOWN
    for _, event, _ in walk(steps, RECORDS[start]):
        if isinstance(event, life.SendBegan):
            assert free
            free = False
        free = free or isinstance(event, FREEING)


@settings(max_examples=400)
@given(st.lists(STEP, max_size=40), st.sampled_from([S.PLANNED, S.READY, S.SENDING]))
def test_once_a_job_is_recorded_nothing_is_sent_and_it_stays_the_job(steps, start):
    """A recorded job is paid for: it may only be waited for and collected."""
    for before, event, after in walk(steps, RECORDS[start]):
        if before.job:
            assert not isinstance(event, life.SendBegan)
            assert after.job.name == before.job.name
        kept = before.sends[:-1] if isinstance(event, life.SendFailed) else before.sends  # it certainly made nothing
        assert after.sends[: len(kept)] == kept
        assert {twin.name for twin in before.twins} <= {twin.name for twin in after.twins}


@settings(max_examples=400)
@given(st.lists(STEP, max_size=40), st.sampled_from([S.PLANNED, S.READY, S.UNKNOWN]))
def test_a_shard_that_is_to_be_collected_knows_which_rows_were_sent(steps, start):
    """Collecting needs the record of requests; a job learned late must not find it thrown away."""
    for _, _, after in walk(steps, RECORDS[start]):
        assert after.state not in {S.SUBMITTED, S.ENDED, S.COLLECTED} or after.requests is not None


@given(st.lists(STEP, max_size=40))
def test_a_collected_shard_only_learns_of_twins_and_loses_files(steps):
    for before, event, after in walk(steps, RECORDS[S.COLLECTED]):
        files = {"upload": before.upload, "job": before.job} if isinstance(event, life.FilesDeleted) else {}
        assert after.model_copy(update={"twins": before.twins, **files}) == before


def test_pictures_may_not_go_before_the_job_has_ended():
    """When a line's are fetched is not documented."""
    with pytest.raises(IllegalTransition):
        life.apply(RECORDS[S.SUBMITTED], life.FilesDeleted(input=True, media=True, requests=1))


# --- what to do -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "claim", "expected"),
    [
        (S.PLANNED, None, life.Claim()),
        (S.CLAIMED, "n", life.Prepare()),
        (S.CLAIMED, None, life.Claim()),
        (S.CLAIMED, "other", life.Claim()),
        (S.READY, None, life.SendOnce()),
        (S.UNKNOWN, None, life.Reconcile()),
        (S.SUBMITTED, None, life.Poll()),
        (S.ENDED, None, life.Collect()),
        (S.COLLECTED, None, life.Finish()),
    ],
)
def test_each_state_has_one_thing_to_do(state, claim, expected):
    assert life.command(RECORDS[state], claim, NOW) == expected


def test_a_send_that_somebody_else_began_is_never_made_again_but_becomes_unknown():
    """Whoever finds SENDING did not write it in this call, so the create may be on the wire."""
    command = life.command(RECORDS[S.SENDING], None, NOW)
    assert isinstance(command, life.Conclude)
    assert life.apply(RECORDS[S.SENDING], command.event).state is S.UNKNOWN


def test_a_stale_upload_is_made_anew_before_a_send():
    """Files live for 48 h, and the job still has to read them."""
    stale = UPLOAD.model_copy(update={"uploaded_at": NOW - life.UPLOAD_LIFE - timedelta(seconds=1)})
    assert life.command(RECORDS[S.READY].model_copy(update={"upload": stale}), None, NOW) == life.Claim()


def test_a_recorded_job_is_gone_only_after_three_misses_over_ten_minutes():
    """One look wrote off 85 live jobs elsewhere."""

    def after(*minutes):
        record = RECORDS[S.SUBMITTED]
        for minute in minutes:
            record = life.apply(record, life.JobMissing(NOW + timedelta(minutes=minute)))
        return record

    assert after(0, 1, 2, 3).state is S.SUBMITTED
    assert after(0, 60).state is S.SUBMITTED
    assert (after(0, 5, 10).state, after(0, 5, 10).job.state) == (S.ENDED, life.GONE)


def test_a_job_without_an_outcome_is_given_up_only_after_three_looks_over_an_hour():
    """It is over and paid for; looks that found nothing at all say nothing of its output."""

    def after(*looks):
        record = RECORDS[S.SUBMITTED]
        for minute, event in looks:
            at = NOW + timedelta(minutes=minute)
            record = life.apply(record, life.JobMissing(at) if event == 404 else life.JobUnclear(job(), at))
        return record.state

    assert after((0, 200), (10, 200), (20, 200), (59, 200)) is S.SUBMITTED
    assert after((0, 200), (60, 200)) is S.SUBMITTED
    assert after((0, 404), (5, 404), (60, 200)) is S.SUBMITTED
    assert after((0, 200), (30, 200), (40, 404), (60, 200), (80, 200)) is S.SUBMITTED
    assert after((0, 200), (30, 200), (60, 200)) is S.ENDED


def test_absences_are_counted_from_the_first():
    record = RECORDS[S.UNKNOWN]
    for minute in (0, 7, 3):
        record = life.apply(record, life.Absent(NOW + timedelta(minutes=minute)))
    assert record.absence == Absence(first_at=NOW, last_at=NOW + timedelta(minutes=7), times=3)


def test_the_documented_table_is_the_table_of_the_code():
    """`docs/lifecycle.md` is what an operator reads at night."""
    document = (Path(__file__).parents[2] / "docs" / "lifecycle.md").read_text()
    rows = re.findall(r"^\| (\w+) \| (\w+) \| (\w+) \|$", document, re.MULTILINE)
    documented = {(ShardState[before], event): ShardState[after] for before, event, after in rows if before != "from"}
    assert documented == {pair: after for pair, after in LEGAL.items() if pair[1] != "JobLearned"}
