"""Faults of calls: what the SDK raises, and what the service has done meanwhile."""

from typing import Any

import pytest
from google.genai import errors
from sdk_calls import MODEL, TransportError
from six_prompts import submit_all


@pytest.mark.parametrize(("fault", "code"), [("create_503", 503), ("create_429", 429)])
def test_a_refused_create_makes_no_job(client, http, arm, fault, code):
    arm(fault)
    with pytest.raises(errors.APIError) as refused:
        submit_all(client)
    assert refused.value.code == code
    assert http.get("/admin/stats").json()["creates"] == 0
    assert http.get("/admin/stats").json()["creates_rejected"] == 1
    assert submit_all(client).name


def test_a_503_after_commit_leaves_a_job(client, http, arm):
    arm("create_503_after_commit")
    with pytest.raises(errors.ServerError):
        submit_all(client, "unclear")
    assert [job.display_name for job in client.batches.list()] == ["unclear"]
    assert http.get("/admin/stats").json()["creates"] == 1


def test_a_lost_reply_leaves_a_job_and_a_closed_connection(client, arm):
    arm("create_reply_lost")
    with pytest.raises(TransportError):
        submit_all(client, "unclear")
    assert [job.display_name for job in client.batches.list()] == ["unclear"]


def test_a_refused_create_does_not_use_up_a_fault_that_needs_a_job(client, arm):
    arm("create_reply_lost")
    with pytest.raises(errors.ClientError):
        client.batches.create(model=MODEL, src="files/absent")
    with pytest.raises(TransportError):
        submit_all(client)


@pytest.mark.parametrize("fault", ["get_500", "list_500"])
def test_a_500_passes(client, arm, fault):
    job = submit_all(client)
    arm(fault)

    def call() -> Any:
        return client.batches.get(name=job.name) if fault == "get_500" else list(client.batches.list())

    with pytest.raises(errors.ServerError):
        call()
    assert call()


# 429


def links_and_delays(error: errors.APIError) -> list[str]:
    return [detail["@type"].rpartition(".")[2] for detail in error.details["error"]["details"]]


@pytest.mark.parametrize("fault", ["generate_429", "any_429"])
def test_a_429_of_generate_content_names_the_quota_and_a_delay(client, arm, fault):
    arm(fault)
    with pytest.raises(errors.ClientError) as refused:
        client.models.generate_content(model=MODEL, contents="x")
    assert links_and_delays(refused.value) == ["QuotaFailure", "Help", "RetryInfo"]
    assert refused.value.details["error"]["details"][-1]["retryDelay"] == "57.238747106s"
    assert client.models.generate_content(model=MODEL, contents="x").text


@pytest.mark.parametrize("fault", ["list_429", "any_429"])
def test_a_429_of_anything_else_has_a_help_link_and_no_delay(client, arm, fault):
    arm(fault)
    with pytest.raises(errors.ClientError) as refused:
        list(client.batches.list())
    assert links_and_delays(refused.value) == ["Help"]
    assert "retry-after" not in refused.value.response.headers
    assert list(client.batches.list()) == []
