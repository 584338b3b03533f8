"""Each type that a user may name: sent, answered, in the column due, and back as what it is."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from many_types import BEYOND_THE_SUBSET, TYPES, Invoice, Span
from pydantic import TypeAdapter

from gemini_batch import BadInput, Run, distributed_batch_process

ROWS = 8
PROMPTS = [[f"Question {i}"] for i in range(ROWS)]


@pytest.fixture(autouse=True)
def here(emulator: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", emulator.url)
    monkeypatch.chdir(folder)


def answered(kind: Any, **options: Any) -> tuple[list[Any], list[Any], pa.DataType]:
    """Results, rows, and the type of the result column."""
    results, rows = distributed_batch_process(
        PROMPTS, kind, out="run", poll_interval=0.1, return_metadata=True, **options
    )
    return results, rows, Run.open("run").to_table().schema.field("result").type


@pytest.mark.parametrize("name", TYPES)
def test_a_type_is_asked_for_answered_and_comes_back(name: str) -> None:
    kind, column = TYPES[name]
    results, rows, found = answered(kind)
    assert [(row.status, row.error) for row in rows] == [("ok", None)] * ROWS
    assert found == column
    adapter = TypeAdapter(kind)
    assert results == [adapter.validate_json(row.text) for row in rows]
    assert [type(result) for result in results] == [type(adapter.validate_json(row.text)) for row in rows]


@pytest.mark.parametrize("name", BEYOND_THE_SUBSET)
def test_what_the_subset_cannot_say_is_checked_all_the_same(name: str) -> None:
    kind, column = BEYOND_THE_SUBSET[name]
    results, rows, found = answered(kind)
    assert found == column
    assert {row.status for row in rows} <= {"ok", "invalid"}
    assert [result is None for result in results] == [row.status == "invalid" for row in rows]


MORE = {name: TYPES[name] for name in ("enum of int", "union by a tag", "recursive", "nested", "literals of two types")}


@pytest.mark.parametrize("name", [*BEYOND_THE_SUBSET, *MORE])
def test_as_a_json_schema_everything_can_be_said(name: str) -> None:
    kind, column = {**BEYOND_THE_SUBSET, **MORE}[name]
    results, rows, found = answered(kind, schema_field="responseJsonSchema")
    assert [(row.status, row.error) for row in rows] == [("ok", None)] * ROWS
    assert found == column
    assert results == [TypeAdapter(kind).validate_json(row.text) for row in rows]


@pytest.mark.parametrize("by", ["model", "json-schema"])
def test_the_run_is_validated_by_what_it_was_made_with(by: str) -> None:
    """The model puts the bounds in order; its JSON Schema knows of no order."""
    results, rows, _ = answered(Span, validate=by)
    assert all(result.low <= result.high for result in results)
    ordered = [row.result["low"] <= row.result["high"] for row in rows]
    assert all(ordered) == (by == "model")
    spec = json.loads(Path("run/run.json").read_text())["asked"]["response_schema"]
    assert spec["validate_by"] == by
    assert spec["ref"] == "many_types:Span"


def test_the_field_is_part_of_what_is_asked() -> None:
    answered(Invoice)
    with pytest.raises(BadInput, match="responseJsonSchema"):
        answered(Invoice, schema_field="responseJsonSchema")
