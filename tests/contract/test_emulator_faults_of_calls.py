"""Faults of calls: what the SDK raises, and what the service has done meanwhile."""

from typing import Any, NamedTuple

import pytest
from google.genai import errors
from sdk_calls import BROKEN_OFF, MODEL, TransportError, finished, name_of, request_of, upload
from six_prompts import submit_all, upload_all

from gemini_batch.emulator.faults import ANSWERS, CALLS

STATUSES = {
    "400": "INVALID_ARGUMENT",
    "401": "UNAUTHENTICATED",
    "403": "PERMISSION_DENIED",
    "404": "NOT_FOUND",
    "408": "CANCELLED",
    "429": "RESOURCE_EXHAUSTED",
    "500": "INTERNAL",
    "503": "UNAVAILABLE",
}

MADE = {
    "upload_start": lambda client, job: upload(client, b"x").size_bytes == 1,
    "file_get": lambda client, job: client.files.get(name=job.source).state == "ACTIVE",
    "file_list": lambda client, job: len(list(client.files.list())) == 2,
    "file_delete": lambda client, job: client.files.delete(name=job.source) is not None,
    "download": lambda client, job: client.files.download(file=job.results).count(b"\n") == 6,
    "create": lambda client, job: bool(client.batches.create(model=MODEL, src=job.source).name),
    "get": lambda client, job: client.batches.get(name=job.name).state == "JOB_STATE_SUCCEEDED",
    "list": lambda client, job: [one.name for one in client.batches.list()] == [job.name],
    "cancel": lambda client, job: client.batches.cancel(name=job.name) is None,
    "delete": lambda client, job: client.batches.delete(name=job.name) is not None,
    "generate": lambda client, job: bool(client.models.generate_content(model=MODEL, contents="x").text),
    "count_tokens": lambda client, job: client.models.count_tokens(model=MODEL, contents="x").total_tokens > 0,
    "model_get": lambda client, job: client.models.get(model=MODEL).name == f"models/{MODEL}",
    "model_list": lambda client, job: f"models/{MODEL}" in [model.name for model in client.models.list()],
}
"""Each call, and whether what came back of it is right. Uploading a chunk is told among the faults of files."""


class Job(NamedTuple):
    name: str
    source: str
    results: str


@pytest.fixture
def job(client):
    source = upload_all(client)
    made = finished(client, client.batches.create(model=MODEL, src=source))
    return Job(made.name, source, made.dest.file_name)


def creates(http) -> int:
    return http.get("/admin/stats").json()["creates"]


def test_every_call_and_answer_is_tried():
    assert {*MADE, "upload"} == {*CALLS}
    assert {*STATUSES, "reset", "hang"} == {*ANSWERS}


@pytest.mark.parametrize("call", MADE)
def test_each_code_of_an_answer_is_raised_and_the_next_call_is_right(client, arm, job, call):
    for code, status in STATUSES.items():
        arm(f"{call}_{code}")
        with pytest.raises(errors.APIError) as refused:
            MADE[call](client, job)
        assert (refused.value.code, refused.value.status) == (int(code), status)
        assert isinstance(refused.value, errors.ServerError if code >= "500" else errors.ClientError)
    assert MADE[call](client, job)


@pytest.mark.parametrize("call", MADE)
def test_a_connection_that_closes_is_raised_and_the_next_call_is_right(client, arm, job, call):
    arm(f"{call}_reset")
    with pytest.raises(TransportError):
        MADE[call](client, job)
    assert MADE[call](client, job)


@pytest.mark.parametrize("call", MADE)
def test_any_is_whatever_call_comes_next(client, arm, job, call):
    arm("any_503")
    arm("any_reset")
    with pytest.raises(errors.ServerError):
        MADE[call](client, job)
    with pytest.raises(TransportError):
        MADE[call](client, job)
    assert MADE[call](client, job)


@pytest.fixture(scope="module")
def impatient(connect):
    """A client that gives up after a moment."""
    return connect(timeout=300)


@pytest.mark.parametrize("call", ["upload_start", "file_get", "download", "create", "get", "list", "generate"])
def test_a_call_that_hangs_ends_by_the_time_out_of_the_client(client, impatient, http, arm, job, call):
    arm(f"{call}_hang")
    with pytest.raises(TransportError) as gone:
        MADE[call](impatient, job)
    assert type(gone.value).__name__ == "ReadTimeout"
    assert creates(http) == 1
    assert MADE[call](client, job)


def test_a_call_that_hangs_for_less_than_the_time_out_ends_by_a_closed_connection(client, arm):
    arm("list_hang", seconds=0.05)
    with pytest.raises(TransportError) as gone:
        list(client.batches.list())
    assert name_of(gone.value) == BROKEN_OFF
    assert list(client.batches.list()) == []


def test_a_cancel_that_is_refused_cancels_nothing(client, http, arm):
    http.post("/admin/settings", json={"job_seconds": 1000})
    job = submit_all(client)
    arm("cancel_503")
    with pytest.raises(errors.ServerError):
        client.batches.cancel(name=job.name)
    assert not client.batches.get(name=job.name).done
    client.batches.cancel(name=job.name)
    assert client.batches.get(name=job.name).state == "JOB_STATE_CANCELLED"


# creating


@pytest.fixture
def refused(client, http):
    """Creates a job of r0 to r5 that must be refused, and gives the words."""

    def words(name: str = "j") -> str:
        before = http.get("/admin/stats").json()["creates_rejected"]
        with pytest.raises(errors.ClientError) as error:
            submit_all(client, name)
        assert (error.value.code, error.value.status) == (400, "INVALID_ARGUMENT")
        stats = http.get("/admin/stats").json()
        assert (stats["creates"], stats["creates_rejected"]) == (0, before + 1)
        assert stats["requests"]["bought_total"] == 0
        return str(error.value.message)

    return words


