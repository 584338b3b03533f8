"""The emulator through the real SDK and, where the SDK hides the wire, through plain HTTP."""

import base64
import hashlib
import json
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from google.genai import errors
from sdk_calls import MODEL, Client, finished, jsonl, request_of, submit, upload

from gemini_batch.emulator.answers import expected_answer, expected_text


def results(client: Client, job: Any) -> list[dict[str, Any]]:
    content = client.files.download(file=finished(client, job).dest.file_name)
    return [json.loads(line) for line in content.split(b"\n") if line]


def answer_text(result: dict[str, Any]) -> str:
    return result["response"]["candidates"][0]["content"]["parts"][0]["text"]


# files


def test_an_upload_of_several_chunks_arrives_whole(client):
    content = bytes(range(256)) * (17 << 12) + b"tail"
    file = upload(client, content, display_name="big")
    digest = base64.b64encode(hashlib.sha256(content).hexdigest().encode()).decode()
    assert (file.size_bytes, file.sha256_hash, file.display_name) == (len(content), digest, "big")
    assert file.state == "ACTIVE" and file.source == "UPLOADED"
    assert file.expiration_time - file.create_time == timedelta(hours=48)
    assert len(file.name) == len("files/") + 12


def start_upload(http: httpx2.Client, body: dict[str, Any], version: str = "v1") -> str:
    reply = http.post(f"/upload/{version}/files", json=body)
    assert reply.headers["x-goog-upload-status"] == "active"
    return reply.headers["x-goog-upload-url"]


def send_chunk(url: str, offset: int, content: bytes, final: bool) -> httpx2.Response:
    command = "upload, finalize" if final else "upload"
    headers = {"x-goog-upload-command": command, "x-goog-upload-offset": str(offset)}
    return httpx2.post(url, content=content, headers=headers, trust_env=False)


def test_chunks_need_no_key_and_a_repeated_offset_changes_nothing(http):
    url = start_upload(http, {"file": {"name": "files/mine", "displayName": "d"}})
    for _ in range(2):
        assert send_chunk(url, 0, b"first,", final=False).headers["x-goog-upload-status"] == "active"
    finals = [send_chunk(url, 6, b"second", final=True) for _ in range(2)]
    assert [final.headers["x-goog-upload-status"] for final in finals] == ["final", "final"]
    assert finals[0].json() == finals[1].json()
    assert finals[0].json()["file"]["sizeBytes"] == "12"
    assert http.get("/admin/stats").json()["files"] == {"stored": 1, "bytes": 12}


def test_a_chunk_beyond_what_was_received_is_refused(http):
    url = start_upload(http, {"file": {}})
    assert send_chunk(url, 5, b"x", final=True).status_code == 400


@pytest.mark.parametrize("command", ["", "cancel", "upload; finalize"])
def test_a_chunk_says_what_is_to_be_done_with_it(http, command):
    """A chunk that is not kept must not look as though it had been."""
    target = http.post("/upload/v1/files", json={"file": {}}).headers["x-goog-upload-url"]
    headers = {"x-goog-upload-command": command, "x-goog-upload-offset": "0"}
    assert http.post(target, content=b"abc", headers=headers).status_code == 400


@pytest.mark.parametrize("spelling", ["displayName", "display_name"])
@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_upload_start_reads_both_spellings_under_both_versions(http, spelling, version):
    url = start_upload(http, {"file": {spelling: "d"}}, version)
    assert f"/upload/{version}/files?" in url
    assert send_chunk(url, 0, b"", final=True).json()["file"]["displayName"] == "d"


def test_files_are_listed_in_pages_newest_first(client):
    names = [upload(client, b"{}").name for _ in range(5)]
    assert [file.name for file in client.files.list(config={"page_size": 2})] == names[::-1]


def test_a_deleted_file_is_out_of_reach(client):
    file = upload(client, b"{}", name="files/going")
    client.files.delete(name=file.name)
    with pytest.raises(errors.ClientError) as refused:
        client.files.get(name=file.name)
    assert refused.value.code == 403
    assert list(client.files.list()) == []


def test_an_uploaded_file_cannot_be_downloaded(client):
    file = upload(client, b"{}")
    with pytest.raises(errors.ClientError, match="Only generated files"):
        client.files.download(file=file.name)


@pytest.mark.parametrize(("name", "code"), [("files/taken", 409), ("files/" + "x" * 41, 400), ("files/A_b", 400)])
def test_a_file_name_must_be_free_and_of_the_allowed_form(client, name, code):
    upload(client, b"{}", name="files/taken")
    with pytest.raises(errors.ClientError) as refused:
        upload(client, b"{}", name=name)
    assert refused.value.code == code


