"""What a run keeps at the service: nothing for longer than it serves, and nothing that may still be needed is deleted.

A scripted service, no network; over HTTP it is in tests/integration/test_storage.py.
"""

import hashlib
import io
from dataclasses import replace
from datetime import timedelta

import orjson
import pyarrow as pa
import pytest
from audited import findings_in
from PIL import Image
from shops import Clock, Inline, make_shop
from test_paying import Service, look

from gemini_batch.coordinator.columns import Columns
from gemini_batch.coordinator.manifest import TableManifest
from gemini_batch.coordinator.start import begin, scan
from gemini_batch.errors import Denied, NotFound, Refused, Throttled, Unavailable
from gemini_batch.finish import finish
from gemini_batch.gemini.names import mark_of
from gemini_batch.jobs import stored
from gemini_batch.jobs.advance import look as look_in
from gemini_batch.jobs.advance import work
from gemini_batch.jobs.events import UploadGone
from gemini_batch.jobs.shop import Shop
from gemini_batch.jobs.tidy import end_files
from gemini_batch.jobs.verdicts import Rest, Stop
from gemini_batch.ledger.posix import PosixStore
from gemini_batch.ledger.run import RunFiles
from gemini_batch.quota.desk import Desk, MemoryBooks
from gemini_batch.records import Job, Send, ShardRecord, ShardState, Upload
from gemini_batch.status import summarise

S = ShardState
RUNNING, DONE = "BATCH_STATE_RUNNING", "BATCH_STATE_SUCCEEDED"


class Keeping(Service):
    """Counts the requests of its jobs right, and says no to deletions by the next of `refusals`."""

    def __init__(self, clock):
        super().__init__(clock)
        self.refusals, self.asked_to_delete = [], []

    def get_job(self, name):
        lines = self.inputs[self.sources[f"files/out-{name[8:]}"]].count(b"\n") if self.requests is None else None
        seen = super().get_job(name)
        return replace(seen, job=seen.job.with_requests(lines))

    def list_jobs(self):
        listing = super().list_jobs()
        shown = tuple(self.get_job(job.name).job for job in listing.every)
        return replace(listing, every=shown, jobs={job.display_name: job for job in shown})

    def delete_file(self, name):
        self.asked_to_delete.append(name)
        if self.refusals and (error := self.refusals.pop(0)):
            raise error
        super().delete_file(name)


@pytest.fixture
def service():
    return Keeping(Clock())


@pytest.fixture
def make(tmp_path, asked, limits, service):
    def make(**changes):
        terms = limits(max_requests_per_shard=2, **changes)
        return make_shop(tmp_path, asked, terms, service, service.clock, PosixStore, rows=6)

    return make


def under_way(shop, shards=(0, 1, 2)):
    """Jobs of these shards run, and have been looked at."""
    shop.remote.state = RUNNING
    for shard in shards:
        look(shop, shard)
    return [shop.last(shard).upload.deleted for shard in shards]


# --- request files ----------------------------------------------------------------------------------------------------


def test_a_request_file_goes_once_the_job_holds_all_of_it_but_for_one_that_stays_as_a_witness(make, service):
    shop = make()
    assert under_way(shop) == [False, True, True]
    assert list(service.stored) == [shop.last(0).upload.name]
    assert [shop.last(shard).upload.stored_bytes > 0 for shard in range(3)] == [True, False, False]


@pytest.mark.parametrize("requests", [1, 3])
def test_one_whose_job_holds_another_number_stays_until_the_run_ends_and_status_says_so(make, service, requests):
    shop = make()
    service.requests = requests
    assert under_way(shop) == [False, False, False]
    records = shop.all_records()
    assert {record.job.requests for record in records} == {requests}
    shown = summarise("run", shop.run, shop.plan, records, False, service.clock.now())
    (problem,) = [one for one in shown["problems"] if "another number of requests" in one["what"]]
    assert "3 jobs" in problem["what"]
    version = shop.last(1).version
    look(shop, 1)
    assert shop.last(1).version == version, "said once"
    service.state = DONE
    assert [look(shop, shard) for shard in range(3)] == [Stop()] * 3
    assert len(service.stored) == 3
    finish(shop)
    assert service.stored == {}


