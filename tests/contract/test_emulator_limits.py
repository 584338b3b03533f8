"""What a project may have at once, and that a refusal leaves nothing behind."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from emulator_calls import (
    HELP_ONLY,
    HUNDRED_TOKENS,
    advance,
    create,
    create_inline,
    order,
    settings,
    stats,
    store,
    with_key,
)
from google.genai import errors
from sdk_calls import MODEL, jsonl, request_of, submit, upload

from gemini_batch.emulator.settings import MAX_INLINE_BYTES

OTHER_MODEL = "gemini-2.5-flash"


def assert_refused(call: Any) -> None:
    """With the recorded 429, and nothing in it that tells which limit was met."""
    with pytest.raises(errors.ClientError) as refused:
        call()
    error = refused.value
    assert (error.code, error.status, error.details["error"]["details"]) == (429, "RESOURCE_EXHAUSTED", HELP_ONLY)
    assert error.message.startswith("You exceeded your current quota")
    assert "retry-after" not in error.response.headers


def hundred_tokens(client: Any, model: str = MODEL) -> Any:
    return client.batches.create(model=model, src=upload(client, jsonl(HUNDRED_TOKENS)).name)


ENDS = {
    "cancelled": lambda client, http, job: client.batches.cancel(name=job.name),
    "deleted": lambda client, http, job: client.batches.delete(name=job.name),
    "ended": lambda client, http, job: advance(http, seconds=3600),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("limit", [{"max_live_jobs": 2}, {"max_enqueued_tokens": 200}])
def test_what_is_full_takes_another_job_once_one_of_them_has(client, http, limit, end):
    settings(http, job_seconds=3600, **limit)
    first, _ = hundred_tokens(client), hundred_tokens(client)
    assert_refused(lambda: hundred_tokens(client))
    ENDS[end](client, http, first)
    assert hundred_tokens(client).name


@pytest.mark.parametrize(
    ("limits", "fits"),
    [
        (100, {MODEL: True, OTHER_MODEL: True}),
        (99, {MODEL: False, OTHER_MODEL: False}),
        ("99", {MODEL: False, OTHER_MODEL: False}),
        ({MODEL: 99}, {MODEL: False, OTHER_MODEL: True}),
        ([f"{MODEL}=99"], {MODEL: False, OTHER_MODEL: True}),
        (["99", f"{MODEL}=100"], {MODEL: True, OTHER_MODEL: False}),
        ({"*": 99, MODEL: 100}, {MODEL: True, OTHER_MODEL: False}),
        ({}, {MODEL: True, OTHER_MODEL: True}),
    ],
)
def test_enqueued_tokens_are_limited_for_each_model_and_in_general(http, limits, fits):
    settings(http, job_seconds=3600, max_enqueued_tokens=limits)
    found = {model: create(http, HUNDRED_TOKENS, model=model).status_code == 200 for model in fits}
    assert found == fits


def test_models_do_not_share_their_enqueued_tokens(http):
    settings(http, job_seconds=3600, max_enqueued_tokens=100)
    codes = [create(http, HUNDRED_TOKENS, model=model).status_code for model in (MODEL, OTHER_MODEL, MODEL)]
    assert codes == [200, 200, 429]
    assert stats(http)["tokens"]["by_model"] == {
        model: {"live": 100, "live_max": 100} for model in (MODEL, OTHER_MODEL)
    }


def test_a_service_that_counts_otherwise_reaches_the_limit_sooner(http):
    settings(http, job_seconds=3600, max_enqueued_tokens=249, token_factor=2.5)
    assert create(http, HUNDRED_TOKENS).status_code == 429
    assert stats(http)["tokens"]["live"] == 0


@pytest.mark.parametrize(
    ("limit", "reason"),
    [({"max_live_jobs": 2}, "create: live_jobs"), ({"max_enqueued_tokens": 2 * 2000}, "create: enqueued_tokens")],
)
def test_creates_that_race_for_the_last_room_do_not_share_it(http, limit, reason):
    settings(http, job_seconds=3600, **limit)
    source = store(http, jsonl(*({"key": f"r{i}", "request": request_of("x")} for i in range(2000))))
    with ThreadPoolExecutor(6) as threads:
        replies = list(threads.map(lambda _: order(http, source["name"]).status_code, range(6)))
    found = stats(http)
    assert sorted(replies) == [200, 200, 429, 429, 429, 429]
    assert (found["creates"], found["jobs"]["live_max"], found["rejected"]) == (2, 2, {reason: 4})
    assert found["requests"]["bought_total"] == 2 * 2000


def test_creates_are_limited_in_any_twenty_four_hours_whatever_became_of_their_jobs(client, http):
    settings(http, max_creates_per_day=2)
    first = submit(client, HUNDRED_TOKENS)
    advance(http, hours=12)
    submit(client, HUNDRED_TOKENS)
    client.batches.delete(name=first.name)
    assert_refused(lambda: submit(client, HUNDRED_TOKENS))
    advance(http, hours=11.9)
    assert_refused(lambda: submit(client, HUNDRED_TOKENS))
    advance(http, hours=0.2)
    assert submit(client, HUNDRED_TOKENS).name
    assert_refused(lambda: submit(client, HUNDRED_TOKENS))
    advance(http, hours=12)
    assert submit(client, HUNDRED_TOKENS).name


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"max_live_jobs": 0}, "create: live_jobs"),
        ({"max_enqueued_tokens": 99}, "create: enqueued_tokens"),
        ({"max_creates_per_day": 0}, "create: creates_per_day"),
    ],
)
def test_a_refused_create_is_counted_by_its_reason_and_leaves_nothing(client, http, limit, reason):
    settings(http, **limit)
    source = upload(client, jsonl(HUNDRED_TOKENS))
    before = stats(http)
    assert_refused(lambda: client.batches.create(model=MODEL, src=source.name))
    after = stats(http)
    assert after["rejected"] == {reason: 1} and after["creates_rejected"] == 1
    assert list(client.batches.list()) == []
    for same in ("creates", "jobs", "tokens", "requests", "files", "usage"):
        assert after[same] == before[same]


def test_a_refused_create_does_not_use_up_a_fault_of_the_job_it_did_not_make(http):
    settings(http, max_enqueued_tokens=99)
    http.post("/admin/faults", json={"name": "job_failed"})
    assert create(http, HUNDRED_TOKENS).status_code == 429
    assert [fault["name"] for fault in http.get("/admin/faults").json()["armed"]] == ["job_failed"]


# --- inline -----------------------------------------------------------------------------------------------------------


def inline_body(size: int) -> bytes:
    """A create of one inline request, so many bytes long."""
    request = request_of("@")
    body = json.dumps({"batch": {"inputConfig": {"requests": {"requests": [{"request": request}]}}}}).encode()
    return body.replace(b"@", b"x" * (size - len(body) + 1))


@pytest.mark.parametrize("is_chunked", [False, True])
def test_inline_requests_of_more_than_twenty_megabytes_are_refused(http, is_chunked):
    body = inline_body(MAX_INLINE_BYTES + 1)
    content = iter([body]) if is_chunked else body
    reply = http.post(f"/v1/models/{MODEL}:batchGenerateContent", content=content)
    assert (reply.status_code, reply.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert str(MAX_INLINE_BYTES) in reply.json()["error"]["message"]
    found = stats(http)
    assert found["rejected"] == {"create: inline_bytes": 1} and found["requests"]["bought_total"] == 0


def test_inline_requests_of_twenty_megabytes_are_taken(http):
    reply = http.post(f"/v1/models/{MODEL}:batchGenerateContent", content=inline_body(MAX_INLINE_BYTES))
    assert reply.status_code == 200


# --- whose they are ---------------------------------------------------------------------------------------------------


@pytest.fixture
def of_one_project(url, http):
    settings(http, projects={"ours": ["one", "two"]}, job_seconds=3600)
    with with_key(url, "one") as one, with_key(url, "two") as two, with_key(url, "three") as other:
        yield one, two, other


def test_two_keys_of_a_project_share_jobs_and_files(of_one_project):
    one, two, other = of_one_project
    created, file = create(one, HUNDRED_TOKENS).json()["name"], store(one, b"{}", name="files/shared")["name"]
    assert two.get(f"/v1/{created}").status_code == 200 and two.get(f"/v1/{file}").status_code == 200
    assert [job["name"] for job in two.get("/v1/batches").json()["operations"]] == [created]
    assert file in [one["name"] for one in two.get("/v1/files").json()["files"]]
    assert other.get(f"/v1/{created}").status_code == 404 and other.get(f"/v1/{file}").status_code == 403
    assert other.get("/v1/batches").json() == {} and other.get("/v1/files").json() == {}
    assert two.post(f"/v1/{created}:cancel").status_code == 200
    assert one.get(f"/v1/{created}").json()["metadata"]["state"] == "BATCH_STATE_CANCELLED"


@pytest.mark.parametrize(
    "limit", [{"max_live_jobs": 1}, {"max_enqueued_tokens": 100}, {"max_creates_per_day": 1}, {"max_stored_bytes": 600}]
)
def test_two_keys_of_a_project_share_its_limits_and_no_one_elses(of_one_project, limit):
    one, two, other = of_one_project
    settings(one, **limit)
    assert create(one, HUNDRED_TOKENS).status_code == 200
    if "max_stored_bytes" in limit:
        with pytest.raises(AssertionError, match="file_storage_bytes"):
            store(two, jsonl(HUNDRED_TOKENS))
    else:
        assert create(two, HUNDRED_TOKENS).status_code == 429
    assert create(other, HUNDRED_TOKENS).status_code == 200


def test_another_projects_input_file_is_not_found_and_its_media_are_out_of_reach(of_one_project):
    one, two, other = of_one_project
    source, picture = store(one, jsonl(HUNDRED_TOKENS)), store(one, b"png", mimeType="image/png")
    look = {"contents": [{"parts": [{"fileData": {"fileUri": picture["uri"], "mimeType": "image/png"}}]}]}
    assert order(two, source["name"]).status_code == 200 and order(other, source["name"]).status_code == 404
    asked = [http.post(f"/v1/models/{MODEL}:generateContent", json=look).status_code for http in of_one_project]
    assert asked == [200, 200, 403]


def test_a_key_that_is_spelled_like_a_project_is_not_of_it(of_one_project, url):
    one, _, _ = of_one_project
    created = create(one, HUNDRED_TOKENS).json()["name"]
    with with_key(url, "ours") as other:
        assert other.get(f"/v1/{created}").status_code == 404


def test_where_keys_are_listed_no_other_is_valid(url, http):
    settings(http, api_keys=["k"])
    assert http.get("/v1/files").status_code == 200
    with with_key(url, "other") as other:
        reply = other.get("/v1/files")
    assert reply.status_code == 400
    assert reply.json()["error"]["message"] == "API key not valid. Please pass a valid API key."
    assert reply.json()["error"]["details"][0]["reason"] == "API_KEY_INVALID"
    assert stats(http)["rejected"] == {"file_list: key": 1}


@pytest.mark.parametrize(
    "path", ["files", "batches", "models", "files/x", "batches/x", "files/x:download", "models/gemini-2.5-flash"]
)
def test_without_a_key_there_is_no_answer(url, http, path):
    with with_key(url, "") as nobody:
        reply = nobody.get(f"/v1/{path}")
    assert (reply.status_code, reply.json()["error"]["status"]) == (403, "PERMISSION_DENIED")


def test_a_key_is_looked_at_before_anything_else_of_a_create(url, http):
    with with_key(url, "") as nobody:
        assert create_inline(nobody, {"bogus": 1}).status_code == 403
        assert nobody.post("/upload/v1/files", content=b"{").status_code == 403
    assert list(stats(http)["rejected"]) == ["create: no_key", "upload_start: no_key"]
