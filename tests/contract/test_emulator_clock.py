"""Everything that takes hours, in a moment: the service's own clock, its speed and its steps."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from statistics import fmean, median
from typing import Any

import httpx2
import pytest
from emulator_calls import HUNDRED_TOKENS, advance, create, create_inline, order, settings, shown, stats, store
from google.genai import errors
from sdk_calls import MODEL, finished, jsonl, request_of, submit, upload

from gemini_batch.emulator.dice import Dice, fingerprint
from gemini_batch.emulator.settings import make_settings

SECOND = timedelta(seconds=1)


def now(http: httpx2.Client) -> datetime:
    return datetime.fromisoformat(http.get("/admin/clock").json()["now"][:26]).replace(tzinfo=UTC)


def state(http: httpx2.Client, created: httpx2.Response) -> str:
    return str(shown(http, created)["metadata"]["state"]).removeprefix("BATCH_STATE_")


def moment(job: Any, name: str) -> datetime:
    return datetime.fromisoformat(job["metadata"][name][:26]).replace(tzinfo=UTC)


def lines(http: httpx2.Client, created: httpx2.Response) -> list[Any]:
    body = http.get(f"/v1/{shown(http, created)['response']['responsesFile']}:download?alt=media").content
    return [json.loads(line) for line in body.split(b"\n") if line]


# --- steps and speed --------------------------------------------------------------------------------------------------


def test_a_step_moves_the_clock_and_the_date_of_every_reply(http):
    before = now(http)
    reply = http.post("/admin/clock", json={"advance_seconds": 90_000.5})
    assert timedelta(seconds=90_000.5) <= now(http) - before < timedelta(seconds=90_060)
    for path in ("/v1/files", "/v1/files/absent", "/admin/stats", "/nowhere"):
        dated = parsedate_to_datetime(http.get(path).headers["date"])
        assert abs(dated - now(http)) < 30 * SECOND
    assert reply.json()["speed"] == 1.0


def test_a_reset_sets_the_clock_and_its_speed_back(http):
    real = datetime.now(UTC)
    settings(http, speed=1000)
    advance(http, days=400)
    http.post("/admin/reset")
    assert abs(now(http) - real) < timedelta(minutes=1)
    assert http.get("/admin/clock").json()["speed"] == 1.0


def test_at_another_speed_hours_pass_in_seconds(client, http):
    settings(http, job_seconds=7200)
    job = submit(client, HUNDRED_TOKENS)
    settings(http, speed=36_000)
    done = finished(client, job)
    settings(http, speed=1)
    assert done.end_time - done.create_time == timedelta(hours=2)
    assert now(http) - done.create_time.replace(tzinfo=UTC) >= timedelta(hours=2)


def test_a_change_of_speed_is_no_step(http):
    before = now(http)
    for speed in (100, 0.001, 1):
        settings(http, speed=speed)
    assert timedelta(0) <= now(http) - before < timedelta(hours=1)


# --- files ------------------------------------------------------------------------------------------------------------


def test_an_upload_lives_for_forty_eight_hours(client, http):
    file = upload(client, jsonl(HUNDRED_TOKENS))
    advance(http, hours=47.9)
    assert client.files.get(name=file.name).name == file.name
    advance(http, hours=0.2)
    with pytest.raises(errors.ClientError) as gone:
        client.files.get(name=file.name)
    assert gone.value.code == 403 and list(client.files.list()) == []
    with pytest.raises(errors.ClientError) as gone:
        client.batches.create(model=MODEL, src=file.name)
    assert gone.value.code == 404


def test_results_live_for_six_weeks_counted_from_the_end_of_their_job(client, http):
    settings(http, job_seconds=36_000)
    job = submit(client, HUNDRED_TOKENS)
    advance(http, hours=10.1)
    name = finished(client, job).dest.file_name
    file = client.files.get(name=name)
    assert file.expiration_time - file.create_time == timedelta(weeks=6)
    advance(http, weeks=6, hours=-0.2)
    assert client.files.download(file=name)
    advance(http, hours=0.2)
    with pytest.raises(errors.ClientError) as gone:
        client.files.download(file=name)
    assert gone.value.code == 403


def test_results_are_in_no_list_and_out_of_reach_before_their_job_has_ended(client, http):
    settings(http, queue_seconds=0, run_seconds=3600)
    job = submit(client, HUNDRED_TOKENS)
    result = "files/batch-" + job.name.removeprefix("batches/")
    advance(http, seconds=3000)
    assert client.batches.get(name=job.name).state == "JOB_STATE_RUNNING"
    assert {file.source.name for file in client.files.list()} == {"UPLOADED"}
    for call in (lambda: client.files.get(name=result), lambda: client.files.download(file=result)):
        with pytest.raises(errors.ClientError) as unknown:
            call()
        assert unknown.value.code == 403
    advance(http, seconds=600)
    assert client.batches.get(name=job.name).dest.file_name == result
    assert client.files.get(name=result).create_time == client.batches.get(name=job.name).end_time


def media_line(key: str, uri: str) -> Any:
    media = {"fileData": {"fileUri": uri, "mimeType": "image/png"}}
    return {"key": key, "request": {"contents": [{"parts": [{"text": "look"}, media]}]}}


@pytest.mark.parametrize("steps", [[51], [11, 40], [10, 2, 39]])
def test_a_line_whose_media_expire_before_its_job_starts_fails_alone(http, steps):
    """However the clock gets there: what counts is whether they live when the job starts, not when one looks."""
    old = store(http, b"old", mimeType="image/png")["uri"]
    advance(http, hours=38)
    young = store(http, b"young", mimeType="image/png")["uri"]
    settings(http, queue_seconds=11 * 3600, run_seconds=60)
    created = create(http, media_line("old", old), media_line("young", young))
    for hours in steps:
        advance(http, hours=hours)
    lost, kept = lines(http, created)
    file_id = old.rpartition("/")[2]
    assert lost["error"] == {
        "code": 7,
        "message": f"You do not have permission to access the File {file_id} or it may not exist.",
    }
    assert kept["response"]["candidates"]
    stats = shown(http, created)["metadata"]["batchStats"]
    assert stats == {"requestCount": "2", "successfulRequestCount": "1", "failedRequestCount": "1"}


# --- jobs -------------------------------------------------------------------------------------------------------------


def test_a_job_is_pending_then_running_then_done_by_the_clock(client, http):
    settings(http, queue_seconds=600, run_seconds=1200)
    job = submit(client, HUNDRED_TOKENS)
    states = []
    for seconds in (0, 300, 600, 600, 600):
        advance(http, seconds=seconds)
        states.append(client.batches.get(name=job.name).state.name.removeprefix("JOB_STATE_"))
    assert states == ["PENDING", "PENDING", "RUNNING", "RUNNING", "SUCCEEDED"]
    ended = client.batches.get(name=job.name)
    assert ended.end_time - ended.create_time == timedelta(seconds=1800)
    advance(http, hours=1)
    assert client.batches.get(name=job.name).end_time == ended.end_time


@pytest.mark.parametrize(
    ("times", "last"),
    [
        ({"queue_seconds": 49 * 3600, "run_seconds": 0}, "PENDING"),
        ({"queue_seconds": 0, "run_seconds": 49 * 3600}, "RUNNING"),
        ({"queue_seconds": 40 * 3600, "run_seconds": 9 * 3600}, "RUNNING"),
    ],
)
def test_a_job_that_is_not_done_after_forty_eight_hours_has_expired_without_output(http, times, last):
    settings(http, **times)
    created, inline = create(http, HUNDRED_TOKENS), create_inline(http, request_of("x"))
    advance(http, hours=47.9)
    assert [state(http, one) for one in (created, inline)] == [last, last]
    advance(http, hours=0.2)
    for one in (created, inline):
        job = shown(http, one)
        assert (job["metadata"]["state"], job["done"], job["error"]["code"]) == ("BATCH_STATE_EXPIRED", True, 4)
        assert "response" not in job and "output" not in job["metadata"]
        assert moment(job, "endTime") - moment(job, "createTime") == timedelta(hours=48)
    assert http.get("/v1/files").json() == {} and stats(http)["jobs"]["live"] == 0
    assert stats(http)["usage"]["cost_usd"] == 0


def test_a_running_job_shows_how_far_it_is(http):
    settings(http, queue_seconds=0, run_seconds=100_000)
    created = create(http, *({"key": f"r{i}", "request": request_of("x") if i % 5 else {}} for i in range(50)))
    seen = []
    for _ in range(4):
        advance(http, seconds=25_000)
        counts = {name: int(count) for name, count in shown(http, created)["metadata"]["batchStats"].items()}
        assert sum(counts.values()) == 2 * 50
        seen.append((counts.get("successfulRequestCount"), counts.get("failedRequestCount")))
    assert seen == [(10, 2), (20, 5), (30, 7), (40, 10)]


def test_a_job_that_waits_shows_all_of_its_requests_pending_and_no_end(http):
    settings(http, queue_seconds=3600)
    job = shown(http, create(http, HUNDRED_TOKENS))
    assert job["metadata"]["batchStats"] == {"requestCount": "1", "pendingRequestCount": "1"}
    assert "endTime" not in job["metadata"] and job["metadata"]["updateTime"] == job["metadata"]["createTime"]


@pytest.mark.parametrize("times", [{"queue_seconds": 3600}, {"run_seconds": 3600}, {"run_seconds": 100 * 3600}])
def test_a_shorter_time_ends_live_jobs_at_once_with_all_their_results(http, times):
    settings(http, **times)
    created, inline = create(http, HUNDRED_TOKENS), create_inline(http, request_of("x"))
    advance(http, seconds=60)
    settings(http, job_seconds=30)
    advance(http, seconds=0)
    assert [line["key"] for line in lines(http, created)] == ["a"]
    job = shown(http, inline)
    assert len(job["response"]["inlinedResponses"]["inlinedResponses"]) == 1
    assert moment(job, "endTime") - moment(job, "createTime") <= timedelta(seconds=60)


def test_a_longer_time_is_for_later_jobs_only(http):
    settings(http, job_seconds=60)
    created = create(http, HUNDRED_TOKENS)
    settings(http, job_seconds=6000)
    advance(http, seconds=60)
    assert state(http, created) == "SUCCEEDED"


def test_a_job_deleted_while_it_runs_publishes_nothing_later(http):
    settings(http, queue_seconds=0, run_seconds=3600)
    created = create(http, HUNDRED_TOKENS)
    advance(http, seconds=60)
    http.delete(f"/v1/{created.json()['name']}")
    advance(http, hours=2)
    assert [file["source"] for file in http.get("/v1/files").json()["files"]] == ["UPLOADED"]


def test_a_job_cancelled_while_it_runs_publishes_nothing_later(http):
    settings(http, queue_seconds=0, run_seconds=3600)
    created = create(http, HUNDRED_TOKENS)
    advance(http, seconds=60)
    http.post(f"/v1/{created.json()['name']}:cancel")
    advance(http, hours=2)
    assert "response" not in shown(http, created)
    assert [file["source"] for file in http.get("/v1/files").json()["files"]] == ["UPLOADED"]


# --- drawn times ------------------------------------------------------------------------------------------------------


def drawn(http: httpx2.Client, jobs: int, **times: Any) -> list[timedelta]:
    """From create to end."""
    http.post("/admin/reset")
    settings(http, **times)
    source = store(http, jsonl(HUNDRED_TOKENS))["name"]
    created = [order(http, source) for _ in range(jobs)]
    advance(http, days=2)
    ended = [shown(http, one) for one in created]
    return [moment(job, "endTime") - moment(job, "createTime") for job in ended]


def test_times_are_drawn_alike_for_the_same_jobs_after_a_reset(http):
    times = {"queue_seconds": "uniform:10:60", "run_seconds": "exponential:300"}
    first, again = (drawn(http, 5, **times) for _ in range(2))
    assert first == again and len(set(first)) == 5
    assert all(timedelta(seconds=10) <= one for one in first)


DRAWS = 4000


def draws(span: str, seed: int = 0) -> list[float]:
    found = make_settings({"queue_seconds": span}).queue_seconds
    return sorted(found.draw(Dice(fingerprint(seed, b"%d" % i))) for i in range(DRAWS))


def test_uniform_times_fill_their_range():
    found = draws("uniform:10:60")
    assert 10 <= found[0] < 11 and 59 < found[-1] <= 60 and abs(fmean(found) - 35) < 1


def test_exponential_times_have_their_mean_and_its_long_tail():
    found = draws("exponential:300")
    assert abs(fmean(found) - 300) < 20 and abs(median(found) - 300 * 0.693) < 15
    assert found[0] >= 0 and found[-1] > 1500


def test_lognormal_times_have_their_median_and_spread():
    found = draws("lognormal:3600:0.8")
    assert abs(median(found) / 3600 - 1) < 0.06
    assert abs(found[int(DRAWS * 0.84)] / 3600 - 2.718**0.8) < 0.2  # one sigma up


def test_another_seed_draws_other_times():
    assert draws("exponential:300") == draws("exponential:300") != draws("exponential:300", seed=1)


@pytest.mark.parametrize("span", [90, "90", 0, "uniform:10:60", "exponential:300", "lognormal:3600:0.8"])
def test_times_are_shown_as_they_were_given(http, span):
    found = settings(http, queue_seconds=span)["queue_seconds"]
    assert found == (float(span) if ":" not in str(span) else span)


@pytest.mark.parametrize("span", ["lognormal:1000:10", "exponential:1e9", "uniform:0:1e9", 1e9])
def test_the_widest_spread_makes_jobs_that_expire_and_nothing_worse(http, span):
    settings(http, queue_seconds=span)
    source = store(http, jsonl(HUNDRED_TOKENS))["name"]
    created = [order(http, source) for _ in range(30)]
    assert {one.status_code for one in created} == {200}
    advance(http, hours=48)
    assert {state(http, one) for one in created} <= {"EXPIRED", "SUCCEEDED"}
