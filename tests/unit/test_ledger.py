"""What is special about the POSIX store, and the log over a store that lies. The rest is in the stores' contract."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.ledger.log import Log
from gemini_batch.ledger.posix import PosixStore
from gemini_batch.records import ShardRecord


def record(version, nonce="n"):
    return ShardRecord(shard=0, version=version, nonce=nonce)


# --- POSIX ------------------------------------------------------------------------------------------------------------


RACER = """
import sys
from pathlib import Path
from gemini_batch.ledger.posix import PosixStore
number, store = int(sys.argv[2]), PosixStore(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(*[turn for turn in range(100) if store.create(f"{turn}", bytes([number]) * 5_000)])
"""


def test_of_four_processes_that_create_one_name_exactly_one_wins(tmp_path):
    """Two machines that share a directory are two processes."""
    command = [sys.executable, "-c", RACER, str(tmp_path)]
    racers = [
        subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = {number: racer.communicate()[0].split() for number, racer in enumerate(racers)}
    assert all(racer.returncode == 0 for racer in racers)
    assert sorted(int(turn) for turns in won.values() for turn in turns) == list(range(100))
    for number, turns in won.items():
        assert all((tmp_path / turn).read_bytes() == bytes([number]) * 5_000 for turn in turns)


def test_a_create_leaves_no_debris_whoever_was_first(tmp_path):
    store = PosixStore(tmp_path)
    assert (store.create("a/b/c", b"one"), store.create("a/b/c", b"two")) == (True, False)
    assert list((tmp_path / ".scratch").iterdir()) == []


def test_whether_a_run_is_held_is_seen_without_holding_it(tmp_path):
    """`status` must be able to say that nobody works on a run."""
    store = PosixStore(tmp_path)
    assert store.is_held() is False
    with store.held() as first, store.held() as second:
        assert (first, second, store.is_held()) == (True, False, True)
    assert store.is_held() is False


def test_a_failed_create_leaves_nothing_behind(tmp_path, monkeypatch):
    """A full disk in the middle of writing must not leave half a record under its name."""

    def full(descriptor):
        raise OSError(28, "No space left on device")

    store = PosixStore(tmp_path)
    store.create("folder/other", b"")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.create("folder/x", b"body")
    assert (store.read("folder/x"), list((tmp_path / ".scratch").iterdir())) == (None, [])


def test_scratch_is_usable_again_after_a_sweep(tmp_path):
    store = PosixStore(tmp_path)
    (tmp_path / ".scratch").mkdir()
    (tmp_path / ".scratch" / "x").write_bytes(b"debris")
    store.sweep_scratch()
    assert store.create("a", b"") is True
    assert list((tmp_path / ".scratch").iterdir()) == []


def test_a_create_is_not_lost_to_the_sweep_of_another_process(tmp_path, monkeypatch):
    """An order is given without the lock, while a process that just took it may be sweeping."""
    store, link = PosixStore(tmp_path), os.link
    sweeps = iter(range(2))

    def swept(source, target):
        if next(sweeps, None) is not None:
            PosixStore(tmp_path).sweep_scratch()
        link(source, target)

    monkeypatch.setattr(os, "link", swept)
    assert store.create("control/000002.json", b"pause") is True
    assert store.read("control/000002.json") == b"pause"
    assert list((tmp_path / ".scratch").iterdir()) == []


def test_one_process_at_a_time_holds_a_directory(tmp_path):
    with PosixStore(tmp_path).held() as first, PosixStore(tmp_path).held() as second:
        assert (first, second) == (True, False)
    with PosixStore(tmp_path).held() as again:
        assert again is True


# --- the log ----------------------------------------------------------------------------------------------------------


class Memory:
    """A store in a dict, whose creates may fail before or after they took effect, with a listing that lags."""

    url = "memory"

    def __init__(self, fail="never", hidden=0):
        self.objects: dict[str, bytes] = {}
        self.fail = fail
        self.hidden = hidden

    def create(self, name, body):
        if self.fail == "before":
            raise OSError("cut")
        created = self.objects.setdefault(name, body) is body
        if self.fail == "after":
            raise OSError("timed out")
        return created and self.fail != "says exists"

    def read(self, name):
        return self.objects.get(name)

    def names(self, folder):
        found = sorted(name.removeprefix(f"{folder}/") for name in self.objects)
        return found[: max(0, len(found) - self.hidden)]


def log(store):
    return Log(store, "ledger", ShardRecord)


@pytest.mark.parametrize("fail", ["after", "says exists"])
def test_a_create_that_reports_failure_after_success_is_recognised_by_its_nonce(fail):
    """An NFS retransmit answers EEXIST to our own success; taking it for a loss would forget a send."""
    store = Memory(fail)
    assert log(store).append(record(1, "mine")) is True
    assert log(store).append(record(1, "other")) is False
    assert log(store).last() == record(1, "mine")


def test_a_create_that_left_nothing_is_an_error_not_a_loss():
    """Neither won nor lost: the caller must not go on as if someone else had moved the shard."""
    with pytest.raises(OSError, match="cut"):
        log(Memory("before")).append(record(1))


def test_an_error_while_another_ones_record_is_there_is_a_loss():
    store = Memory()
    log(store).append(record(1, "other"))
    store.fail = "before"
    assert log(store).append(record(1, "mine")) is False


@given(count=st.integers(0, 12), known=st.integers(0, 12), hidden=st.integers(0, 12))
def test_the_last_record_is_found_from_any_known_version_and_any_stale_listing(count, known, hidden):
    """A listing is only a hint; the end is the first version that is absent."""
    store = Memory(hidden=hidden)
    for version in range(1, count + 1):
        assert log(store).append(record(version, f"n{version}"))
    start = record(known, f"n{known}") if 0 < known <= count else None
    found = log(store).last(start)
    assert found == (record(count, f"n{count}") if count else None)
