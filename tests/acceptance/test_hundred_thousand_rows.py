"""The heart: 100,000 prompts, every answer right and on its row, every prompt bought once, kill -9 included."""

import json
import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROWS, SHARD = 100_000, 2_000
KILLS = int(os.environ.get("CHAOS_KILLS", "12"))
SEED = 20261123

SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string"}, "score": {"type": "integer"}, "sure": {"type": "boolean"}},
    "required": ["label", "score", "sure"],
}
CONFIG = {
    "responseMimeType": "application/json",
    "responseSchema": {
        "type": "OBJECT",
        "properties": {"label": {"type": "STRING"}, "score": {"type": "INTEGER"}, "sure": {"type": "BOOLEAN"}},
        "propertyOrdering": ["label", "score", "sure"],
        "required": ["label", "score", "sure"],
    },
    "temperature": 0.5,
}


@dataclass(frozen=True)
class Work:
    """A manifest, the schema, and what every row must come to."""

    manifest: Path
    keys: list[str]
    expected: list[str]
    options: list[str]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, look: Any) -> Work:
    folder = tmp_path_factory.mktemp("work")
    numbers = list(range(ROWS))
    random.Random(SEED).shuffle(numbers)
    keys = [f"key-{number:06d}" for number in numbers]
    prompts = [f"Número {number} ß: is {number * 7919 % 1_000_003} a good guess?" for number in numbers]
    manifest, schema = folder / "manifest.parquet", folder / "schema.json"
    pq.write_table(pa.table({"prompt": prompts, "key": keys}), manifest, row_group_size=7_777)
    schema.write_text(json.dumps(SCHEMA))
    options = ["--yes", "--schema", str(schema), "--temperature", "0.5", "--max-requests-per-shard", str(SHARD)]
    options += ["--max-live-jobs", "4", "--poll-interval", "1", "--settle", "2"]
    return Work(manifest, keys, [look.answer(prompt, config=CONFIG) for prompt in prompts], options)


@pytest.fixture(scope="module")
def undisturbed(work: Work, start_emulator: Callable[..., Any], make_cli: Callable[..., Any]) -> tuple[Path, Any, Any]:
    emulator = start_emulator("--job-seconds", "0.3")
    cli = make_cli(emulator)
    done = cli("submit", work.manifest, *work.options, "--out", "run", "--json")
    return cli.folder / "run", emulator, done


def test_every_row_of_a_hundred_thousand_is_right(work: Work, undisturbed: Any, look: Any) -> None:
    run, _, done = undisturbed
    assert done.code == 0, done.err
    assert done.json["rows"] == {"total": ROWS, "ok": ROWS, "failed": 0, "pending": 0}
    table = look.dataset(run)
    assert table["index"].to_pylist() == list(range(ROWS))
    assert table["key"].to_pylist() == work.keys
    assert table["text"].to_pylist() == work.expected
    assert table["result"].to_pylist() == [json.loads(text) for text in work.expected]
    assert set(table["status"].to_pylist()) == {"ok"}


def test_every_prompt_of_a_hundred_thousand_is_bought_once(undisturbed: Any, look: Any) -> None:
    run, emulator, _ = undisturbed
    stats = emulator.stats()
    assert stats["requests"] == {"bought_total": ROWS, "distinct": ROWS, "bought_more_than_once": 0}
    assert stats["creates"] == ROWS // SHARD
    assert stats["jobs"]["live_max"] <= 4
    report = look.json(run / "report.json")
    assert (report["rows"], report["ok"], report["shards"], report["jobs"]) == (ROWS, ROWS, 50, 50)
    assert report["requests_bought"] == ROWS


def test_kills_and_resumes_change_nothing_and_buy_nothing_twice(
    work: Work, undisturbed: Any, start_emulator: Callable[..., Any], make_cli: Callable[..., Any], look: Any
) -> None:
    emulator = start_emulator("--job-seconds", "0.5")
    cli = make_cli(emulator)
    run, moments, dice = cli.folder / "run", list[str](), random.Random(SEED)
    print(f"seed {SEED}")
    while len(moments) < KILLS:
        started = _go_on(cli, run, work)
        if len(moments) % 4 == 0:  # while it starts, plans, encodes
            threading.Event().wait(seconds := dice.uniform(0.2, 1.5))
            moment = f"{seconds:.2f} s"
        else:  # while it talks to the service
            calls, more = _calls(emulator), dice.randint(1, 500 // KILLS)
            look.until(lambda: _calls(emulator) >= calls + more or not started.running, f"{more} calls", 60)  # noqa: B023
            moment = f"{more} calls"
        assert started.kill(), f"kill {len(moments) + 1} came too late: {started.said}"
        moments.append(f"{moment} ({emulator.creates} jobs)")
    print("killed after", *moments, sep="; ")
    emulator.settings(job_seconds=0.1)
    done = _go_on(cli, run, work).ended(90)
    assert done.code == 0, done.err
    stats = emulator.stats()
    assert emulator.bought_twice() == []
    assert stats["requests"] == {"bought_total": ROWS, "distinct": ROWS, "bought_more_than_once": 0}
    assert stats["creates"] == ROWS // SHARD
    assert look.dataset(run).equals(look.dataset(undisturbed[0]))
    audited = cli("audit", run)
    assert audited.code == 0, audited.words
    cli.wait_for_nobody()


def _go_on(cli: Any, run: Path, work: Work) -> Any:
    """`resume`; before there is a run to resume, `submit`."""
    if (run / "run.json").exists():
        return cli.start("resume", run)
    return cli.start("submit", work.manifest, *work.options, "--out", run)


def _calls(emulator: Any) -> int:
    return sum(emulator.stats()["calls"].values())
