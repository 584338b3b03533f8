"""A later round on the disk: which rows its shards hold, and what they weigh."""

from typing import Any

import pyarrow as pa
import pytest
from shops import Clock, make_shop

from gemini_batch import rundir
from gemini_batch.coordinator.measure import Scale
from gemini_batch.coordinator.rounds import Chosen, plan_round
from gemini_batch.ledger.run import RunFiles
from gemini_batch.parquet import read_own_table
from gemini_batch.parts import PARTS

CONTENT = {"prompt": pa.string(), "parts": PARTS, "system_instruction": pa.string()}


def rows(*indices: int, sample: int | None = None, **content: list[Any]) -> pa.RecordBatch:
    """Frozen rows as they are taken up again."""
    count = len(indices)
    columns = {name: pa.array(content.get(name, [None] * count), kind) for name, kind in CONTENT.items()}
    wanted = None if sample is None else [sample]
    return pa.record_batch(
        {
            "index": pa.array(indices, pa.int64()),
            "key": pa.array([str(index) for index in indices]),
            **columns,
            "samples": pa.array([wanted] * count, pa.list_(pa.int32())),
            "attempts": pa.array([1] * count, pa.int32()),
            "was": pa.array(["failed"] * count),
            "valid": pa.array([0] * count, pa.int32()),
        }
    )


@pytest.fixture
def shop(tmp_path, asked, limits):
    return make_shop(tmp_path, asked, limits(), None, Clock(), rows=20)


def planned(shop, *chosen: Chosen, limits=None):
    """The shards of the next round and the rows of each."""
    known = len(shop.plan)
    assert plan_round(shop.files, shop.run, limits or shop.limits, list(chosen), "repair")
    entries = shop.files.plan()[known:]
    found = []
    for entry in entries:
        with shop.files.store.local(entry.frozen) as path:
            found.append(read_own_table(path)["index"].to_pylist())
        assert entry.first_index == found[-1][0]
        assert entry.rows == len(found[-1])
    return entries, found


def test_rows_of_many_shards_are_packed_together(shop):
    blocks = [(0, rows(1, 4, prompt=["a", "b"])), (3, rows(7, 12, 15, prompt=["c", "d", "e"]))]
    entries, found = planned(shop, Chosen((0, 3), iter(blocks), 4))
    assert found == [[1, 4, 7, 12], [15]]
    assert [entry.sources for entry in entries] == [(0, 3), (3,)]
    assert [entry.requests for entry in entries] == [4, 1]


def test_no_row_is_twice_in_a_shard_and_rows_rise(shop):
    """Two samples of a row that failed in different ways come from two shards; keys find a row by its index."""
    blocks = [
        (4, rows(3, 9, sample=0, prompt=["a", "b"])),
        (5, rows(3, 9, sample=1, prompt=["a", "b"])),
        (6, rows(9, 11, prompt=["b", "c"])),
        (7, rows(4, prompt=["d"])),
    ]
    _, found = planned(shop, Chosen((4, 5, 6, 7), iter(blocks), 100))
    assert found == [[3, 9], [3, 9], [9, 11], [4]]


def test_rows_of_parts_weigh_in_a_later_round_what_they_did_in_the_first(asked):
    parts = [[{"text": "x" * size, "path": None, "uri": None, "data": None}] for size in (10, 500, 0)] + [None]
    scale = Scale(asked(), "n" * 16, (), 10**9)
    alone = scale.weigh(pa.record_batch({"parts": pa.array(parts, PARTS)}), 5).weights
    again = scale.weigh(rows(5, 6, 7, 8, parts=parts), 5).weights
    assert alone == again
    assert alone.request_bytes[1] > 500
    mixed = scale.weigh(rows(5, 6, parts=[parts[1], None], prompt=[None, "a prompt"]), 5).weights
    assert mixed.request_bytes[0] == alone.request_bytes[1]
    assert mixed.request_bytes[1] > 0


def test_a_source_whose_rows_are_gone_is_named_so_that_it_is_not_asked_for_again(shop):
    entries, _ = planned(shop, Chosen((0, 2), iter([(0, rows(1, prompt=["a"]))]), 4))
    assert [entry.sources for entry in entries] == [(0, 2)]


def test_who_plans_other_rows_of_the_same_shards_writes_other_objects(shop):
    """Two retries at once: the plan of one must not name what the other wrote."""
    first, second = (Chosen((0,), iter([(0, rows(n, prompt=["a"]))]), 4, mark=str(n)) for n in (1, 2))
    (entry,), _ = planned(shop, first)
    shop.files.store.delete(rundir.plan_of(1))
    shop.files = RunFiles(shop.files.store)
    shop.plan = shop.files.plan()
    (other,), _ = planned(shop, second)
    assert entry.frozen != other.frozen
