"""Rows that a person buys again, over the scripted service: which answers count then, and who was first."""

from typing import Any

import pyarrow as pa
import pytest
from audited import drive, shop_in_rounds

from gemini_batch.coordinator.manifest import Columns, TableManifest
from gemini_batch.coordinator.retry import Choice, retry
from gemini_batch.errors import BadInput
from gemini_batch.ledger.run import RunFiles


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
