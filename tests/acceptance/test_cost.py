"""What a plan may cost is said before anything is bought, and what costs much is not bought without a yes."""

import os
import pty
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gemini_batch import CostNotConfirmed, distributed_batch_process

QUICK = ("--poll-interval", "0.2", "--out", "run")
DEAR = ("--confirm-above", "0.01")
"""Ten answers of 2,560 tokens are 0.032 USD."""


@pytest.fixture
def manifest(look: Any, folder: Path) -> Path:
    return look.prompts(folder / "manifest.parquet", 10)


def _nothing_happened(folder: Path, emulator: Any) -> None:
    assert [path.name for path in folder.iterdir()] == ["manifest.parquet"]
    assert emulator.untouched()


# --- plan -------------------------------------------------------------------------------------------------------------


def test_plan_says_low_expected_and_high_and_what_they_assume(bare_cli: Any, manifest: Path) -> None:
    found = bare_cli("plan", manifest, "--max-output-tokens", "100", "--json").json
    cost = found["cost_usd"]
    assert 0 < cost["low"] < cost["expected"] <= cost["high"] == pytest.approx(1000 * 1.25e-6, rel=0.05)
    assert any("max_output_tokens" in said for said in found["cost_assumptions"])
    said = bare_cli("plan", manifest, "--max-output-tokens", "100").out
    assert all(word in said for word in ("low", "expected", "high", "assuming", "100 (max_output_tokens)"))


def test_a_model_without_a_price_has_no_estimate_unless_a_price_is_given(bare_cli: Any, manifest: Path) -> None:
    asked = ("plan", manifest, "--model", "gemini-of-my-own", "--max-output-tokens", "100")
    assert bare_cli(*asked, "--json").json["cost_usd"] is None
    assert "--price" in bare_cli(*asked).out
    high = bare_cli(*asked, "--price", "0,10", "--json").json["cost_usd"]["high"]
    assert high == pytest.approx(10 * 100 * 10 / 1e6)


def test_every_sample_costs(bare_cli: Any, manifest: Path) -> None:
    one, three = (bare_cli("plan", manifest, "--n-samples", n, "--json").json["cost_usd"] for n in (1, 3))
    assert three["high"] == pytest.approx(3 * one["high"], rel=1e-3)


# --- without a terminal -----------------------------------------------------------------------------------------------


def test_what_may_cost_more_is_refused_with_2_and_nothing_is_written(
    cli: Any, manifest: Path, folder: Path, emulator: Any
) -> None:
    done = cli("submit", manifest, *QUICK, *DEAR, "--json")
    assert (done.code, done.out) == (2, "")
    assert all(word in done.err for word in ("0.03 USD", "--confirm-above", "--yes", "--max-output-tokens"))
    _nothing_happened(folder, emulator)


def test_ten_dollars_are_the_limit_where_none_is_given(cli: Any, folder: Path, look: Any, emulator: Any) -> None:
    manifest = look.prompts(folder / "manifest.parquet", 4000)
    assert cli("submit", manifest, *QUICK).code == 2
    _nothing_happened(folder, emulator)
    assert cli("submit", manifest, *QUICK, "--max-output-tokens", "1000").code == 0


def test_yes_buys_and_the_run_that_is_there_is_not_asked_about_again(cli: Any, manifest: Path, emulator: Any) -> None:
    assert cli("submit", manifest, *QUICK, *DEAR, env={"GEMINI_BATCH_YES": "true"}).code == 0
    for again in (("submit", manifest, *QUICK, *DEAR), ("resume", "run")):
        assert cli(*again).code == 0
    assert emulator.bought == 10


# --- at a terminal ----------------------------------------------------------------------------------------------------


