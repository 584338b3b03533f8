"""Who has the README alone gets there: its commands, typed as they stand, against a real service and a real broker."""

import csv
import shlex
from pathlib import Path
from typing import Any

import pytest
from docpages import Block, Line, blocks, lines

BLOCKS = blocks("README.md")

HERE = {"redis://127.0.0.1:6379/0": "broker", "/shared/runs": "shared"}
"""What stands for something of the reader's."""

MENDED = {"T-007": "My parcel never came.", "T-031": "I was billed twice."}


def the_block(words: str) -> Block:
    """The one that has these words."""
    (found,) = [block for block in BLOCKS if words in block.text]
    return found


class Reader:
    """Types blocks of the README in one directory."""

    def __init__(self, cli: Any, broker: str) -> None:
        self._cli, self._places = cli, {"broker": broker, "shared": str(cli.folder / "shared")}
        self.workers: list[Any] = []

    def types(self, words: str) -> list[str]:
        """Every command of the block; returns what each said on stdout."""
        return [said for line in lines(the_block(words).text) if (said := self._type(line)) is not None]

    def _type(self, line: Line) -> str | None:
        program, *words = line.words
        if program == "export":
            for name, _, value in (word.partition("=") for word in words):
                self._cli.env[name] = self._places[HERE[value]]
            return None
        assert program == "gemini-batch-dist", line
        if line.in_background:
            self.workers.append(self._cli.start(*words))
            return None
        done = self._cli(*words, timeout=240)
        assert done.code == line.exits, f"{shlex.join(line.words)}\n{done.words}"
        return str(done.out)

    def runs_python(self, words: str, then: str) -> str:
        """A Python block, and a line behind it that shows what came of it."""
        (self._cli.folder / "typed.py").write_text(f"{the_block(words).text}\n{then}\n")
        done = self._cli.python("typed.py", env={"PYTHONPATH": str(self._cli.folder)}).ended(120)
        assert done.code == 0, done.words
        return str(done.out)


@pytest.fixture
def reader(cli: Any, emulator: Any, request: pytest.FixtureRequest, folder: Path) -> Reader:
    """Has fifty rows, two of them without a text, and the schema of the README."""
    emulator.settings(job_seconds=0.2)
    (folder / "shared").mkdir()
    (folder / "schemas.py").write_text(the_block("class Ticket").text)
    with (folder / "tickets.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "text"])
        rows.writerows((name, "" if name in MENDED else text) for name, text in TEXTS.items())
    return Reader(cli, request.getfixturevalue("valkey").url if "workers" in request.node.name else "")


TEXTS = {f"T-{row:03d}": f"The lamp of order {row} flickers, can I return it?" for row in range(50)}


def test_fifty_prompts_two_mended_and_read_by_key(reader: Reader, emulator: Any, folder: Path, look: Any) -> None:
    planned, _ = reader.types("gemini-batch-dist plan tickets.csv")
    assert "cost" in planned
    assert "2 rows cannot be sent" in planned
    assert emulator.bought == 48
    (folder / "fixed.csv").write_text("id,text\n" + "".join(f"{key},{text}\n" for key, text in MENDED.items()))
    failed, *_ = reader.types("gemini-batch-dist retry --replace fixed.csv")
    assert [name in failed for name in (*MENDED, "T-001", "bad_row")] == [True, True, False, True]
    assert emulator.bought == 50, "the two rows, and no other again"
    assert emulator.bought_twice() == []
    answered = look.rows(look.only_run(folder / "runs"))
    shown = reader.runs_python("import duckdb", "print([(row[0], row[2], row[3], row[4] > 0) for row in rows])")
    due = [(row["key"], row["result"]["topic"], row["result"]["urgent"], True) for row in answered]
    assert shown.strip() == str(due)
    assert [row["key"] for row in answered] == list(TEXTS)


def test_a_stop_at_the_budget_and_on_with_more(reader: Reader, emulator: Any, folder: Path, look: Any) -> None:
    reader.types("--max-cost 0.001")
    assert emulator.bought == 48
    assert emulator.bought_twice() == []
    run = look.only_run(folder / "runs")
    asked = [
        "" if key in MENDED else look.answer(f"Answer politely: {text}", config={"maxOutputTokens": 200})
        for key, text in TEXTS.items()
    ]
    assert [row["text"] or "" for row in look.rows(run)] == asked
    (said,) = [
        control for control in sorted(run.glob("control/*.json")) if look.json(control)["limits"]["max_cost"] == 1
    ]
    spent = sum(row["cost_usd"] or 0 for row in look.rows(run))
    assert 0 < spent < 1, said


def test_two_workers(reader: Reader, emulator: Any, folder: Path, look: Any) -> None:
    _, shown, _ = reader.types("gemini-batch-dist worker -c 1 -n one@%h &")
    assert str(folder / "shared") in shown
    assert emulator.bought == 48
    assert [row["key"] for row in look.rows(next(folder.glob("shared/*/_SUCCESS")).parent)] == list(TEXTS)
    assert [worker.running for worker in reader.workers] == [True, True]


def test_from_python(reader: Reader, emulator: Any) -> None:
    said = reader.runs_python("distributed_batch_process([[", "print([type(ticket).__name__ for ticket in tickets])")
    assert said.strip() == "['Ticket', 'Ticket']"
    assert emulator.bought == 2


def test_every_block_is_typed_by_a_test_or_only_shown() -> None:
    typed = (
        "make demo", "pip install", "class Ticket", "gemini-batch-dist plan tickets.csv", "--replace fixed.csv",
        "import duckdb", "--max-cost 0.001", "worker -c 1", "distributed_batch_process([[",
    )  # fmt: skip
    assert {the_block(words) for words in typed} == {block for block in BLOCKS if not block.is_output}
