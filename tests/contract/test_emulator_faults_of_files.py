"""Faults of uploads and downloads: what arrives, what the SDK raises and what it takes for whole."""

import base64
import hashlib

import pytest
from google.genai import errors
from sdk_calls import BROKEN_OFF, MODEL, TransportError, finished, name_of, upload
from six_prompts import KEYS, lines, submit_all, upload_all

CHUNK_BYTES = 8 << 20
"""As the SDK cuts a file."""


@pytest.fixture
def hurried(monkeypatch):
    """The SDK sleeps a second before it sends a chunk again."""
    monkeypatch.setattr("google.genai._api_client.INITIAL_RETRY_DELAY", 0)


def chunks_sent(http) -> int:
    """Of one upload: the calls but for the start."""
    return http.get("/admin/stats").json()["calls"]["POST upload"] - 1


def stored(http) -> dict[str, int]:
    return http.get("/admin/stats").json()["files"]


# uploads


@pytest.mark.parametrize("code", [400, 401, 403, 404, 408, 429, 500, 503])
def test_the_sdk_sends_a_chunk_again_whatever_the_code_of_the_answer(client, http, arm, hurried, code):
    arm(f"upload_{code}", times=2)
    assert upload(client, b"seven b").size_bytes == 7
    assert chunks_sent(http) == 3
    assert stored(http) == {"stored": 1, "bytes": 7}


def test_the_sdk_gives_up_a_chunk_after_three_answers(client, http, arm, hurried):
    arm("upload_503", times=3)
    with pytest.raises(errors.ServerError) as refused:
        upload(client, b"x")
    assert refused.value.code == 503 and stored(http) == {"stored": 0, "bytes": 0}
    assert upload(client, b"x").size_bytes == 1


def test_a_chunk_whose_connection_closes_is_raised_and_nothing_is_stored(client, http, arm):
    arm("upload_reset")
    with pytest.raises(TransportError):
        upload(client, b"x")
    assert (chunks_sent(http), stored(http)) == (1, {"stored": 0, "bytes": 0})
    assert upload(client, b"x").size_bytes == 1


def test_a_chunk_that_hangs_ends_by_the_time_out_of_the_client(client, connect, http, arm):
    arm("upload_hang")
    with pytest.raises(TransportError) as gone:
        upload(connect(timeout=300), b"x")
    assert type(gone.value).__name__ == "ReadTimeout" and stored(http)["stored"] == 0
    assert upload(client, b"x").size_bytes == 1