def test_one_whose_job_never_shows_a_number_goes_when_the_job_has_ended(make, service):
    shop = make()
    service.get_job = lambda name: replace(
        Service.get_job(service, name), job=Service.get_job(service, name).job.model_copy(update={"requests": None})
    )
    assert under_way(shop) == [False, False, False]
    service.state = DONE
    assert [look(shop, shard) for shard in range(3)] == [Stop()] * 3
    assert list(service.stored) == [shop.last(0).upload.name]


@pytest.mark.parametrize(
    ("error", "gone"),
    [
        (NotFound("404", 404), True),
        (Denied("403", 403), True),
        (Denied("401", 401), False),
        (Refused("400", 400), False),
        (Throttled("429", 429), False),
        (Unavailable("503", 503), False),
    ],
    ids=lambda value: getattr(value, "code", None),
)
def test_what_cannot_be_deleted_now_is_tried_again_and_costs_nothing(make, service, error, gone):
    """Gone is gone, whoever deleted it; of anything else the next look tries again."""
    shop = make()
    service.refusals = [error]
    assert under_way(shop, (0, 1)) == [False, gone]
    record = shop.last(1)
    assert (record.state, record.refusals, len(record.sends)) == (S.SUBMITTED, 0, 1)
    assert isinstance(look(shop, 1), Rest)
    assert shop.last(1).upload.deleted


def test_a_sweep_deletes_a_few_and_leaves_the_rest_to_the_next(make, service):
    """It holds up every run; a call may take a second."""
    shop = make()
    service.state = RUNNING
    for shard in range(3):
        work(shop, shard)
    listing = service.list_jobs()
    deleted = []
    for _ in range(3):
        shop.deletions = 1
        for shard in range(3):
            look_in(shop, shop.last(shard), listing)
        deleted.append([shop.last(shard).upload.deleted for shard in range(3)])
    assert deleted == [[False, True, False], [False, True, True], [False, True, True]]


def test_a_send_that_is_made_again_by_the_settle_rule_finds_its_file(make, service):
    """Only a recorded job lets the file go: until then the record may lead to another create with it."""
    shop = make()
    under_way(shop, (0,))
    service.script = [Unavailable("cut")]
    lost = service.create_job

    def on_the_way(*arguments):
        try:
            return lost(*arguments)
        except Unavailable:
            service.jobs.pop()
            raise

    service.create_job = on_the_way
    for _ in range(12):
        look(shop, 1, after=timedelta(minutes=10))
    record = shop.last(1)
    assert (service.uploads, len(record.sends), record.state) == (2, 2, S.SUBMITTED)
    assert record.upload.deleted


# --- what shows that a key is the run's -------------------------------------------------------------------------------


def test_a_job_that_is_missed_is_believed_gone_by_another_shards_file_when_its_own_is_deleted(make, service):
    """All jobs were deleted by hand: nothing else of the run is seen but the request file that stays."""
    shop = make()
    under_way(shop)
    service.jobs.clear()
    service.get_job = lambda name: (_ for _ in ()).throw(NotFound("404", 404))
    for _ in range(4):
        look(shop, 2)
    assert shop.last(2).job.state == "GONE"


def test_in_a_fleet_workers_agree_on_the_file_that_stays(make, service):
    """Each sees what it has read; none may delete the last one on old news."""
    shop = make()
    other = replace(
        shop,
        desk=Desk(MemoryBooks(lambda: service.clock.now().timestamp()), shop.run, shop.limits),
        records={},
        unrecorded={},
        owner="other",
    )
    service.state = RUNNING
    for shard in (2, 0, 1):
        work(shop, shard)
    listing = service.list_jobs()
    for shard, worker in ((2, other), (1, shop), (0, other), (0, shop)):
        look_in(worker, worker.last(shard), listing)
    assert list(service.stored.values()) == [shop.file_name(0, "input")]


# --- files that no record leads to any more ---------------------------------------------------------------------------


