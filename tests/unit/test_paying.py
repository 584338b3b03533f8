"""The one call that costs money, under everything that can come of it: a scripted service, no network."""

import hashlib
from dataclasses import replace
from datetime import timedelta

import orjson
import pytest
from shops import Clock, make_shop

from gemini_batch.coordinator.repair import next_round
from gemini_batch.errors import Denied, NotFound, NotSent, Refused, RunStopped, Throttled, Unavailable
from gemini_batch.gemini.remote import Listing, Seen, StoredFile
from gemini_batch.jobs.advance import advance
from gemini_batch.jobs.collect import collect
from gemini_batch.jobs.verdicts import AwaitDesk, Rest, Stop
from gemini_batch.ledger.posix import PosixStore
from gemini_batch.quota.desk import Desk, MemoryBooks
from gemini_batch.records import Job, ShardState

S = ShardState


class Service:
    """Answers each create by the next of `script` (an error to raise, or None); `hidden` jobs are in no listing."""

    def __init__(self, clock):
        self.clock = clock
        self.script = []
        self.jobs = []
        self.inputs = {}
        self.sources = {}
        self.asked = 0
        self.hidden = False
        self.uploads = 0
        self.state = "BATCH_STATE_SUCCEEDED"
        self.downloads = []
        self.size_bytes = None
        self.sha256 = None
        self.requests = None
        self.cancelled = []
        self.stored = {}

    def upload(self, path, display_name, mime_type):
        self.uploads += 1
        name = f"files/{self.uploads}"
        self.inputs[name], self.stored[name] = path.read_bytes(), display_name
        return StoredFile(name, name, path.stat().st_size)

    def delete_file(self, name):
        if self.stored.pop(name, None) is None:
            raise Denied("403", 403)

    def list_files(self):
        return tuple(StoredFile(name, name, 1, display_name=shown) for name, shown in self.stored.items())

    def create_job(self, model, file_name, display_name):
        self.asked += 1
        assert file_name in self.stored, "a create with a file that was deleted"
        outcome = self.script.pop(0) if self.script else None
        if outcome is None or isinstance(outcome, Unavailable):
            number = len(self.jobs) + 1
            self.sources[f"files/out-{number}"] = file_name
            self.jobs.append(Job(name=f"batches/{number}", display_name=display_name, created_at=self.clock.now()))
        if outcome is not None:
            raise outcome
        return self.jobs[-1]

    def cancel_job(self, name):
        self.cancelled.append(name)

    def get_job(self, name):
        job = next(job for job in self.jobs if job.name == name)
        seen = {
            "state": "BATCH_STATE_CANCELLED" if name in self.cancelled else self.state,
            "responses_file": f"files/out-{name[8:]}",
            "ended_at": self.clock.now(),
            "requests": self.requests,
        }
        return Seen(job.model_copy(update=seen), self.clock.now())

    def list_jobs(self):
        jobs = () if self.hidden else tuple(self.jobs)
        by_name = {job.display_name: job for job in reversed(jobs)}
        return Listing(by_name, frozenset(job.name for job in jobs), self.clock.now(), jobs)

    def get_file(self, name):
        if isinstance(self.size_bytes, Exception):
            raise self.size_bytes
        return StoredFile(name, "u", self.size_bytes, sha256=self.sha256)

    def download(self, name, target):
        target.write_bytes(self.downloads.pop(0) if self.downloads else self.answers(name))

    def answers(self, name="files/out-1"):
        found = {"candidates": [{"content": {"parts": [{"text": "yes"}]}, "finishReason": "STOP"}]}
        keys = [orjson.loads(line)["key"] for line in self.inputs[self.sources[name]].splitlines()]
        return b"".join(orjson.dumps({"key": key, "response": found}) + b"\n" for key in keys)


class FullDisk(PosixStore):
    """Refuses to create anything while `full`."""

    full = False

    def create(self, name, body):
        if FullDisk.full and name.startswith("ledger/"):
            raise OSError(28, "No space left on device")
        return super().create(name, body)


class CutOff(PosixStore):
    """Does what it is asked while `cut`, and its answers are lost."""

    cut = False

    def create(self, name, body):
        return self._told(super().create(name, body))

    def read(self, name):
        return self._told(super().read(name))

    def _told(self, answer):
        if CutOff.cut:
            raise OSError(5, "Input/output error")
        return answer


