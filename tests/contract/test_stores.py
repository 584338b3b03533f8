"""What every backend of the run directory must do: a POSIX folder, and obstore in memory and over the wire."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock

import pytest

from gemini_batch.errors import BadInput
from gemini_batch.ledger.log import Log
from gemini_batch.ledger.objects import GET_BYTES, PUT_BYTES, ObjectStore
from gemini_batch.ledger.posix import PosixStore
from gemini_batch.ledger.probe import RACERS, probe
from gemini_batch.records import ShardRecord


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
