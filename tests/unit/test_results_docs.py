"""docs/results.md is what people read who never see the code: its tables are the code's."""

import re
from pathlib import Path

from gemini_batch.dataset import dataset_schema
from gemini_batch.gemini.wire import FINISHED
from gemini_batch.kinds import KINDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "results.md").read_text()


def table(head: str) -> list[list[str]]:
    """The rows of the table that begins with this head."""
    body = PAGE.split(f"{head}\n", 1)[1].split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in body[1:]]


def test_the_table_of_kinds_is_the_code_s():
    shown = [tuple(cell.strip("`") for cell in row) for row in table("| kind | status | means | bought again |")]
    assert shown == [(name, *kind) for name, kind in KINDS.items()]


def test_the_table_of_finish_reasons_is_the_code_s():
    shown = {
        reason: None if kind.startswith("none") else kind.strip("`")
        for reasons, kind in table("| finish reason | kind |")
        for reason in re.findall(r"`(\w+)`", reasons)
    }
    assert shown == {reason: kind for reason, kind in FINISHED.items() if reason}


def test_the_columns_are_the_dataset_s():
    shown = [(name.strip("`"), kind.strip("`")) for name, kind, _ in table("| column | type | what it says |")]
    due = [(field.name, str(field.type).replace("list<item: ", "list<")) for field in dataset_schema(None)]
    of_schema = "[the schema's type](schemas.md), or string"
    assert shown == [(name, of_schema if name == "result" else kind) for name, kind in due]


def test_every_status_is_explained():
    shown = {name.strip("`") for name, _ in table("| status | means |")}
    assert shown == {"ok", *(kind.status for kind in KINDS.values())}


def test_the_readme_leads_there():
    assert "](docs/results.md)" in (ROOT / "README.md").read_text()
