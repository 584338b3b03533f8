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