@pytest.fixture
def service():
    return Service(Clock())


@pytest.fixture
def make(tmp_path, asked, limits, service):
    def make(store=PosixStore, **changes):
        return make_shop(tmp_path, asked, limits(**changes), service, service.clock, store, rows=4)

    return make


def look(shop, shard=0, after=timedelta(minutes=30)):
    shop.clock.passed += after
    return advance(shop, shard)


def test_a_job_whose_name_could_not_be_recorded_is_recorded_before_anything_else(make, service, monkeypatch):
    """A full disk at the worst moment: the name is known, and a hidden job must not be bought again."""
    shop = make(FullDisk)
    service.hidden = True
    created = service.create_job

    def create_on_a_full_disk(*arguments):
        FullDisk.full = True
        return created(*arguments)

    monkeypatch.setattr(service, "create_job", create_on_a_full_disk)
    assert isinstance(look(shop), Rest)
    assert shop.last(0).state is S.SENDING
    FullDisk.full = False
    assert look(shop) == Stop()
    assert (service.asked, shop.last(0).job.name) == (1, "batches/1")


@pytest.mark.parametrize("error", [Throttled("429", 429), Refused("404", 404)])
def test_what_was_recorded_although_the_disk_said_otherwise_is_not_recorded_again(make, service, monkeypatch, error):
    """A refusal that the record already holds fits no longer; the shard goes on from where it is."""
    shop = make(CutOff)
    service.script = [error]
    created = service.create_job

    def create_while_cut_off(*arguments):
        monkeypatch.setattr(CutOff, "cut", True)
        return created(*arguments)

    monkeypatch.setattr(service, "create_job", create_while_cut_off)
    assert isinstance(look(shop), Rest)
    monkeypatch.setattr(CutOff, "cut", False)
    monkeypatch.setattr(service, "create_job", created)
    assert look(shop) == Stop()
    assert len(service.jobs) == 1


def test_a_lost_answer_is_found_by_name_and_adopted(make, service):
    shop = make()
    service.script = [Unavailable("cut")]
    assert look(shop) == Stop()
    assert (service.asked, shop.last(0).job.name) == (1, "batches/1")


def test_all_jobs_of_one_send_are_recorded_the_oldest_is_the_shards(make, service):
    """An HTTP stack that sends twice makes two bills; the second must at least be known."""
    shop = make()
    service.script = [Unavailable("cut")]
    service.state = "BATCH_STATE_RUNNING"
    created = service.create_job

    def twice(*arguments):
        with pytest.raises(Unavailable):
            created(*arguments)
        return created(*arguments) and (_ for _ in ()).throw(Unavailable("cut"))

    service.create_job = twice
    look(shop)
    record = shop.last(0)
    assert (record.job.name, [twin.name for twin in record.twins]) == ("batches/1", ["batches/2"])


def test_a_listing_from_before_the_send_is_no_absence(make, service):
    """The settle time runs from the first look after the send, not from one that could not have seen it."""
    shop = make()
    shop.listing(shop.clock.boottime())  # another shard's look, at the same instant
    listed = service.list_jobs
    looked = []
    service.list_jobs = lambda: looked.append(1) or listed()
    service.hidden, service.script = True, [Unavailable("cut")]
    created = service.create_job

    def slowly(*arguments):
        service.clock.passed += timedelta(minutes=2)
        return created(*arguments)

    service.create_job = slowly
    look(shop)
    assert looked
    assert shop.last(0).absence.first_at == service.clock.now()


def test_under_wait_a_hidden_job_is_never_bought_again(make, service):
    shop = make(on_unknown="wait")
    service.hidden, service.script = True, [Unavailable("cut")]
    for _ in range(200):
        assert isinstance(look(shop), Rest)
    assert (service.asked, shop.last(0).state) == (1, S.UNKNOWN)
    assert shop.last(0).version < 12  # looking without news writes nothing


def test_under_resubmit_a_send_that_stayed_absent_is_made_again_once(make, service):
    shop = make()
    service.hidden, service.script = True, [Unavailable("cut")]
    look(shop)
    while service.asked == 1:
        verdict = look(shop, after=timedelta(minutes=10))
    assert verdict == Stop()
    assert service.clock.passed >= timedelta(hours=1)
    assert service.asked == 2


