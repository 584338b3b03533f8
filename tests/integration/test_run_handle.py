"""The handle of a run: its rows as a program wants them, what a person sees of it, and coming back to it."""

import asyncio
import builtins
import json
import signal
import threading
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel

from gemini_batch import BadInput, Run, RunStopped, distributed_batch_process

QUICK: dict[str, Any] = {"poll_interval": 0.2, "settle": 2}


class Place(BaseModel):
    name: str
    height: int


@pytest.fixture(autouse=True)
def here(emulator: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", emulator.url)
    monkeypatch.chdir(folder)


def a_run(rows: int = 3, **options: Any) -> Run:
    """A manifest's run, in `run`."""
    frame = pl.DataFrame({"prompt": [f"Question {i}" for i in range(rows)], "key": [f"k{i}" for i in range(rows)]})
    run: Run = distributed_batch_process(frame, **{"out": "run", **QUICK, **options})
    return run


# --- rows -------------------------------------------------------------------------------------------------------------


def test_results_are_of_a_type_where_that_is_asked_for(folder: Path) -> None:
    run = a_run(schema=Place)
    plain, typed = list(run.results()), list(run.results(Place))
    assert [type(row.result) for row in typed] == [Place] * 3
    assert [row.result.model_dump() for row in typed] == [row.result for row in plain]
    assert [row.key for row in typed] == ["k0", "k1", "k2"]
    (folder / "places_of_mine.py").write_text(
        "from pydantic import BaseModel\nclass High(BaseModel):\n    name: str\n    height: int\n"
    )
    assert [type(row.result).__name__ for row in run.results("places_of_mine:High")] == ["High"] * 3
    with pytest.raises(BadInput, match="pydantic"):
        run.results(object())


def test_rows_are_chosen_by_status_and_come_with_what_was_asked(emulator: Any, folder: Path) -> None:
    emulator.fault("result_line_blocked", after=1)
    run = a_run(allow_failed=1)
    assert (run.status()["rows"]["failed"], run.status()["exit_code"]) == (1, 0), "one may fail"
    (bad,) = run.results(status="blocked", with_input=True)
    assert (bad.index, bad.key, bad.input["prompt"], bad.kept) == (1, "k1", "Question 1", {})
    assert [row.input for row in run.results()] == [None] * 3
    assert run.to_table(status=["ok", "blocked"]).num_rows == 3
    assert run.to_table(status="truncated").schema == run.to_table().schema
    assert run.write(folder / "bad.jsonl", status="blocked") == 1
    assert json.loads((folder / "bad.jsonl").read_text())["key"] == "k1"
    with pytest.raises(BadInput, match="blokced"):
        run.results(status="blokced")
    with pytest.raises(BadInput, match="local file"):
        run.write("-")


def test_what_is_there_of_an_unfinished_run_can_be_read(emulator: Any, look: Any) -> None:
    emulator.settings(job_seconds=3600)
    run = a_run(wait=False)
    look.until(lambda: emulator.creates == 1, "the job is created")
    assert [row.status for row in run.results(partial=True)] == ["pending"] * 3
    assert run.to_table(partial=True)["key"].to_pylist() == ["k0", "k1", "k2"]
    for read in (run.results, run.to_table):
        with pytest.raises(RunStopped, match="not finished"):
            read()
    emulator.advance(3601)
    run.wait(60, progress=False)
    assert [row.status for row in run.results()] == ["ok"] * 3


def test_rows_are_read_a_block_at_a_time(folder: Path) -> None:
    run = a_run(1)
    part = folder / "run" / "dataset" / "part-000000.parquet"
    one = pq.read_table(part).set_column(4, "text", pa.array(["x" * 1000]))
    pq.write_table(one.take([0] * 60_000), part, row_group_size=10_000)
    before = pa.total_allocated_bytes()
    peak = max(pa.total_allocated_bytes() for _ in run.results()) - before
    assert 0 < peak < 40_000_000, "of 60 MB of text"


def test_rows_are_bought_again_with_content_from_a_frame(emulator: Any, look: Any) -> None:
    emulator.fault("result_line_blocked", after=1)
    run = a_run()
    fixed = pl.DataFrame({"key": ["k1"], "prompt": ["Question one"]})
    assert run.retry(replace=fixed, poll_interval=0.2).wait(progress=False)["rows"]["ok"] == 3
    assert [row.text for row in run.results()] == [look.answer(f"Question {n}") for n in ("0", "one", "2")]
    with pytest.raises(BadInput, match="--status"):
        run.retry(status="fialed")
    with pytest.raises(BadInput, match="is no table"):
        run.retry(replace=[["Question one"]])


# --- what a person sees -----------------------------------------------------------------------------------------------


def test_progress_goes_to_stderr_unless_it_is_switched_off(capsys: pytest.CaptureFixture[str]) -> None:
    distributed_batch_process([["a"]], **QUICK)
    said = capsys.readouterr()
    assert said.out == "" and "of 1 rows" in said.err
    distributed_batch_process([["b"]], progress=False, **QUICK)
    assert capsys.readouterr() == ("", "")


def test_with_json_the_final_status_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    distributed_batch_process([["a"]], json=True, progress=False, **QUICK)
    said = json.loads(capsys.readouterr().out)
    assert (said["state"], said["rows"]["ok"], said["exit_code"]) == ("finished", 1, 0)


def test_in_a_notebook_progress_is_one_line_below_the_cell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What rich asks to know a notebook by is there; nothing of IPython is needed."""
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setattr(builtins, "get_ipython", lambda: shell, raising=False)
    run = a_run()
    said = capsys.readouterr()
    assert said.err == "" and "3 of 3 rows" in said.out.split("\r")[-1] and said.out.count("\n") == 1
    assert 'value="3" max="3"' in run._repr_html_()


def test_a_handle_shows_how_to_come_back_to_it_and_never_fails(folder: Path) -> None:
    run = a_run()
    assert str(run.path) in repr(run)
    assert eval(repr(run)).to_table() == run.to_table()
    (folder / "run" / "run.json").unlink()
    assert "holds no run" in run._repr_html_()


# --- coming back ------------------------------------------------------------------------------------------------------


def test_open_finds_the_newest_run_below_the_root_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setenv("GEMINI_BATCH_RUNS", str(folder / "elsewhere"))
    distributed_batch_process([["a"]], wait=False, **QUICK).wait(60)
    distributed_batch_process([["b"]], wait=False, **QUICK).wait(60)
    newest = Run.open()
    assert [row.text for row in newest.results()] == distributed_batch_process([["b"]], **QUICK)
    assert Run.open(newest.status()["run_id"]).path == newest.path


def test_a_run_of_a_named_project_is_gone_on_with_by_its_handle(emulator: Any) -> None:
    """The handle remembers the name: without it the run would look like another project's."""
    emulator.fault("result_line_blocked", after=1)
    run = a_run(project="mine")
    assert run.retry(poll_interval=0.2).wait()["rows"]["ok"] == 3
    emulator.fault("result_line_blocked")
    again = a_run(project="mine", fresh=True, out="other")
    assert Run.open("other", project="mine").retry().wait()["rows"]["ok"] == 3
    assert again.status()["rows"]["ok"] == 3


def test_after_leaving_it_waiting_goes_on_in_the_same_process(emulator: Any, look: Any) -> None:
    emulator.settings(job_seconds=3600)
    run = a_run(wait=False)
    look.until(lambda: emulator.creates == 1, "the job is created")
    run.detach()
    emulator.advance(3601)
    assert run.wait(60)["state"] == "finished"
    assert emulator.creates == 1


def test_waiting_for_a_paused_run_collects_what_runs_and_does_not_resume_it(emulator: Any, look: Any) -> None:
    emulator.settings(job_seconds=3600)
    run = a_run(wait=False, max_requests_per_shard=1, max_live_jobs=1)
    look.until(lambda: run.status()["jobs"]["live"], "the first job is recorded")
    run.pause().detach()
    emulator.advance(3601)
    for again in (Run.open("run"), Run.open("run"), run):
        status = again.wait(60)
        assert (status["state"], status["shards"]["COLLECTED"]) == ("paused", 1)
    assert emulator.creates == 1


def test_a_list_whose_run_is_paused_says_how_to_go_on(emulator: Any) -> None:
    emulator.settings(job_seconds=3600)
    prompts = [["a"], ["b"]]
    one_each = {"max_requests_per_shard": 1, "max_live_jobs": 1, "out": "run", **QUICK}
    run = distributed_batch_process(prompts, wait=False, **one_each)
    run.pause()
    emulator.advance(3601)
    run.wait(60)
    emulator.settings(job_seconds=0)
    assert [type(one) for one in distributed_batch_process(prompts, **one_each)] == [str, str], "the call resumes it"


def test_what_was_said_in_a_file_holds_on_every_call(folder: Path) -> None:
    (folder / "run.toml").write_text('poll_interval = 0.2\nn_samples = 2\nout = "run"\n')
    distributed_batch_process([["a"]], config="run.toml")
    (row,) = Run.open("run").results()
    assert len(row.samples or []) == 2


def test_once_does_what_is_due_and_leaves_the_rest(emulator: Any) -> None:
    emulator.settings(job_seconds=3600)
    run = a_run(wait=False)
    run.detach()
    run.resume(once=True, poll_interval=0.2)
    emulator.advance(3601)
    for _ in range(5):
        run.resume(once=True)
    assert run.status()["state"] == "finished"
    assert emulator.creates == 1


# --- where it is called -----------------------------------------------------------------------------------------------


def test_it_works_in_a_loop_that_runs_in_a_thread_as_in_a_kernel(look: Any) -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def cell() -> Any:
        return distributed_batch_process([["a"]], **QUICK)

    try:
        assert asyncio.run_coroutine_threadsafe(cell(), loop).result(60) == [look.answer("a")]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()


def test_two_at_once_in_one_process_get_their_own_answers(look: Any) -> None:
    async def both() -> list[Any]:
        ask = [asyncio.to_thread(distributed_batch_process, [[text]], progress=False, **QUICK) for text in "ab"]
        return await asyncio.gather(*ask)

    assert asyncio.run(both()) == [[look.answer("a")], [look.answer("b")]]


def test_ctrl_c_says_how_to_come_back_and_the_same_program_may(
    cli: Any, emulator: Any, look: Any, folder: Path
) -> None:
    emulator.settings(job_seconds=3600)
    (folder / "script.py").write_text(
        "from gemini_batch import Run, distributed_batch_process\n"
        "try:\n"
        "    distributed_batch_process([['a']], out='run', poll_interval=0.2)\n"
        "except KeyboardInterrupt:\n"
        "    print('left', flush=True)\n"
        "    print(Run.open('run').wait(progress=False)['state'])\n"
    )
    running = cli.python("script.py")
    look.until(lambda: emulator.creates == 1, "the job is created")
    running.signal(signal.SIGINT)
    look.until(lambda: "left" in running.said, "it is interrupted")
    emulator.advance(3601)
    done = running.ended(60)
    assert (done.code, done.out) == (0, "left\nfinished\n"), done.err
    assert "gemini-batch-dist resume" in done.err
    assert "Run.open('run').wait()" in done.err
    assert emulator.creates == 1


def test_a_program_that_ends_leaves_its_run_to_be_resumed(cli: Any, emulator: Any, folder: Path) -> None:
    (folder / "script.py").write_text(
        "from gemini_batch import distributed_batch_process\n"
        "distributed_batch_process([['a']], out='run', wait=False, poll_interval=0.2)\n"
    )
    done = cli.python("script.py").ended(60)
    assert (done.code, done.out) == (0, "") and "Traceback" not in done.err, done.err
    cli.wait_for_nobody()
    assert Run.open("run").wait(60)["state"] == "finished"
    assert emulator.creates == 1
