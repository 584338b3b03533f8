"""How much may be stored: one file, all files of a project; what frees it, and what a refused upload leaves."""

from typing import Any

import httpx2
import pytest
from emulator_calls import (
    HELP_ONLY,
    HUNDRED_TOKENS,
    advance,
    create,
    send_chunk,
    settings,
    start_upload,
    stats,
    store,
)
from google.genai import errors
from sdk_calls import finished, jsonl, submit, upload

TOO_LARGE = "File size exceeds the limit of 100 bytes."


def begun(http: httpx2.Client, size: int | None = None, **file: Any) -> str:
    return str(start_upload(http, size, **file).headers["x-goog-upload-url"])


def assert_full(reply: httpx2.Response) -> None:
    """The 429 that, unlike a create's, names what is full (sourcelibrary-v2 batch-ocr-operations)."""
    error = reply.json()["error"]
    assert (reply.status_code, error["status"], error["details"]) == (429, "RESOURCE_EXHAUSTED", HELP_ONLY)
    assert "file_storage_bytes" in error["message"]


def names(http: httpx2.Client) -> list[str]:
    return [file["name"] for file in http.get("/v1/files").json().get("files", [])]


# --- one file ---------------------------------------------------------------------------------------------------------


def test_a_file_larger_than_allowed_is_refused_before_a_byte_of_it_is_sent(client, http):
    settings(http, max_file_bytes=100)
    with pytest.raises(errors.ClientError, match=TOO_LARGE) as refused:
        upload(client, b"x" * 101)
    assert (refused.value.code, refused.value.status) == (400, "INVALID_ARGUMENT")
    assert upload(client, b"x" * 100).size_bytes == 100
    assert stats(http)["rejected"] == {"upload_start: file_bytes": 1}


def test_two_gigabytes_are_the_limit_of_a_file_and_twenty_of_a_project(http):
    assert [start_upload(http, size).status_code for size in (2_000_000_000, 2_000_000_001)] == [200, 400]
    settings(http, max_file_bytes=50_000_000_000)
    assert start_upload(http, 20_000_000_000).status_code == 200
    assert_full(start_upload(http, 20_000_000_001))


@pytest.mark.parametrize("spelling", ["sizeBytes", "size_bytes"])
@pytest.mark.parametrize("size", [101, "101"])
def test_a_size_may_be_declared_in_the_body(http, spelling, size):
    settings(http, max_file_bytes=100)
    assert start_upload(http, **{spelling: size}).json()["error"]["message"] == TOO_LARGE


@pytest.mark.parametrize("declared", [None, 10])
@pytest.mark.parametrize("chunk_bytes", [101, 20 << 20])
def test_real_bytes_count_whatever_was_declared(http, declared, chunk_bytes):
    settings(http, max_file_bytes=100)
    url = begun(http, declared)
    reply = send_chunk(http, url, b"x" * chunk_bytes)
    assert (reply.status_code, reply.json()["error"]["message"]) == (400, TOO_LARGE)
    assert names(http) == [] and stats(http)["files"] == {"stored": 0, "bytes": 0}
    assert stats(http)["rejected"] == {"upload: file_bytes": 1}


def test_bytes_add_up_over_the_chunks(http):
    settings(http, max_file_bytes=100)
    url = begun(http)
    codes = [send_chunk(http, url, b"x" * 60, offset, "upload").status_code for offset in (0, 40, 60)]
    assert codes == [200, 200, 400]


def test_an_upload_that_was_refused_cannot_be_ended_as_though_it_had_not_been(http):
    settings(http, max_file_bytes=100)
    url = begun(http)
    assert send_chunk(http, url, b"x" * 200, command="upload").status_code == 400
    assert send_chunk(http, url, b"", command="finalize").status_code == 404
    assert names(http) == []


def test_what_is_left_of_a_chunk_that_broke_off_is_not_part_of_the_file(http):
    url = begun(http)
    assert send_chunk(http, url, b"first,", 0, "upload").status_code == 200

    def breaks_off() -> Any:
        yield b"half of a chunk"
        raise httpx2.WriteError("gone")

    with pytest.raises(httpx2.WriteError):
        send_chunk(http, url, breaks_off(), 6, "upload")
    file = send_chunk(http, url, b"", command="finalize").json()["file"]
    assert file["sizeBytes"] == "6"


