"""One job at a time: created once, watched for a bounded time, listed, cancelled."""

import json
from pathlib import Path
from typing import Any

import pytest
from google.genai import types
from pydantic import BaseModel

from gemini_batch import (
    BadInput,
    CreateUnknown,
    JobUnfinished,
    cancel_batch_job,
    create_batch_job,
    list_batch_jobs,
    monitor_batch_job,
)
from gemini_batch.config import Account
from gemini_batch.errors import Denied, NotFound, Refused, Throttled
from gemini_batch.gemini.client import GeminiClient
from gemini_batch.single import create

MODEL = "gemini-2.5-flash"


class Place(BaseModel):
    name: str


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


def requests(count: int = 2) -> list[dict[str, Any]]:
    return [{"key": str(i), "request": {"contents": [{"parts": [{"text": f"Question {i}"}]}]}} for i in range(count)]


def sent(folder: Path) -> list[dict[str, Any]]:
    (file,) = folder.iterdir()
    return [json.loads(line) for line in file.read_bytes().splitlines()]


# --- create -----------------------------------------------------------------------------------------------------------


def test_a_job_is_created_monitored_and_listed(emulator: Any) -> None:
    name = create_batch_job(requests())
    assert name.startswith("batches/")
    assert monitor_batch_job(name) == "JOB_STATE_SUCCEEDED"
    (job,) = list_batch_jobs()
    assert (job.name, job.state, job.model) == (name, "JOB_STATE_SUCCEEDED", f"models/{MODEL}")
    assert (job.requests, job.succeeded, job.failed, job.has_output) == (2, 2, 0, True)
    assert job.created_at is not None and job.ended_at is not None and job.created_at <= job.ended_at
    assert emulator.creates == 1


def test_every_argument_of_the_public_library_is_taken_by_place(client: GeminiClient, folder: Path) -> None:
    name = create_batch_job(requests(), MODEL, "my job", {"temperature": 0.5}, "kept", client=client)
    assert [job.name for job in list_batch_jobs("my job", client=client)] == [name]
    assert [line["request"]["generationConfig"] for line in sent(folder / "kept")] == [{"temperature": 0.5}] * 2
    assert [line["key"] for line in sent(folder / "kept")] == ["0", "1"]


@pytest.mark.parametrize(
    "config",
    [
        types.GenerateContentConfig(
            temperature=0.5,
            system_instruction="Be brief",
            response_mime_type="application/json",
            response_schema=Place,
            safety_settings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
            thinking_config={"thinking_budget": 0},
        ),
        {
            "temperature": 0.5,
            "system_instruction": "Be brief",
            "response_schema": Place,
            "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
            "thinking_config": {"thinkingBudget": 0},
        },
    ],
)
def test_a_config_of_the_sdk_becomes_what_a_request_line_may_hold(
    client: GeminiClient, folder: Path, config: Any
) -> None:
    """What the SDK writes flat stands in two places of a request; the service refuses it elsewhere."""
    given = requests(1)
    given[0]["request"]["generation_config"] = {"temperature": 2}
    create_batch_job(given, generation_config=config, jsonl_dir="kept", client=client)
    (line,) = sent(folder / "kept")
    assert line["request"]["systemInstruction"] == {"parts": [{"text": "Be brief"}]}
    assert line["request"]["safetySettings"] == [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}]
    made = line["request"]["generationConfig"]
    assert made.pop("responseSchema")["properties"] == {"name": {"type": "STRING"}}
    assert made == {
        "temperature": 0.5,
        "responseMimeType": "application/json",
        "thinkingConfig": {"thinkingBudget": 0},
    }
    assert given[0]["request"]["generation_config"] == {"temperature": 2}, "the caller's own is not changed"


def test_an_inline_job_takes_no_file(client: GeminiClient, emulator: Any, folder: Path) -> None:
    name = create_batch_job(requests(3), inline=True, client=client)
    seen: list[Any] = []
    assert monitor_batch_job(name, client=client, on_progress=seen.append) == "JOB_STATE_SUCCEEDED"
    assert (seen[-1].requests, seen[-1].input_file, seen[-1].has_output) == (3, None, True)
    assert emulator.calls("POST upload") == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "requests is empty"),
        (["text"], "request 0 has to be a dict"),
        ([{"request": {}}], "request 0 has to be a dict"),
        ([*requests(2), *requests(1)], "request 2: the key '0' is another's"),
        ([{"key": "a", "request": {"contents": {1, 2}}}], "request 'a' cannot be written as JSON"),
    ],
)
@pytest.mark.parametrize("inline", [False, True])
def test_requests_that_cannot_be_told_apart_are_refused_before_anything_is_sent(
    client: GeminiClient, emulator: Any, folder: Path, given: Any, said: str, inline: bool
) -> None:
    with pytest.raises(BadInput, match=said):
        create_batch_job(given, jsonl_dir=".", inline=inline, client=client)
    assert emulator.untouched()
    assert not list(folder.iterdir())


def test_more_than_a_job_holds_is_refused_and_says_what_takes_it(
    client: GeminiClient, emulator: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "lines").open("wb") as out, pytest.raises(BadInput, match="distributed_batch_process"):
        create.write_lines(out, [b"x" * 60, b"x" * 60], most=100)
    monkeypatch.setattr(create, "MAX_INLINE_BYTES", 100)
    with pytest.raises(BadInput, match="distributed_batch_process"):
        create_batch_job(requests(), inline=True, client=client)
    assert emulator.untouched()


