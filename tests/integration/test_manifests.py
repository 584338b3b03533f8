"""Forms of a manifest that are all the same to the user."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image

QUICK = ("--poll-interval", "1", "--out", "run", "--json")


@pytest.mark.parametrize(
    "form", ["parquet", "jsonl", "csv", "arrow", "arrow stream", "dictionary", "large_string", "directory", "glob"]
)
def test_every_form_gives_the_same_rows(form: str, cli: Any, look: Any, folder: Path) -> None:
    prompts = ["eins", 'zwei\u2028und\n"mehr"', None, "\U0001f600 vier", ""]
    keys = ["b", "a", "ü", "d", "e"]
    system = [None, "Be brief.", None, None, None]
    kind = pa.large_string() if form == "large_string" else pa.string()
    table = pa.table({"prompt": pa.array(prompts, kind), "key": keys, "system_instruction": system, "other": range(5)})
    path = folder / "m.parquet"
    if form == "dictionary":
        table = table.set_column(0, "prompt", table["prompt"].dictionary_encode())
    if form == "jsonl":
        path = look.jsonl(folder / "m.jsonl", table.to_pylist())
    elif form == "csv":
        path = folder / "m.csv"
        pa.csv.write_csv(table, path)
    elif form in {"directory", "glob"}:
        (folder / "m" / "x").mkdir(parents=True)
        pq.write_table(table.slice(0, 2), folder / "m" / "a.parquet")
        pq.write_table(table.slice(2), folder / "m" / "x" / "a.parquet")
        path = folder / "m" if form == "directory" else folder / "m" / "**" / "a.parquet"
    elif form.startswith("arrow"):
        path = folder / "m.arrow"
        make = pa.ipc.new_stream if "stream" in form else pa.ipc.new_file
        with path.open("wb") as sink, make(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        pq.write_table(table, path)
    done = cli("submit", path, "--system-instruction", "Be kind.", *QUICK)
    assert done.code == 3, done.err
    rows = look.rows(folder / "run")
    assert [row["key"] for row in rows] == keys
    assert [row["status"] for row in rows] == ["ok", "ok", "failed", "ok", "failed"]
    assert rows[0]["text"] == look.answer(prompts[0], system="Be kind.")
    assert rows[1]["text"] == look.answer(prompts[1], system="Be brief.")
    assert rows[3]["text"] == look.answer(prompts[3], system="Be kind.")
    assert rows[2]["error"]["kind"] == rows[4]["error"]["kind"] == "bad_row"


def test_keys_of_any_scalar_type_come_back_as_text(cli: Any, look: Any, folder: Path) -> None:
    done = cli(
        "submit",
        look.parquet(folder / "m.parquet", {"prompt": ["a", "b"], "nr": [7, -3]}),
        "--key-column",
        "nr",
        *QUICK,
    )
    assert done.code == 0, done.err
    assert [row["key"] for row in look.rows(folder / "run")] == ["7", "-3"]


def test_what_stands_only_in_late_rows_of_a_jsonl_is_asked_too(cli: Any, look: Any, folder: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": f"p{i}"} for i in range(16_500)]
    rows[-1]["system_instruction"] = "Answer in French."
    done = cli("submit", look.jsonl(folder / "m.jsonl", rows), "--max-requests-per-shard", "20000", "--yes", *QUICK)
    assert done.code == 0, done.err
    assert look.rows(folder / "run")[-1]["text"] == look.answer("p16499", system="Answer in French.")


def test_a_row_that_no_shard_can_hold_fails_alone_and_unpaid(cli: Any, look: Any, folder: Path, emulator: Any) -> None:
    manifest = look.parquet(folder / "m.parquet", {"prompt": ["short", "long " * 1000, "short too"]})
    done = cli("submit", manifest, "--max-bytes-per-shard", "1000", *QUICK)
    assert done.code == 3, done.err
    assert [row["status"] for row in look.rows(folder / "run")] == ["ok", "failed", "ok"]
    assert look.rows(folder / "run")[1]["error"]["kind"] == "oversized"
    assert emulator.bought == 2


def test_shards_end_at_the_first_limit_met(cli: Any, look: Any, folder: Path) -> None:
    manifest = look.parquet(folder / "m.parquet", {"prompt": ["x" * 400] * 10})

    def shards(*limit: str) -> int:
        return int(cli("plan", manifest, "--json", *limit).json["shards"])

    assert shards() == 1
    assert shards("--max-requests-per-shard", "3") == 4
    assert shards("--max-bytes-per-shard", "1200") == 5
    assert shards("--max-tokens-per-shard", "250") == 5
    assert shards("--max-tokens-per-shard", "250", "--max-requests-per-shard", "1") == 10
    assert shards("--max-tokens-per-shard", "1") == 10


def test_a_csv_with_a_template_and_pictures_is_asked_as_its_rows_say(
    cli: Any, look: Any, folder: Path, emulator: Any
) -> None:
    (folder / "pictures").mkdir()
    for name, colour in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (8, 8), colour).save(folder / "pictures" / f"{name}.png")
    (folder / "m.csv").write_text(
        "id,title,file\n1,{x},pictures/a.png\n2,,pictures/b.png\n3,Tree,pictures/gone.png\n4,Bush,\n"
    )
    (folder / "t.txt").write_text("Is this {title}? {{}}\n")
    asked = ("m.csv", "--template", "@t.txt", "--image-column", "file", "--key-column", "id")
    planned = cli("plan", *asked, "--limit", "3", "--json")
    assert (planned.code, planned.json["rows"], planned.json["template_nulls"]) == (0, 3, {"title": 1}), planned.err
    assert "{title}" in cli("plan", *asked).out
    done = cli("submit", *asked, *QUICK)
    assert done.code == 3, done.err
    rows = look.rows(folder / "run")
    assert rows[0]["error"] is None, rows
    assert [row["key"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["status"] for row in rows] == ["ok", "failed", "failed", "failed"]
    assert "no prompt" in rows[1]["error"]["message"]
    assert "gone.png" in rows[2]["error"]["message"]
    assert "part 1" in rows[3]["error"]["message"]
    sent = cli("explain", "run", "0", "--json").json["rounds"][0]["samples"][0]["sent"]
    assert '"Is this {x}? {}"' in sent
    assert sent.index("Is this") < sent.index("inlineData")
    assert emulator.bought == 1


def test_kept_columns_stand_behind_the_fixed_ones_through_rounds_and_retries(
    cli: Any, look: Any, folder: Path, emulator: Any
) -> None:
    emulator.fault("result_line_error", row=1, times=2)
    table = pa.table(
        {
            "prompt": [f"Prompt number {n}" for n in range(40)],
            "when": pa.array([n * 10**6 for n in range(40)], pa.timestamp("us", "UTC")),
            "tags": pa.array([[f"t{n}"] for n in range(40)]),
        }
    )
    pq.write_table(table, folder / "m.parquet")
    asked = ("m.parquet", "--keep", "tags,when", "--max-requests-per-shard", "15")
    done = cli("submit", *asked, *QUICK)
    assert done.code == 0, done.err

    def held() -> pa.Table:
        return pa.concat_tables(pq.read_table(path) for path in sorted((folder / "run" / "dataset").iterdir()))

    first = held()
    assert first.column_names[-3:] == ["request_digest", "tags", "when"]
    assert first.select(["tags", "when"]).equals(table.select(["tags", "when"]))
    look.jsonl(folder / "fixed.jsonl", [{"index": 7, "prompt": "Another question"}])
    again = cli("retry", "run", "--replace", "fixed.jsonl", "--poll-interval", "1", "--json")
    assert again.code == 0, again.err
    assert held()["text"][7].as_py() == look.answer("Another question")
    assert held().select(["tags", "when"]).equals(table.select(["tags", "when"]))
    assert cli("audit", "run").code == 0
    other = cli("submit", "m.parquet", *QUICK)
    assert (other.code, "tags,when" in other.err) == (0, True), other.err


def test_pictures_may_lie_in_further_directories_or_elsewhere_than_rows_say(
    cli: Any, look: Any, folder: Path, tmp_path: Path, emulator: Any
) -> None:
    for name in ("more/a.png", "moved/b.png", "not-given/c.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (8, 8), "red").save(tmp_path / name)
    paths = [f"{tmp_path}/more/a.png", "/nowhere/b.png", f"{tmp_path}/not-given/c.png"]
    look.jsonl(folder / "m.jsonl", [{"prompt": "What?", "i": path} for path in paths])
    given = ("--media-root", f"{tmp_path}/more", "--media-root", f"/nowhere={tmp_path}/moved")
    done = cli("submit", "m.jsonl", "--image-column", "i", *given, *QUICK)
    assert done.code == 3, done.err
    rows = look.rows(folder / "run")
    assert [row["status"] for row in rows] == ["ok", "ok", "failed"]
    assert "outside" in rows[2]["error"]["message"]
    recorded = look.json(folder / "run" / "run.json")["media_roots"]
    assert recorded == [str(folder), f"{tmp_path}/more", "/nowhere"]
    assert cli("worker", "--media-root", "x=/y", "--broker", "redis://127.0.0.1:1/0").code == 2


def test_plan_shows_the_first_lines_as_they_are_then_sent(cli: Any, look: Any, folder: Path, emulator: Any) -> None:
    Image.effect_noise((1200, 1200), 90).save(folder / "large.png")
    Image.new("RGB", (8, 8), "red").save(folder / "small.png")
    pictures = ["small.png", "gone.png", "large.png", None]
    look.jsonl(folder / "m.jsonl", [{"title": f"Title {n}", "i": name} for n, name in enumerate(pictures)])
    asked = (
        "m.jsonl",
        "--template",
        "About {title}",
        "--image-column",
        "i",
        "--temperature",
        "0.5",
        "--n-samples",
        "2",
    )
    shown = cli("plan", *asked, "--show", "3", "--json").json["show"]
    assert [(one["index"], "line" in one) for one in shown] == [(0, True), (0, True), (1, False), (2, True)]
    assert "gone.png" in shown[2]["error"]
    assert "(uploaded, sha256 " in shown[3]["line"]
    assert max(len(one["line"]) for one in shown if "line" in one) < 600
    assert "characters of base64" in cli("plan", *asked, "--show", "1").out
    assert emulator.untouched()
    assert cli("submit", *asked, *QUICK).code == 3
    sent = cli("explain", "run", "0", "--json").json["rounds"][0]["samples"][0]["sent"]
    one, other = json.loads(shown[0]["line"])["request"], json.loads(sent)["request"]
    for request in (one, other):
        request["contents"][0]["parts"][1]["inlineData"].pop("data")
    assert one == other


def test_plan_opens_every_picture_and_lists_the_rows_that_would_fail(
    cli: Any, look: Any, folder: Path, idle_emulator: Any
) -> None:
    Image.new("RGB", (8, 8), "red").save(folder / "fine.png")
    (folder / "cut.png").write_bytes((folder / "fine.png").read_bytes()[:40])
    pictures = ["fine.png", "cut.png", "gone.png", "https://example.com/p.png", "fine.png"]
    look.jsonl(folder / "m.jsonl", [{"key": f"k{n}", "prompt": "p", "i": name} for n, name in enumerate(pictures)])
    found = cli("plan", "m.jsonl", "--image-column", "i", "--check-media", "--json")
    assert found.code == 0, found.err
    bad = found.json["bad_rows"]
    assert [(row["index"], row["key"], row["kind"]) for row in bad] == [
        (1, "k1", "media_unreadable"),
        (2, "k2", "media_unreadable"),
        (3, "k3", "bad_row"),
    ]
    words = cli("plan", "m.jsonl", "--image-column", "i", "--check-media").out
    assert "row 2 (key k2): " in words
    assert "3 rows would fail unsent" in words
    fine = cli("plan", "m.jsonl", "--image-column", "i", "--limit", "1", "--check-media").out
    assert "every picture can be read" in fine
    assert idle_emulator.untouched()
