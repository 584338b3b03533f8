"""A cap is passed by nobody, stops a run without a loss, and is lifted by the next resume."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemini_batch import BadInput, Run, RunStopped, distributed_batch_process

ROWS, PER_SHARD = 60, 5
PRICE = ("--price", "1,1000")
"""An answer of 100 tokens costs 0.1 USD at most, a job 0.5 and some input."""

BOUNDED = ("--max-output-tokens", "100", *PRICE)
QUICK = ("--poll-interval", "0.2", "--json")
SHARDS = ("--max-requests-per-shard", PER_SHARD)


@pytest.fixture
def manifest(look: Any, folder: Path) -> Path:
    return look.prompts(folder / "manifest.parquet", ROWS)


@pytest.fixture
def submit(cli: Any, manifest: Path) -> Callable[..., Any]:
    return lambda *more: cli("submit", manifest, "--out", "run", *BOUNDED, *SHARDS, *QUICK, *more, timeout=60)


@pytest.fixture
def bill(emulator: Any) -> Callable[[], float]:
    """What the service was paid, in USD at the price given."""

    def total() -> float:
        used = emulator.stats()["usage"]["models"].get("gemini-2.5-flash", {"prompt_tokens": 0, "output_tokens": 0})
        return (used["prompt_tokens"] * 1 + used["output_tokens"] * 1000) / 1e6

    return total


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [((), "--max-output-tokens"), (("--max-output-tokens", "9", "--model", "of-my-own"), "--price")],
    ids=["no longest answer", "no price"],
)
def test_a_cap_that_nobody_could_keep_exits_2_and_nothing_is_written(
    cli: Any, manifest: Path, folder: Path, emulator: Any, options: tuple[str, ...], named: str
) -> None:
    for command in ("plan", "submit"):
        done = cli(command, manifest, "--max-cost", "5", *options)
        assert done.code == 2
        assert "--max-cost 5" in done.err and named in done.err
    assert [path.name for path in folder.iterdir()] == ["manifest.parquet"]
    assert emulator.untouched()


def test_a_run_whose_answers_nothing_bounds_cannot_be_capped_later(cli: Any, manifest: Path, emulator: Any) -> None:
    emulator.fault("create_403", times=1)
    assert cli("submit", manifest, "--out", "run", *QUICK).code == 1
    done = cli("resume", "run", "--max-cost", "5")
    assert done.code == 2
    assert "--max-output-tokens" in done.err


def test_a_retry_that_cannot_be_capped_plans_nothing(cli: Any, manifest: Path, folder: Path) -> None:
    assert cli("submit", manifest, "--out", "run", *QUICK).code == 0
    done = cli("retry", "run", "--status", "ok", "--max-cost", "5", "--max-output-tokens", "9")
    assert (done.code, "--max-output-tokens" in done.err) == (2, True), done.err
    assert not (folder / "run" / "plan-0001.parquet").exists()
    assert cli("status", "run", "--json").json["state"] == "finished"


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_a_run_stops_at_its_cap_and_a_larger_one_finishes_it(
    submit: Any, cli: Any, bill: Any, emulator: Any, look: Any, folder: Path
) -> None:
    stopped = submit("--max-cost", "1")
    assert (stopped.code, stopped.json["state"]) == (1, "stopped"), stopped.err
    assert "a larger --max-cost" in stopped.json["reason"]
    assert [one["fix"] for one in stopped.json["problems"]] == ["gemini-batch-dist resume run --max-cost USD"]
    assert stopped.json["problems"] == cli("status", "run", "--json").json["problems"]
    cost, rows = stopped.json["cost_usd"], stopped.json["rows"]
    assert (cost["cap"], cost["reserved"]) == (1.0, 0.0)
    assert cost["spent"] == pytest.approx(bill()) and 0.4 < bill() <= 1
    assert 0 < rows["ok"] == emulator.bought < ROWS
    assert cli("resume", "run", *QUICK).code == 1, "the cap that was said last holds"
    done = cli("resume", "run", "--max-cost", "100", *QUICK)
    assert (done.code, done.json["cost_usd"]["cap"]) == (0, 100.0), done.err
    assert [row["status"] for row in look.rows(folder / "run")] == ["ok"] * ROWS
    assert (emulator.bought, emulator.bought_twice()) == (ROWS, [])
    assert done.json["cost_usd"]["spent"] == pytest.approx(bill())
    assert json.loads((folder / "run" / "report.json").read_text())["cap_usd"] == 100.0
    assert cli("audit", "run").code == 0


def test_what_failed_without_saying_what_it_cost_counts_at_its_highest(submit: Any, emulator: Any, bill: Any) -> None:
    """A job that failed may have been paid for: the cap has to hold if it was."""
    emulator.fault("job_failed", times=2)
    done = submit("--max-cost", "1", "--max-attempts", "1")
    assert done.code == 1, done.err
    cost = done.json["cost_usd"]
    failed = 2 * emulator.stats()["requests"]["bought_total"] / emulator.creates * 0.1
    assert cost["reserved"] == pytest.approx(failed, rel=0.01)
    assert cost["spent"] + cost["reserved"] <= 1
    assert done.json["rows"]["failed"] or done.json["rows"]["pending"]


def test_what_was_sent_before_there_was_a_cap_counts(submit: Any, cli: Any, emulator: Any, bill: Any) -> None:
    emulator.fault("create_403", after=6, times=1)
    assert submit("--yes").code == 1
    before, bought = bill(), emulator.bought
    assert 0 < bought < ROWS
    assert cli("resume", "run", "--max-cost", str(before / 2), *QUICK).code == 1
    assert emulator.bought == bought
    assert cli("resume", "run", "--max-cost", str(before + 1), *QUICK).code in {0, 1}
    assert bill() <= before + 1


def test_with_a_cap_nobody_is_asked(cli: Any, manifest: Path) -> None:
    dear = ("submit", manifest, "--out", "run", *BOUNDED, *QUICK)
    assert cli(*dear, "--confirm-above", "0").code == 2
    assert cli(*dear, "--confirm-above", "0", "--max-cost", "100").code == 0


# --- a fleet ----------------------------------------------------------------------------------------------------------


def test_two_workers_stay_below_one_cap_though_redis_forgets(
    cli: Any, folder: Path, valkey: Any, start_worker: Any, emulator: Any, bill: Any, look: Any
) -> None:
    """The reservations are in the run directory, so they do not go with a flush."""
    rows = 24
    manifest = look.prompts(folder / "few.parquet", rows)
    fleet = ("--out", "runs/run", "--broker", valkey.url, *BOUNDED, *SHARDS, "--poll-interval", "0.5", "--json")
    emulator.settings(job_seconds=1)
    for name in ("a@one", "b@two"):
        start_worker(name)
    running = cli.start("submit", manifest, *fleet, "--max-cost", "0.5")
    look.until(lambda: emulator.creates >= 2, "some jobs are there")
    valkey.client.flushall()
    stopped = running.ended(120)
    assert (stopped.code, stopped.json["state"]) == (1, "stopped"), stopped.err
    assert bill() <= 0.5 and 0 < emulator.bought < rows
    done = cli("resume", "runs/run", "--broker", valkey.url, "--max-cost", "100", "--json", timeout=120)
    assert done.code == 0, done.err
    assert (emulator.bought, emulator.bought_twice()) == (rows, [])
    chain = [json.loads(path.read_text()) for path in sorted((folder / "runs" / "run" / "spend").iterdir())]
    for written in chain:
        held = sum(one["usd"] for one in written["held"])
        assert written["settled_usd"] + written["unknown_usd"] + held <= written["cap_usd"] + 1e-9


# --- the library ------------------------------------------------------------------------------------------------------


def test_the_library_stops_at_a_cap_and_goes_on_with_a_larger_one(
    emulator: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", emulator.url)
    prompts = [[f"Prompt number {row}"] for row in range(20)]
    how: dict[str, Any] = {"price": (1, 1000), "poll_interval": 0.2, "out": "run", "max_requests_per_shard": 2}
    with pytest.raises(BadInput, match="max-output-tokens"):
        distributed_batch_process(prompts, max_cost=1.0, **how)
    with pytest.raises(RunStopped, match="max-cost"):
        distributed_batch_process(prompts, max_cost=0.5, max_output_tokens=100, **how)
    run = Run.open("run")
    assert run.status()["cost_usd"]["cap"] == 0.5
    run.resume(max_cost=10.0, poll_interval=0.2)
    run.wait()
    assert [row.status for row in run.results()] == ["ok"] * 20