@pytest.mark.parametrize("size", [6, CHUNK_BYTES + 6])
def test_a_chunk_whose_reply_has_no_status_is_sent_again_and_arrives_once(client, http, arm, hurried, size):
    arm("upload_status_missing")
    content = (b"abcdef" * (size // 6 + 1))[:size]
    file = upload(client, content)
    assert (file.size_bytes, chunks_sent(http)) == (size, 3 if size > CHUNK_BYTES else 2)
    assert stored(http) == {"stored": 1, "bytes": size}
    assert file.sha256_hash == upload(client, content).sha256_hash


def test_a_file_whose_last_status_never_comes_is_stored_and_yet_raised(client, http, arm, hurried):
    arm("upload_status_missing", times="always")
    with pytest.raises(ValueError, match="not finalized"):
        upload(client, b"x")
    assert (chunks_sent(http), stored(http)) == (3, {"stored": 1, "bytes": 1})


def test_a_chunk_whose_reply_is_lost_is_not_sent_again_and_the_file_is_there(client, http, arm):
    arm("upload_reply_lost")
    with pytest.raises(TransportError):
        upload(client, b"seven b")
    (file,) = client.files.list()
    assert (file.size_bytes, chunks_sent(http)) == (7, 1)
    assert upload(client, b"seven b").name != file.name
    assert stored(http) == {"stored": 2, "bytes": 14}


def test_a_first_chunk_whose_reply_is_lost_leaves_no_file(client, http, arm):
    arm("upload_reply_lost")
    with pytest.raises(TransportError):
        upload(client, bytes(CHUNK_BYTES + 1))
    assert stored(http) == {"stored": 0, "bytes": 0}


def test_the_sdk_survives_a_503_on_a_chunk_of_a_job(client, arm, hurried):
    arm("upload_503")
    assert [line["key"] for line in lines(client)] == KEYS


# files


def refused_create(client, source: str) -> errors.ClientError:
    with pytest.raises(errors.ClientError) as refused:
        client.batches.create(model=MODEL, src=source)
    return refused.value


@pytest.mark.parametrize(("given", "seconds"), [({}, 60), ({"seconds": 5000}, 5000)])
def test_a_file_is_processing_until_the_clock_has_passed(client, http, arm, given, seconds):
    arm("file_processing", **given)
    source = upload_all(client)
    http.post("/admin/clock", json={"advance_seconds": seconds / 2})
    assert client.files.get(name=source).state == "PROCESSING"
    refused = refused_create(client, source)
    assert (refused.code, refused.status) == (400, "FAILED_PRECONDITION")
    assert "not in an ACTIVE state" in refused.message
    http.post("/admin/clock", json={"advance_seconds": seconds / 2})
    assert client.files.get(name=source).state == "ACTIVE"
    assert client.batches.create(model=MODEL, src=source).name


def test_a_file_that_failed_says_so_and_cannot_be_used(client, http, arm):
    arm("file_failed")
    source = upload_all(client)
    file = client.files.get(name=source)
    assert (file.state, file.error.code) == ("FAILED", 13)
    assert refused_create(client, source).code == 400
    http.post("/admin/clock", json={"advance_seconds": 3600})
    assert client.files.get(name=source).state == "FAILED"
    assert submit_all(client).name


def test_a_file_may_fail_after_it_was_processed(client, http, arm):
    arm("file_processing", seconds=1000)
    arm("file_failed")
    source = upload_all(client)
    assert client.files.get(name=source).state == "PROCESSING"
    http.post("/admin/clock", json={"advance_seconds": 1000})
    assert client.files.get(name=source).state == "FAILED"


# downloads


@pytest.fixture
def result(client):
    """The name of a result file, and its bytes."""
    name = finished(client, submit_all(client)).dest.file_name
    return name, client.files.download(file=name)


@pytest.fixture(params=["memory", "disk"])
def download(request, client, tmp_path):
    """Downloads as the SDK can: to memory, or to a file."""

    def download(name: str) -> bytes:
        if request.param == "memory":
            return client.files.download(file=name)
        client.files.download(file=name, destination=str(tmp_path / "results"))
        return (tmp_path / "results").read_bytes()

    return download


@pytest.mark.parametrize("fault", ["download_cut", "download_cut_short"])
def test_half_a_file_looks_whole_where_nothing_tells_its_length(download, result, arm, fault):
    name, whole = result
    arm(fault)
    assert download(name) == whole[: len(whole) // 2]
    assert download(name) == whole


@pytest.mark.parametrize("fault", ["download_cut_length", "download_cut_chunked"])
def test_half_a_file_is_raised_where_its_end_is_told(download, result, arm, fault):
    name, whole = result
    arm(fault)
    with pytest.raises(TransportError) as cut:
        download(name)
    assert name_of(cut.value) == BROKEN_OFF
    assert download(name) == whole


def test_half_a_file_stays_on_disk_where_the_sdk_raises(client, result, arm, tmp_path):
    name, whole = result
    arm("download_cut_length")
    with pytest.raises(TransportError):
        client.files.download(file=name, destination=str(tmp_path / "results"))
    assert whole.startswith((tmp_path / "results").read_bytes())


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("download_cut", {"connection": "close"}),
        ("download_cut_length", {"content-length": "whole"}),
        ("download_cut_chunked", {"transfer-encoding": "chunked"}),
        ("download_cut_short", {"content-length": "half", "connection": "close"}),
    ],
)
def test_each_cut_tells_another_end(http, client, result, arm, fault, told):
    name, whole = result
    arm(fault)
    with http.stream("GET", f"/v1/{name}:download?alt=media") as reply:
        lengths = {str(len(whole)): "whole", str(len(whole) // 2): "half"}
        names = ("content-length", "transfer-encoding", "connection")
        found = {name: reply.headers[name] for name in names if name in reply.headers}
    assert reply.status_code == 200
    assert {name: lengths.get(value, value) for name, value in found.items()} == told


def hash_of(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).hexdigest().encode()).decode()


def test_a_flipped_bit_is_told_by_nothing_but_the_hash_of_the_file(client, download, result, arm):
    name, whole = result
    arm("download_flipped")
    found = download(name)
    assert len(found) == len(whole)
    ((before, after),) = [pair for pair in zip(whole, found, strict=True) if pair[0] != pair[1]]
    assert (before ^ after).bit_count() == 1
    assert hash_of(found) != client.files.get(name=name).sha256_hash == hash_of(whole)
    assert download(name) == whole


@pytest.mark.parametrize("fault", ["download_cut", "download_cut_length", "download_cut_chunked", "download_flipped"])
def test_a_long_download_is_spoiled_in_its_middle(client, arm, fault):
    """Longer than the pieces it is sent in."""
    arm("result_line_giant", times=1)
    name = finished(client, submit_all(client)).dest.file_name
    whole = client.files.download(file=name)
    assert len(whole) > CHUNK_BYTES
    arm(fault)
    if fault in ("download_cut_length", "download_cut_chunked"):
        with pytest.raises(TransportError):
            client.files.download(file=name)
    else:
        found = client.files.download(file=name)
        half = len(whole) // 2
        assert found[:half] == whole[:half] and len(found) == (half if fault == "download_cut" else len(whole))
    assert client.files.download(file=name) == whole
