"""One unit of work: take a shard as far as it goes now.

Load the last record, ask the lifecycle, perform the one command, record the outcome; until there is something to wait
for or nothing left to do. Never sleeps. May be called at any time, twice, or by two machines at once: what keeps that
from costing money is that SENDING is created by exactly one of them.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from gemini_batch.errors import (
    Denied,
    NotFound,
    NotSent,
    Refused,
    RemoteError,
    RunStopped,
    Throttled,
    Unavailable,
)
from gemini_batch.gemini.remote import Listing, Seen
from gemini_batch.jobs import events, lifecycle
from gemini_batch.jobs.collect import collect
from gemini_batch.jobs.prepare import prepare
from gemini_batch.jobs.refusal import refusal
from gemini_batch.jobs.shop import STAYS_TRUE, Shop, still_fits
from gemini_batch.jobs.twins import end_twins
from gemini_batch.records import Send, ShardRecord, ShardState, Upload

SEND_WITHIN = timedelta(seconds=30)
"""A sender that was suspended for longer between recording SENDING and the POST must not send: by then others may
have looked for its job and not found it."""

GONE_SPACING = timedelta(minutes=4)
"""Between two looks at a job that answers 404."""


@dataclass(frozen=True)
class Rest:
    """Come back after `delay`; None means the caller backs off by how often it was told so."""

    reason: str
    delay: timedelta | None = None


@dataclass(frozen=True)
class AwaitDesk:
    """The quota desk lets nobody in now; come back when something has ended."""

    reason: str


@dataclass(frozen=True)
class Stop:
    """The shard is final."""


Verdict = Rest | AwaitDesk | Stop
Outcome = events.Event | Rest | AwaitDesk


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
    except RemoteError as error:
        return Rest(f"the service: {error}")
    except OSError as error:
        return Rest(f"the run directory: {error}")


def _left(command: lifecycle.Command) -> str:
    return "jobs are running" if isinstance(command, lifecycle.Poll) else "waits to be looked for or worked on"


class _Advance:
    """One call of `advance`."""

    def __init__(self, shop: Shop, shard: int, listing: Listing | None = None) -> None:
        self._shop = shop
        self._record = shop.last(shard)
        self._claim: str | None = None
        self._listed = listing

    @property
    def version(self) -> int:
        return self._record.version

    def go(self, ours: Callable[[lifecycle.Command], bool] = lambda _: True) -> Verdict:
        event = self._shop.unrecorded.pop(self._record.shard, None)
        if event and still_fits(self._record, event):  # the write that failed may have been done, or overtaken
            self._save(event)
        while not self._shop.closing.is_set():
            command = lifecycle.command(self._record, self._claim, self._shop.clock.now())
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

    def _end_twins(self) -> bool:
        """At the first occasion, and no later than before the merge; the shard's own work does not wait for it.
        Returns whether there is a newer record."""
        before = self._record.version
        with suppress(RemoteError):
            self._record = end_twins(self._shop, self._record)
        return self._record.version != before

    def _save(self, event: events.Event) -> bool:
        try:
            self._record, won = self._shop.save(self._record, event)
        except OSError:
            if isinstance(event, STAYS_TRUE):
                self._shop.unrecorded[self._record.shard] = event
            raise
        if won and isinstance(event, events.Claimed):
            self._claim = self._record.nonce
        return won

    def _perform(self, command: lifecycle.Command) -> Outcome | None:
        match command:
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

    @property
    def _tokens(self) -> int:
        return self._shop.tokens(self._record.shard)

    # --- before anything is bought

    def _ask_desk(self) -> Outcome:
        reason = self._shop.desk.ask(self._record, self._tokens)
        return AwaitDesk(reason) if reason else events.Claimed()

    # --- the one call that costs money

    def _send(self) -> Outcome | None:
        shop, upload = self._shop, self._record.upload
        if upload is None:
            raise AssertionError("READY without an upload")
        if reason := shop.desk.may_send(self._record, self._tokens):
            return AwaitDesk(reason)
        if not upload.active and (outcome := self._await_active(upload)):
            return outcome
        began = shop.clock.boottime()
        number = self._record.version + 1
        digest = hashlib.sha256(f"{shop.run.nonce} {number} {upload.sha256}".encode()).hexdigest()
        send = Send(
            number=number,
            display_name=shop.remote_name(self._record.shard, f"{number}-{digest[:16]}"),
            sha256=upload.sha256,
            lines=upload.lines,
            requests=self._record.requests or "",
            owner=shop.owner,
            began_at=shop.clock.now(),
        )
        if not self._save(events.SendBegan(send)):
            return None  # someone else moved the shard; only the writer of SENDING may send
        # Asked again now that the ledger shows the send: a desk lost since the first word is rebuilt from the ledger.
        if reason := shop.desk.may_send(self._record, self._tokens):
            self._save(events.SendFailed(number, reason))
            return AwaitDesk(reason)
        waited = timedelta(seconds=shop.clock.boottime() - began)
        if waited > SEND_WITHIN:
            return events.SendFailed(number, f"not sent: {waited} passed since SENDING was recorded")
        return self._post(send, upload.name)

    def _await_active(self, upload: Upload) -> Outcome | None:
        """A create with a file that is still being processed is refused (Files API guide)."""
        try:
            stored = self._shop.remote.get_file(upload.name)
        except NotFound:
            return events.Claimed()
        return None if stored.active else Rest("the service is still processing the upload")

    def _post(self, send: Send, file_name: str) -> Outcome:
        """The create, once. Whatever is not certainly a refusal leaves the outcome unknown."""
        try:
            job = self._shop.remote.create_job(self._shop.run.asked.model, file_name, send.display_name)
        except (NotSent, Throttled) as error:
            if isinstance(error, Throttled):
                self._shop.desk.refused(self._record, self._tokens)
            self._save(events.SendFailed(send.number, str(error)))
            return Rest(f"the create was not taken: {error}")
        except Denied as error:
            self._save(events.SendFailed(send.number, str(error)))
            raise
        except Refused as error:
            return self._refused(send, error)
        except Unavailable as error:
            return events.OutcomeUnknown(str(error))
        return events.JobLearned(job)

    def _refused(self, send: Send, error: Refused) -> events.Event:
        meant = refusal(self._shop, self._record, send, error)
        if isinstance(meant, RunStopped):
            self._save(events.SendFailed(send.number, str(error)))
            raise meant
        return meant

    # --- what became of it

    def _reconcile(self) -> Outcome | None:
        shop = self._shop
        listing = self._listing()
        if lacking := self._lacking(listing):
            return Rest(f"the list of jobs lacks {lacking}, which is recorded: not complete, or another key's")
        settle = timedelta(seconds=shop.limits.settle) if shop.limits.on_unknown == "resubmit" else None
        event = lifecycle.reconcile(self._record, dict(listing.jobs), listing.at, settle)
        if isinstance(event, events.JobLearned):
            self._adopt(event, listing)
            return None
        resting = Rest(
            f"a create whose answer was lost is being looked for ({self._record.problem})", self._look_delay()
        )
        if event is None or not listing.whole:
            return resting
        if isinstance(event, events.Settled):
            return event
        self._save(event)
        return resting  # one listing counts once

    def _look_delay(self) -> timedelta:
        return timedelta(seconds=max(0.2, min(self._ceiling().total_seconds(), self._shop.limits.settle / 4)))

    def _adopt(self, event: events.JobLearned, listing: Listing) -> None:
        """The first job is the shard's; any other that answers to one of its sends is a twin, and recorded too."""
        self._save(event)
        names = {send.display_name for send in self._record.sends}
        for job in listing.every:
            if job.display_name in names:
                self._save(events.JobLearned(job))

    def _listing(self) -> Listing:
        """A complete listing that began after the record was read: an older one says nothing of what was sent since."""
        return self._listed or self._shop.listing(self._shop.clock.boottime())

    def _lacking(self, listing: Listing) -> str | None:
        """A recorded job that a complete listing would show, if any. One that no get finds either was deleted."""
        recorded = self._shop.recorded_jobs()
        unseen = recorded - listing.names
        if unseen and unseen == recorded and not self._sees_upload():
            return min(unseen)  # nothing of the run is seen: no witness that the key is the right one
        for name in sorted(unseen):
            try:
                self._shop.remote.get_job(name)
            except NotFound:
                self._shop.deleted_jobs.add(name)
            else:
                return name
        return None

    def _poll(self) -> Outcome | None:
        known = self._record.job
        if known is None:
            raise AssertionError("SUBMITTED without a job")
        try:
            seen = self._seen_live(known.name) or self._shop.remote.get_job(known.name)
        except NotFound:
            return self._missing(known.name)
        job = seen.job.model_copy(
            update={"name": known.name, "created_at": seen.job.created_at or known.created_at or self._sent_at()}
        )
        verdict = lifecycle.looked_at(job, seen.at)
        if isinstance(verdict, events.JobUnclear):
            return self._unclear(verdict)
        if verdict is not None:
            return verdict
        if self._record.absence:
            self._save(events.JobLearned(job))  # seen again: what it was missed for no longer counts
        delay = lifecycle.poll_delay(seen.at - (job.created_at or seen.at), self._shop.limits.poll_interval)
        return Rest("jobs are running", delay)

    def _unclear(self, verdict: events.JobUnclear) -> Outcome | None:
        """A job that is over is paid for: its answers are given up after several looks, never after one."""
        if self._spaced(verdict.at, "outcome"):
            self._save(verdict)
        if self._record.state is not ShardState.SUBMITTED:
            return None
        return Rest(f"{verdict.job.name}: {verdict.job.error}", min(GONE_SPACING, self._ceiling()))

    def _seen_live(self, name: str) -> Seen | None:
        """A job that the listing at hand shows alive. Whatever else it shows is worth a look of its own."""
        job = self._listed.by_name.get(name) if self._listed else None
        return Seen(job, self._listed.at) if self._listed and job and lifecycle.is_live(job) else None

    def _sent_at(self) -> datetime | None:
        return self._record.sends[-1].began_at if self._record.sends else None

    def _missing(self, name: str) -> Outcome:
        """404 for a recorded job. Under a wrong key everything is 404, so it counts only if something else is seen."""
        listing = self._listing()
        resting = Rest(f"the service does not know {name}", min(GONE_SPACING, self._ceiling()))
        if name not in listing.names and self._witnessed(listing) and self._spaced(listing.at):
            self._save(events.JobMissing(listing.at))
        return resting

    def _witnessed(self, listing: Listing) -> bool:
        """Whether this key sees anything else of the run."""
        return any(name.startswith(self._shop.remote_prefix) for name in listing.jobs) or self._sees_upload()

    def _spaced(self, at: datetime, of: str = "itself") -> bool:
        absence = self._record.absence
        return absence is None or absence.of != of or at - absence.last_at >= GONE_SPACING

    def _collect(self) -> Outcome:
        try:
            return events.Collected(collect(self._shop, self._record))
        except (NotFound, Denied) as error:  # an expired file answers 403 (deprecated-generative-ai-python #692)
            return self._results_missing(error)

    def _results_missing(self, error: RemoteError) -> Outcome:
        """The result file is refused. That counts only while the same key still sees something of the run."""
        job = self._record.job
        if job is None:
            raise error
        resting = Rest(f"the results cannot be fetched: {error}", min(GONE_SPACING, self._ceiling()))
        listing = self._listing()
        if (job.name in listing.names or self._witnessed(listing)) and self._spaced(listing.at):
            self._save(events.ResultsMissing(listing.at))
            if self._record.job and self._record.job.responses_file is None:
                return Rest("the results are given up", timedelta(0))
        return resting

    def _sees_upload(self) -> bool:
        upload = self._record.upload
        try:
            return upload is not None and bool(self._shop.remote.get_file(upload.name).name)
        except (NotFound, Denied):  # a file that is gone, or another project's, answers 403
            return False

    def _ceiling(self) -> timedelta:
        return timedelta(seconds=self._shop.limits.poll_interval)
