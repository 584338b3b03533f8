"""The library: lists, manifests and tables in; answers in the order of the prompts out."""

import asyncio
import base64
import io
import signal
import textwrap
import threading
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from google.genai import types
from PIL import Image
from pydantic import BaseModel, field_validator

from gemini_batch import BadInput, Run, RunStopped, distributed_batch_process

QUICK: dict[str, Any] = {"poll_interval": 1, "settle": 2}


class Place(BaseModel):
    """Not importable by name: pytest imports this file under a name of its own."""

    name: str
    height: int


PLACE = {
    "responseMimeType": "application/json",
    "responseSchema": {
        "type": "OBJECT",
        "description": "Not importable by name: pytest imports this file under a name of its own.",
        "properties": {"name": {"type": "STRING"}, "height": {"type": "INTEGER"}},
        "propertyOrdering": ["name", "height"],
        "required": ["name", "height"],
    },
}


@pytest.fixture(autouse=True)
def here(emulator: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", emulator.url)
    monkeypatch.chdir(folder)


def _png(size: int) -> bytes:
    body = io.BytesIO()
    Image.new("RGB", (size, size), "navy").save(body, "PNG")
    return body.getvalue()


def test_a_run_in_a_bucket_is_opened_again_by_its_url_or_id(
    s3: Any, look: Any, emulator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    root = f"s3://{s3.new_bucket()}/runs"
    manifest = s3.put(f"{root}/m.jsonl", b'{"prompt": "Question 0"}\n{"prompt": "Question 1"}\n')
    run = distributed_batch_process(manifest, runs=root, **QUICK)
    url = run.status()["run"]
    assert (run.path, run.dataset_path) == (url, f"{url}/dataset")
    for again in (Run.open(url), Run.open(url.rpartition("/")[2], root)):
        assert [row.result for row in again.results()] == [look.answer(f"Question {i}") for i in range(2)]
        assert again.to_table().num_rows == again.report["rows"] == 2
    assert distributed_batch_process([["Question 2"]], out=f"{root}/two", **QUICK) == [look.answer("Question 2")]


def test_pictures_beside_a_manifest_in_a_bucket_are_found_there(
    s3: Any, emulator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is relative to the manifest, wherever that is; what leads out of its folder fails alone."""
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    folder = f"s3://{s3.new_bucket()}/letters"
    s3.put(f"{folder}/scans/a b.png", _png(20))
    s3.put(f"{folder}/scans/c.png", _png(21))
    given = [
        {"prompt": "What?", "scan": scan} for scan in ("scans/a b.png", "./scans/c.png", "../c.png", "scans/d.png")
    ]
    manifest = s3.put(f"{folder}/m.jsonl", b"".join(orjson.dumps(row) + b"\n" for row in given))
    run = distributed_batch_process(manifest, image_column="scan", out="run", **QUICK)
    rows = list(run.results())
    assert [row.status for row in rows] == ["ok", "ok", "failed", "failed"], rows
    assert "../c.png" in rows[2].error["message"]
    assert f"{folder}/scans/d.png" in rows[3].error["message"]
    assert emulator.bought == 2


def test_a_list_of_texts_gives_a_list_of_texts(look: Any, emulator: Any) -> None:
    prompts = [[f"Question {i}"] for i in range(7)]
    results = distributed_batch_process(prompts, **QUICK)
    assert results == [look.answer(f"Question {i}") for i in range(7)]
    assert emulator.bought == 7


def test_parts_may_be_of_every_kind(look: Any, folder: Path) -> None:
    (folder / "p.png").write_bytes(_png(20))
    jpeg = io.BytesIO()
    Image.new("RGB", (30, 30), "red").save(jpeg, "JPEG")
    prompts = [
        ["Look:", Path("p.png")],
        ["Look:", folder / "p.png", "again:", _png(21)],
        [Image.new("RGB", (9, 9), "green"), "What?"],
        [types.Part.from_text(text="A part"), types.Part.from_bytes(data=jpeg.getvalue(), mime_type="image/jpeg")],
        ("a", "tuple"),
    ]
    results, rows = distributed_batch_process(prompts, return_metadata=True, **QUICK)
    assert [row.status for row in rows] == ["ok"] * 5

    def sent(body: bytes, mime: str = "image/png") -> dict[str, Any]:
        return {"inlineData": {"mimeType": mime, "data": base64.b64encode(body).decode()}}

    assert results[0] == look.answer("Look:", sent(_png(20)))
    assert results[1] == look.answer("Look:", sent(_png(20)), "again:", sent(_png(21)))
    assert results[3] == look.answer("A part", sent(jpeg.getvalue(), "image/jpeg"))
    assert results[4] == look.answer("a", "tuple")


def test_a_class_gives_instances_and_metadata_rows(look: Any) -> None:
    results, rows = distributed_batch_process([["x"], ["y"]], Place, return_metadata=True, **QUICK)
    assert all(type(result) is Place for result in results)
    expected = [Place.model_validate_json(look.answer(text, config=PLACE)) for text in "xy"]
    assert results == expected
    assert [(row.index, row.key, row.status) for row in rows] == [(0, "0", "ok"), (1, "1", "ok")]
    assert rows[0].result == expected[0].model_dump()
    assert rows[0].usage["prompt_tokens"] > 0


def test_a_class_inside_a_function_serves_as_well() -> None:
    class Local(BaseModel):
        words: list[str]

    (result,) = distributed_batch_process([["x"]], Local, **QUICK)
    assert type(result) is Local


def test_any_type_that_pydantic_describes_serves() -> None:
    (result,) = distributed_batch_process([["x"]], list[int], **QUICK)
    assert isinstance(result, list)
    assert all(type(one) is int for one in result)


def test_an_importable_class_is_validated_by_itself(folder: Path, cli: Any) -> None:
    (folder / "places.py").write_text(
        "from pydantic import BaseModel, field_validator\n"
        "class Even(BaseModel):\n"
        "    n: int\n"
        "    @field_validator('n')\n"
        "    @classmethod\n"
        "    def even(cls, n):\n"
        "        if n % 2: raise ValueError('odd')\n"
        "        return n\n"
    )
    script = """
        from gemini_batch import distributed_batch_process
        from places import Even
        results, rows = distributed_batch_process([[f"q{i}"] for i in range(30)], Even, return_metadata=True)
        for result, row in zip(results, rows, strict=True):
            assert (row.status == "ok") == (result is not None)
            assert row.status in ("ok", "invalid"), row
            assert result is None or result.n % 2 == 0
        print(sum(result is None for result in results))
        """
    (folder / "script.py").write_text(textwrap.dedent(script))
    done = cli.python("script.py").ended(60)
    assert done.code == 0, done.err
    assert 0 < int(done.out) < 30


def test_an_answer_that_only_the_class_itself_refuses_is_none() -> None:
    class Even(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def even(cls, n: int) -> int:
            if n % 2:
                raise ValueError("odd")
            return n

    results = distributed_batch_process([[f"q{i}"] for i in range(30)], Even, **QUICK)
    assert len(results) == 30
    assert 0 < results.count(None) < 30


def test_a_failing_row_gives_none_and_says_why(look: Any, emulator: Any) -> None:
    emulator.fault("result_line_blocked", after=1)
    prompts = [["a"], ["b"], ["c"], [Path("missing.png")], []]
    results, rows = distributed_batch_process(prompts, return_metadata=True, **QUICK)
    assert results == [look.answer("a"), None, look.answer("c"), None, None]
    assert [row.error and row.error["kind"] for row in rows] == [
        None, "blocked_prompt", None, "media_unreadable", "bad_row",
    ]  # fmt: skip
    assert emulator.bought == 3


def test_a_manifest_gives_a_run(look: Any, folder: Path, emulator: Any) -> None:
    manifest = look.prompts(folder / "m.parquet", 5)
    run = distributed_batch_process(manifest, out="run", **QUICK)
    assert isinstance(run, Run)
    assert run.dataset_path.resolve() == (folder / "run" / "dataset").resolve()
    assert [row.text for row in run.results()] == [look.answer(f"Prompt number {i}") for i in range(5)]
    assert run.to_table().num_rows == 5
    assert run.to_table().equals(look.dataset(folder / "run"))
    assert run.report == look.json(folder / "run" / "report.json")
    assert (run.status()["state"], run.status()["exit_code"]) == ("finished", 0)
    again = distributed_batch_process(str(manifest), out="run", **QUICK)
    assert again.to_table().equals(run.to_table())
    assert emulator.bought == 5


def test_a_table_gives_a_run(look: Any) -> None:
    run = distributed_batch_process(pa.table({"prompt": ["a", "b"], "key": ["k1", "k2"]}), **QUICK)
    assert [(row.key, row.text) for row in run.results()] == [("k1", look.answer("a")), ("k2", look.answer("b"))]


def test_not_waiting_returns_a_run_that_goes_on(look: Any, emulator: Any, folder: Path) -> None:
    emulator.settings(job_seconds=60)
    run = distributed_batch_process([["a"], ["b"]], out="run", wait=False, **QUICK)
    assert isinstance(run, Run)
    look.until(lambda: emulator.creates == 1, "the job is created")
    assert run.wait(timeout=0.1)["state"] == "running"
    assert run.status()["rows"] == {"total": 2, "ok": 0, "failed": 0, "pending": 2}
    assert run.report is None
    with pytest.raises(RunStopped, match="not finished"):
        next(run.results())
    emulator.settings(job_seconds=0)
    assert run.wait(timeout=60)["state"] == "finished"
    assert [row.text for row in Run.open("run").results()] == [look.answer("a"), look.answer("b")]
    assert Run.open(folder / "run").status()["rows"]["ok"] == 2


def test_a_run_is_opened_by_id_below_its_root(look: Any) -> None:
    run = distributed_batch_process([["a"]], wait=False, runs="somewhere", **QUICK)
    run.wait(60)
    name = run.status()["run_id"]
    assert [row.text for row in Run.open(name, "somewhere").results()] == [look.answer("a")]
    with pytest.raises(BadInput, match="nothing-there"):
        Run.open("nothing-there")


def test_a_run_that_another_process_began_is_finished_here(look: Any, cli: Any, emulator: Any, folder: Path) -> None:
    emulator.settings(job_seconds=60)
    running = cli.start("submit", look.prompts(folder / "m.parquet", 4), "--out", "run", "--poll-interval", "1")
    look.until(lambda: emulator.creates == 1, "the job is created")
    running.kill()
    emulator.settings(job_seconds=0)
    run = Run.open("run")
    assert run.wait(60)["exit_code"] == 0
    assert [row.text for row in run.results()] == [look.answer(f"Prompt number {i}") for i in range(4)]
    assert emulator.bought == 4


def test_it_works_inside_a_running_event_loop(look: Any) -> None:
    async def notebook() -> Any:
        return distributed_batch_process([["a"]], **QUICK)

    assert asyncio.run(notebook()) == [look.answer("a")]


def test_it_works_in_a_thread_that_is_not_the_main_one(look: Any) -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(distributed_batch_process([["a"]], **QUICK)))
    thread.start()
    thread.join(60)
    assert found == [look.answer("a")]


def test_a_plain_script_needs_no_main_guard(look: Any, cli: Any, folder: Path) -> None:
    (folder / "script.py").write_text(
        "from pydantic import BaseModel\n"
        "from gemini_batch import distributed_batch_process\n"
        "print('begin')\n"
        "class Thing(BaseModel):\n"
        "    name: str\n"
        "results = distributed_batch_process([['a'], ['b']], Thing)\n"
        "print(len(results), all(type(one) is Thing for one in results))\n"
    )
    done = cli.python("script.py").ended(60)
    assert done.code == 0, done.err
    assert done.out == "begin\n2 True\n"
    assert "Traceback" not in done.err
    cli.wait_for_nobody()


def test_ctrl_c_leaves_a_run_that_can_be_resumed(look: Any, cli: Any, emulator: Any, folder: Path) -> None:
    emulator.settings(job_seconds=60)
    (folder / "script.py").write_text(
        "from gemini_batch import distributed_batch_process\n"
        "try:\n"
        "    distributed_batch_process([['a'], ['b']], out='run', poll_interval=1)\n"
        "except KeyboardInterrupt:\n"
        "    print('detached', flush=True)\n"
    )
    running = cli.python("script.py")
    look.until(lambda: emulator.creates == 1, "the job is created")
    running.signal(signal.SIGINT, group=True)
    done = running.ended(30)
    assert (done.code, done.out) == (0, "detached\n"), done.err
    assert "Traceback" not in done.err
    cli.wait_for_nobody()
    emulator.settings(job_seconds=0)
    run = Run.open("run")
    run.wait(60)
    assert [row.text for row in run.results()] == [look.answer("a"), look.answer("b")]
    assert emulator.bought == 2


def test_a_run_is_paused_resumed_and_cancelled_by_its_handle(look: Any, emulator: Any) -> None:
    emulator.settings(job_seconds=4 * 3600)
    one_each = {"max_requests_per_shard": 1, "max_live_jobs": 1, "wait": False, "out": "run", **QUICK}
    run = distributed_batch_process([["a"], ["b"], ["c"]], **one_each)
    look.until(lambda: run.status()["jobs"]["live"] == 1, "the first job is recorded")
    assert run.pause().status()["state"] == "paused"
    emulator.advance(5 * 3600)
    assert run.wait(60)["state"] == "paused", "what ran is collected, and the wait is over"
    assert emulator.creates == 1
    run.resume()
    look.until(lambda: emulator.creates == 2, "the second job is created")
    look.until(lambda: run.status()["jobs"]["live"] == 1, "and recorded")
    assert run.cancel().wait(60)["state"] == "cancelled"
    rows = list(run.results())
    answered = [row for row in rows if row.text is not None]
    assert [row.text for row in answered] == [look.answer("abc"[row.index]) for row in answered]
    assert [row.error and row.error["kind"] for row in rows if row not in answered] == ["cancelled", "cancelled"]
    assert len(rows) == 3, "the first job's row was answered, whichever it was"
    assert emulator.creates == 2


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"temprature": 1}, "temperature"),
        ({"max_live_job": 1}, "max_live_jobs"),
        ({"temperature": 7}, "temperature"),
        ({"max_live_jobs": 0}, "max-live-jobs"),
        ({"schema": "no_such_module:X"}, "no_such_module"),
        ({"schema": object()}, "schema"),
    ],
)
def test_wrong_options_are_refused_before_anything_happens(
    options: dict[str, Any], says: str, emulator: Any, folder: Path
) -> None:
    with pytest.raises(BadInput, match=says):
        distributed_batch_process([["a"]], **options)
    assert emulator.untouched()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("prompts", "says"),
    [
        ([], "empty"),
        (["a text, not a list"], "prompt 0"),
        ([["fine"], [3.5]], "prompt 1, part 0"),
        ([["fine"], None], "prompt 1"),
        ("nowhere.parquet", "nowhere.parquet"),
        (Path("nowhere.parquet"), "nowhere.parquet"),
        (pa.table({"question": ["a"]}), "question"),
        (pa.table({"prompt": pa.array([], pa.string())}), "no rows"),
    ],
)
def test_wrong_prompts_are_refused_before_anything_happens(
    prompts: Any, says: str, emulator: Any, folder: Path
) -> None:
    with pytest.raises(BadInput, match=says):
        distributed_batch_process(prompts)
    assert emulator.untouched()
    assert list(folder.iterdir()) == []


def test_a_model_that_does_not_exist_stops_the_run(emulator: Any) -> None:
    with pytest.raises(RunStopped, match="gemini-does-not-exist"):
        distributed_batch_process([["a"]], model="gemini-does-not-exist", **QUICK)
    assert emulator.bought == 0


def test_options_take_the_types_that_python_has_for_them(look: Any, emulator: Any, folder: Path) -> None:
    emulator.fault("result_line_error")
    results = distributed_batch_process([["a"], ["b"]], runs=folder / "elsewhere", allow_failed=1, **QUICK)
    assert len(results) == 2