# --- all files --------------------------------------------------------------------------------------------------------


def test_a_full_project_says_so_at_the_start_of_an_upload_until_a_file_is_deleted(client, http):
    settings(http, max_stored_bytes=100)
    file = upload(client, b"x" * 60)
    with pytest.raises(errors.ClientError) as refused:
        upload(client, b"x" * 41)
    assert_full(refused.value.response)
    assert upload(client, b"x" * 40).size_bytes == 40
    client.files.delete(name=file.name)
    assert upload(client, b"x" * 60).size_bytes == 60
    assert stats(http)["rejected"] == {"upload_start: file_storage_bytes": 1}
    assert stats(http)["files"] == {"stored": 2, "bytes": 100}


def test_files_free_their_bytes_when_they_expire(http):
    settings(http, max_stored_bytes=100)
    store(http, b"x" * 100)
    advance(http, hours=47.9)
    assert_full(start_upload(http, 1))
    advance(http, hours=0.2)
    assert start_upload(http, 100).status_code == 200
    assert stats(http)["files"] == {"stored": 0, "bytes": 0}


def test_result_files_count_for_six_weeks_and_cannot_be_deleted(client, http):
    job = finished(client, submit(client, HUNDRED_TOKENS))
    result = client.files.get(name=job.dest.file_name)
    settings(http, max_stored_bytes=result.size_bytes + 50)
    for file in client.files.list():
        if file.source == "UPLOADED":
            client.files.delete(name=file.name)
    assert_full(start_upload(http, 51))
    assert start_upload(http, 50).status_code == 200
    with pytest.raises(errors.ClientError, match="cannot be more than 40 characters"):
        client.files.delete(name=result.name)
    advance(http, weeks=6)
    assert start_upload(http, 51).status_code == 200


def test_a_full_project_refuses_real_bytes_too(http):
    settings(http, max_stored_bytes=100)
    store(http, b"x" * 60)
    url = begun(http, 10)
    assert_full(send_chunk(http, url, b"x" * 41))
    assert stats(http)["rejected"] == {"upload: file_storage_bytes": 1}


def test_uploads_that_race_for_the_last_room_do_not_share_it(http):
    settings(http, max_stored_bytes=100)
    first, second = begun(http, 60), begun(http, 60)
    assert send_chunk(http, first, b"x" * 60).status_code == 200
    assert_full(send_chunk(http, second, b"x" * 60))
    assert stats(http)["files"] == {"stored": 1, "bytes": 60}


# --- names ------------------------------------------------------------------------------------------------------------


def test_uploads_that_race_for_a_name_do_not_share_it(http):
    first, second = begun(http, name="files/mine"), begun(http, name="files/mine")
    assert send_chunk(http, first, b"first").status_code == 200
    assert send_chunk(http, second, b"second").json()["error"]["status"] == "ALREADY_EXISTS"
    assert http.get("/v1/files/mine").json()["sizeBytes"] == "5"


def test_a_name_is_free_again_once_its_file_has_expired(client, http):
    upload(client, b"first", name="files/mine")
    advance(http, hours=48)
    assert upload(client, b"another", name="files/mine").size_bytes == 7


@pytest.mark.parametrize("headers", [{"x-goog-upload-offset": "7"}, {"x-goog-upload-offset": "-1"}, {}])
def test_a_chunk_must_say_where_it_begins(http, headers):
    url = begun(http)
    reply = http.post(url, content=b"x", headers={"x-goog-upload-command": "upload, finalize", **headers})
    assert reply.status_code == 400 and names(http) == []


def test_an_upload_cut_short_by_a_reset_is_not_found(http):
    url = begun(http)
    http.post("/admin/reset")
    assert send_chunk(http, url, b"x").status_code == 404


def test_a_create_from_a_file_that_was_refused_makes_nothing(http):
    settings(http, max_file_bytes=100)
    url = begun(http, name="files/mine")
    send_chunk(http, url, jsonl(HUNDRED_TOKENS))
    body = {"batch": {"inputConfig": {"fileName": "files/mine"}}}
    assert http.post("/v1/models/gemini-2.5-flash:batchGenerateContent", json=body).status_code == 404
    settings(http, max_file_bytes=1000)
    assert create(http, HUNDRED_TOKENS).status_code == 200
    assert stats(http)["requests"]["bought_total"] == 1
