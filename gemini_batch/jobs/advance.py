"""One unit of work: take a shard as far as it goes now.

Load the last record, ask the lifecycle, perform the one command, record the outcome; until there is something to wait
for or nothing left to do. Never sleeps. May be called at any time, twice, or by two machines at once: what keeps that
from costing money is that SENDING is created by exactly one of them.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from gemini_batch.errors import Denied, RemoteError, RunStopped, Throttled
from gemini_batch.gemini.remote import Listing
from gemini_batch.jobs import events, lifecycle
from gemini_batch.jobs.looking import Looking
from gemini_batch.jobs.orders import HELD_BACK, GiveUp, HoldBack, Ordered, under
from gemini_batch.jobs.prepare import give_up, prepare
from gemini_batch.jobs.sending import Sending, await_desk
from gemini_batch.jobs.shop import Shop, still_fits
from gemini_batch.jobs.spending import may_spend
from gemini_batch.jobs.twins import end_twins
from gemini_batch.jobs.verdicts import AwaitDesk, Outcome, Rest, Stop, Verdict
from gemini_batch.records import ShardRecord

SOON_SECONDS, LATE_SECONDS = 0.5, 5.0
"""Between two tries at a call that nobody makes after a 429. Trying costs no call, and one that is taken opens the way
for all."""


def advance(shop: Shop, shard: int) -> Verdict:
    """Take a shard as far as it goes now.

    Raises:
        RunStopped: the run cannot go on without a person.
    """
    return _guarded(lambda: _Advance(shop, shard).go())


def work(shop: Shop, shard: int) -> Verdict:
    """Take a shard as far as it goes without looking for its job: that is left to a sweep, which looks for all.

    Raises:
        RunStopped: the run cannot go on without a person.
    """
    return _guarded(lambda: _Advance(shop, shard).go(lambda command: not isinstance(command, lifecycle.LOOKS)))


def look(shop: Shop, before: ShardRecord, listing: Listing) -> Verdict:
    """Look for a shard's job in a listing that serves many, and record what is new.

    Args:
        before: the shard's last record as read before the listing began; what was recorded since waits for the next.

    Raises:
        RunStopped: the run cannot go on without a person.
    """

    def looked() -> Verdict:
        advancing = _Advance(shop, before.shard, listing)
        if advancing.version != before.version:
            return Rest("changed while the jobs were being listed", timedelta(0))
        return advancing.go(lambda command: isinstance(command, lifecycle.LOOKS))

    return _guarded(looked)


def record_overdue(shop: Shop) -> None:
    """Record what was learned of sends and could not be recorded then."""
    for shard in list(shop.unrecorded):
        _guarded(lambda shard=shard: _Advance(shop, shard).go(lambda _: False))  # type: ignore[misc]


def _guarded(go: Callable[[], Verdict]) -> Verdict:
    try:
        return go()
    except Denied as error:
        raise RunStopped(f"the service refuses the key, the project or the model: {error}") from None
    except Throttled as error:
        delay = None if error.wait is None else timedelta(seconds=min(max(error.wait, SOON_SECONDS), LATE_SECONDS))
        return Rest(f"the service: {error}", delay)
    except RemoteError as error:
        return Rest(f"the service: {error}")
    except OSError as error:
        return Rest(f"the run directory: {error}")


def _left(command: object) -> str:
    return "jobs are running" if isinstance(command, lifecycle.Poll) else "waits to be looked for or worked on"


class _Advance(Sending, Looking):
    """One call of `advance`."""

    @property
    def version(self) -> int:
        return self._record.version

    def go(self, ours: Callable[[Ordered], bool] = lambda _: True) -> Verdict:
        event = self._shop.unrecorded.pop(self._record.shard, None)
        if event and still_fits(self._record, event):  # the write that failed may have been done, or overtaken
            self._save(event)
        while not self._shop.closing.is_set():
            command = self._command()
            if isinstance(command, lifecycle.Finish):
                return Stop()
            if not ours(command):
                return Rest(_left(command), timedelta(0))
            if lifecycle.live_twins(self._record) and self._end_twins():
                continue  # another record, perhaps another worker's: what to do is asked anew
            outcome = self._perform(command)
            if isinstance(outcome, Rest | AwaitDesk):
                return outcome
            if outcome is not None:
                self._save(outcome)
        return Rest("this process is leaving")

    def _command(self) -> Ordered:
        return under(self._shop.order, lifecycle.command(self._record, self._claim, self._shop.clock.now()))

    def _end_twins(self) -> bool:
        """At the first occasion, and no later than before the merge; the shard's own work does not wait for it.
        Returns whether there is a newer record."""
        before = self._record.version
        with suppress(RemoteError):
            self._record = end_twins(self._shop, self._record)
        return self._record.version != before

    def _perform(self, command: Ordered) -> Outcome | None:
        match command:
            case HoldBack():
                return AwaitDesk(HELD_BACK)
            case GiveUp():
                return give_up(self._shop, self._record)
            case lifecycle.Claim():
                return self._ask_desk()
            case lifecycle.Prepare():
                return prepare(self._shop, self._record)
            case lifecycle.SendOnce():
                return self._send()
            case lifecycle.Reconcile():
                return self._reconcile()
            case lifecycle.Poll():
                return self._poll()
            case lifecycle.Collect():
                return self._collect()
            case lifecycle.Conclude(event):
                return event
        raise AssertionError(command)

    # --- before anything is bought

    def _ask_desk(self) -> Outcome:
        if reason := may_spend(self._shop, self._record):
            return AwaitDesk(reason)
        wait = self._shop.desk.ask(self._record, *self._size)
        return await_desk(wait) if wait else events.Claimed()
