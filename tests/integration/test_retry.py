"""Rows that a person buys again: which, with what, how often; real SDK, real HTTP."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemini_batch import Run
from gemini_batch.errors import BadInput

QUICK = ("--poll-interval", "0.2", "--settle", "1", "--json")
BLOCKED, CUT, BROKEN = "result_line_blocked", "result_line_truncated", "result_line_error"


@pytest.fixture
def submit(cli: Any, look: Any, folder: Path) -> Callable[..., Any]:
    """Submit ten prompts in two shards."""

    def go(*more: object, manifest: Path | None = None) -> Any:
        manifest = manifest or look.prompts(folder / "manifest.parquet", 10)
        return cli("submit", manifest, "--out", "run", "--max-requests-per-shard", 5, *QUICK, *more, timeout=60)

    return go


@pytest.fixture
def retry(cli: Any) -> Callable[..., Any]:
    return lambda *more, **how: cli("retry", "run", *QUICK[:2], "--json", *more, timeout=60, **how)


@pytest.fixture
def rows(look: Any, folder: Path) -> Callable[[], list[dict[str, Any]]]:
    return lambda: look.rows(folder / "run")  # type: ignore[no-any-return]


@pytest.fixture
def bought(emulator: Any) -> Callable[[], list[str]]:
    """`<index>-<sample>` of what was bought more than once."""

    def ask() -> list[str]:
        return sorted("-".join(line["key"].split("-")[-3:-1]) for line in emulator.bought_twice())

    return ask


@pytest.fixture
def spoiled(submit: Any, emulator: Any) -> None:
    """A finished run: rows 1 and 6 blocked, 2 truncated, 3 failed for good, the rest answered."""
    for fault, row in ((BLOCKED, 1), (BLOCKED, 6), (CUT, 2), (BROKEN, 3)):
        emulator.fault(fault, key=f"*-{row}-0-*", times="always")
    assert submit("--max-attempts", 1).code == 3
    emulator.clear_faults()


# --- which rows -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ((), ["1-0", "2-0", "3-0", "6-0"]),
        (("--status", "blocked"), ["1-0", "6-0"]),
        (("--status", "blocked", "--status", "truncated"), ["1-0", "2-0", "6-0"]),
        (("--kind", "truncated"), ["2-0"]),
        (("--status", "failed", "--kind", "transient"), ["3-0"]),
        (("--keys", "keys.txt"), ["1-0", "8-0"]),
        (("--keys", "keys.txt", "--status", "blocked"), ["1-0"]),
    ],
)
def test_retry_buys_the_chosen_rows_and_no_other(
    chosen: tuple[str, ...], expected: list[str], spoiled: None, retry: Any, rows: Any, bought: Any, folder: Path
) -> None:
    (folder / "keys.txt").write_text("1\n8\n")
    before = rows()
    done = retry(*chosen)
    assert done.code == (0 if not chosen else 3), done.err
    assert bought() == expected
    after, mended = rows(), {int(name.split("-")[0]) for name in expected}
    assert all(after[row]["status"] == "ok" for row in mended)
    assert [row for row in after if row["index"] not in mended] == [row for row in before if row["index"] not in mended]


@pytest.mark.parametrize(
    "chosen",
    [
        ("--status", "odd"),
        ("--kind", "odd"),
        ("--keys", "keys.txt"),
        ("--keys", "keys.txt", "--status", "blocked"),
        ("--keys", "missing.txt"),
        ("--replace", "by-key.jsonl"),
        ("--replace", "twice.jsonl"),
        ("--replace", "nameless.jsonl"),
    ],
)
def test_what_names_no_row_is_refused_and_nothing_is_changed(
    chosen: tuple[str, ...], spoiled: None, retry: Any, look: Any, folder: Path, emulator: Any
) -> None:
    (folder / "keys.txt").write_text("1\n77\n")
    look.jsonl(folder / "by-key.jsonl", [{"key": "77", "prompt": "x"}])
    look.jsonl(folder / "twice.jsonl", [{"key": "1", "prompt": "x"}, {"key": "1", "prompt": "y"}])
    look.jsonl(folder / "nameless.jsonl", [{"prompt": "x"}])
    before, calls = look.tree(folder / "run"), emulator.stats()
    done = retry(*chosen, "--max-live-jobs", "7")
    assert done.code == 2, done.err
    assert look.tree(folder / "run") == before
    assert emulator.stats() == calls


def test_retry_of_an_unfinished_run_is_refused_and_nothing_is_changed(
    submit: Any, retry: Any, look: Any, folder: Path, emulator: Any
) -> None:
    emulator.fault("create_400", times="always")
    assert submit().code == 1
    before = look.tree(folder / "run")
    done = retry("--max-attempts", "7")
    assert done.code == 2
    assert "resume" in done.err
    assert look.tree(folder / "run") == before


@pytest.mark.parametrize(("chosen", "code"), [((), 0), (("--status", "blocked"), 0)])
def test_with_nothing_to_do_retry_says_how_the_run_stands(
    chosen: tuple[str, ...], code: int, submit: Any, retry: Any, emulator: Any
) -> None:
    assert submit().code == 0
    done = retry(*chosen)
    assert (done.code, done.json["state"]) == (code, "finished")
    assert "no row" in done.err
    assert emulator.bought == 10


def test_with_nothing_to_do_retry_of_a_run_with_failures_exits_3(spoiled: None, retry: Any, emulator: Any) -> None:
    before = emulator.bought
    done = retry("--status", "invalid")
    assert (done.code, emulator.bought) == (3, before)


def test_only_the_samples_that_failed_are_asked_for_again(
    submit: Any, retry: Any, rows: Any, bought: Any, emulator: Any
) -> None:
    for name in ("2-1", "7-0", "7-1", "7-2"):
        emulator.fault(BLOCKED, key=f"*-{name}-*", times="always")
    assert submit("--n-samples", 3, "--min-valid", 3, "--max-requests-per-shard", 15).code == 3
    emulator.clear_faults()
    done = retry()
    assert done.code == 0, done.err
    assert bought() == ["2-1", "7-0", "7-1", "7-2"]
    assert {row["n_valid"] for row in rows()} == {3}
    assert [row["attempts"] for row in rows()] == [1, 1, 2, 1, 1, 1, 1, 2, 1, 1]


# --- with what --------------------------------------------------------------------------------------------------------


def test_retry_sends_the_settings_that_it_is_given(spoiled: None, retry: Any, rows: Any, look: Any) -> None:
    done = retry("--status", "truncated", "--temperature", "0.25", "--max-output-tokens", "999", "--seed", "5")
    assert done.code == 3, done.err
    config = {"temperature": 0.25, "maxOutputTokens": 999, "seed": 5}
    assert rows()[2]["text"] == look.answer("Prompt number 2", config=config)


def test_retry_sends_the_instruction_that_it_is_given(spoiled: None, retry: Any, rows: Any, look: Any) -> None:
    assert retry("--kind", "truncated", "--system-instruction", "Be brief.").code == 3
    assert rows()[2]["text"] == look.answer("Prompt number 2", system="Be brief.")


def test_replace_matches_by_key_where_the_run_has_keys(
    submit: Any, retry: Any, rows: Any, look: Any, folder: Path
) -> None:
    made = [{"key": f"k{9 - row}", "prompt": f"Prompt number {row}"} for row in range(10)]
    assert submit(manifest=look.jsonl(folder / "m.jsonl", made)).code == 0
    look.jsonl(folder / "new.jsonl", [{"key": "k7", "prompt": "New"}, {"key": "k1", "prompt": "Newer"}])
    assert retry("--replace", "new.jsonl").code == 0
    texts = {row["key"]: row["text"] for row in rows()}
    assert (texts["k7"], texts["k1"]) == (look.answer("New"), look.answer("Newer"))
    assert [row["index"] for row in rows() if row["attempts"] == 2] == [2, 8]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("as-the-manifest.csv", "id,title\nT1,Newer\n"),
        ("plain.csv", "key,prompt\nT1,Say {Newer}\n"),
        ("by-index.csv", "index,title\n1,Newer\n"),
        ("named.csv", "index,prompt\n1,Say {Newer}\n"),
    ],
)
def test_replacements_have_the_columns_of_the_runs_manifest_or_plain_ones(
    name: str, text: str, submit: Any, retry: Any, rows: Any, look: Any, folder: Path
) -> None:
    """Who fixes rows of a file copies them from it, and has no reason to say the template again."""
    (folder / "m.csv").write_text("id,title\nT0,Old\nT1,\nT2,Older\n")
    assert submit("--template", "Say {{{title}}}", "--key-column", "id", manifest="m.csv").code == 3
    (folder / name).write_text(text)
    done = retry("--replace", name)
    assert done.code == 0, done.err
    assert [row["text"] for row in rows()] == [look.answer(f"Say {{{word}}}") for word in ("Old", "Newer", "Older")]


def test_replacements_with_other_columns_are_refused_in_words(submit: Any, retry: Any, look: Any, folder: Path) -> None:
    (folder / "m.csv").write_text("id,title\nT0,Old\nT1,\n")
    assert submit("--template", "Say {title}", "--key-column", "id", manifest="m.csv").code == 3
    (folder / "other.csv").write_text("id,heading\nT1,New\n")
    done = retry("--replace", "other.csv")
    assert (done.code, "has no column 'title' (--template); it has id, heading" in done.err) == (2, True), done.err


def test_replace_matches_by_index_whatever_the_keys_of_the_run_look_like(
    submit: Any, retry: Any, rows: Any, look: Any, folder: Path
) -> None:
    """Keys that are numbers, and other ones: row 2 has the key 7."""
    made = [{"key": str(9 - row), "prompt": f"Prompt number {row}"} for row in range(10)]
    assert submit(manifest=look.jsonl(folder / "m.jsonl", made)).code == 0
    look.jsonl(folder / "new.jsonl", [{"index": 7, "prompt": "New"}])
    assert retry("--replace", "new.jsonl").code == 0
    assert rows()[7]["text"] == look.answer("New")
    assert [row["index"] for row in rows() if row["attempts"] == 2] == [7]


def test_what_a_row_was_replaced_by_is_sent_by_later_retries_and_rounds_too(
    submit: Any, retry: Any, rows: Any, look: Any, folder: Path, emulator: Any
) -> None:
    emulator.fault(BLOCKED, key="*-[34]-0-*", times="always")
    assert submit().code == 3
    look.jsonl(folder / "new.jsonl", [{"index": 3, "prompt": "Another prompt"}])
    assert retry("--replace", "new.jsonl").code == 3
    emulator.clear_faults()
    emulator.fault(BROKEN, key="*-3-0-*")
    done = retry("--max-attempts", 9)
    assert done.code == 0, done.err
    assert rows()[3]["text"] == look.answer("Another prompt")
    assert rows()[4]["text"] == look.answer("Prompt number 4")
    assert rows()[3]["round"] == 3, "a round of its own after the retry"
    look.jsonl(folder / "newer.jsonl", [{"index": 3, "prompt": "A third prompt"}])
    assert retry("--replace", "newer.jsonl").code == 0
    (folder / "keys.txt").write_text("3\n4\n")
    assert retry("--keys", "keys.txt").code == 0
    assert rows()[3]["text"] == look.answer("A third prompt")
    assert rows()[4]["text"] == look.answer("Prompt number 4")


def test_a_run_of_pictures_is_retried_with_its_pictures(
    submit: Any, retry: Any, rows: Any, look: Any, folder: Path, emulator: Any
) -> None:
    """Its later shards are weighed as the first ones were: a limit of bytes holds for both."""
    from PIL import Image  # noqa: PLC0415 - of this test only

    made = []
    for row in range(10):
        Image.effect_noise((120, 120), 60 + row).save(folder / f"{row}.png")
        made.append({"parts": [{"text": f"What is {row}?"}, {"path": f"{row}.png"}]})
    emulator.fault(BLOCKED, times=10)
    assert submit("--max-bytes-per-shard", 50_000, manifest=look.jsonl(folder / "m.jsonl", made)).code == 3
    first = emulator.creates
    assert first > 2
    done = retry()
    assert done.code == 0, done.err
    assert emulator.creates == 2 * first
    assert {row["status"] for row in rows()} == {"ok"}


# --- by itself --------------------------------------------------------------------------------------------------------


def test_what_met_the_output_limit_is_bought_again_with_twice_as_much(
    submit: Any, rows: Any, emulator: Any, look: Any, bought: Any
) -> None:
    emulator.fault(CUT, key="*-4-0-*", times=2)
    done = submit("--retry-truncated", "--max-output-tokens", 3000)
    assert done.code == 0, done.err
    assert rows()[4]["text"] == look.answer("Prompt number 4", config={"maxOutputTokens": 12_000})
    assert rows()[5]["text"] == look.answer("Prompt number 5", config={"maxOutputTokens": 3000})
    assert (rows()[4]["attempts"], rows()[4]["round"]) == (3, 2)
    assert bought() == []  # each time it asks for something else


def test_what_met_the_output_limit_stays_so_unless_asked_for(submit: Any, rows: Any, emulator: Any) -> None:
    emulator.fault(CUT, key="*-4-0-*")
    assert submit("--max-output-tokens", 3000).code == 3
    assert (rows()[4]["status"], emulator.bought) == ("truncated", 10)


SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}


@pytest.mark.parametrize(("asked_for", "attempts"), [(("--retry-invalid",), 3), ((), 1)])
def test_what_does_not_fit_the_schema_is_bought_again_if_asked_for(
    asked_for: tuple[str, ...], attempts: int, cli: Any, start_emulator: Any, look: Any, folder: Path, rows: Any
) -> None:
    """The model says the same whenever it is asked; the others are bought once."""
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    look.jsonl(folder / "answers.jsonl", [{"prompt": "Prompt number 4", "answer": {"label": 4}}])
    odd = start_emulator("--answers", folder / "answers.jsonl")
    cli.env["GOOGLE_GEMINI_BASE_URL"] = odd.url
    manifest = look.prompts(folder / "m.parquet", 10)
    done = cli("submit", manifest, "--out", "run", "--schema", "schema.json", *QUICK, *asked_for, timeout=60)
    assert done.code == 3, done.err
    assert [(row["status"], row["attempts"]) for row in rows() if row["attempts"] > 1 or row["status"] != "ok"] == [
        ("invalid", attempts)
    ]
    assert odd.bought == 9 + attempts


# --- by programs, and by two ------------------------------------------------------------------------------------------


def test_a_program_retries_with_settings_of_its_own(
    spoiled: None, rows: Any, look: Any, emulator: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, bought: Any
) -> None:
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", emulator.url)
    run = Run.open(folder / "run")
    status = run.retry(keys=["1", "2"], status=["truncated"], temperature=0.75, poll_interval=0.2).wait()
    assert status["state"] == "finished"
    assert bought() == []  # other settings
    assert rows()[2]["text"] == look.answer("Prompt number 2", config={"temperature": 0.75})
    assert run.retry(poll_interval=0.2).wait()["rows"]["failed"] == 0
    assert bought() == ["1-0", "3-0", "6-0"]
    with pytest.raises(BadInput, match="77"):
        run.retry(keys=["77"])
    with pytest.raises(BadInput, match="model"):
        run.retry(model="gemini-3-pro")


def test_two_who_retry_at_once_buy_everything_once(
    spoiled: None, cli: Any, rows: Any, bought: Any, emulator: Any, folder: Path
) -> None:
    """One plans the round; the other finds the run unfinished, or with nothing to do."""
    (folder / "keys.txt").write_text("1\n2\n")
    first = cli.start("retry", "run", *QUICK[:2], "--json")
    second = cli.start("retry", "run", "--keys", "keys.txt", *QUICK[:2], "--json")
    codes = [one.ended(60).code for one in (first, second)]
    assert set(codes) <= {0, 2, 3} and codes != [2, 2]
    assert cli("resume", "run", *QUICK[:2], "--json", timeout=60).code in {0, 3}
    assert len(bought()) == len(set(bought())) <= 4
    assert cli("retry", "run", *QUICK[:2], "--json", timeout=60).code == 0
    assert {row["status"] for row in rows()} == {"ok"}


def test_two_who_resume_at_once_buy_everything_once(submit: Any, cli: Any, rows: Any, emulator: Any) -> None:
    emulator.fault("create_401", after=1, times="always")
    emulator.fault(BROKEN, row=1)
    assert submit().code == 1
    emulator.clear_faults()
    started = [cli.start("resume", "run", *QUICK[:2], "--json") for _ in range(2)]
    assert [one.ended(60).code for one in started] == [0, 0]
    assert {row["status"] for row in rows()} == {"ok"}
    assert emulator.bought == 10 + sum(row["attempts"] - 1 for row in rows())
