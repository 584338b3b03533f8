"""Our client over the SDK, against the emulator: what it brings back, and which leaf each mishap becomes."""

import hashlib
import json
from pathlib import Path

import pytest
from sdk_calls import MODEL, jsonl, request_of

from gemini_batch.config import Account
from gemini_batch.errors import NotFound, NotSent, Refused, Throttled, Unavailable
from gemini_batch.gemini import client
from gemini_batch.gemini.client import GeminiClient

NOBODY = "http://127.0.0.1:9"  # the discard port: nothing listens there


@pytest.fixture(scope="module")
def gemini(url):
    return GeminiClient(Account(endpoint=url, project="p", key="k"))


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "part.jsonl"
    path.write_bytes(jsonl(*({"key": key, "request": request_of(key)} for key in "abc")))
    return path


def started(gemini, source, name="gbd-run-1"):
    return gemini.create_job(MODEL, gemini.upload(source, name, "jsonl").name, name)


def ended(gemini, job):
    for _ in range(1000):
        seen = gemini.get_job(job.name)
        if seen.job.ended_at:
            return seen
    raise AssertionError(f"{job.name} does not end")


def test_a_job_is_made_found_watched_and_fetched(gemini, http, source, tmp_path):
    file = gemini.upload(source, "gbd-run-1", "jsonl")
    assert (file.size_bytes, file.active) == (source.stat().st_size, True)
    assert gemini.get_file(file.name) == file
    job = gemini.create_job(MODEL, file.name, "gbd-run-1")
    seen = ended(gemini, job)
    assert (seen.job.display_name, seen.job.state, seen.job.requests) == ("gbd-run-1", "BATCH_STATE_SUCCEEDED", 3)
    assert job.created_at <= seen.job.ended_at <= seen.at.replace(microsecond=999_999)
    assert gemini.list_jobs().jobs["gbd-run-1"].name == job.name
    gemini.download(seen.job.responses_file, tmp_path / "results")
    results = hashlib.sha256((tmp_path / "results").read_bytes()).hexdigest()
    assert gemini.get_file(seen.job.responses_file).sha256 == results
    assert [json.loads(line)["key"] for line in (tmp_path / "results").read_bytes().splitlines()] == ["a", "b", "c"]


def test_all_files_are_listed_page_by_page(gemini, http, source, monkeypatch):
    monkeypatch.setattr(client, "LIST_PAGE", 2)
    names = {f"gbd-run-{number:06d}-input" for number in range(5)}
    files = [gemini.upload(source, name, "jsonl") for name in names]
    listed = gemini.list_files()
    assert {file.display_name for file in listed} == names
    assert {(file.name, file.size_bytes) for file in listed} == {(file.name, file.size_bytes) for file in files}
    assert http.get("/admin/stats").json()["calls"]["GET files.list"] == 3


def test_the_jobs_of_other_programs_are_listed_by_name_and_state_alone(gemini, source):
    ours, theirs = started(gemini, source), started(gemini, source, "weekly report")
    for job in (ours, theirs):
        ended(gemini, job)
    listing = gemini.list_jobs()
    assert [job.name for job in listing.every] == [ours.name]
    assert [(job.name, job.state) for job in listing.others] == [(theirs.name, "BATCH_STATE_SUCCEEDED")]


@pytest.mark.parametrize("what", ["jobs", "files"])
def test_a_list_that_repeats_a_page_is_not_taken_for_complete(gemini, what, monkeypatch):
    """It would end never, or lack what another page holds."""
    monkeypatch.setattr(gemini, "_raw", lambda path: ({"nextPageToken": "again"}, None))
    with pytest.raises(Unavailable, match="repeats a page"):
        getattr(gemini, f"list_{what}")()


def test_why_a_job_failed_is_told(gemini, http, source):
    http.post("/admin/faults", json={"name": "job_failed"})
    job = ended(gemini, started(gemini, source)).job
    assert job.state == "BATCH_STATE_FAILED" and job.error and job.responses_file is None


@pytest.mark.parametrize(
    ("fault", "leaf"),
    [
        ("create_429", Throttled),
        ("create_503", Unavailable),
        ("create_503_after_commit", Unavailable),
        ("create_reply_lost", Unavailable),
    ],
)
def test_a_create_that_goes_wrong_says_what_to_do(gemini, http, source, fault, leaf):
    http.post("/admin/faults", json={"name": fault})
    with pytest.raises(leaf):
        started(gemini, source)
    assert http.get("/admin/stats").json()["calls"]["POST batchGenerateContent"] == 1


def test_a_bad_line_and_a_missing_input_file_are_refused(gemini, http, tmp_path):
    (tmp_path / "bad.jsonl").write_bytes(jsonl({"key": "a", "request": {"bogus": 1}}))
    with pytest.raises(Refused, match="Error on line 1"):
        started(gemini, tmp_path / "bad.jsonl")
    with pytest.raises(Refused, match="not found"):
        gemini.create_job(MODEL, "files/absent", "gbd-run-1")


def test_a_deleted_job_is_not_found(gemini, http, source):
    job = started(gemini, source)
    http.delete(f"/v1/{job.name}")
    with pytest.raises(NotFound):
        gemini.get_job(job.name)


def test_a_create_that_reached_nobody_was_not_sent():
    with pytest.raises(NotSent):
        GeminiClient(Account(endpoint=NOBODY, project="p", key="k")).create_job(MODEL, "files/a", "gbd-run-1")


def test_all_that_is_shown_of_a_job_is_told(gemini, http, source):
    http.post("/admin/faults", json={"name": "result_line_error"})
    made = started(gemini, source, "weekly report")
    ended(gemini, made)
    job, at = gemini.show_job(made.name)
    assert (job.display_name, job.state, job.model) == ("weekly report", "JOB_STATE_SUCCEEDED", f"models/{MODEL}")
    assert (job.requests, job.succeeded, job.failed) == (3, 2, 1)
    assert job.done and job.has_output and job.responses_file and job.input_file.startswith("files/")
    assert job.created_at <= job.ended_at <= at.replace(microsecond=999_999)
    assert gemini.show_jobs() == [job]


@pytest.mark.parametrize(
    ("method", "model", "request_"),
    [
        ("batchGenerateContent", MODEL, request_of("a")),
        ("asyncBatchEmbedContent", "gemini-embedding-001", {"content": {"parts": [{"text": "a"}]}}),
    ],
)
def test_jobs_that_the_sdk_cannot_make_of_rest_requests_are_made_and_shown(gemini, http, method, model, request_):
    source = {"requests": {"requests": [{"request": request_, "metadata": {"key": "a"}}]}}
    made = gemini.create_other(f"models/{model}", method, source, "by hand")
    ended(gemini, made)
    (job,) = gemini.show_jobs()
    assert (job.name, job.display_name, job.requests, job.input_file) == (made.name, "by hand", 1, None)
    assert job.has_output and job.responses_file is None


@pytest.mark.parametrize(
    "entry",
    [
        None,
        7,
        "job",
        {},
        {"name": 5},
        {"metadata": 5},
        {"name": "batches/1", "metadata": {"batchStats": {"requestCount": "x"}}},
    ],
)
def test_a_listed_job_of_any_other_form_is_shown_as_far_as_it_can_be(gemini, monkeypatch, entry):
    monkeypatch.setattr(gemini, "_raw", lambda path: ({"operations": [entry]}, None))
    (job,) = gemini.show_jobs()
    assert job.state == "JOB_STATE_UNSPECIFIED"
