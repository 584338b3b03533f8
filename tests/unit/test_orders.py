"""What a pause and a cancel hold back, and what no order touches: whatever may have cost money is seen to its end."""

from collections import deque
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_lifecycle import NOW, RECORDS, S

from gemini_batch.agenda import GLANCE_SECONDS, Agenda
from gemini_batch.jobs import lifecycle as life
from gemini_batch.jobs.orders import GiveUp, HoldBack, under
from gemini_batch.jobs.verdicts import AwaitDesk, Rest, Stop

COMMANDS = [
    life.Claim(),
    life.Prepare(),
    life.SendOnce(),
    life.Conclude(life.OutcomeUnknown("why")),
    life.Reconcile(),
    life.Poll(),
    life.Collect(),
    life.Finish(),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_no_order_touches_what_may_have_cost_money(command):
    unpaid = (life.Claim, life.Prepare, life.SendOnce)
    assert under("run", command) == command
    for order in ("pause", "cancel"):
        assert (under(order, command) == command) is not isinstance(command, unpaid)


@pytest.mark.parametrize("order", ["pause", "cancel"])
@given(state=st.sampled_from(list(S)), mine=st.booleans())
def test_under_an_order_nothing_is_sent_from_any_state(order, state, mine):
    record = RECORDS[state]
    done = under(order, life.command(record, record.nonce if mine else None, NOW))
    assert not isinstance(done, life.SendOnce | life.Prepare | life.Claim)


def test_a_cancelled_shard_that_was_never_sent_is_claimed_and_given_up_from_every_state():
    """It ends as one without a row that can be sent: two records, and no new kind of history."""
    for state in (S.PLANNED, S.CLAIMED, S.READY):
        taken = under("cancel", life.command(RECORDS[state], None, NOW))
        assert taken == life.Conclude(life.Claimed())
        claimed = life.apply(RECORDS[state], taken.event).model_copy(update={"nonce": "mine"})
        assert under("cancel", life.command(claimed, "mine", NOW)) == GiveUp()
        ended = life.apply(claimed, life.NothingToSend("r"))
        assert under("cancel", life.command(ended, None, NOW)) == life.Collect()


def test_a_paused_shard_stays_as_it_is():
    for state in (S.PLANNED, S.CLAIMED, S.READY):
        assert under("pause", life.command(RECORDS[state], None, NOW)) == HoldBack()


# --- one look at each -------------------------------------------------------------------------------------------------

VERDICTS = st.sampled_from([Rest("waits"), Rest("waits", timedelta(0)), AwaitDesk("full"), Stop()])


@given(begun=st.integers(0, 5), planned=st.integers(0, 5), verdicts=st.lists(VERDICTS, min_size=10, max_size=10))
def test_an_agenda_of_one_look_names_no_shard_twice_and_ends(begun, planned, verdicts):
    agenda = Agenda(deque(range(begun, begun + planned)), [(0.0, shard) for shard in range(begun)], once=True)
    seen = []
    while (shard := agenda.pop(1.0, lambda backlog: backlog[0])) is not None:
        seen.append(shard)
        agenda.put(shard, verdicts[shard], 1.0, 60.0, begun=shard < begun)
    assert len(seen) == len(set(seen))
    assert set(range(begun)) <= set(seen), "what has begun is looked at, whatever the desk says"


@pytest.mark.parametrize(("hands", "seconds"), [(1, 0.0), (0, GLANCE_SECONDS)])
def test_what_is_due_while_no_thread_is_free_is_not_looked_for_without_a_pause(hands, seconds):
    """A driver that asked at once again took half a core until a thread came free."""
    assert Agenda(deque(), [(5.0, 1)]).until_next(9.0, hands) == seconds
    assert Agenda(deque()).until_next(9.0, hands) == GLANCE_SECONDS