@pytest.mark.parametrize("error", [Throttled("429", 429), NotSent("refused")])
def test_a_day_of_not_now_costs_no_attempt_and_the_record_does_not_grow(make, service, error):
    shop = make(max_requests_per_shard=1)
    service.script = [error] * 20
    sizes = []
    while service.script:
        assert isinstance(look(shop, after=timedelta(minutes=16)), Rest | AwaitDesk)
        sizes.append(len(shop.last(0).model_dump_json()))
    assert max(sizes) < 2 * min(sizes)
    assert (look(shop, after=timedelta(hours=2)), service.uploads) == (Stop(), 1)


def test_after_a_429_one_shard_asks_again_for_all(make, service):
    """A hundred shards that ask once a minute each are refused a hundred times a minute."""
    shop = make(max_requests_per_shard=1)
    service.state = "BATCH_STATE_RUNNING"
    look(shop, 0)
    service.script = [Throttled("429", 429)]
    look(shop, 1)
    asked = service.asked
    assert isinstance(look(shop, 2, after=timedelta(0)), AwaitDesk)
    assert service.asked == asked
    assert isinstance(look(shop, 1), Rest)
    assert shop.last(1).state is S.SUBMITTED
    assert isinstance(look(shop, 2), Rest)
    assert shop.last(2).state is S.SUBMITTED


def test_a_shard_that_is_refused_for_minutes_with_nothing_else_live_is_split_and_its_rows_cost_no_attempt(
    make, service
):
    """It may be larger than the limit. Its halves are the next round's."""
    shop = make()
    service.script = [Throttled("429", 429)] * 3
    for _ in range(2):
        assert isinstance(look(shop), Rest)
    assert look(shop) == Stop()
    record = shop.last(0)
    assert (record.too_large, record.tally.by_kind, service.asked) == (True, {"invalid_argument": 4}, 3)
    assert {failed.attempts for failed in record.tally.failed} == {0}
    halves = next_round(shop.run, shop.plan, shop.records, shop.limits, shop.clock.now())
    assert [(batch.sources, batch.max_requests) for batch in halves] == [((0,), 2)]


def test_until_a_job_is_accepted_one_shard_goes_ahead_and_its_refusal_stops_the_run(make, service):
    shop = make(max_requests_per_shard=1)
    service.script = [Refused("400: no such field", 400)]
    with pytest.raises(RunStopped, match="no such field"):
        look(shop, 0)
    assert isinstance(look(shop, 1), AwaitDesk)
    assert (service.jobs, shop.last(0).state) == ([], S.READY)


def test_a_lost_pilot_holds_nothing_else_back(make, service):
    """Under `wait` it may stay lost for ever; the others are not to blame."""
    shop = make(max_requests_per_shard=1, on_unknown="wait")
    service.hidden, service.script = True, [Unavailable("cut")]
    look(shop, 0)
    assert look(shop, 1) == Stop()


def test_a_refused_key_stops_the_run_and_nothing_counts_as_sent(make, service):
    shop = make()
    service.script = [Denied("403", 403)]
    with pytest.raises(RunStopped, match="refuses the key"):
        look(shop)
    assert (shop.last(0).state, shop.last(0).sends) == (S.READY, ())
    assert look(shop) == Stop()


def test_a_request_file_that_vanished_is_uploaded_again(make, service):
    shop = make()
    service.script = [Refused("404", 404)]
    assert look(shop) == Stop()
    assert (service.uploads, len(service.jobs)) == (2, 1)


def test_a_download_that_was_cut_is_not_accepted(make, service):
    """Half a file can come with HTTP 200: the size, the count, or the same bytes twice must vouch for it."""
    shop = make()
    service.requests = 4
    look(shop, after=timedelta(0))
    whole = service.answers()
    assert shop.last(0).tally.by_status == {"ok": 4}
    for size, requests, script, fetched in (
        (len(whole), None, [whole], 1),
        (None, 4, [whole], 1),
        (None, None, [whole, whole], 2),
        (None, 5, [whole, whole], 2),  # one line is missing for good
        (99, 4, [whole], 1),
        (len(whole), 4, [whole[:-9], whole], 2),  # within the last line, so that the lines count right
        (None, 4, [whole[:-9], whole, whole], 3),
        (NotFound("404", 404), None, [whole, whole], 2),
        (len(whole), 4, [whole[:50], whole[:50], whole], 3),
    ):
        check_download(shop, service, size, requests, script, fetched)


