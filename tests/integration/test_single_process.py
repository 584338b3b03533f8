"""`batch_process`, as the public library's README calls it: prompts in, answers in their order out, by one job."""

import asyncio
import io
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from google.genai import types
from PIL import Image
from pydantic import BaseModel, model_validator

from gemini_batch import (
    BadInput,
    CreateUnknown,
    JobFailed,
    RemoteError,
    batch_process,
    calculate_token_statistics,
    download_batch_results,
    monitor_batch_job,
    parse_batch_results,
)
from gemini_batch.config import Account
from gemini_batch.gemini.client import GeminiClient
from gemini_batch.single import create


class Sentiment(BaseModel):
    """Not importable by name: pytest imports this file under a name of its own."""

    sentiment: str
    confidence: float


CONFIG = {
    "responseMimeType": "application/json",
    "responseSchema": {
        "type": "OBJECT",
        "description": Sentiment.__doc__,
        "properties": {"sentiment": {"type": "STRING"}, "confidence": {"type": "NUMBER"}},
        "propertyOrdering": ["sentiment", "confidence"],
        "required": ["sentiment", "confidence"],
    },
}
TEXTS = ["Analyze: I love this product!", "Analyze: This is terrible."]
PROMPTS = [[text] for text in TEXTS]


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
    monkeypatch.setattr(create, "LOOKS", (0.0, 0.0))


def png(colour: str, size: int = 20) -> bytes:
    body = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(body, "PNG")
    return body.getvalue()


def uploads(emulator: Any) -> int:
    """Each is a start and a chunk."""
    return int(emulator.calls("POST upload")) // 2