# jobs


def test_every_answer_of_a_file_job_belongs_to_its_key(client, tmp_path):
    requests = {f"r{i}": request_of(f"prompt {i}") for i in range(300)}
    job = submit(client, *({"key": key, "request": request} for key, request in requests.items()), name="j")
    assert (job.state, job.display_name, job.model) == ("JOB_STATE_PENDING", "j", f"models/{MODEL}")
    job = finished(client, job)
    assert job.state == "JOB_STATE_SUCCEEDED"
    client.files.download(file=job.dest.file_name, destination=tmp_path / "results")
    answers = {
        result["key"]: answer_text(result)
        for result in map(json.loads, (tmp_path / "results").read_bytes().strip().split(b"\n"))
    }
    assert answers == {key: expected_text(0, request) for key, request in requests.items()}


def test_an_inline_job_answers_in_place_with_its_metadata(client):
    source = [
        {"contents": f"question {i}", "metadata": {"key": f"r{i}"}, "config": {"system_instruction": "brief"}}
        for i in range(3)
    ]
    job = finished(client, client.batches.create(model=MODEL, src=source))
    assert [item.metadata for item in job.dest.inlined_responses] == [{"key": f"r{i}"} for i in range(3)]
    texts = [item.response.text for item in job.dest.inlined_responses]
    assert all(text.startswith("Answer ") for text in texts) and len(set(texts)) == 3


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_the_sdk_may_speak_either_api_version(connect, http, version):
    client = connect(api_version=version)
    (result,) = results(client, submit(client, {"key": "a", "request": request_of("x")}))
    assert result["key"] == "a"
    assert [http.get(f"/{served}/batches").json().keys() for served in ("v1", "v1beta")] == [{"operations"}] * 2


def test_requests_may_be_spelled_in_snake_case_at_every_depth(client, http):
    request = {
        "contents": [{"parts": [{"text": "x"}, {"inline_data": {"mime_type": "image/png", "data": "AA"}}]}],
        "system_instruction": {"parts": [{"text": "y"}]},
        "generation_config": {
            "response_mime_type": "application/json",
            "response_schema": {
                "type": "ARRAY",
                "items": {"type": "INTEGER"},
                "min_items": 2,
                "max_items": 2,
            },
            "thinking_config": {"thinking_level": "LOW"},
        },
    }
    source = upload(client, jsonl({"key": "a", "request": request}))
    body = {"batch": {"input_config": {"file_name": source.name}, "display_name": "d"}}
    created = http.post(f"/v1/models/{MODEL}:batchGenerateContent", json=body).json()
    assert created["metadata"]["displayName"] == "d"
    (result,) = results(client, client.batches.get(name=created["name"]))
    assert answer_text(result) == expected_answer(0, request)
    assert len(json.loads(answer_text(result))) == 2
    assert result["response"]["usageMetadata"]["promptTokenCount"] == 259


