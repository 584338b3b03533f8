"""Any history of workers, deaths, answers, lists, disks and time: no shard is paid for twice without leave, no send is
repeated without a recorded reason, what is final stays so, and no job is lost sight of.

Hypothesis drives two processes over one ledger and a service that does what services do. The invariants are checked
after every step; in the end everything heals, and what was paid for is there. CHAOS_HISTORIES makes it more of them.
"""

import os
import tempfile
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from audited import findings_in
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from made import make_asked, make_limits
from shops import Clock, make_shop
from test_crash_points import Announced, Died

from gemini_batch import effects
from gemini_batch.errors import Denied, NotFound, NotSent, Refused, RunStopped, Throttled, Unavailable
from gemini_batch.gemini.names import read_file_name
from gemini_batch.gemini.remote import Listing
from gemini_batch.jobs.advance import advance, look, work
from gemini_batch.jobs.tidy import end_files
from gemini_batch.jobs.twins import end_all
from gemini_batch.jobs.verdicts import Stop
from gemini_batch.ledger.objects import ObjectStore
from gemini_batch.ledger.run import RunFiles
from gemini_batch.records import Job, ShardRecord, ShardState

SHARDS, WORKERS = 3, 2
REFUSALS = {"not sent": NotSent("no route"), "429": Throttled("429", 429), "no such file": Refused("404", 404)}
FREEING = {"SendFailed", "UploadGone", "Settled"}
"""The recorded reasons for another send."""

FATES = ("made", "made, the answer lost", "made later", "lost on the way", *REFUSALS)


class Fickle(Announced):
    """Does with the next create as `fate` says; `hidden` jobs are in no list, of `late` ones nobody knows yet."""

    def __init__(self, clock):
        self.fate, self.late, self.unseen, self.stranger = "made", [], set(), False
        super().__init__(clock)
        self.requests = 1

    def create_job(self, model, file_name, display_name):
        fate, self.fate = self.fate, "made"
        if fate in REFUSALS:
            raise REFUSALS[fate]
        assert file_name in self.stored, "a create with a file that was deleted"
        if fate != "lost on the way":
            number = len(self.jobs) + len(self.late) + 1
            self.sources[f"files/out-{number}"] = file_name
            job = Job(name=f"batches/{number}", display_name=display_name, created_at=self.clock.now(), requests=1)
            (self.late if fate == "made later" else self.jobs).append(job)
        if fate != "made":
            raise Unavailable(fate)
        return job

    def list_jobs(self):
        seen = [job for job in self.jobs if job.name not in self.unseen and not self.stranger]
        by_name = {job.display_name: job for job in reversed(seen)}
        return Listing(by_name, frozenset(job.name for job in seen), self.clock.now(), tuple(seen))

    def get_job(self, name):
        if self.stranger:
            raise NotFound("404", 404)
        return super().get_job(name)

    def get_file(self, name):
        if self.stranger:
            raise Denied("403", 403)
        return super().get_file(name)


class Disk(ObjectStore):
    """Takes no record while it is `full`; while `cut off` it does as it is told, and its answers are lost."""

    how = "well"

    def create(self, name, body):
        if self.how == "full":
            raise OSError(28, "No space left on device")
        return self._told(name, super().create(name, body))

    def read(self, name):
        return self._told(name, super().read(name))

    def _told(self, name, answer):
        if self.how == "cut off" and name.startswith("ledger/"):
            raise OSError(5, "Input/output error")
        return answer


