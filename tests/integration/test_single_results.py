"""Results of one job: fetched under names of their own, parsed in the order of the prompts, matched by key."""

import json
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.genai import types
from pydantic import BaseModel

from gemini_batch import (
    BadInput,
    NoResults,
    aggregate_records,
    calculate_token_statistics,
    create_batch_job,
    download_batch_results,
    get_inline_results,
    iter_batch_results,
    monitor_batch_job,
    parse_batch_results,
)
from gemini_batch.config import Account, resolve
from gemini_batch.errors import NotFound, Unavailable
from gemini_batch.gemini.client import GeminiClient
from gemini_batch.gemini.generation import generation_config
from gemini_batch.schema.load import load_schema
from gemini_batch.single import service


class Sentiment(BaseModel):
    sentiment: str
    confidence: float


@pytest.fixture(scope="module")
def client(module_emulator: Any) -> GeminiClient:
    """Making one takes longer than most calls."""
    return GeminiClient(Account(module_emulator.url, "p", "loopback"))


@pytest.fixture(autouse=True)
def here(emulator: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", emulator.url)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(service, "backoff", lambda *_: timedelta(0))


def request(text: str, key: str, schema: Any = None) -> dict[str, Any]:
    made: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    if schema is not None:
        made["generationConfig"] = generation_config(_options(), load_schema(schema))
    return {"key": key, "request": made}


def _options() -> Any:
    return resolve({})


def asked(count: int, schema: Any = None, samples: int = 1) -> list[dict[str, Any]]:
    return [
        request(f"Analyze: {i}", f"prompt_{i}_sample_{sample}", schema)
        for i in range(count)
        for sample in range(samples)
    ]


def finished(requests: list[dict[str, Any]], client: GeminiClient, **options: Any) -> str:
    name = create_batch_job(requests, client=client, **options)
    assert monitor_batch_job(name, client=client) == "JOB_STATE_SUCCEEDED"
    return name


# --- the examples of the public library's README ----------------------------------------------------------------------


def test_asynchronous_mode_as_the_readme_has_it(look: Any) -> None:
    job_name = create_batch_job(asked(3, Sentiment))
    state = monitor_batch_job(job_name)
    if state == "JOB_STATE_SUCCEEDED":
        results_file = download_batch_results(job_name)
        results = parse_batch_results(results_file, Sentiment)
    assert [type(result) for result in results] == [Sentiment] * 3
    config = generation_config(_options(), load_schema(Sentiment))
    assert results[1] == Sentiment.model_validate_json(look.answer("Analyze: 1", config=config))


def test_failed_rows_are_none_and_can_be_left_out_as_the_readme_has_it(
    client: GeminiClient, emulator: Any, look: Any
) -> None:
    emulator.fault("result_line_error", after=1)
    results = parse_batch_results(download_batch_results(finished(asked(3), client), client=client))
    assert len(results) == 3
    failed = [i for i, result in enumerate(results) if result is None]
    successful_results = [r for r in results if r is not None]
    assert (len(failed), len(successful_results)) == (1, 2)
    assert [results[i] for i in range(3) if i not in failed] == [
        look.answer(f"Analyze: {i}") for i in range(3) if i not in failed
    ]


def test_samples_are_parsed_side_by_side_and_aggregated(client: GeminiClient) -> None:
    file = download_batch_results(finished(asked(2, Sentiment, samples=3), client), client=client)
    samples = parse_batch_results(file, Sentiment)
    assert len(samples) == 6
    result = aggregate_records(samples[3:6], as_model=Sentiment)
    assert (type(result.aggregated), result.n_samples) == (Sentiment, 3)
    assert result.disagreements() == {}


def test_metadata_add_up_to_token_statistics(client: GeminiClient, look: Any) -> None:
    file = download_batch_results(finished(asked(2), client), client=client)
    results, metadata = parse_batch_results(file, return_metadata=True)
    stats = calculate_token_statistics(metadata)
    assert results == [look.answer(f"Analyze: {i}") for i in range(2)]
    assert [entry["modelVersion"] for entry in metadata] == ["gemini-2.5-flash"] * 2
    assert stats.total_tokens == sum(entry["usageMetadata"]["totalTokenCount"] for entry in metadata) > 0
    assert (stats.total_requests, stats.failed_requests, stats.avg_total_tokens) == (2, 0, stats.total_tokens / 2)


# --- download ---------------------------------------------------------------------------------------------------------


def test_a_file_is_named_after_the_job_and_never_takes_the_name_of_another(client: GeminiClient, folder: Path) -> None:
    (folder / "my_job.jsonl").write_text("mine")
    name = finished(asked(2), client, job_display_name="my job")
    paths = [download_batch_results(name, client=client) for _ in range(2)]
    assert [Path(path).name for path in paths] == ["my_job_1.jsonl", "my_job_2.jsonl"]
    assert (folder / "my_job.jsonl").read_text() == "mine"
    assert Path(paths[0]).read_bytes() == Path(paths[1]).read_bytes()
    assert len(list(folder.iterdir())) == 3


def test_a_file_is_replaced_if_that_is_asked_for(client: GeminiClient, folder: Path) -> None:
    name = finished(asked(1), client, job_display_name="it")
    (folder / "it.jsonl").write_text("old")
    path = download_batch_results(name, folder, True, client=client)
    assert (path, [entry.name for entry in folder.iterdir()]) == (str(folder / "it.jsonl"), ["it.jsonl"])
    assert "old" not in Path(path).read_text()


def test_many_at_once_share_no_name(client: GeminiClient, folder: Path) -> None:
    name, paths = finished(asked(1), client, job_display_name="../one"), list[str]()
    threads = [
        threading.Thread(target=lambda: paths.append(download_batch_results(name, "new/deep", client=client)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 6
    assert sorted(Path(path).name for path in paths) == sorted(path.name for path in (folder / "new/deep").iterdir())


@pytest.mark.parametrize("cut", ["download_cut", "download_cut_short", "download_flipped"])
def test_a_download_that_was_damaged_is_fetched_again(client: GeminiClient, emulator: Any, cut: str) -> None:
    name = finished(asked(5), client)
    emulator.fault(cut)
    assert None not in parse_batch_results(download_batch_results(name, client=client), n=5)
    assert emulator.pending_faults() == []


def test_a_download_that_is_always_cut_leaves_nothing(client: GeminiClient, emulator: Any, folder: Path) -> None:
    name = finished(asked(5), client)
    emulator.fault("download_cut_short", times=100)
    with pytest.raises(Unavailable):
        download_batch_results(name, client=client)
    assert list(folder.iterdir()) == []


def test_what_is_not_over_has_no_results_and_says_its_state(client: GeminiClient, emulator: Any) -> None:
    emulator.settings(job_seconds=1000)
    name = create_batch_job(asked(1), client=client)
    for fetch in (download_batch_results, get_inline_results):
        with pytest.raises(NoResults, match=r"JOB_STATE_(PENDING|RUNNING)") as told:
            fetch(name, client=client)
        assert told.value.state in {"JOB_STATE_PENDING", "JOB_STATE_RUNNING"}


def test_results_that_are_not_shown_yet_are_asked_for_again(client: GeminiClient, emulator: Any) -> None:
    name = finished(asked(1), client)
    emulator.fault("succeeded_without_output")
    assert parse_batch_results(download_batch_results(name, client=client), n=1) != [None]


def test_a_failed_job_says_why_it_has_no_results(client: GeminiClient, emulator: Any) -> None:
    emulator.fault("job_failed", times=1)
    name = create_batch_job(asked(1), client=client)
    assert monitor_batch_job(name, client=client) == "JOB_STATE_FAILED"
    with pytest.raises(NoResults, match="JOB_STATE_FAILED: "):
        download_batch_results(name, client=client)


def test_a_job_that_nobody_knows_is_not_found(client: GeminiClient) -> None:
    with pytest.raises(NotFound):
        download_batch_results("batches/nobody", client=client)


def test_a_place_that_cannot_be_written_is_named(client: GeminiClient, folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(BadInput, match="file"):
        download_batch_results(finished(asked(1), client), "file", client=client)


# --- inline -----------------------------------------------------------------------------------------------------------


def test_inline_results_are_lines_with_the_keys_of_their_requests(client: GeminiClient, look: Any) -> None:
    name = finished(asked(3), client, inline=True)
    held = get_inline_results(name, client=client)
    assert [entry["key"] for entry in held] == [f"prompt_{i}_sample_0" for i in range(3)]
    assert [set(entry) for entry in held] == [{"index", "key", "response"}] * 3
    assert parse_batch_results(held[::-1]) == [look.answer(f"Analyze: {i}") for i in range(3)]
    with pytest.raises(NoResults, match="get_inline_results"):
        download_batch_results(name, client=client)


def test_a_job_with_a_file_has_no_inline_results(client: GeminiClient) -> None:
    with pytest.raises(NoResults, match="download_batch_results"):
        get_inline_results(finished(asked(1), client), client=client)


def test_results_as_the_sdk_gives_them_are_read_as_well() -> None:
    """What the public library's `get_inline_results` gave."""
    response = types.GenerateContentResponse.model_validate(
        {
            "candidates": [{"content": {"parts": [{"text": "yes"}]}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": 3},
            "modelVersion": "m",
        }
    )
    error = types.JobError(code=13, message="internal")
    given = [{"index": 1, "error": error}, {"index": 0, "response": response}]
    results, metadata = parse_batch_results(given, return_metadata=True)
    assert results == ["yes", None]
    assert metadata == [{"usageMetadata": {"promptTokenCount": 3}, "modelVersion": "m"}, None]


# --- odd files --------------------------------------------------------------------------------------------------------


WHOLE = [
    "result_shuffled",
    "result_line_duplicated",
    "result_line_foreign",
    "result_line_split",
    "result_reversed_members",
]
TORN = ["result_line_missing", "result_line_broken", "result_line_bad_utf8", "result_line_without_key"]


@pytest.mark.parametrize("fault", WHOLE + TORN)
def test_every_row_has_its_own_answer_or_none(client: GeminiClient, emulator: Any, look: Any, fault: str) -> None:
    emulator.fault(fault)
    file = download_batch_results(finished(asked(6), client), client=client)
    results = parse_batch_results(file, n=6)
    expected = [look.answer(f"Analyze: {i}") for i in range(6)]
    assert len(results) == 6
    assert all(result in (mine, None) for result, mine in zip(results, expected, strict=True))
    assert results.count(None) == (1 if fault in TORN else 0)


def test_the_iterator_says_of_each_line_what_became_of_it(client: GeminiClient, emulator: Any) -> None:
    emulator.fault("result_line_error")
    file = download_batch_results(finished(asked(2, Sentiment), client), client=client)
    with Path(file).open("a") as stream:
        stream.write("no JSON\n")
        answer = {"candidates": [{"content": {"parts": [{"text": "{}"}]}, "finishReason": "STOP"}]}
        stream.write(json.dumps({"key": "prompt_7_sample_1", "response": answer}) + "\n\n")
    found = {result.key: result for result in iter_batch_results(file, Sentiment)}
    failed, ok = found["prompt_0_sample_0"], found["prompt_1_sample_0"]
    assert (failed.status, failed.result, failed.index) == ("failed", None, 0)
    assert failed.error is not None and failed.error["kind"]
    assert (ok.status, type(ok.result), ok.error, ok.index, ok.sample) == ("ok", Sentiment, None, 1, 0)
    assert ok.metadata is not None and ok.metadata["usageMetadata"]
    assert (found[None].status, found[None].index) == ("failed", None)
    late = found["prompt_7_sample_1"]
    assert (late.status, late.text, late.index, late.sample) == ("invalid", "{}", 7, 1)
    assert late.error == {"kind": "schema_invalid", "code": None, "message": "sentiment: Field required"}