@pytest.mark.parametrize("narrowed", [{"key": "r[24]"}, {"row": 2}, {"key": "r2", "row": 2, "job": "j*"}])
def test_a_line_that_is_refused_is_named_as_often_as_it_is_sent(refused, arm, narrowed):
    arm("create_line_refused", **narrowed)
    for _ in range(3):
        assert refused() == "Error on line 3: invalid JSON, near column 15: no such field: 'x'"


def test_a_line_may_be_refused_without_a_word_of_where(refused, arm):
    arm("create_line_refused_unnamed", key="r4")
    assert [refused(), refused()] == ["Request contains an invalid argument."] * 2


def test_a_create_that_does_not_send_the_refused_line_is_taken(client, http, arm, refused):
    arm("create_line_refused", key="r9")
    arm("create_line_refused_unnamed", key="r1", job="other*")
    assert submit_all(client).name
    http.post("/admin/reset")
    arm("create_line_refused", key="r9")
    arm("create_line_refused_unnamed", key="r1", job="other*")
    refused("other job")
    inline = [request_of("x") | {"metadata": {"key": "r9"}}]
    with pytest.raises(errors.ClientError, match="no such field: 'x'"):
        client.batches.create(model=MODEL, src=inline)


def test_a_refused_line_that_is_not_narrowed_is_the_first_whatever_it_holds(client, arm, refused):
    arm("create_line_refused", times=2, after=1)
    assert [refused()[:15], refused()[:15]] == ["Error on line 2", "Error on line 1"]
    assert submit_all(client).name


@pytest.mark.parametrize("fault", ["create_400", "create_429", "create_503", "create_reset"])
def test_a_refused_create_makes_no_job(client, http, arm, fault):
    arm(fault)
    with pytest.raises((errors.APIError, TransportError)):
        submit_all(client)
    assert creates(http) == 0
    assert http.get("/admin/stats").json()["creates_rejected"] == (fault != "create_reset")
    assert http.get("/admin/stats").json()["requests"]["bought_total"] == 0
    assert submit_all(client).name


@pytest.mark.parametrize(
    ("fault", "error", "named"),
    [
        ("create_500_after_commit", errors.ServerError, "ServerError"),
        ("create_503_after_commit", errors.ServerError, "ServerError"),
        ("create_reply_lost", TransportError, BROKEN_OFF),
        ("create_hangs_after_commit", TransportError, "ReadTimeout"),
    ],
)
def test_a_create_answered_badly_leaves_a_job_that_a_list_shows(client, http, arm, fault, error, named):
    arm(fault)
    config = {"display_name": "unclear", "http_options": {"timeout": 1500 if "hangs" in fault else None}}
    source = upload_all(client)
    with pytest.raises(error) as unclear:
        client.batches.create(model=MODEL, src=source, config=config)
    assert name_of(unclear.value) == named
    (job,) = client.batches.list()
    assert job.display_name == "unclear" and creates(http) == 1
    assert finished(client, job).state == "JOB_STATE_SUCCEEDED"
    assert submit_all(client, "next").display_name == "next"


def test_a_create_that_hangs_after_its_commit_may_hang_for_less_than_the_time_out(client, http, arm):
    arm("create_hangs_after_commit", seconds=0.05)
    with pytest.raises(TransportError):
        submit_all(client)
    assert creates(http) == 1


def test_the_sdk_s_own_retry_buys_a_second_time(client, http, arm):
    """Why nobody should switch it on for a create."""
    arm("create_503_after_commit")
    retry = {"attempts": 2, "initial_delay": 0.01, "max_delay": 0.01}
    config = {"http_options": {"retry_options": retry}}
    assert client.batches.create(model=MODEL, src=upload_all(client), config=config).name
    assert creates(http) == 2
    assert http.get("/admin/stats").json()["requests"] == {
        "bought_total": 12,
        "distinct": 6,
        "bought_more_than_once": 6,
    }


def test_a_refused_create_does_not_use_up_a_fault_that_needs_a_job(client, arm):
    arm("create_reply_lost")
    with pytest.raises(errors.ClientError):
        client.batches.create(model=MODEL, src="files/absent")
    with pytest.raises(TransportError):
        submit_all(client)


# 429


def kinds_of_details(error: errors.APIError) -> list[str]:
    details: list[dict[str, Any]] = error.details["error"]["details"]
    return [detail["@type"].rpartition(".")[2] for detail in details]


@pytest.mark.parametrize("fault", ["generate_429", "any_429"])
def test_a_429_of_generate_content_names_the_quota_and_a_delay(client, arm, fault):
    arm(fault)
    with pytest.raises(errors.ClientError) as refused:
        client.models.generate_content(model=MODEL, contents="x")
    assert kinds_of_details(refused.value) == ["QuotaFailure", "Help", "RetryInfo"]
    assert refused.value.details["error"]["details"][-1]["retryDelay"] == "57.238747106s"


@pytest.mark.parametrize("fault", ["list_429", "any_429"])
def test_a_429_of_anything_else_has_a_help_link_and_no_delay(client, arm, fault):
    arm(fault)
    with pytest.raises(errors.ClientError) as refused:
        list(client.batches.list())
    assert kinds_of_details(refused.value) == ["Help"]
    assert "retry-after" not in refused.value.response.headers