def test_the_upload_of_a_worker_that_was_overtaken_is_deleted_by_itself(make, service):
    shop = make()
    other = replace(
        shop,
        desk=Desk(MemoryBooks(lambda: service.clock.now().timestamp()), shop.run, shop.limits),
        records={},
        unrecorded={},
        owner="other",
    )
    service.state = RUNNING
    upload = service.upload

    def slowly(*arguments):
        service.upload = upload
        made = upload(*arguments)
        look(other, 0)
        return made

    service.upload = slowly
    look(shop, 0)
    assert (service.uploads, len(service.jobs)) == (2, 1)
    assert list(service.stored) == [shop.last(0).upload.name] == ["files/2"]


def test_an_upload_that_was_never_sent_and_grew_stale_is_deleted_with_the_claim(make, service):
    shop = make()
    service.script = [Throttled("429", 429)]
    look(shop, 0)
    assert shop.last(0).state is S.READY
    service.state = RUNNING
    look(shop, 0, after=timedelta(hours=25))
    assert (list(service.stored), shop.last(0).upload.name) == (["files/2"], "files/2")


def test_an_upload_that_was_refused_for_a_line_is_deleted(make, service):
    shop = make()
    under_way(shop, (0,))
    service.script = [Refused("Error on line 1: no", 400)]
    look(shop, 1)
    assert len(shop.last(1).left_out) == 1
    assert "files/2" not in service.stored


def upload(name="files/1"):
    return Upload(name=name, size_bytes=1, sha256="s", lines=1, uploaded_at=Clock().now())