class Histories(RuleBasedStateMachine):
    on_unknown = "wait"

    @initialize()
    def begin(self):
        self.clock, self.disk = Clock(), Disk("memory:///")
        self.service = Fickle(self.clock)
        self.crew = [self.process() for _ in range(WORKERS)]
        self.seen = [ShardRecord(shard=shard) for shard in range(SHARDS)]
        self.owed, self.settled = set(), Counter()

    def process(self):
        limits = make_limits(max_requests_per_shard=1, on_unknown=self.on_unknown)
        return make_shop(
            Path(tempfile.gettempdir()), make_asked, limits, self.service, self.clock, lambda _: self.disk, rows=SHARDS
        )

    @rule(worker=st.integers(0, WORKERS - 1), shard=st.integers(0, SHARDS - 1), how=st.sampled_from([advance, work]))
    def go(self, worker, shard, how):
        with suppress(RunStopped):  # the pilot was refused: a person says go on
            how(self.crew[worker], shard)

    @rule(worker=st.integers(0, WORKERS - 1), shard=st.integers(0, SHARDS - 1), at=st.integers(1, 25))
    def go_and_die(self, worker, shard, at):
        left = [at]

        def hook(point, phase):
            left[0] -= phase == "before" or point.startswith("remote.")
            if left[0] == 0:
                raise Died

        effects.observe(hook)
        try:
            advance(self.crew[worker], shard)
        except (Died, RunStopped):
            effects.observe(None)
            self.crew[worker] = self.process()
        finally:
            effects.observe(None)

    @rule(worker=st.integers(0, WORKERS - 1))
    def sweep(self, worker):
        shop = self.crew[worker]
        with suppress(OSError):  # as a sweep does
            before, listing = [shop.last(shard) for shard in range(SHARDS)], self.service.list_jobs()
            for record in before:
                look(shop, record, listing)

    @rule(fate=st.sampled_from(FATES))
    def next_create_is(self, fate):
        self.service.fate = fate

    @rule(number=st.integers(1, 6))
    def list_hides(self, number):
        self.service.unseen ^= {f"batches/{number}"}

    @rule(stranger=st.booleans())
    def key_is_anothers(self, stranger):
        self.service.stranger = stranger

    @rule()
    def late_jobs_land(self):
        self.service.jobs += self.service.late
        self.service.late = []

    @rule(how=st.sampled_from(["well", "full", "cut off"]))
    def disk_is(self, how):
        self.disk.how = how

    @rule(state=st.sampled_from(["BATCH_STATE_RUNNING", "BATCH_STATE_SUCCEEDED"]))
    def jobs_are(self, state):
        self.service.state = state

    @rule(minutes=st.sampled_from([1, 10, 61]))
    def time_passes(self, minutes):
        self.clock.passed += timedelta(minutes=minutes)

    @invariant()
    def every_record_follows_from_the_one_before(self):
        if not hasattr(self, "seen"):
            return
        how, self.disk.how = self.disk.how, "well"
        for shard, files in enumerate([RunFiles(self.disk)] * SHARDS):
            while record := files.history(shard).at(self.seen[shard].version + 1):
                self.review(self.seen[shard], record)
                self.seen[shard] = record
        self.disk.how = how

    def review(self, before, after):
        if after.cause == "SendBegan":
            assert after.shard not in self.owed
            self.owed.add(after.shard)
        elif after.cause in FREEING:
            self.owed.discard(after.shard)
        self.settled[after.shard] += after.cause == "Settled"
        if before.job:
            assert after.job.name == before.job.name
        if before.state is ShardState.COLLECTED:
            assert (after.state, after.tally, after.requests) == (before.state, before.tally, before.requests)

    @invariant()
    def no_shard_is_paid_for_again_but_by_the_settle_rule(self):
        if hasattr(self, "service"):
            jobs = Counter(int(job.display_name.split("-")[2]) for job in (*self.service.jobs, *self.service.late))
            assert all(count <= 1 + self.settled[shard] for shard, count in jobs.items()), (jobs, self.settled)
            assert self.on_unknown == "resubmit" or not self.settled.total()

    def teardown(self):
        """Everything heals: whatever was paid for is found, and its rows are there."""
        if not hasattr(self, "service"):
            return
        self.late_jobs_land()
        self.disk.how, service = "well", self.service
        service.fate, service.unseen, service.stranger, service.state = "made", set(), False, "BATCH_STATE_SUCCEEDED"
        last = self.process()
        for _ in range(30):
            self.time_passes(10)
            verdicts = [advance(last, shard) for shard in range(SHARDS)]
        end_all(last)
        end_files(last)
        records = [last.last(shard) for shard in range(SHARDS)]
        left = {read_file_name(shown).shard for shown in service.stored.values()}
        assert not left & {record.shard for record in records if record.job}, "files of collected shards are left"
        found = {job.name for record in records for job in (record.job, *record.twins) if job}
        assert found == {job.name for job in service.jobs}
        for record, verdict in zip(records, verdicts, strict=True):
            assert (verdict == Stop()) is (record.job is not None)
            assert record.state is (ShardState.COLLECTED if record.job else ShardState.UNKNOWN)
            assert record.job or self.on_unknown == "wait"
            assert record.tally is None or record.tally.by_status == {"ok": 1}
        twins = {record.shard for record in records if record.twins}
        assert {(one.kind, one.shard) for one in findings_in(last)} == {("bought_twice", shard) for shard in twins}


class Resubmitted(Histories):
    on_unknown = "resubmit"


Histories.TestCase.settings = Resubmitted.TestCase.settings = settings(
    max_examples=int(os.environ.get("CHAOS_HISTORIES", "25")), stateful_step_count=40, deadline=None
)
TestAnyHistory, TestAnyHistoryUnderResubmit = Histories.TestCase, Resubmitted.TestCase
