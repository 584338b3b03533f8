"""A fleet that cannot see how its jobs stand says so, rather than that they run."""

from pathlib import Path
from typing import Any

from gemini_batch import inquiries, runs
from gemini_batch.config import resolve, resolve_account
from gemini_batch.fleet.broker import read_broker
from gemini_batch.fleet.host import Host, Serving
from gemini_batch.fleet.sweep import sweep
from gemini_batch.fleet.watch import hand_over
from gemini_batch.records import ShardState


def problems(files: Any, options: Any) -> list[str]:
    return [problem["what"] for problem in inquiries.standing(files, options)["problems"]]


def test_a_list_of_jobs_that_fails_is_a_problem_in_status_until_it_is_there_again(
    gemini_emulator: Any, valkey: Any, look: Any, tmp_path: Path
) -> None:
    root, broker = str(tmp_path / "runs"), read_broker(valkey.url)
    options = resolve({"runs": root, "broker": valkey.url, "out": f"{root}/one", "yes": True})
    account = resolve_account(None)
    gemini_emulator.settings(job_seconds=3600)
    files = runs.start(runs.read_request(look.prompts(tmp_path / "m.parquet", 2), options, account))
    run = files.record().run_id
    hand_over(files, run, root, broker)
    host = Host(Serving(root, account, broker, (), "celery@one"), lambda task, *bells: None)
    host.hints.beat("celery@one", "one", "1")
    sweep(host)
    host.advance(run, 0)
    assert files.last(0).state is ShardState.SUBMITTED
    gemini_emulator.fault("list_503", times=1)
    host.hints.hasten("list", account.project, seconds=0)
    sweep(host)
    assert any("cannot be seen" in problem and "503" in problem for problem in problems(files, options))
    valkey.client.delete(*valkey.client.keys("gemini-batch:list*"))
    sweep(host)
    assert problems(files, options) == []
