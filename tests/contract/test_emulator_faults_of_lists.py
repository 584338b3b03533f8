"""Faults of listing jobs: what a client that pages with the SDK believes there is."""

import pytest
from google.genai import errors
from sdk_calls import MODEL, finished
from six_prompts import submit_all, upload_all

NEWEST_FIRST = ["j4", "j3", "j2", "j1", "j0"]


@pytest.fixture
def listed(client):
    """Lists five jobs by display name, two on a page."""
    source = upload_all(client)
    for name in reversed(NEWEST_FIRST):
        client.batches.create(model=MODEL, src=source, config={"display_name": name})

    def listed(page_size=2):
        return [job.display_name for job in client.batches.list(config={"page_size": page_size})]

    assert listed() == NEWEST_FIRST
    return listed


def test_a_truncated_list_looks_complete(listed, arm):
    arm("list_truncated")
    assert listed() == ["j4", "j3"]
    assert listed() == NEWEST_FIRST


def test_only_a_page_with_more_to_come_can_be_truncated(listed, http, arm):
    arm("list_truncated")
    assert listed(page_size=5) == NEWEST_FIRST
    assert http.get("/admin/stats").json()["faults"] == {}
    assert listed() == ["j4", "j3"]


def test_a_repeated_page_hides_the_one_it_stands_for(listed, arm):
    arm("list_page_repeated")
    assert listed() == ["j4", "j3", "j4", "j3", "j0"]
    assert listed() == NEWEST_FIRST


def test_a_token_that_loops_brings_the_same_page_as_often_as_it_does(listed, arm):
    arm("list_token_loop", times=3)
    assert listed() == ["j4", "j3"] * 3 + NEWEST_FIRST
    assert listed() == NEWEST_FIRST


def test_a_token_that_loops_may_be_that_of_any_page(listed, arm):
    arm("list_token_loop", after=1, times=2)
    assert listed() == ["j4", "j3", "j2", "j1", "j2", "j1", "j2", "j1", "j0"]


def test_a_list_that_loops_for_ever_has_one_token(listed, http, arm):
    arm("list_token_loop", times="always")
    first = http.get("/v1/batches?pageSize=2").json()["nextPageToken"]
    tokens = [http.get(f"/v1/batches?pageSize=2&pageToken={first}").json()["nextPageToken"] for _ in range(3)]
    assert tokens == [first] * 3


def test_a_shuffled_page_is_in_another_order_and_holds_the_same(listed, arm):
    arm("list_shuffled", times=3)
    found = listed()
    assert [set(found[:2]), set(found[2:4]), found[4:]] == [{"j4", "j3"}, {"j2", "j1"}, ["j0"]]
    assert found == ["j3", "j4", "j1", "j2", "j0"]
    assert listed() == NEWEST_FIRST


def test_a_job_lags_in_lists_but_not_in_gets(client, http, arm):
    arm("list_lag", seconds=1000)
    job = submit_all(client)
    submit_all(client, "next")
    assert [one.display_name for one in client.batches.list()] == ["next"]
    assert client.batches.get(name=job.name).display_name == "j"
    http.post("/admin/clock", json={"advance_seconds": 900})
    assert len(list(client.batches.list())) == 1
    http.post("/admin/clock", json={"advance_seconds": 100})
    assert [one.display_name for one in client.batches.list()] == ["next", "j"]


def test_a_job_lags_in_gets_but_not_in_lists(client, http, arm):
    arm("get_lag", seconds=1000)
    job = submit_all(client)
    assert [one.name for one in client.batches.list()] == [job.name]
    with pytest.raises(errors.ClientError) as missed:
        client.batches.get(name=job.name)
    assert missed.value.code == 404
    http.post("/admin/clock", json={"advance_seconds": 1000})
    assert finished(client, job).name == job.name
