"""A history played back: each record follows from the one before, or is named."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import make_run
from test_lifecycle import EVENTS, LEGAL, NOW, RECORDS, UPLOAD, job, send

from gemini_batch.audit.facts import Version
from gemini_batch.audit.replay import event_between, job_name, replay, why_twice
from gemini_batch.errors import IllegalTransition
from gemini_batch.jobs import events, lifecycle
from gemini_batch.records import Absence, ShardRecord, ShardState

S = ShardState
RUN = make_run()


def after(before, event, **changes):
    """What a writer records of an event."""
    cause = type(event).__name__
    marks = {"version": before.version + 1, "nonce": f"n{before.version + 1}", "cause": cause, "at": NOW, "owner": "o"}
    return lifecycle.apply(before, event).model_copy(update=marks | changes)


def named(number, sha256=UPLOAD.sha256, **changes):
    """A send under the name that it must have."""
    made = send(number).model_copy(update={"sha256": sha256, "requests": "requests/000000-n1.parquet"} | changes)
    return made.model_copy(update={"display_name": job_name(RUN, 0, made)})


def history(*happened, start=None):
    """Versions 1 and on of what happened, as writers record it."""
    record, versions = start or ShardRecord(shard=0), []
    for event in happened:
        record = after(record, event)
        versions.append(Version(record.version, record))
    return versions


READY = (events.Claimed(), events.Prepared(UPLOAD, "requests/000000-n1.parquet"))
LOST = (*READY, events.SendBegan(named(3)), events.OutcomeUnknown("cut"))


def faults(versions, may_resubmit=True):
    return [what for _, what in replay(RUN, 0, versions, may_resubmit)]


@pytest.mark.parametrize(("state", "event"), LEGAL)
def test_the_event_of_every_step_is_read_off_the_two_records(state, event):
    """A new event must be told apart here too."""
    before = RECORDS[state]
    record = after(before, EVENTS[event])
    assert lifecycle.apply(before, event_between(before, record)) == lifecycle.apply(before, EVENTS[event])


@given(st.lists(st.sampled_from(list(EVENTS.values())), max_size=30))
def test_whatever_happened_one_after_the_other_follows(happened):
    record = ShardRecord(shard=0)
    for event in happened:
        try:
            written = after(record, event)
        except IllegalTransition:
            continue
        found = event_between(record, written)
        assert found is not None
        assert after(record, found) == written
        record = written


def test_a_life_with_a_lost_answer_a_settled_send_and_a_job_is_sound():
    later = [NOW + timedelta(minutes=30 * step) for step in range(3)]
    looked = [events.Absent(at) for at in later[:2]]
    second = named(8)
    made = job().model_copy(update={"display_name": second.display_name})
    ended = events.JobEnded(made.model_copy(update={"state": "BATCH_STATE_SUCCEEDED"}))
    life = history(*LOST, *looked, events.Settled(), events.SendBegan(second), events.JobLearned(made), ended)
    assert faults(life) == []


SETTLED = history(*LOST, events.Absent(NOW), events.Settled())
TWICE = history(*LOST, events.Absent(NOW), events.Absent(NOW + timedelta(hours=1)), events.Settled())


@pytest.mark.parametrize(
    ("versions", "says"),
    [
        (history(events.Claimed(), events.Prepared(UPLOAD, "requests/000000-other.parquet")), "not of the claim"),
        (history(*READY, events.SendBegan(named(3, sha256="other"))), "other bytes than were uploaded"),
        (history(*READY, events.SendBegan(named(3, lines=7))), "other bytes than were uploaded"),
        (history(*READY, events.SendBegan(named(4))), "does not fit its own record"),
        (history(*READY, events.SendBegan(named(3, owner="another"))), "does not fit its own record"),
        (history(*READY, events.SendBegan(named(3, requests="r"))), "does not fit its own record"),
        (history(*READY, events.SendBegan(send(3))), "not the name of that send"),
        (history(*LOST, events.JobLearned(job())), "is of no send"),
        (SETTLED, "sent again after 2 listings; 3 are due"),
    ],
)
def test_what_the_lifecycle_takes_on_trust_is_looked_at(versions, says):
    """A worker with a defect would write such records, each a legal step."""
    assert any(says in what for what in faults(versions)), faults(versions)


def test_a_job_that_ends_under_another_name_is_another_job():
    made = job().model_copy(update={"display_name": named(3).display_name})
    other = made.model_copy(update={"name": "batches/2", "state": "BATCH_STATE_SUCCEEDED"})
    life = history(*LOST, events.JobLearned(made), events.JobEnded(other))
    assert any("ends batches/2" in what for what in faults(life))


def test_under_wait_nothing_may_be_sent_again():
    assert faults(TWICE) == []
    assert any("never resubmit" in what for what in faults(TWICE, may_resubmit=False))


def test_a_step_that_the_lifecycle_does_not_have_is_named_with_its_version():
    versions = history(*READY)
    skipped = versions[1].record.model_copy(update={"version": 3, "nonce": "n3", "cause": "Collected"})
    assert faults([*versions, Version(3, skipped)]) == [
        "version 3 (Collected after READY) names a cause that is not known, or lacks what that cause brings"
    ]
    lifted = versions[1].record.model_copy(update={"version": 3, "nonce": "n3", "cause": "Settled"})
    assert faults([*versions, Version(3, lifted)]) == [
        "version 3 (Settled after READY) is a step that the lifecycle does not have"
    ]


def test_a_word_that_the_event_does_not_explain_is_named():
    versions = history(*LOST)
    edited = versions[3].record.model_copy(update={"absence": Absence(first_at=NOW, last_at=NOW), "refusals": 1})
    assert faults([*versions[:3], Version(4, edited)]) == [
        "version 4 (OutcomeUnknown after SENDING) does not follow from the version before: absence, refusals"
    ]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": 9}, "calls itself version 9"),
        ({"shard": 1}, "is of shard 1"),
        ({"format": 2}, "is of format 2"),
        ({"nonce": "n1"}, "nonce that another version has"),
        ({"nonce": ""}, "nonce that another version has, or none"),
        ({"owner": ""}, "does not say who wrote it"),
        ({"at": None}, "does not say who wrote it"),
    ],
)
def test_a_record_without_its_marks_is_named(changes, says):
    versions = history(*READY)
    edited = Version(2, versions[1].record.model_copy(update=changes))
    assert any(says in what for what in faults([versions[0], edited]))


def test_gaps_and_damage_are_told_apart_and_the_rest_is_still_played():
    versions = history(*LOST)
    holes = [versions[0], Version(2, None), versions[2], Version(4, None, "not JSON")]
    assert list(replay(RUN, 0, holes, True)) == [
        ("ledger_gap", "version 2 is missing"),
        ("ledger_damaged", "version 4 cannot be read: not JSON"),
    ]


FIRST, SECOND = named(3).display_name, named(8).display_name


@pytest.mark.parametrize(
    ("versions", "first", "twin", "says"),
    [
        (history(*LOST), FIRST, FIRST, "one send made both"),
        (TWICE, SECOND, FIRST, "sent again"),
        (history(*READY, events.SendBegan(named(3)), events.SendFailed(3, "429")), SECOND, FIRST, "refusal"),
        (history(*LOST), SECOND, FIRST, "no record says why"),
        (history(*LOST), FIRST, "gbd-run-by-hand", "of no send"),
    ],
)
def test_why_rows_were_bought_twice_is_read_off_the_history(versions, first, twin, says):
    assert says in why_twice(versions, first, twin)