@pytest.fixture
def at_a_terminal(cli: Any, folder: Path) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Runs the command at a pseudo-terminal; returns its exit code, stdout, and what the terminal showed."""
    ends = list(pty.openpty())
    ours, theirs = ends

    def run(answer: str, *arguments: object) -> tuple[int, str, str]:
        argv = ["gemini-batch-dist", *map(str, arguments)]
        environment = cli.environment({"TERM": "dumb"})
        os.write(ours, answer.encode())
        process = subprocess.Popen(
            argv, executable=_command(), stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, env=environment,
            cwd=folder, text=True, start_new_session=True,
        )  # fmt: skip
        os.close(ends.pop())
        shown = b""
        while True:
            try:
                shown += (read := os.read(ours, 4096))
            except OSError:  # EIO: the command has closed its end
                break
            if not read:
                break
        out, _ = process.communicate(timeout=60)
        return process.returncode, out, shown.decode()

    yield run
    for end in ends:
        os.close(end)


def _command() -> str:
    from tests.conftest import COMMAND  # noqa: PLC0415

    return str(COMMAND)


def test_a_person_is_asked_and_a_yes_buys(at_a_terminal: Any, manifest: Path, emulator: Any) -> None:
    code, out, shown = at_a_terminal("y\n", "submit", manifest, *QUICK, *DEAR, "--json")
    assert code == 0, shown
    assert out.startswith('{"'), "the question is not on stdout"
    assert "high 0.03 USD" in shown
    assert emulator.bought == 10


@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04"])
def test_anything_else_than_a_yes_exits_2_and_nothing_is_written(
    at_a_terminal: Any, manifest: Path, folder: Path, emulator: Any, answer: str
) -> None:
    code, out, shown = at_a_terminal(answer, "submit", manifest, *QUICK, *DEAR)
    assert (code, out) == (2, ""), shown
    assert "buy it? [y/N]" in shown
    _nothing_happened(folder, emulator)


def test_nobody_is_asked_about_what_is_cheap(at_a_terminal: Any, manifest: Path) -> None:
    code, _, shown = at_a_terminal("", "submit", manifest, *QUICK)
    assert code == 0, shown
    assert "[y/N]" not in shown


# --- the library, the dataset, the report -----------------------------------------------------------------------------


@pytest.fixture
def here(emulator: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", emulator.url)


@pytest.mark.usefixtures("here")
def test_the_library_raises_before_anything_is_written_and_yes_lifts_it(folder: Path, emulator: Any) -> None:
    with pytest.raises(CostNotConfirmed) as refused:
        distributed_batch_process([["a"]], confirm_above=0.001, poll_interval=0.1)
    assert refused.value.high_usd == pytest.approx(0.0032, abs=0.0001)
    assert list(folder.iterdir()) == [] and emulator.untouched()
    assert len(distributed_batch_process([["a"]], confirm_above=0.001, yes=True, poll_interval=0.1)) == 1


def test_a_price_as_given_is_that_of_the_rows_of_the_report_and_of_the_status(
    cli: Any, manifest: Path, folder: Path, look: Any
) -> None:
    unknown = ("--model", "gemini-of-my-own", "--max-output-tokens", "500")
    done = cli("submit", manifest, *QUICK, *unknown, "--price", "1000,2000", "--yes", "--json")
    assert done.code == 0, done.err
    rows, report = look.rows(folder / "run"), look.json(folder / "run" / "report.json")
    for row in rows:
        used = row["usage"]
        output = used["output_tokens"] + (used["thoughts_tokens"] or 0)
        assert row["cost_usd"] == pytest.approx((used["prompt_tokens"] * 1000 + output * 2000) / 1e6)
    spent = sum(row["cost_usd"] for row in rows)
    assert report["cost_usd"] == pytest.approx(spent)
    assert report["estimate"]["low"] <= report["estimate"]["high"]
    exactly = {"spent": pytest.approx(spent), "expected": pytest.approx(spent)}
    assert done.json["cost_usd"] == exactly | {"reserved": None, "cap": None, "unknown_lines": 0}


def test_what_nobody_can_price_is_null_and_counted(cli: Any, manifest: Path, folder: Path, look: Any) -> None:
    done = cli("submit", manifest, *QUICK, "--model", "gemini-of-my-own", "--json")
    assert done.code == 0, "what cannot be estimated is not held up"
    assert (done.json["cost_usd"]["spent"], done.json["cost_usd"]["unknown_lines"]) == (None, 10)
    assert look.json(folder / "run" / "report.json")["estimate"] is None