def test_a_finished_job_has_the_recorded_shape(client, http):
    job = finished(
        client,
        submit(client, {"key": "a", "request": request_of("x")}, {"key": "b", "request": {"contents": []}}),
    )
    reply = http.get(f"/v1/{job.name}")
    body = reply.json()
    output = {"responsesFile": "files/batch-" + job.name.removeprefix("batches/")}
    assert body["done"] is True
    assert body["metadata"]["output"] == output
    assert {name: body["response"][name] for name in output} == output
    assert body["response"]["@type"].endswith("GenerateContentBatchOutput")
    assert body["metadata"]["@type"].endswith("GenerateContentBatch")
    assert body["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"
    assert body["metadata"]["batchStats"] == {
        "requestCount": "2",
        "successfulRequestCount": "1",
        "failedRequestCount": "1",
    }
    assert len(body["metadata"]["createTime"]) == len("2026-11-22T01:02:03.123456789Z")
    assert len(body["name"]) == len("batches/") + 36
    assert reply.headers["content-length"] == str(len(reply.content))
    assert reply.headers["date"].endswith(" GMT")


def test_a_live_job_is_not_done_and_has_no_output(client, http):
    http.post("/admin/settings", json={"job_seconds": 3600})
    job = submit(client, {"key": "a", "request": request_of("x")})
    body = http.get(f"/v1/{job.name}").json()
    assert body.keys() == {"name", "metadata"}
    assert body["metadata"]["batchStats"] == {"requestCount": "1", "pendingRequestCount": "1"}
    assert "endTime" not in body["metadata"] and "output" not in body["metadata"]


def test_a_shorter_job_time_ends_live_jobs_sooner(client, http):
    http.post("/admin/settings", json={"job_seconds": 3600})
    job = submit(client, {"key": "a", "request": request_of("x")})
    assert client.batches.get(name=job.name).state == "JOB_STATE_PENDING"
    http.post("/admin/settings", json={"job_seconds": 0})
    assert finished(client, job).state == "JOB_STATE_SUCCEEDED"


def test_jobs_are_listed_in_pages_newest_first(client, http):
    jobs = [submit(client, {"key": "a", "request": request_of(str(i))}, name=f"j{i}") for i in range(5)]
    listed = [job.display_name for job in client.batches.list(config={"page_size": 2})]
    assert listed == ["j4", "j3", "j2", "j1", "j0"]
    first = http.get("/v1/batches?pageSize=2").json()
    client.batches.delete(name=jobs[4].name)
    second = http.get(f"/v1/batches?pageSize=2&pageToken={first['nextPageToken']}").json()
    assert [one["metadata"]["displayName"] for one in second["operations"]] == ["j2", "j1"]


def test_a_page_holds_at_most_a_hundred_jobs(client, http):
    http.post("/admin/settings", json={"max_live_jobs": 200})
    source = upload(client, jsonl({"key": "a", "request": request_of("x")}))
    for _ in range(101):
        client.batches.create(model=MODEL, src=source.name)
    reply = http.get("/v1/batches?pageSize=1000").json()
    assert len(reply["operations"]) == 100 and reply["nextPageToken"]


def test_a_cancelled_job_is_terminal_and_has_no_output(client, http):
    http.post("/admin/settings", json={"job_seconds": 3600})
    job = submit(client, {"key": "a", "request": request_of("x")})
    client.batches.cancel(name=job.name)
    job = client.batches.get(name=job.name)
    assert job.state == "JOB_STATE_CANCELLED" and not (job.dest and job.dest.file_name)
    assert http.get("/admin/stats").json()["jobs"]["live"] == 0


def test_a_deleted_job_is_gone(client):
    job = finished(client, submit(client, {"key": "a", "request": request_of("x")}))
    client.batches.delete(name=job.name)
    with pytest.raises(errors.ClientError) as refused:
        client.batches.get(name=job.name)
    assert refused.value.code == 404


def test_the_input_file_may_be_deleted_right_after_create(client):
    source = upload(client, jsonl({"key": "a", "request": request_of("x")}))
    job = client.batches.create(model=MODEL, src=source.name)
    client.files.delete(name=source.name)
    assert [result["key"] for result in results(client, job)] == ["a"]


def test_a_result_file_cannot_be_deleted(client):
    job = finished(client, submit(client, {"key": "a", "request": request_of("x")}))
    assert client.files.get(name=job.dest.file_name).source == "GENERATED"
    with pytest.raises(errors.ClientError) as refused:
        client.files.delete(name=job.dest.file_name)
    assert refused.value.code == 400


def test_results_are_served_at_the_documented_download_path_too(client, http):
    job = finished(client, submit(client, {"key": "a", "request": request_of("x")}))
    replies = [
        http.get(f"/{path}/{job.dest.file_name}:download?alt=media")
        for path in ("v1", "v1beta", "download/v1", "download/v1beta")
    ]
    assert {reply.status_code for reply in replies} == {200}
    assert len({reply.content for reply in replies}) == 1


def test_files_and_jobs_of_another_key_are_out_of_reach(connect, client):
    job = finished(client, submit(client, {"key": "a", "request": request_of("x")}))
    source = upload(client, jsonl({"key": "a", "request": request_of("x")}))
    other = connect(api_key="other")
    calls = {
        404: lambda: other.batches.get(name=job.name),
        403: lambda: other.files.get(name=source.name),
    }
    for code, call in calls.items():
        with pytest.raises(errors.ClientError) as refused:
            call()
        assert refused.value.code == code
    with pytest.raises(errors.ClientError) as refused:
        other.batches.create(model=MODEL, src=source.name)
    assert refused.value.code == 404
    assert list(other.batches.list()) == [] and list(other.files.list()) == []


def test_the_key_may_come_as_a_query_parameter(url, client):
    job = submit(client, {"key": "a", "request": request_of("x")})
    assert httpx2.get(f"{url}/v1/{job.name}?key=k", trust_env=False).status_code == 200
    assert httpx2.get(f"{url}/v1/{job.name}", trust_env=False).status_code == 403
