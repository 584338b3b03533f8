"""Several samples of a prompt all the way: asked with seeds of their own, voted on, shown as the contract says."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from gemini_batch import BadInput, Run, distributed_batch_process

QUICK: dict[str, Any] = {"poll_interval": 1, "settle": 2}


class Verdict(BaseModel):
    """Few values, so that samples agree and differ."""

    kind: Literal["a", "b", "c"]
    paid: bool


class Flag(BaseModel):
    paid: bool


@pytest.fixture(autouse=True)
def here(emulator: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", emulator.url)
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("seed", [None, 40])
def test_each_sample_is_asked_with_its_own_seed_and_texts_vote_by_equality(look: Any, emulator: Any, seed: Any) -> None:
    """The emulator's answers depend on the whole request: these are those of three seeds."""
    run = distributed_batch_process([["one"], ["two"]], n_samples=3, seed=seed, wait=False, **QUICK)
    run.wait()
    rows = list(run.results())
    for text, row in zip(("one", "two"), rows, strict=True):
        expected = [look.answer(text, config={"seed": (seed or 0) + sample}) for sample in range(3)]
        assert [sample["text"] for sample in row.samples or ()] == expected
        assert (row.result, row.text) == (expected[0], expected[0])
        assert (row.status, row.n_valid, row.disagreements) == ("ok", 3, [])
        assert row.agreement == pytest.approx(max(Counter(expected).values()) / 3)
    assert emulator.stats()["requests"]["bought_total"] == 6
    assert run.report["requests_bought"] == 6


def test_fields_are_those_of_most_samples_and_instances_say_the_same(look: Any, emulator: Any) -> None:
    prompts = [[f"Prompt {i}"] for i in range(30)]
    results, rows = distributed_batch_process(prompts, Verdict, n_samples=3, return_metadata=True, **QUICK)
    mixed = 0
    for result, row in zip(results, rows, strict=True):
        samples = [json.loads(sample["text"]) for sample in row.samples]
        counts = {name: Counter(sample[name] for sample in samples).most_common() for name in ("kind", "paid")}
        assert row.result == {name: ranked[0][0] for name, ranked in counts.items()}  # of a tie the first seen
        assert row.agreement == pytest.approx(sum(ranked[0][1] for ranked in counts.values()) / 6)
        assert row.disagreements == [name for name, ranked in counts.items() if len(ranked) > 1]
        assert isinstance(result, Verdict)
        assert result.model_dump() == row.result
        mixed += row.result not in samples
        assert set(row.samples[0]) == {"status", "text", "finish_reason", "error_kind"}
        assert row.cost_usd > 0
    assert len({tuple(row.disagreements) for row in rows}) > 1
    assert emulator.bought == 90
    assert mixed  # no sample has it all


def test_failed_samples_do_not_vote_and_are_bought_again_by_themselves(look: Any, emulator: Any) -> None:
    """A fault that passes costs one request, not three; what it told of its cost is nothing."""
    emulator.fault("result_line_error", after=1)
    results, rows = distributed_batch_process(
        [["one"], ["two"]], Flag, n_samples=3, return_metadata=True, out="run", **QUICK
    )
    assert [row.status for row in rows] == ["ok", "ok"]
    assert [row.n_valid for row in rows] == [3, 3]
    assert emulator.bought == 7
    again = [row for row in rows if row.attempts == 2]
    assert [(row.round, row.cost_usd) for row in again] == [(1, None)]
    assert all(result is not None for result in results)


@pytest.mark.parametrize(("min_valid", "status"), [(2, "ok"), (3, "blocked")])
def test_a_row_needs_as_many_valid_samples_as_was_said(look: Any, emulator: Any, min_valid: int, status: str) -> None:
    emulator.fault("result_line_blocked", after=1)
    results, rows = distributed_batch_process(
        [["one"]], n_samples=3, min_valid=min_valid, return_metadata=True, **QUICK
    )
    (row,) = rows
    expected = [look.answer("one", config={"seed": sample}) for sample in range(3)]
    assert (row.status, row.n_valid, row.attempts) == (status, 2, 1)
    assert [sample["error_kind"] for sample in row.samples] == [None, "blocked_prompt", None]
    assert results == [expected[0] if status == "ok" else None]
    assert (row.error and row.error["kind"]) == (None if status == "ok" else "blocked_prompt")


def test_the_command_takes_the_same_options_and_the_audit_is_clean(
    cli: Any, look: Any, folder: Path, emulator: Any
) -> None:
    manifest = look.prompts(folder / "m.parquet", 5)
    options = ("--n-samples", "3", "--min-valid", "2", "--max-requests-per-shard", "7", "--poll-interval", "1")
    done = cli("submit", manifest, *options, "--out", "run", "--json")
    assert done.code == 0, done.err
    assert (emulator.creates, emulator.bought) == (3, 15)  # two rows a job
    assert [row["n_valid"] for row in look.rows(folder / "run")] == [3] * 5
    assert cli("audit", "run", "--json").code == 0
    again = cli("submit", manifest, *options[2:], "--n-samples", "2", "--out", "run")
    assert again.code == 2
    assert "n_samples: 3 -> 2" in again.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_samples": 0}, "n_samples|n-samples"),
        ({"n_samples": 101}, "n-samples"),
        ({"min_valid": 2}, "--min-valid 2"),
        ({"n_samples": 5, "max_requests_per_shard": 4}, "--max-requests-per-shard"),
    ],
)
def test_samples_that_cannot_be_are_refused(options: dict[str, Any], said: str, emulator: Any) -> None:
    with pytest.raises(BadInput, match=said):
        distributed_batch_process([["x"]], **options)
    assert emulator.untouched


def test_one_sample_and_one_valid_are_the_question_that_they_always_were(look: Any, emulator: Any) -> None:
    """A release that adds an option must not make yesterday's run a new one, to be paid for again."""
    first = distributed_batch_process([["x"]], wait=False, **QUICK)
    first.wait()
    again = distributed_batch_process([["x"]], n_samples=1, min_valid=1, wait=False, **QUICK)
    assert isinstance(again, Run)
    assert again.path == first.path
    assert [(row.result, row.samples) for row in again.results()] == [(look.answer("x"), None)]
    assert emulator.bought == 1