def sent(folder: Path) -> list[dict[str, Any]]:
    (file,) = folder.iterdir()
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def parts(line: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = line["request"]["contents"][0]["parts"]
    return found


# --- the README's examples --------------------------------------------------------------------------------------------


def test_text_processing(look: Any, emulator: Any, folder: Path) -> None:
    results = batch_process(prompts=PROMPTS, schema=Sentiment)
    assert results == [Sentiment.model_validate_json(look.answer(text, config=CONFIG)) for text in TEXTS]
    assert emulator.creates == 1
    (kept,) = folder.iterdir()
    assert kept.suffix == ".jsonl", "what was paid for is kept in output_dir, and nothing else is left"
    assert len(kept.read_bytes().splitlines()) == 2


def test_image_processing(folder: Path, emulator: Any) -> None:
    for number, colour in enumerate(("red", "green"), 1):
        (folder / f"invoice{number}.jpg").write_bytes(png(colour))
    prompts = [["Extract invoice data:", Path(f"invoice{number}.jpg")] for number in (1, 2)]
    results = batch_process(prompts=prompts, schema=Sentiment)
    assert all(type(result) is Sentiment for result in results)
    assert results[0] != results[1]
    assert uploads(emulator) == 3


def test_async_mode(look: Any) -> None:
    job_name = batch_process(prompts=PROMPTS, schema=Sentiment, wait=False)
    assert isinstance(job_name, str)
    state = monitor_batch_job(job_name)
    assert state == "JOB_STATE_SUCCEEDED"
    results_file = download_batch_results(job_name)
    results = parse_batch_results(results_file, Sentiment)
    assert results == [Sentiment.model_validate_json(look.answer(text, config=CONFIG)) for text in TEXTS]


def test_multiple_samples(look: Any, emulator: Any) -> None:
    results = batch_process(prompts=PROMPTS, schema=Sentiment, n_samples=3)
    assert [type(result) for result in results] == [Sentiment, Sentiment]
    assert emulator.bought == 6
    for text, result in zip(TEXTS, results, strict=True):
        said = [json.loads(look.answer(text, config={**CONFIG, "seed": seed})) for seed in range(3)]
        assert result.sentiment in {one["sentiment"] for one in said}


def test_failed_requests_are_none_and_the_list_stays_as_long(look: Any, emulator: Any) -> None:
    """Lines come back in any order; one has failed, one is not there, one is cut."""
    emulator.fault("result_shuffled")
    emulator.fault("result_line_error", row=1)
    emulator.fault("result_line_missing", row=2)
    emulator.fault("result_line_broken", row=3)
    results = batch_process([[f"Question {i}"] for i in range(6)])
    assert results == [look.answer(f"Question {i}") if i in (0, 4, 5) else None for i in range(6)]


def test_a_request_that_was_never_understood_is_asked_with_every_setting(client: GeminiClient, folder: Path) -> None:
    """All settings reach the line, each where the service reads it."""
    batch_process(
        [["x"]],
        Sentiment,
        "models/gemini-2.5-flash",
        media_resolution="LOW",
        jsonl_dir="kept",
        temperature=0.5,
        top_p=0.9,
        top_k=3,
        max_output_tokens=99,
        thinking_level=types.ThinkingLevel.LOW,
        seed=7,
        stop_sequences=["END"],
        system_instruction="Be brief",
        safety_settings=[types.SafetySetting(category="HARM_CATEGORY_HARASSMENT", threshold="BLOCK_NONE")],
        generation_config={"presencePenalty": 1, "temperature": 2},
        wait=False,
        client=client,
    )
    (line,) = sent(folder / "kept")
    request = line["request"]
    assert line["key"] == "prompt_0_sample_0"
    assert request["systemInstruction"] == {"parts": [{"text": "Be brief"}]}
    assert request["safetySettings"] == [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
    assert request["generationConfig"] == {
        **CONFIG, "temperature": 0.5, "topP": 0.9, "topK": 3, "maxOutputTokens": 99, "seed": 7, "presencePenalty": 1,
        "stopSequences": ["END"], "thinkingConfig": {"thinkingLevel": "low"},
        "mediaResolution": "MEDIA_RESOLUTION_LOW",
    }  # fmt: skip


def test_all_arguments_of_the_public_library_are_taken_by_place(look: Any, folder: Path, emulator: Any) -> None:
    """In the order of v0.4.0."""
    found, metadata = batch_process(
        PROMPTS, None, "gemini-2.5-flash", True, 2, "my-job", 1, "out", "asked", True, "MEDIA_RESOLUTION_HIGH"
    )
    assert len(found) == len(metadata) == 2
    assert [file.name for file in (folder / "out").iterdir()] == ["my-job.jsonl"]
    assert len(sent(folder / "asked")) == 4


# --- metadata, keys, lists --------------------------------------------------------------------------------------------


def test_metadata_tell_the_tokens_of_all_samples(client: GeminiClient, emulator: Any) -> None:
    one, alone = batch_process(PROMPTS, return_metadata=True, client=client)
    emulator.fault("result_line_error", row=1)
    several, together = batch_process(PROMPTS, return_metadata=True, n_samples=3, client=client)
    assert None not in one and None not in several
    assert together[0]["modelVersion"] == alone[0]["modelVersion"] == "gemini-2.5-flash"
    prompt_tokens = [entry["usageMetadata"]["promptTokenCount"] for entry in (*alone, *together)]
    assert prompt_tokens[2:] in (
        [2 * prompt_tokens[0], 3 * prompt_tokens[1]],
        [3 * prompt_tokens[0], 2 * prompt_tokens[1]],
    )
    assert calculate_token_statistics(together).successful_requests == 2


@pytest.mark.parametrize("n_samples", [1, 2])
def test_keys_name_lines_and_answers_stay_in_the_order_of_the_prompts(
    client: GeminiClient, emulator: Any, folder: Path, n_samples: int
) -> None:
    plain = batch_process(PROMPTS, n_samples=n_samples, seed=1, client=client)
    emulator.fault("result_shuffled")
    named = batch_process(PROMPTS, keys=["b/1", 'a "x"'], n_samples=n_samples, seed=1, jsonl_dir="kept", client=client)
    assert named == plain
    expected = ["0_b/1", '1_a "x"'] if n_samples == 1 else [f"{k}_sample_{s}" for k in ("b/1", 'a "x"') for s in (0, 1)]
    assert [line["key"] for line in sent(folder / "kept")] == expected


def test_a_list_of_models_is_a_schema(client: GeminiClient) -> None:
    (result,) = batch_process([["x"]], list[Sentiment], client=client)
    assert isinstance(result, list) and all(type(one) is Sentiment for one in result)


class Ordered(BaseModel):
    low: int
    high: int

    @model_validator(mode="after")
    def ordered(self) -> "Ordered":
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


def test_what_no_validator_takes_becomes_the_sample_that_has_most_of_it(
    gemini_emulator: Any,
) -> None:
    """Field by field most say low=5 and high=3, which no sample says."""
    said = iter([{"low": 5, "high": 9}, {"low": 5, "high": 8}, {"low": 1, "high": 3}, {"low": 2, "high": 3}])
    gemini_emulator.answer(lambda prompt: next(said))
    (result,) = batch_process([["x"]], Ordered, n_samples=4)
    assert result.low <= result.high


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_each_distinct_picture_is_uploaded_once_by_all_of_its_content(
    client: GeminiClient, emulator: Any, folder: Path
) -> None:
    """Four pages that begin with the same 64 KiB, in a dozen prompts, as path, bytes and picture."""
    pages = []
    for number in range(4):
        page = Image.new("RGB", (300, 300), "white")
        page.putpixel((299, 299), (number, 0, 0))
        body = io.BytesIO()
        page.save(body, "PNG", compress_level=0)
        pages.append(body.getvalue())
    assert len({page[: 1 << 16] for page in pages}) == 1
    (folder / "p.png").write_bytes(pages[1])
    same = Image.open(io.BytesIO(pages[1]))
    prompts = [[f"Page {i}", pages[i % 4]] for i in range(10)] + [["x", Path("p.png")], ["y", same]]
    batch_process(prompts, jsonl_dir="kept", wait=False, max_upload_workers=3, client=client)
    uris = [parts(line)[1]["fileData"]["fileUri"] for line in sent(folder / "kept")]
    assert uris[:4] == uris[4:8] and len(set(uris[:4])) == 4
    assert uris[10] == uris[1]
    assert uploads(emulator) - 1 == len(set(uris)) <= 5


def test_no_bar_is_drawn_where_there_is_no_terminal(client: GeminiClient, capfd: pytest.CaptureFixture[str]) -> None:
    batch_process([["x", png("red")]], wait=False, client=client)
    assert capfd.readouterr() == ("", "")


def test_pictures_may_travel_inline(client: GeminiClient, emulator: Any, folder: Path) -> None:
    batch_process([["x", png("red")]], media="inline", jsonl_dir="kept", wait=False, client=client)
    assert parts(sent(folder / "kept")[0])[1]["inlineData"]["mimeType"] == "image/png"
    assert uploads(emulator) == 1


def test_what_was_uploaded_is_deleted_once_the_answers_are_here(client: GeminiClient) -> None:
    batch_process([["x", png("red")]], client=client)
    assert not [file for file in client.list_files() if file.display_name.startswith("gemini-batch-")]


@pytest.mark.parametrize("fault", ["create_400", "create_429"])
def test_what_was_uploaded_for_a_job_that_was_refused_is_deleted(
    client: GeminiClient, emulator: Any, fault: str
) -> None:
    emulator.fault(fault)
    with pytest.raises(RemoteError):
        batch_process([["x", png("red")]], client=client)
    assert uploads(emulator) == 2
    assert not client.list_files()


def test_a_parts_own_resolution_wins_over_that_of_all_parts(client: GeminiClient, folder: Path) -> None:
    own = types.Part(
        inline_data=types.Blob(data=png("red"), mime_type="image/png"),
        media_resolution=types.PartMediaResolution(level="MEDIA_RESOLUTION_ULTRA_HIGH"),
    )
    file = types.Part(file_data=types.FileData(file_uri="files/abc", mime_type="image/png"))
    batch_process(
        [["x", own, png("blue"), file]], part_media_resolution="LOW", jsonl_dir="kept", wait=False, client=client
    )
    found = parts(sent(folder / "kept")[0])
    assert [part.get("mediaResolution", {}).get("level") for part in found] == [
        None, "MEDIA_RESOLUTION_ULTRA_HIGH", "MEDIA_RESOLUTION_LOW", "MEDIA_RESOLUTION_LOW",
    ]  # fmt: skip
    assert found[3]["fileData"] == {"fileUri": "files/abc", "mimeType": "image/png"}


def test_uploads_go_on_through_what_passes(client: GeminiClient, emulator: Any) -> None:
    emulator.fault("upload_start_503")
    emulator.fault("file_processing", seconds=0.1)
    assert batch_process([["x", png("red")]], client=client) != [None]
    assert not emulator.pending_faults()


# --- what cannot be sent ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompts", "how", "said"),
    [
        ([], {}, "prompts is empty"),
        ("text", {}, "prompts has to be a list"),
        ([["fine"], "text"], {}, "prompt 1 is a str; a prompt is a list"),
        ([["fine"], ["x", 3.5]], {}, "prompt 1, part 1 is a float; parts are str, Path, PIL.Image, bytes"),
        ([["fine"], ["x", Path("absent.png")]], {}, r"prompt 1, part 1: picture '.*absent.png' does not exist"),
        ([["x", b"no picture"]], {}, "prompt 0, part 1: picture of 10 bytes is not JPEG"),
        ([["fine"], []], {}, "prompt 1, the row has no parts with content"),
        ([["fine"], ["\ud800"]], {}, "prompt 1 cannot be written as JSON"),
        ([["x"]], {"media_resolution": "TINY"}, "media_resolution has to be one of MEDIA_RESOLUTION_LOW"),
        ([["x"]], {"part_media_resolution": "TINY"}, "part_media_resolution has to be one of"),
        ([["x"]], {"temprature": 1}, "no keyword 'temprature'; did you mean 'temperature'"),
        ([["x"]], {"out": "there"}, "no keyword 'out'"),
        ([["x"]], {"temperature": 9}, "temperature"),
        ([["x"]], {"n_samples": 0}, "n.samples"),
        ([["x"]], {"generation_config": {"tools": []}}, "'tools' is no field of generationConfig"),
        ([["x"]], {"keys": ["a", "b"]}, "there are 2 of them for 1 prompts"),
        ([["x"], ["y"]], {"keys": ["a", "a"]}, "'a' names prompt 0 and prompt 1"),
        ([["x"], ["y"]], {"keys": ["1_a", "a"]}, "could be taken for"),
        ([["x"]], {"max_upload_workers": 0}, "max_upload_workers"),
        ([["x"]], {"schema": 7}, "schema 7"),
        ([["x"]], {"job_display_name": ""}, "job_display_name"),
    ],
)
def test_what_cannot_be_sent_is_named_and_nothing_is_sent(
    client: GeminiClient, emulator: Any, folder: Path, prompts: Any, how: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        batch_process(prompts, jsonl_dir=".", client=client, **how)
    assert emulator.untouched()
    assert not list(folder.iterdir()), "half a request file is left"


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_sent(
    client: GeminiClient, emulator: Any, folder: Path
) -> None:
    (folder / "file").write_text("mine")
    with pytest.raises(BadInput, match="no request file can be made in file"):
        batch_process(PROMPTS, jsonl_dir="file", client=client)
    with pytest.raises(BadInput, match="output_dir file: no results can be kept there"):
        batch_process(PROMPTS, output_dir="file", client=client)
    assert emulator.untouched()
    assert (folder / "file").read_text() == "mine"


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_job_that_failed_raises_with_state_and_reason(client: GeminiClient, emulator: Any) -> None:
    emulator.fault("job_failed")
    with pytest.raises(JobFailed, match="JOB_STATE_FAILED") as caught:
        batch_process(PROMPTS, client=client)
    assert caught.value.state == "JOB_STATE_FAILED" and caught.value.reason
    assert isinstance(caught.value, RuntimeError), "as in the public library"
    assert caught.value.job_name in caught.value.__notes__[0]


def test_a_job_is_shown_late_and_its_create_is_not_answered(client: GeminiClient, emulator: Any, look: Any) -> None:
    emulator.fault("create_reply_lost")
    emulator.fault("get_404", times=1)
    assert batch_process([["Question"]], client=client) == [look.answer("Question")]
    assert emulator.creates == 1


def test_a_lost_create_is_never_sent_again(client: GeminiClient, emulator: Any) -> None:
    emulator.fault("create_late", seconds=3600)
    with pytest.raises(CreateUnknown):
        batch_process(PROMPTS, client=client)
    assert emulator.calls("POST batchGenerateContent") == 1


def test_it_runs_inside_a_running_event_loop(client: GeminiClient, look: Any) -> None:
    async def cell() -> Any:
        return batch_process([["Question"]], client=client)

    assert asyncio.run(cell()) == [look.answer("Question")]


def test_threads_in_one_folder_share_a_client_and_no_file(client: GeminiClient, look: Any, folder: Path) -> None:
    def ask(number: int) -> Any:
        prompts = [[f"Question {number}-{i}"] for i in range(5)]
        return batch_process(prompts, job_display_name="same", client=client)

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(ask, range(4)))
    assert found == [[look.answer(f"Question {number}-{i}") for i in range(5)] for number in range(4)]
    assert len(list(folder.glob("same*.jsonl"))) == 4


# --- processes --------------------------------------------------------------------------------------------------------

MANY = """
import json
import sys
from gemini_batch import batch_process
prompts = [[f"Question {sys.argv[1]}-{i}"] for i in range(50)]
print(json.dumps(batch_process(prompts, jsonl_dir="asked", job_display_name="same")))
"""


def test_processes_in_one_folder_at_one_moment_share_nothing(cli: Any, folder: Path, look: Any) -> None:
    """Even under one display name: each has its own files, and gets its own answers."""
    (folder / "same.jsonl").write_text("mine")
    (folder / "many.py").write_text(MANY)
    started = [cli.python("many.py", number) for number in range(3)]
    for number, one in enumerate(started):
        done = one.ended()
        assert done.code == 0, done.err
        assert json.loads(done.out) == [look.answer(f"Question {number}-{i}") for i in range(50)]
    assert (folder / "same.jsonl").read_text() == "mine"
    assert len(list((folder / "asked").iterdir())) == 3
    assert len(list(folder.glob("same*.jsonl"))) == 4


def test_an_interrupt_leaves_the_job_running_and_says_its_name(
    cli: Any, emulator: Any, look: Any, folder: Path
) -> None:
    emulator.settings(job_seconds=3600)
    (folder / "waiting.py").write_text("from gemini_batch import batch_process\nbatch_process([['Question']])\n")
    one = cli.python("waiting.py")
    look.until(lambda: emulator.calls("GET batches.get"), "it waits for the job")
    os.kill(one.pid, signal.SIGINT)
    done = one.ended()
    assert done.code != 0
    assert "monitor_batch_job('batches/" in done.err
    assert emulator.calls("POST batches.cancel") == 0