def sent(number, requests):
    return Send(
        number=number, display_name=f"d{number}", sha256="s", lines=1, requests=requests, owner="o",
        began_at=Clock().now(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sends", "event", "expected"),
    [
        ((), UploadGone(2, "w"), True),
        ((sent(2, "r"),), UploadGone(2, "w"), True),
        ((sent(2, "r"), sent(4, "r")), UploadGone(4, "w"), False),
        ((sent(2, "older"), sent(4, "r")), UploadGone(4, "w"), True),
    ],
)
def test_an_upload_that_an_earlier_create_may_yet_turn_out_to_have_taken_is_kept(sends, event, expected):
    """A create that lists hid for the settle time may come to be, and its job reads the pictures then."""
    before = ShardRecord(shard=0, state=S.SENDING, upload=upload(), requests="r", sends=sends)
    assert stored.is_superseded(before, event, ShardRecord(shard=0, state=S.PLANNED)) is expected


# --- pictures ---------------------------------------------------------------------------------------------------------


class Pictured(Keeping):
    """Says when a picture is deleted while a job of its shard runs."""

    def delete_file(self, name):
        shown = self.stored.get(name, "")
        shard = shown.split("-")[2] if shown else ""
        live = [job for job in self.jobs if f"-{shard}-" in job.display_name and self.state == RUNNING]
        assert shown.endswith("-input") or not live, "a picture was deleted while its job ran"
        super().delete_file(name)


@pytest.fixture
def pictures(tmp_path, asked, limits):
    """A run of three shards, each with two pictures that are uploaded."""
    service, terms = Pictured(Clock()), limits(max_requests_per_shard=2)
    kind = pa.list_(pa.struct([("text", pa.string()), ("data", pa.binary())]))
    rows = [[{"text": f"p{row}"}, {"data": picture(row)}] for row in range(6)]
    manifest = TableManifest(pa.table({"parts": pa.array(rows, kind)}), "t", tmp_path, Columns())
    plan = scan(manifest, asked(media="upload"), (tmp_path,), terms)
    files = RunFiles(PosixStore(tmp_path / "run"))
    what = asked(rows=plan.rows, rows_digest=plan.rows_digest, media="upload")
    begin(files, manifest, what, plan, (tmp_path,), terms, "run", service.clock)
    run, books = files.record(), MemoryBooks(lambda: service.clock.now().timestamp())
    return Shop(
        run=run, limits=terms, files=files, plan=files.plan(), remote=service,
        desk=Desk(books, run, terms), pool=Inline(), clock=service.clock, owner="o",
    )  # fmt: skip


def picture(number):
    body = io.BytesIO()
    Image.new("RGB", (8, 8), (number * 20, 30, 30)).save(body, "PNG")
    return body.getvalue()


def test_pictures_stay_until_the_job_has_ended_and_its_results_are_here(pictures):
    shop, service = pictures, pictures.remote
    under_way(shop)
    assert len(service.stored) == 6 + 1
    record = shop.last(1)
    assert (record.upload.media, record.upload.media_deleted) == (2, False)
    assert record.upload.stored_bytes == record.upload.media_bytes == len(picture(2)) + len(picture(3))
    service.state = DONE
    download, service.download = service.download, lambda *_: (_ for _ in ()).throw(Unavailable("cut"))
    look(shop, 1)
    assert len(service.stored) == 7, "the results are not here yet"
    service.download = download
    assert look(shop, 1) == Stop()
    assert len(service.stored) == 5
    assert shop.last(1).upload.stored_bytes == 0
    assert [look(shop, shard) for shard in (0, 2)] == [Stop()] * 2
    finish(shop)
    assert service.stored == {}
    assert findings_in(shop) == []


def test_pictures_that_cannot_be_deleted_hold_up_nothing_and_go_with_the_end_of_the_run(pictures):
    shop, service = pictures, pictures.remote
    under_way(shop)
    service.state = DONE
    service.refusals = [Unavailable("503", 503)] * 30
    assert [look(shop, shard) for shard in range(3)] == [Stop()] * 3
    assert len(service.stored) >= 4
    service.refusals = []
    finish(shop)
    assert service.stored == {}
    assert {shop.last(shard).upload.stored_bytes for shard in range(3)} == {0}
    assert findings_in(shop) == []


# --- the end of the run -----------------------------------------------------------------------------------------------


def test_what_dead_processes_uploaded_is_found_by_its_name_and_nothing_of_others_is_touched(make, service):
    shop = make()
    assert [look(shop, shard) for shard in range(3)] == [Stop()] * 3
    others = {
        "files/a": f"gbd-run-2-000000-{mark_of(shop.run.nonce)}-input",
        "files/f": f"gbd-run-000000-{mark_of('of another directory')}-input",
        "files/b": "gbd-another-000001-0123456789abcdef",
        "files/c": "my own file",
        "files/d": shop.file_name(7, "input"),
        "files/e": "",
    }
    debris = {"files/x": shop.file_name(1, "input"), "files/y": shop.file_name(2, "0123456789abcdef")}
    service.stored |= others | debris
    finish(shop)
    assert service.stored == others


def test_a_service_that_cannot_be_asked_holds_no_dataset_back(make, service):
    shop = make()
    assert [look(shop, shard) for shard in range(3)] == [Stop()] * 3
    service.list_files = lambda: (_ for _ in ()).throw(Unavailable("503", 503))
    finish(shop)
    assert shop.files.is_finished()


def test_files_of_shards_that_are_not_collected_are_left_alone(make, service):
    """Such as those of a round that another process has begun."""
    shop = make()
    under_way(shop)
    end_files(shop)
    assert list(service.stored) == ["files/1"]


def test_the_size_of_a_result_file_is_known_though_it_cannot_be_deleted(make, service):
    shop = make()
    look(shop, 0)
    tally = shop.last(0).tally
    whole = service.answers()
    assert (tally.raw_bytes, tally.raw_sha256) == (len(whole), hashlib.sha256(whole).hexdigest())


def test_records_of_a_release_that_did_not_delete_can_be_read():
    body = orjson.loads(ShardRecord(shard=0, upload=upload(), job=Job(name="b", display_name="d")).model_dump_json())
    for name in ("deleted", "media", "media_bytes", "media_deleted"):
        del body["upload"][name]
    assert ShardRecord.model_validate(body).upload.stored_bytes == 1


def test_every_witness_is_asked_for_but_not_hundreds():
    """The shard's own file, then the newest: old ones go by themselves."""
    at = Clock().now()
    others = [
        ShardRecord(
            shard=number, upload=upload(f"files/{number}").model_copy(update={"uploaded_at": at + timedelta(number)})
        )
        for number in range(9)
    ]
    gone = others[0].model_copy(update={"upload": others[0].upload.model_copy(update={"deleted": True})})
    assert stored.witnesses(others[0], others) == ["files/0", "files/8", "files/7"]
    assert stored.witnesses(gone, others[1:]) == ["files/8", "files/7", "files/6"]
