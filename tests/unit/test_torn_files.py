"""A file of the run directory that is empty or half: told by its name, never read as data, and never a reason to buy.

Each is written in one step; what tears it is a disk, a copy or a hand.
"""

from datetime import timedelta

import pyarrow as pa
import pytest
from shops import Clock, Inline, make_shop
from test_paying import Service

from gemini_batch.errors import BadInput, RunStopped
from gemini_batch.finish import finish
from gemini_batch.jobs.advance import advance
from gemini_batch.jobs.parse import parse
from gemini_batch.jobs.verdicts import Stop
from gemini_batch.ledger.posix import PosixStore
from gemini_batch.parquet import Writer, read_own_table

TEARS = {"empty": lambda body: b"", "half": lambda body: body[: len(body) // 2]}


class Unparsed(Inline):
    """Gets as far as the raw results."""

    def run(self, function, task):
        if function is parse:
            raise OSError("later")
        return super().run(function, task)


@pytest.fixture
def service():
    return Service(Clock())


@pytest.fixture
def reopen(tmp_path, asked, limits, service):
    """A new process on the run of two shards."""
    return lambda: make_shop(tmp_path, asked, limits(max_requests_per_shard=2), service, service.clock, PosixStore, 4)


def looked(shop):
    shop.clock.passed += timedelta(minutes=30)
    return [advance(shop, entry.shard) for entry in shop.plan]


def take_to(stage, shop, service):
    """planned; running; ended, with the raw results here and no part yet."""
    if stage == "planned":
        return
    service.state = "BATCH_STATE_RUNNING"
    looked(shop)
    service.state = "BATCH_STATE_SUCCEEDED"
    if stage == "ended":
        shop.pool = Unparsed()
        looked(shop)


@pytest.mark.parametrize("tear", TEARS)
@pytest.mark.parametrize(
    ("stage", "file"),
    [
        ("planned", "run.json"), ("planned", "plan-0000.parquet"), ("planned", "shards/000001.parquet"),
        ("running", "run.json"), ("running", "plan-0000.parquet"), ("running", "shards/000001.parquet"),
        ("running", "requests/000001-*.parquet"), ("running", "ledger/000001/000004.json"),
        ("ended", "shards/000001.parquet"), ("ended", "requests/000001-*.parquet"), ("ended", "raw/000001.jsonl.zst"),
        ("ended", "ledger/000001/000005.json"),
    ],
)  # fmt: skip
def test_a_torn_file_is_named_and_once_it_is_restored_the_run_goes_on(tmp_path, reopen, service, stage, file, tear):
    shop = reopen()
    take_to(stage, shop, service)
    (path,) = (tmp_path / "run").glob(file)
    whole, asked = path.read_bytes(), service.asked
    path.write_bytes(TEARS[tear](whole))
    with pytest.raises((RunStopped, BadInput), match=path.name):
        looked(reopen())
    assert service.asked <= max(asked, 1)  # the other shard may have been sent
    path.write_bytes(whole)
    shop = reopen()
    while looked(shop) != [Stop()] * 2:
        pass
    assert service.asked == len(service.jobs) == 2
    assert [shop.last(shard).tally.by_status for shard in (0, 1)] == [{"ok": 2}] * 2


@pytest.mark.parametrize("tear", TEARS)
def test_torn_raw_results_that_are_deleted_are_fetched_again(tmp_path, reopen, service, tear):
    take_to("ended", reopen(), service)
    raw = tmp_path / "run/raw/000001.jsonl.zst"
    raw.write_bytes(TEARS[tear](raw.read_bytes()))
    with pytest.raises(RunStopped, match="delete it"):
        looked(reopen())
    raw.unlink()
    shop = reopen()
    assert looked(shop) == [Stop()] * 2
    finish(shop)
    assert shop.last(1).tally.by_status == {"ok": 2}


@pytest.mark.parametrize("tear", TEARS)
def test_earlier_versions_of_a_history_are_not_needed(tmp_path, reopen, service, tear):
    """The last snapshot says everything."""
    shop = reopen()
    take_to("running", shop, service)
    for version in (1, 2, 3):
        (tmp_path / f"run/ledger/000000/{version:06d}.json").write_bytes(TEARS[tear](b'{"format": 1, "version": 1}'))
    shop = reopen()
    while looked(shop) != [Stop()] * 2:
        pass
    assert service.asked == 2


def test_a_flipped_bit_is_damage_and_nothing_to_wait_for(tmp_path):
    """Arrow tells of a wrong checksum as of a disk that is busy, by OSError. Names of columns have no checksum."""
    table, file = pa.table({"index": [0, 1], "prompt": ["Hello", "world"]}), tmp_path / "rows.parquet"
    with Writer(file, table.schema) as writer:
        writer.write(table)
    whole, damaged = file.read_bytes(), 0
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            read = read_own_table(file)
        except RunStopped as error:
            assert str(file) in str(error)
            damaged += 1
        else:
            assert read.schema != table.schema or read.equals(table)
    assert damaged > len(whole) / 2
