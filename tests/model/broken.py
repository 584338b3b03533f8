"""The same code with one rule taken out of it. The model has to find what each of them costs."""

from datetime import timedelta
from unittest.mock import patch

import calls

from gemini_batch.jobs import advance as advancing
from gemini_batch.jobs import events, lifecycle, sending
from gemini_batch.jobs.shop import Shop
from gemini_batch.jobs.verdicts import Rest
from gemini_batch.records import ShardState

_Advance = advancing._Advance


def lost_save_counts_as_won():
    """SENDING is not exclusive: who comes second sends too."""
    save = Shop.save

    def saved(shop, record, event):
        newest, won = save(shop, record, event)
        return newest, won or isinstance(event, events.SendBegan)

    return patch.object(Shop, "save", saved)


def time_out_clears_sending():
    post = _Advance._post

    def posted(advance, send, file_name):
        outcome = post(advance, send, file_name)
        return _failed(send.number) if isinstance(outcome, events.OutcomeUnknown) else outcome

    return patch.object(_Advance, "_post", posted)


def death_clears_sending():
    """Who finds SENDING takes it for a create that was never made."""
    command = lifecycle.command

    def commanded(record, claim, now):
        if record.state is ShardState.SENDING:
            return lifecycle.Conclude(_failed(record.sends[-1].number))
        return command(record, claim, now)

    return patch.object(lifecycle, "command", commanded)


def first_absence_is_believed():
    reconcile = lifecycle.reconcile

    def reconciled(record, listed, at, settle):
        event = reconcile(record, listed, at, settle)
        return events.Settled() if isinstance(event, events.Absent) else event

    return patch.object(lifecycle, "reconcile", reconciled)


def settle_time_is_not_waited_for():
    """Three listings are asked for, however soon after each other."""
    reconcile = lifecycle.reconcile

    def reconciled(record, listed, at, settle):
        return reconcile(record, listed, at, settle and timedelta(0))

    return patch.object(lifecycle, "reconcile", reconciled)


def any_listing_is_complete():
    return patch.object(_Advance, "_lacking", lambda *_: None)


def shifted_pages_are_a_listing():
    """A list that shows one job twice, and so perhaps another not at all, counts like any other."""

    class Whole(calls.Listing):
        whole = property(lambda _: True, lambda *_: None)

    return patch.object(calls, "Listing", Whole)


def old_listing_is_believed():
    """A sweep believes a listing that began before the record it looks at was written."""

    class Any(int):
        __eq__ = __hash__ = None

        def __ne__(self, other):
            return False

    return patch.object(_Advance, "version", property(lambda _: Any()))


def late_sender_sends():
    """The sender does not look at its clock between SENDING and the create."""
    return patch.object(sending, "SEND_WITHIN", timedelta(days=1000))


def word_of_any_send_counts():
    """The late failure of one send frees another."""
    apply = lifecycle.apply

    def applied(record, event):
        if isinstance(event, events.SendFailed) and record.sends:
            event = _failed(record.sends[-1].number)
        return apply(record, event)

    return patch.object(lifecycle, "apply", applied)


def absence_outlives_its_send():
    """What was counted for one send counts for the next."""
    apply = lifecycle.apply

    def applied(record, event):
        after = apply(record, event)
        return after.model_copy(update={"absence": record.absence}) if isinstance(event, events.SendBegan) else after

    return patch.object(lifecycle, "apply", applied)


def key_needs_no_witness():
    """404 counts although nothing of the run is seen: under a wrong key that is every job."""
    return patch.object(_Advance, "_witnessed", lambda *_: True)


def one_look_is_enough():
    return patch.object(lifecycle, "_believed", lambda _: True)


def late_word_is_forced():
    """What could not be recorded at once is recorded later, whatever has become of the shard."""
    return patch.object(advancing, "still_fits", lambda *_: True)


def unknown_is_not_looked_for():
    """Whoever finds UNKNOWN leaves it to others."""
    return patch.object(_Advance, "_reconcile", lambda _: Rest("later"))


def newest_job_is_the_jobs():
    """An adoption is swapped for whatever is learned last."""
    learn = lifecycle._learn

    def learned(record, job):
        return learn(record.model_copy(update={"job": None, "state": ShardState.UNKNOWN}), job)

    return patch.object(lifecycle, "_learn", learned)


def _failed(number):
    return events.SendFailed(number, "taken for not sent")
