"""The words of faults, whatever the fault."""

from collections.abc import Callable
from typing import Any

import pytest
from google.genai import errors
from sdk_calls import MODEL, finished
from six_prompts import submit_all

from gemini_batch.emulator.faults import FAULTS


def test_an_unknown_fault_is_refused_with_the_known_names(http):
    reply = http.post("/admin/faults", json={"name": "rain"})
    assert reply.status_code == 400
    message = reply.json()["error"]["message"]
    assert "'rain'" in message and all(name in message for name in FAULTS)


def test_clearing_disarms(client, http):
    http.post("/admin/faults", json={"name": "create_500", "times": 5})
    http.delete("/admin/faults")
    assert submit_all(client).name


# narrowed


def outcome(call: Callable[[], Any]) -> int:
    try:
        call()
    except errors.APIError as e:
        return int(e.code)
    return 200


@pytest.fixture
def two_jobs(client, http):
    """A finished job of each of two models."""
    models = {"flash": MODEL, "pro": "gemini-3.1-pro-preview"}
    return [finished(client, submit_all(client, name, model)) for name, model in models.items()]


@pytest.mark.parametrize("narrowed", [{"job": "pr*"}, {"model": "*-pro-*"}, {"job": "pro", "model": "gemini-3*"}])
@pytest.mark.parametrize("call", ["get", "cancel", "delete", "download"])
def test_a_call_about_a_job_is_known_by_the_name_and_model_of_the_job(client, arm, two_jobs, call, narrowed):
    arm(f"{call}_503", **narrowed)

    def tried(job: Any) -> int:
        if call == "download":
            return outcome(lambda: client.files.download(file=job.dest.file_name))
        return outcome(lambda: getattr(client.batches, call)(name=job.name))

    flash, pro = two_jobs
    assert [tried(flash), tried(pro), tried(pro)] == [200, 503, 200]


@pytest.mark.parametrize("narrowed", [{"job": "pro"}, {"model": "*-pro-*"}])
def test_the_create_of_another_job_meets_no_fault(client, arm, narrowed):
    arm("create_429", **narrowed)

    def tried(name: str, model: str) -> int:
        return outcome(lambda: submit_all(client, name, model))

    pro = ("pro", "gemini-3.1-pro-preview")
    assert [tried("flash", MODEL), tried(*pro), tried(*pro)] == [200, 429, 200]


# counted


def test_each_time_that_a_fault_happens_counts_one_however_long_it_lasts(client, http, arm):
    arm("get_503", times=2)
    arm("list_lag", seconds=90)
    arm("result_line_error", times=3)
    job = submit_all(client)
    for _ in range(2):
        with pytest.raises(errors.ServerError):
            client.batches.get(name=job.name)
    assert http.get("/admin/stats").json()["faults"] == {"get_503": 2, "list_lag": 1, "result_line_error": 3}
