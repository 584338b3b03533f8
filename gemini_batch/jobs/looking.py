"""What became of a send, of a job and of its results: looked for, looked at, fetched.

Nothing that was paid for is given up after one look.
"""

from datetime import datetime, timedelta

from gemini_batch.errors import Denied, NotFound, RemoteError
from gemini_batch.gemini.remote import Listing, Seen
from gemini_batch.jobs import events, lifecycle, stored, tidy
from gemini_batch.jobs.collect import collect
from gemini_batch.jobs.held import Held
from gemini_batch.jobs.verdicts import Outcome, Rest
from gemini_batch.records import Job, ShardState

GONE_SPACING = timedelta(minutes=4)
"""Between two looks at a job that answers 404."""


class Looking(Held):
    """Takes an UNKNOWN, SUBMITTED or ENDED shard on."""

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
        if self._shop.order == "cancel":
            self._shop.remote.cancel_job(job.name)  # asked for at each look: asking again does no harm
            return Rest(f"{job.name} is being cancelled")
        if lifecycle.is_stuck(self._record, job, seen.at, self._shop.limits.stuck):
            return self._cancel_stuck(job, seen.at)
        self._heed_count(job)
        delay = lifecycle.poll_delay(seen.at - (job.created_at or seen.at), self._shop.limits.poll_interval)
        return Rest(lifecycle.why_it_runs(job, seen.at), delay)

    def _heed_count(self, job: Job) -> None:
        """Delete the request file of a job that is seen to hold all of it; of one that does not, say so."""
        known = self._record.job
        if known and known.requests is None and stored.miscounts(self._record, job):
            self._save(events.JobLearned(job))
        elif gone := tidy.delete_input(self._shop, self._record, job, counted=self._listed is not None):
            self._save(gone)

    def _cancel_stuck(self, job: Job, at: datetime) -> Rest:
        """Recorded first: whoever sees the job end then knows that its rows are to be bought again."""
        if self._record.stuck_since is None:
            self._save(events.JobStuck(at))
        if self._record.state is ShardState.SUBMITTED and self._record.stuck_since:
            self._shop.remote.cancel_job(job.name)
        return Rest(f"{job.name} ran for too long and is being cancelled", self._ceiling())

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

    def _collect(self) -> Outcome | None:
        try:
            tally = collect(self._shop, self._record)
        except (NotFound, Denied) as error:  # an expired file answers 403 (deprecated-generative-ai-python #692)
            return self._results_missing(error)
        if (gone := tidy.delete_spent(self._shop, self._record)) and not self._save(gone):
            return None  # somebody else took the shard on
        return events.Collected(tally)

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
        """Whether a request file of the run is seen: the shard's own, if it is still stored, or another's."""
        return any(self._sees(name) for name in stored.witnesses(self._record, self._shop.all_records()))

    def _sees(self, name: str) -> bool:
        try:
            return bool(self._shop.remote.get_file(name).name)
        except (NotFound, Denied):  # a file that is gone, or another project's, answers 403
            return False
