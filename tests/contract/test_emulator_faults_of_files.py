"""Faults of uploads and downloads: bytes on the way."""

from sdk_calls import finished
from six_prompts import KEYS, lines, submit_all


def test_a_cut_download_looks_complete_to_a_careless_client(client, http, arm):
    job = finished(client, submit_all(client))
    whole = client.files.download(file=job.dest.file_name)
    arm("download_cut")
    reply = http.get(f"/v1/{job.dest.file_name}:download?alt=media")
    assert reply.status_code == 200
    assert "content-length" not in reply.headers and "transfer-encoding" not in reply.headers
    assert reply.content == whole[: len(whole) // 2]
    assert client.files.download(file=job.dest.file_name) == whole


def test_the_sdk_survives_a_503_on_a_chunk(client, http, arm):
    arm("upload_503")
    assert [line["key"] for line in lines(client)] == KEYS
    assert http.get("/admin/stats").json()["calls"]["POST upload"] == 3
