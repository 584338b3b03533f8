"""What every backend of the run directory must do: a POSIX folder, and obstore in memory and over the wire."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock

import pyarrow as pa
import pytest

from gemini_batch import rundir
from gemini_batch.clock import SystemClock
from gemini_batch.config import Options
from gemini_batch.coordinator.columns import Columns
from gemini_batch.coordinator.manifest import TableManifest
from gemini_batch.coordinator.start import begin, scan
from gemini_batch.errors import BadInput
from gemini_batch.ledger.log import Log
from gemini_batch.ledger.objects import GET_BYTES, PUT_BYTES, ObjectStore
from gemini_batch.ledger.posix import PosixStore
from gemini_batch.ledger.probe import RACERS, probe
from gemini_batch.ledger.run import RunFiles
from gemini_batch.parquet import read_blocks
from gemini_batch.records import Asked, ShardPlan, ShardRecord


@pytest.fixture(params=["posix", "memory", "s3"])
def another(request, tmp_path):
    """Makes one more handle on the same place, as another process would."""
    if request.param == "posix":
        return lambda: PosixStore(tmp_path / "run")
    if request.param == "memory":
        alone = ObjectStore("memory:///")
        alone.names("")  # the memory belongs to the first connection
        return lambda: alone
    s3 = request.getfixturevalue("s3")
    for name, value in s3.env.items():
        request.getfixturevalue("monkeypatch").setenv(name, value)
    url = f"s3://{s3.new_bucket()}/runs/one"
    return lambda: ObjectStore(url)


@pytest.fixture
def store(another):
    return another()


def put(store, name, body):
    with store.scratch(name.rpartition("/")[2]) as scratch:
        scratch.write_bytes(body)
        store.publish(name, scratch)
    return scratch


# --- objects ----------------------------------------------------------------------------------------------------------


def test_of_eight_threads_that_create_one_name_exactly_one_wins(another):
    """Safety rests on this operation alone."""
    gate, rounds = Barrier(8), 10

    def race(number):
        store, wins = another(), []
        for turn in range(rounds):
            gate.wait()
            wins.append(store.create(f"folder/{turn}", bytes([number]) * 10_000))
        return wins

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(race, range(8)))
    for turn, outcomes in enumerate(zip(*results, strict=True)):
        assert outcomes.count(True) == 1
        assert another().read(f"folder/{turn}") == bytes([outcomes.index(True)]) * 10_000


def test_create_does_not_touch_what_is_there(store):
    assert (store.create("a/b/c", b"one"), store.create("a/b/c", b"two")) == (True, False)
    assert store.read("a/b/c") == b"one"


def test_reading_and_listing_what_is_absent_is_none_and_empty(store):
    for name in ("x", "x/y"):
        assert (store.read(name), store.exists(name), store.modified(name)) == (None, False, None)
    assert (store.names("x"), store.names("")) == ([], [])
    store.delete("absent")
    store.create("file", b"")
    assert (store.read("file/below"), store.modified("file/below"), store.names("file")) == (None, None, [])
    with pytest.raises(FileNotFoundError), store.local("absent") as path:
        path.read_bytes()


def test_names_are_sorted_and_direct_files_and_folders(store):
    """A run directory is recognised as ours by the names at its root."""
    for name in ("f/2", "f/1", "f/below/3", "f2/x", "_SUCCESS"):
        store.create(name, b"")
    assert store.names("f") == ["1", "2", "below"]
    assert [name for name in store.names("") if name != ".scratch"] == ["_SUCCESS", "f", "f2"]


def test_publish_replaces_in_one_step_and_takes_the_scratch_file_away(store):
    for body in (b"old", b"new", b""):
        scratch = put(store, "folder/x", body)
        assert (store.read("folder/x"), scratch.exists()) == (body, False)


@pytest.mark.parametrize("size", [0, 1, PUT_BYTES + 1, GET_BYTES, GET_BYTES + PUT_BYTES + 7])
def test_what_was_published_is_lent_byte_for_byte(store, another, size):
    """Large files travel in pieces; a piece too few would be paid answers lost."""
    body = bytes(range(251)) * (size // 251 + 1)
    put(store, "raw/x", body[:size])
    with another().local("raw/x") as path:
        assert path.read_bytes() == body[:size]


def test_what_was_deleted_is_gone_and_can_be_created_again(store):
    assert store.create("_SUCCESS", b"1")
    store.delete("_SUCCESS")
    assert (store.exists("_SUCCESS"), store.create("_SUCCESS", b"2")) == (False, True)


def test_the_time_of_the_last_write_is_known(store):
    """The newest run is the one that was begun last."""
    store.create("a", b"")
    put(store, "b", b"")
    first, second = store.modified("a"), store.modified("b")
    assert first.tzinfo is not None
    assert first <= second


def test_scratch_that_was_not_published_is_removed_file_or_folder(store):
    """A full disk that fills itself with half files never recovers."""
    with store.scratch("file") as file, store.scratch("folder") as folder:
        file.write_bytes(b"half")
        folder.mkdir()
        (folder / "x").write_bytes(b"half")
    assert not file.exists()
    assert not folder.exists()


def test_scratch_is_usable_again_after_a_sweep(store):
    store.sweep_scratch()
    put(store, "x", b"1")
    store.sweep_scratch()
    assert store.create("a", b"") is True
    put(store, "x", b"2")
    assert store.read("x") == b"2"


def test_whoever_holds_a_store_is_told_so(store):
    with store.held() as alone:
        assert alone is True


# --- the log over it --------------------------------------------------------------------------------------------------


def log(store):
    return Log(store, "ledger/000000", ShardRecord)


def record(version, nonce="n"):
    return ShardRecord(shard=0, version=version, nonce=nonce)


def test_an_empty_log_has_no_last_record(store):
    assert log(store).last() is None


def test_other_files_in_the_folder_do_not_end_the_history(store):
    """Backup tools and editors leave files behind."""
    for version in (1, 2):
        log(store).append(record(version))
    store.create("ledger/000000/notes.txt", b"x")
    store.create("ledger/000000/notes.json", b"{}")
    assert log(store).last() == record(2)


def test_of_racing_appends_exactly_one_is_the_version(another):
    gate = Barrier(8)

    def race(number):
        mine = log(another())
        gate.wait()
        return mine.append(record(1, f"n{number}"))

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(race, range(8)))
    assert won.count(True) == 1
    assert log(another()).last().nonce == f"n{won.index(True)}"


# --- a run over it ----------------------------------------------------------------------------------------------------


def question(prompts, folder):
    """A manifest, and what is asked of it."""
    manifest = TableManifest(pa.table({"prompt": prompts}), "the table", folder, Columns())
    asked = Asked(
        rows=len(prompts), rows_digest="", model="m", response_schema=None, generation_config={}, media="auto",
        system_instruction=None, n_samples=1, endpoint="http://127.0.0.1:1", project="p",
    )  # fmt: skip
    plan = scan(manifest, asked, (folder,), Options().limits())
    return manifest, asked.model_copy(update={"rows_digest": plan.rows_digest})


def begun(store, folder, size, prompts=("a", "b", "c", "d", "e")):
    files, (manifest, asked) = RunFiles(store), question(list(prompts), folder)
    limits = Options(max_requests_per_shard=size).limits()
    plan = scan(manifest, asked, (folder,), limits)
    begin(files, manifest, asked, plan, (folder,), limits, f"run-{size}", SystemClock())
    return files


def frozen(files):
    """The prompts of each shard."""
    rows = []
    for entry in files.plan():
        with files.store.local(rundir.rows_of(entry.shard)) as path:
            rows.append([prompt for block in read_blocks(path) for prompt in block.column("prompt").to_pylist()])
    return rows


def test_a_run_that_was_begun_is_read_by_another_process(another, tmp_path):
    begun(another(), tmp_path, 2)
    files = RunFiles(another())
    assert (files.record().run_id, files.record().shards) == ("run-2", 3)
    assert frozen(files) == [["a", "b"], ["c", "d"], ["e"]]
    assert [record.state.value for record in files.last_records(files.plan())] == ["PLANNED"] * 3
    assert sorted(set(files.store.names("")) - {".scratch"}) == ["plan-0000.parquet", "run.json", "shards"]


def test_who_begins_a_run_while_another_one_does_follows_its_plan(another, tmp_path):
    """Without locks nobody knows whether the other one lives: rows cut otherwise would be swapped under its feet."""
    begun(another(), tmp_path, 2)
    another().delete(rundir.RUN)
    files = begun(another(), tmp_path, 4)
    assert (files.record().run_id, files.record().shards) == ("run-4", 3)
    assert frozen(files) == [["a", "b"], ["c", "d"], ["e"]]


def test_a_plan_for_another_question_is_refused(another, tmp_path):
    begun(another(), tmp_path, 2)
    another().delete(rundir.RUN)
    with pytest.raises(BadInput, match="plan of another submit"):
        begun(another(), tmp_path, 2, ["x"])
    assert another().read(rundir.RUN) is None


def test_who_begins_a_run_that_is_there_leaves_its_record(another, tmp_path):
    begun(another(), tmp_path, 2)
    assert begun(another(), tmp_path, 3).record().run_id == "run-2"


# --- the probe --------------------------------------------------------------------------------------------------------


def test_the_probe_passes_and_leaves_nothing(store):
    probe(store)
    assert [name for name in store.names("") if name != ".scratch"] == []


class Overwrites(ObjectStore):
    """A server that ignores the condition of a put, as several that speak S3 do."""

    def create(self, name, body):
        self._remote.put(name, body)
        return True


class LooksFirst(ObjectStore):
    """Looks and then writes: fine until two do it at once."""

    together = Barrier(RACERS)

    def create(self, name, body):
        if self.exists(name):
            return False
        self.together.wait()
        self._remote.put(name, body)
        return True


class SaysExists(ObjectStore):
    """Reports each success of its own as a failure, as a repeated put may."""

    def create(self, name, body):
        super().create(name, body)
        return False


class Unsure(ObjectStore):
    """Every second create is cut off, whether it took effect or not."""

    calls, lock = 0, Lock()

    def create(self, name, body):
        created = super().create(name, body)
        with self.lock:
            self.calls += 1
            if self.calls % 2:
                raise OSError("timed out")
        return created


@pytest.mark.parametrize("broken", [Overwrites, LooksFirst])
def test_a_store_that_lets_two_create_one_object_is_refused(broken):
    """Two owners of one shard are two bills."""
    store = broken("memory:///")
    store.names("")
    with pytest.raises(BadInput, match=r"memory:///.*--out"):
        probe(store)
    assert store.names("") == []


@pytest.mark.parametrize("odd", [SaysExists, Unsure])
def test_a_store_that_only_reports_badly_passes(odd):
    """A lost answer is no broken store: what was written says who won."""
    store = odd("memory:///")
    store.names("")
    probe(store)


@pytest.mark.parametrize("odd", [SaysExists, Unsure])
def test_a_run_is_begun_whatever_the_store_says_of_its_creates(odd, tmp_path):
    """`run.json` that was taken for a failure would leave a run nobody drives."""
    store = odd("memory:///")
    store.calls = 1  # the plan's create is answered, the record's is not
    assert begun(store, tmp_path, 2).record().run_id == "run-2"


def test_records_are_the_same_by_name_and_by_one_listing_even_a_stale_one(another, monkeypatch):
    """A sweep that knows nothing lists all histories at once; a listing only says where to look on."""
    shards, store = 12, another()
    for shard in range(0, shards, 2):
        for version in range(1, shard + 2):
            record = ShardRecord(shard=shard, version=version, nonce="n")
            assert RunFiles(store).history(shard).append(record)
    plan = [
        ShardPlan(shard=shard, first_index=shard, rows=1, requests=1, request_bytes=1, tokens=1)
        for shard in range(shards)
    ]
    expected = {shard: 0 if shard % 2 else shard + 1 for shard in range(shards)}
    listed = ObjectStore.tree
    for many, seen in ((shards, listed), (0, listed), (0, lambda *given: listed(*given)[::3]), (0, lambda *given: [])):
        monkeypatch.setattr("gemini_batch.ledger.run.MANY_UNKNOWN", many)
        monkeypatch.setattr(ObjectStore, "tree", seen)
        files, known = RunFiles(store), {}
        monkeypatch.setattr(files, "reread_plan", list)
        files.refresh(plan, known, strict=True)
        assert {shard: record.version for shard, record in known.items()} == expected
        for already in ({}, known, {0: known[0], 1: known[1]}):
            assert {one.shard: one.version for one in files.last_records(plan, already)} == expected
