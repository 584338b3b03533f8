"""The words of faults, whatever the fault."""

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.genai import errors
from sdk_calls import MODEL, Client, finished
from six_prompts import lines, lines_of, submit_all

from gemini_batch.emulator.faults import FAULTS


def outcome(call: Callable[[], Any]) -> int:
    try:
        call()
    except errors.APIError as e:
        return int(e.code)
    return 200


def lists(client: Client, count: int) -> list[int]:
    """What so many calls of one kind are answered with."""
    return [outcome(lambda: list(client.batches.list())) for _ in range(count)]


def test_every_fault_is_met_in_some_test():
    """What a test of faults names it arms, and `arm` sees to it that it happens."""
    files = Path(__file__).parent.glob("test_emulator_faults_of_*.py")
    said = {
        node.value for file in files for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)
    }
    assert FAULTS.keys() - said == set()


# armed and disarmed


def test_an_unknown_fault_is_refused_with_the_known_names(http):
    reply = http.post("/admin/faults", json={"name": "rain"})
    assert reply.status_code == 400
    message = reply.json()["error"]["message"]
    assert "'rain'" in message and all(name in message for name in FAULTS)


def test_several_faults_are_armed_together_or_not_at_all(client, http):
    reply = http.post("/admin/faults", json={"faults": [{"name": "list_503"}, {"name": "rain"}]})
    assert reply.status_code == 400 and http.get("/admin/faults").json() == {"armed": []}
    http.post("/admin/faults", json={"faults": [{"name": "list_503"}, {"name": "list_429"}]})
    assert lists(client, 3) == [503, 429, 200]


def test_what_is_armed_shows_what_is_left_of_it(client, http, arm):
    arm("list_503", times=3, after=2)
    http.post("/admin/faults", json={"name": "get_503", "times": "always", "job": "j"})
    assert lists(client, 3) == [200, 200, 503]
    assert http.get("/admin/faults").json()["armed"] == [
        {"name": "list_503", "times": 2, "after": 0},
        {"name": "get_503", "times": "always", "after": 0, "job": "j"},
    ]


def test_clearing_disarms_all(client, http):
    http.post("/admin/faults", json={"faults": [{"name": "list_503"}, {"name": "create_500", "times": 5}]})
    http.delete("/admin/faults")
    assert lists(client, 1) == [200] and submit_all(client).name


def test_clearing_by_name_leaves_the_others(client, http, arm):
    http.post("/admin/faults", json={"name": "list_503", "times": "always"})
    arm("list_429")
    http.delete("/admin/faults?name=list_503")
    assert lists(client, 2) == [429, 200]


def test_a_name_that_no_fault_has_clears_nothing_and_is_refused(client, http, arm):
    arm("list_503")
    assert http.delete("/admin/faults?name=list_5O3").status_code == 400
    assert lists(client, 2) == [503, 200]


def test_a_reset_disarms(client, http):
    http.post("/admin/faults", json={"name": "list_503"})
    http.post("/admin/reset")
    assert lists(client, 1) == [200]


# when


def test_a_fault_happens_as_often_as_it_is_told_and_to_the_next_call_not(client, arm):
    arm("list_503", times=2)
    assert lists(client, 4) == [503, 503, 200, 200]


def test_a_fault_may_skip_some_calls_first(client, arm):
    arm("list_503", after=2)
    assert lists(client, 4) == [200, 200, 503, 200]


def test_a_fault_may_happen_always(client, http, arm):
    arm("list_503", times="always")
    assert lists(client, 20) == [503] * 20
    http.delete("/admin/faults?name=list_503")
    assert lists(client, 1) == [200]


def test_a_fault_may_happen_to_a_share_and_to_the_same_calls_again_after_a_reset(client, http, arm):
    seen = []
    for _ in range(2):
        http.post("/admin/reset")
        arm("list_503", rate=0.4)
        seen.append(lists(client, 50))
    assert seen[0] == seen[1]
    assert 10 <= seen[0].count(503) <= 30


def test_a_share_may_be_limited(client, arm):
    arm("list_503", rate=0.4, times=2)
    assert lists(client, 30).count(503) == 2


def test_a_fault_may_last_some_time_of_the_service_s_clock(client, http, arm):
    arm("list_503", lasts_seconds=1000)
    assert lists(client, 5) == [503] * 5
    http.post("/admin/clock", json={"advance_seconds": 900})
    assert lists(client, 1) == [503]
    http.post("/admin/clock", json={"advance_seconds": 100})
    assert lists(client, 1) == [200]
    assert http.get("/admin/faults").json() == {"armed": []}


def test_several_faults_hold_at_once(client, http, arm):
    arm("list_lag", seconds=1000)
    arm("job_failed")
    arm("result_line_error")
    arm("get_429")
    job = submit_all(client)
    assert list(client.batches.list()) == []
    assert outcome(lambda: client.batches.get(name=job.name)) == 429
    assert finished(client, job).state == "JOB_STATE_FAILED"


# narrowed


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


@pytest.mark.parametrize(
    ("narrowed", "left"),
    [
        ({"key": "r3"}, ["r0", "r1", "r2", "r4", "r5"]),
        ({"key": "r[45]", "times": 2}, ["r0", "r1", "r2", "r3"]),
        ({"row": 2}, ["r0", "r1", "r3", "r4", "r5"]),
        ({"key": "r[1-4]", "after": 1, "times": "always"}, ["r0", "r1", "r5"]),
        ({"job": "j", "model": MODEL, "row": 0}, ["r1", "r2", "r3", "r4", "r5"]),
        ({"times": "always"}, []),
    ],
)
def test_lines_are_known_by_key_and_row(client, arm, narrowed, left):
    arm("result_line_missing", **narrowed)
    found = client.files.download(file=finished(client, submit_all(client)).dest.file_name)
    assert [json.loads(line)["key"] for line in found.splitlines()] == left


def test_a_fault_of_a_line_waits_for_the_job_that_has_the_line(client, http, arm):
    arm("result_line_error", key="r3", job="second")
    assert [line.get("error") for line in lines(client)] == [None] * 6
    assert http.get("/admin/stats").json()["faults"] == {}
    found = lines_of(client, finished(client, submit_all(client, "second")))
    assert ["error" in line for line in found] == [False, False, False, True, False, False]


def test_a_share_of_lines_is_the_same_share_again(client, http, arm):
    seen = []
    for _ in range(2):
        http.post("/admin/reset")
        arm("result_line_null", rate=0.5)
        seen.append([line["response"] is None for line in lines(client) + lines(client)])
    assert seen[0] == seen[1] and 0 < sum(seen[0]) < 12


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