def test_a_download_with_a_flipped_bit_is_not_accepted(make, service):
    """It has the right size and the right number of lines; one of them is broken or, worse, another answer."""
    shop = make()
    service.requests = 4
    look(shop, after=timedelta(0))
    whole = service.answers()
    flipped = whole[:80] + bytes([whole[80] ^ 1]) + whole[81:]
    for sha256, script, fetched in (
        (hashlib.sha256(whole).hexdigest(), [whole], 1),
        (hashlib.sha256(whole).hexdigest(), [flipped, whole, whole], 3),
        (hashlib.sha256(b"something else").hexdigest(), [whole, whole], 2),  # not of what is downloaded, it seems
        (hashlib.sha256(b"something else").hexdigest(), [flipped, whole, whole, whole], 4),
    ):
        service.sha256 = sha256
        check_download(shop, service, len(whole), 4, script, fetched)


def check_download(shop, service, size, requests, script, fetched):
    shop.files.store.delete("raw/000000.jsonl.zst")
    service.size_bytes, service.downloads = size, list(script)
    record = shop.last(0)
    record = record.model_copy(update={"job": record.job.model_copy(update={"requests": requests})})
    for _ in range(3):
        try:
            tally = collect(shop, record)
        except Unavailable:
            continue
        break
    assert tally.by_status == {"ok": 4}
    assert len(script) - len(service.downloads) == fetched


def test_of_two_workers_on_one_shard_only_the_writer_of_sending_sends(make, service, tmp_path):
    """The other one has read READY already; a name in the ledger, not a lock, keeps it from buying."""
    slow = make()
    quick = replace(slow, desk=Desk(MemoryBooks(), slow.run, slow.limits), records={}, owner="other")
    service.state = "BATCH_STATE_RUNNING"
    may_send = slow.desk.may_send

    def overtaken(record, *size):
        service.script = []
        advance(quick, record.shard)
        return may_send(record, *size)

    slow.desk.may_send = overtaken
    assert isinstance(look(slow), Rest)
    assert (service.asked, len(service.jobs)) == (1, 1)
    assert slow.last(0).sends == quick.last(0).sends


def causes(shop):
    """What has happened to the first shard, by its ledger."""
    store = shop.files.store
    return [orjson.loads(store.read(f"ledger/000000/{name}"))["cause"] for name in store.names("ledger/000000")]


def test_a_sender_that_slept_after_recording_the_send_does_not_send(make, service):
    """A laptop that was shut for a while: others may have looked for the job by now, and not found it."""
    shop = make()
    may_send, naps = shop.desk.may_send, [timedelta(seconds=31), timedelta(seconds=29)]

    def sleepily(record, *size):
        if record.state is S.SENDING:
            shop.clock.passed += naps.pop(0)
        return may_send(record, *size)

    shop.desk.may_send = sleepily
    assert look(shop) == Stop()
    assert causes(shop)[2:] == ["SendBegan", "SendFailed", "SendBegan", "JobLearned", "JobEnded", "Collected"]
    assert service.asked == 1


def test_an_answer_that_comes_after_others_gave_the_send_up_is_recorded(make, service):
    """A sender that is slow looks dead. What it learns is true all the same, and a hidden job would else be lost."""
    shop = make()
    other = replace(shop, records={}, unrecorded={}, owner="other")
    service.hidden = True
    created = service.create_job

    def slowly(*arguments):
        assert isinstance(advance(other, 0), Rest)
        assert other.last(0).state is S.UNKNOWN
        return created(*arguments)

    service.create_job = slowly
    assert look(shop) == Stop()
    assert (service.asked, shop.last(0).job.name) == (1, "batches/1")


def test_a_list_that_lacks_a_recorded_job_is_no_proof_of_absence(make, service):
    """A truncated list once wrote off 85 live jobs (sourcelibrary-v2 #4889)."""
    shop = make(max_requests_per_shard=1)
    service.state = "BATCH_STATE_RUNNING"
    look(shop, 0)
    service.hidden, service.script = True, [Unavailable("cut")]
    for _ in range(20):
        verdict = look(shop, 1)
    assert "batches/1" in verdict.reason
    assert (service.asked, shop.last(1).absence) == (2, None)
