"""Structured output all the way: a model of the user's into `responseSchema`, answers into typed columns."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

QUICK = ("--poll-interval", "1", "--out", "run", "--json")
ROWS = 60

MODULE = '''
from __future__ import annotations
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, Optional
from uuid import UUID
from pydantic import BaseModel, Field


class Colour(str, Enum):
    red = "red"
    blue = "blue"


class Line(BaseModel):
    what: str
    price: float
    due: Optional[date]


class Node(BaseModel):
    name: str
    children: list[Node] = []


class Model(BaseModel):
    """An invoice."""

    title: str = Field(description="as printed")
    count: int = Field(ge=0, le=50)
    share: float
    paid: bool
    day: date
    at: datetime
    colour: Colour
    kind: Literal["a", "b"]
    id: UUID
    amount: Decimal
    first: Line
    lines: list[Line]
    days: list[date]
    note: Optional[str]
    maybe: Optional[Line] = None
    tags: dict[str, int]
    either: int | str
    tree: Node
    free: Any
    aliased: int = Field(alias="anAlias")
'''

LINE = pa.struct([("what", pa.string()), ("price", pa.float64()), ("due", pa.date32())])
TYPES = {
    "title": pa.string(),
    "count": pa.int64(),
    "share": pa.float64(),
    "paid": pa.bool_(),
    "day": pa.date32(),
    "at": pa.timestamp("us", "UTC"),
    "colour": pa.string(),
    "kind": pa.string(),
    "id": pa.string(),
    "amount": pa.string(),
    "first": LINE,
    "lines": pa.list_(LINE),
    "days": pa.list_(pa.date32()),
    "note": pa.string(),
    "maybe": LINE,
    "tags": pa.string(),
    "either": pa.string(),
    "free": pa.string(),
    "anAlias": pa.int64(),
}


@pytest.fixture(scope="module")
def ran(start_emulator: Callable[..., Any], make_cli: Callable[..., Any], look: Any) -> Path:
    """The run of a model of `MODULE`, asked of sixty prompts from the directory it lies in."""
    cli = make_cli(start_emulator())
    (cli.folder / "mymod.py").write_text(MODULE)
    manifest = look.prompts(cli.folder / "m.parquet", ROWS)
    done = cli("submit", manifest, "--schema", "mymod:Model", "--max-requests-per-shard", "25", *QUICK)
    assert "Traceback" not in done.err
    assert done.code in {0, 3}, done.err
    found: Path = cli.folder / "run"
    return found


def test_a_model_becomes_typed_columns(ran: Path, look: Any) -> None:
    result = look.dataset(ran).schema.field("result").type
    have = {field.name: field.type for field in result}
    assert {name: have.get(name) for name in TYPES} == TYPES
    assert all(field.nullable for field in result)


def test_answers_become_values_of_the_model(ran: Path, look: Any) -> None:
    """The emulator cannot know that a Decimal is a number, so some rows are invalid; the others are right."""
    rows = look.rows(ran)
    assert {row["status"] for row in rows} <= {"ok", "invalid"}
    fine = [row for row in rows if row["status"] == "ok"]
    assert len(fine) >= ROWS // 5
    for row in fine:
        said, result = json.loads(row["text"]), row["result"]
        for name in ("title", "count", "share", "paid", "colour", "kind", "note", "anAlias"):
            assert result[name] == said[name]
        assert result["day"] == date.fromisoformat(said["day"])
        assert result["at"] == datetime.fromisoformat(said["at"])
        assert result["at"].tzinfo is not None
        assert result["at"].astimezone(UTC).year == datetime.fromisoformat(said["at"]).year
        assert Decimal(result["amount"]) == Decimal(str(said["amount"]))
        assert result["days"] == [date.fromisoformat(day) for day in said["days"]]
        assert [line["what"] for line in result["lines"]] == [line["what"] for line in said["lines"]]
        assert json.loads(result["tags"]) == said["tags"]
        assert json.loads(result["either"]) == said["either"]
        assert (result["maybe"] is None) == (said.get("maybe") is None)
    for row in rows:
        assert (row["result"] is None) == (row["status"] != "ok")
        if row["status"] == "invalid":
            assert row["error"]["kind"] == "schema_invalid"
            assert row["error"]["message"]
            assert row["text"]


def test_the_dataset_reads_in_order_and_is_what_success_lists(ran: Path, look: Any) -> None:
    table = ds.dataset(ran / "dataset").to_table()
    assert table["index"].to_pylist() == list(range(ROWS))
    assert table["key"].to_pylist() == [str(i) for i in range(ROWS)]
    assert table.equals(look.dataset(ran))
    success = look.json(ran / "_SUCCESS")
    assert success["round"] == 0
    assert success["endpoint"].startswith("http://127.0.0.1")
    assert sum(entry["rows"] for entry in success["files"]) == ROWS


def test_the_columns_are_those_of_the_contract(ran: Path, look: Any) -> None:
    schema = look.dataset(ran).schema
    kinds = {field.name: field.type for field in schema if field.name not in {"result", "samples"}}
    assert kinds == {
        "index": pa.int64(),
        "key": pa.string(),
        "status": pa.string(),
        "text": pa.string(),
        "error": pa.struct([("kind", pa.string()), ("code", pa.int32()), ("message", pa.string())]),
        "n_valid": pa.int32(),
        "agreement": pa.float64(),
        "disagreements": pa.list_(pa.string()),
        "attempts": pa.int32(),
        "round": pa.int32(),
        "usage": pa.struct([(f"{name}_tokens", pa.int64()) for name in ("prompt", "cached", "output", "thoughts")]),
        "cost_usd": pa.float64(),
        "finish_reason": pa.string(),
        "model_version": pa.string(),
        "request_digest": pa.string(),
    }
    assert schema.field("samples").type == pa.list_(
        pa.struct(
            [
                ("status", pa.string()),
                ("text", pa.string()),
                ("finish_reason", pa.string()),
                ("error_kind", pa.string()),
            ]
        )
    )


def test_a_schema_file_is_what_answers_are_held_against(cli: Any, look: Any, folder: Path) -> None:
    schema = {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "multipleOf": 2},
            "day": {"type": ["string", "null"], "format": "date"},
            "tags": {"type": "array", "items": {"type": "string", "enum": ["x", "y"]}},
        },
        "required": ["n", "day", "tags"],
        "additionalProperties": False,
    }
    (folder / "schema.json").write_text(json.dumps(schema))
    done = cli("submit", look.prompts(folder / "m.parquet", 40), "--schema", "schema.json", *QUICK)
    assert done.code == 3, "the service knows no multipleOf, so half of its numbers are odd"
    rows = look.rows(folder / "run")
    for row in rows:
        said = json.loads(row["text"])
        assert row["status"] == ("invalid" if said["n"] % 2 else "ok")
        if row["status"] == "ok":
            day = said["day"] and date.fromisoformat(said["day"])
            assert row["result"] == {"n": said["n"], "day": day, "tags": said["tags"]}
        else:
            assert "multiple" in row["error"]["message"]
    assert {row["status"] for row in rows} == {"ok", "invalid"}


def test_an_answer_that_is_cut_or_no_json_is_not_a_result(cli: Any, look: Any, emulator: Any, folder: Path) -> None:
    (folder / "schema.json").write_text('{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}')
    emulator.fault("result_line_truncated", times=2)
    done = cli("submit", look.prompts(folder / "m.parquet", 5), "--schema", "schema.json", *QUICK)
    assert done.code == 3
    assert [row["status"] for row in look.rows(folder / "run")].count("truncated") == 2
    assert [row["result"] is None for row in look.rows(folder / "run")].count(True) == 2


def test_a_list_at_the_top_is_a_column_of_lists(cli: Any, look: Any, folder: Path) -> None:
    (folder / "mymod2.py").write_text("Days = list[int]\n")
    done = cli("submit", look.prompts(folder / "m.parquet", 5), "--schema", "mymod2:Days", *QUICK)
    assert done.code == 0, done.err
    table = look.dataset(folder / "run")
    assert table.schema.field("result").type == pa.list_(pa.int64())
    assert [json.loads(text) for text in table["text"].to_pylist()] == table["result"].to_pylist()


def test_a_number_beyond_64_bits_is_invalid_and_harms_no_other_row(cli: Any, look: Any, folder: Path) -> None:
    (folder / "schema.json").write_text(
        json.dumps(
            {"type": "object", "properties": {"n": {"type": "integer", "minimum": 2**63 - 500}}, "required": ["n"]}
        )
    )
    done = cli("submit", look.prompts(folder / "m.parquet", 30), "--schema", "schema.json", *QUICK)
    assert "Traceback" not in done.err
    rows = look.rows(folder / "run")
    for row in rows:
        fits = json.loads(row["text"])["n"] < 2**63
        assert (row["status"] == "ok") == fits
    assert done.code == 3


def test_a_model_that_changed_since_the_run_began_is_refused_on_resume(
    cli: Any, look: Any, emulator: Any, folder: Path
) -> None:
    (folder / "mymod3.py").write_text("from pydantic import BaseModel\nclass M(BaseModel):\n    a: int\n")
    emulator.settings(job_seconds=30)
    running = cli.start("submit", look.prompts(folder / "m.parquet", 5), "--schema", "mymod3:M", *QUICK)
    look.until(lambda: emulator.creates == 1, "the job is created")
    running.kill()
    emulator.settings(job_seconds=0)
    (folder / "mymod3.py").write_text("from pydantic import BaseModel\nclass M(BaseModel):\n    another_name: str\n")
    done = cli("resume", "run")
    assert done.code == 2
    assert "mymod3:M" in done.err
    assert "Traceback" not in done.err
    (folder / "mymod3.py").write_text("from pydantic import BaseModel\nclass M(BaseModel):\n    a: int\n")
    assert cli("resume", "run").code == 0
    assert emulator.bought == 5
