"""Rows that a person buys again, over the scripted service: which answers count then, and who was first."""

from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from audited import drive, findings_of, look_at, shop_in_rounds
from made import make_asked, make_limits

from gemini_batch.coordinator.columns import Columns
from gemini_batch.coordinator.manifest import TableManifest
from gemini_batch.coordinator.retry import Choice, retry
from gemini_batch.errors import BadInput
from gemini_batch.ledger.run import RunFiles
from gemini_batch.status import summarise


@pytest.fixture
def shop(tmp_path, asked, limits):
    """A finished run of ten rows."""
    return drive(shop_in_rounds(tmp_path, asked, limits))


def manifest(prompts: dict[int, str], kind: Any = TableManifest, **more: Any) -> Any:
    table = pa.table({"key": [str(index) for index in prompts], "prompt": list(prompts.values())})
    return kind(table, "new", ".", Columns(), **more)


def test_who_chose_rows_before_another_retry_was_planned_plans_none(shop):
    """Reading the dataset may take minutes, and the round of the other holds the same rows."""

    class Slow(TableManifest):
        def blocks(self):
            other = RunFiles(shop.files.store)
            assert retry(other, shop.run, shop.limits, Choice(keys=frozenset({"3"}))) == 1
            yield from super().blocks()

    known = len(shop.plan)
    with pytest.raises(BadInput, match="another retry was first"):
        retry(shop.files, shop.run, shop.limits, Choice(replace=manifest({3: "x"}, Slow), replace_by="index"))
    assert len(RunFiles(shop.files.store).plan()) == known + 1


def dataset(shop):
    return [row for file in shop.files.store.names("dataset")
            for row in pq.read_table(shop.files.store.root / "dataset" / file).to_pylist()]  # fmt: skip


def counts(shop):
    return summarise("run", shop.run, shop.plan, shop.all_records(), True, shop.clock.now())["rows"]


@pytest.mark.parametrize("samples", [1, 3])
def test_a_valid_answer_to_old_content_is_none_to_the_new(samples, tmp_path, limits):
    """Row 3 has new content that fails three times, row 0 new content that is answered; what was paid stays counted."""
    shop = drive(shop_in_rounds(tmp_path, partial(make_asked, n_samples=samples), limits))
    before = counts(shop)
    rows = dataset(shop)
    shop.remote.failing.update({(3, sample): 9 for sample in range(samples)})
    choice = Choice(replace=manifest({3: "new", 0: "newer"}), replace_by="index")
    assert retry(shop.files, shop.run, shop.limits, choice) == 2
    shop.files.reread_plan()
    assert counts(shop) == before, "until the answer comes, the old one stands in the dataset"
    drive(shop)
    row = dataset(shop)[3]
    assert (row["status"], row["text"], row["n_valid"], row["error"]["kind"]) == ("failed", None, 0, "transient")
    assert row["request_digest"] != rows[3]["request_digest"]
    assert row["usage"] == rows[3]["usage"]
    assert dataset(shop)[0]["status"] == "ok"
    failed = sum(row["status"] != "ok" for row in dataset(shop))
    assert counts(shop) == {**before, "ok": before["ok"] - 1, "failed": failed, "pending": 0}
    assert findings_of(*look_at(shop)) == []

    shop.remote.failing.clear()
    assert retry(shop.files, shop.run, shop.limits, Choice(keys=frozenset({"3"}))) == 1
    drive(shop)
    row = dataset(shop)[3]
    assert (row["status"], row["n_valid"]) == ("ok", samples)
    assert counts(shop) == before
    assert findings_of(*look_at(shop)) == []


def test_a_row_that_several_rounds_mend_sample_by_sample_is_counted_once(tmp_path):
    asked, limits = partial(make_asked, n_samples=3, min_valid=2), partial(make_limits, max_attempts=4)
    shop = shop_in_rounds(tmp_path, asked, limits)
    shop.remote.failing.update({(0, 0): 3, (0, 1): 2, (0, 2): 1})
    drive(shop)
    statuses = [row["status"] for row in dataset(shop)]
    assert dataset(shop)[0]["n_valid"] == 3
    assert counts(shop) == {"total": 10, "ok": statuses.count("ok"), "failed": 10 - statuses.count("ok"), "pending": 0}


def test_what_was_given_up_before_a_retry_is_not_bought_beside_it(tmp_path):
    """Row 6 failed for good in a later round's shard, of which the retry takes it; more attempts are allowed now."""
    shop = drive(shop_in_rounds(tmp_path, make_asked, partial(make_limits, max_attempts=2)))
    assert (dataset(shop)[6]["status"], dataset(shop)[6]["attempts"]) == ("failed", 2)
    shop.limits = shop.limits.model_copy(update={"max_attempts": 9})
    choice = Choice(replace=manifest({6: "new"}), replace_by="index")
    assert retry(shop.files, shop.run, shop.limits, choice) == 1
    drive(shop)
    assert (dataset(shop)[6]["status"], dataset(shop)[6]["attempts"]) == ("ok", 3)
    assert [entry.rows for entry in shop.plan if entry.asked_for] == [1]
    assert shop.plan[-1].asked_for, "no round after it"
    assert findings_of(*look_at(shop)) == []


@pytest.mark.parametrize("body", ["", "{}", "no json", '{"files": [1]}'])
def test_a_damaged_list_of_files_is_said_and_not_guessed_at(shop, body):
    (shop.files.store.root / "_SUCCESS").write_text(body)
    with pytest.raises(BadInput, match="_SUCCESS is damaged; delete it"):
        retry(shop.files, shop.run, shop.limits, Choice())


def test_rows_are_chosen_from_the_files_that_the_dataset_lists(shop):
    """Whatever else lies in the folder is not of the run."""
    root = shop.files.store.root / "dataset"
    (root / "notes.parquet").write_bytes(b"not a table")
    assert retry(shop.files, shop.run, shop.limits, Choice(keys=frozenset({"1", "4", "9"}))) == 3
    shop.files.reread_plan()
    assert [entry.sources for entry in shop.plan if entry.asked_for] == [(0, 2), (4,)]