def test_a_refused_create_says_the_services_word(client: GeminiClient, emulator: Any) -> None:
    bad = [{"key": "a", "request": {"contents": [{"parts": [{"text": "x"}]}], "thinking_config": {}}}]
    with pytest.raises(Refused, match="line 1"):
        create_batch_job(bad, client=client)
    emulator.fault("create_429")
    with pytest.raises(Throttled):
        create_batch_job(requests(), client=client)
    with pytest.raises(Denied, match="does-not-exist"):
        create_batch_job(requests(), "gemini-does-not-exist", client=client)


# --- paying -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [None, "weekly report"])
@pytest.mark.parametrize("fault", ["create_reply_lost", "create_503_after_commit"])
def test_a_job_whose_create_was_not_answered_is_found_and_not_made_again(
    client: GeminiClient, emulator: Any, fault: str, given: str | None
) -> None:
    """Also under a name that an earlier job has: the request file tells them apart."""
    if given:
        create_batch_job(requests(1), job_display_name=given, client=client)
    earlier = emulator.creates
    emulator.fault(fault)
    name = create_batch_job(requests(3), job_display_name=given, client=client)
    assert emulator.creates == earlier + 1
    (job,) = [job for job in list_batch_jobs(client=client) if job.name == name]
    assert job.requests == 3


def test_an_inline_job_whose_create_was_not_answered_is_found_by_its_name(client: GeminiClient, emulator: Any) -> None:
    emulator.fault("create_reply_lost")
    name = create_batch_job(requests(3), inline=True, client=client)
    assert [job.name for job in list_batch_jobs(client=client)] == [name]


def test_a_create_that_stays_lost_tells_the_name_to_look_for(client: GeminiClient, emulator: Any) -> None:
    emulator.fault("create_late", seconds=3600)
    with pytest.raises(CreateUnknown, match="list_batch_jobs") as caught:
        create_batch_job(requests(), client=client)
    assert emulator.creates <= 1
    emulator.advance(3700)
    (job,) = list_batch_jobs(caught.value.display_name, client=client)
    assert monitor_batch_job(job.name, client=client) == "JOB_STATE_SUCCEEDED"


# --- monitor, list, cancel --------------------------------------------------------------------------------------------


def test_watching_goes_on_through_what_passes(client: GeminiClient, emulator: Any) -> None:
    name = create_batch_job(requests(), client=client)
    for fault in ("get_503", "get_429", "get_reset", "state_unknown", "succeeded_without_output"):
        emulator.fault(fault, times=1)
    seen: list[Any] = []
    assert monitor_batch_job(name, 0.1, on_progress=seen.append, client=client) == "JOB_STATE_SUCCEEDED"
    assert not emulator.pending_faults()
    assert seen[-1].has_output


def test_watching_ends_when_its_time_is_up(client: GeminiClient, emulator: Any) -> None:
    emulator.settings(job_seconds=3600)
    name = create_batch_job(requests(), client=client)
    with pytest.raises(JobUnfinished, match="it goes on") as caught:
        monitor_batch_job(name, 0.1, timeout=0.3, client=client)
    assert caught.value.job_name == name and isinstance(caught.value, TimeoutError)
    emulator.advance(4000)
    assert monitor_batch_job(name, client=client) == "JOB_STATE_SUCCEEDED"


@pytest.mark.parametrize(
    ("fault", "state"), [("job_failed", "FAILED"), ("job_expired", "EXPIRED"), ("job_cancelled", "CANCELLED")]
)
def test_every_end_ends_the_watch(client: GeminiClient, emulator: Any, fault: str, state: str) -> None:
    emulator.fault(fault)
    name = create_batch_job(requests(), client=client)
    emulator.advance(200_000)
    assert monitor_batch_job(name, client=client) == f"JOB_STATE_{state}"


def test_a_name_that_nobody_knows_is_told_at_once(client: GeminiClient) -> None:
    for call in (monitor_batch_job, cancel_batch_job):
        with pytest.raises(NotFound):
            call("batches/" + "0" * 36, client=client)


def test_a_cancelled_job_ends(client: GeminiClient, emulator: Any) -> None:
    emulator.settings(job_seconds=3600)
    name = create_batch_job(requests(), client=client)
    cancel_batch_job(name, client=client)
    assert monitor_batch_job(name, client=client) == "JOB_STATE_CANCELLED"


def test_all_jobs_are_listed_over_pages_through_a_fault(
    client: GeminiClient, emulator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gemini_batch.gemini.client.LIST_PAGE", 2)
    names = [create_batch_job(requests(1), job_display_name=f"job {i % 2}", client=client) for i in range(5)]
    emulator.fault("list_503")
    assert [job.name for job in list_batch_jobs(client=client)] == names[::-1]
    assert [job.name for job in list_batch_jobs("job 1", client=client)] == [names[3], names[1]]


def test_a_missing_key_names_both_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_GEMINI_BASE_URL")
    for call in (create_batch_job, monitor_batch_job, cancel_batch_job):
        with pytest.raises(BadInput, match=r"GEMINI_API_KEY.*GOOGLE_API_KEY"):
            call(requests() if call is create_batch_job else "batches/x")
    with pytest.raises(BadInput, match=r"GEMINI_API_KEY.*GOOGLE_API_KEY"):
        list_batch_jobs()
