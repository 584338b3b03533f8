"""The emulator's own calls under /admin: a malformed one is refused in Google's shape and changes nothing."""

from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest
from emulator_calls import HUNDRED_TOKENS, advance, create, order, settings, stats, store, with_key

from gemini_batch.emulator.bought import Bought
from gemini_batch.emulator.settings import EmulatorSettings, SettingsError, make_settings

DEEP = b'{"a":' * 2000 + b"1" + b"}" * 2000
NO_OBJECT = [
    b"{",
    b"[1]",
    b"null",
    b'"x"',
    b"7",
    b"{} {}",
    b"\xff\xfe",
    b'{"a": NaN}',
    b'{"a": 1e999}',
    b'{"a": "\\ud800"}',
    b"\xef\xbb\xbf{}",
    DEEP,
    b"x" * (20 << 20),
]


def configuration(http: httpx2.Client) -> Any:
    """All that an admin call can change, but for the clock."""
    return {path: http.get(f"/admin/{path}").json() for path in ("settings", "faults", "stats")}


def now(http: httpx2.Client) -> datetime:
    return datetime.fromisoformat(http.get("/admin/clock").json()["now"][:26])


@pytest.fixture
def busy(http):
    """With something of everything to lose."""
    settings(http, max_live_jobs=3, queue_seconds="uniform:10:60", max_enqueued_tokens=["500", "gemini-2.5-flash=7"])
    http.post("/admin/faults", json={"name": "get_500", "times": 2})
    assert create(http, HUNDRED_TOKENS).status_code == 200
    before, clock_before = configuration(http), now(http)
    yield http
    assert configuration(http) == before
    assert timedelta(0) <= now(http) - clock_before < timedelta(hours=1)


def complaint(reply: httpx2.Response) -> str:
    error = reply.json()["error"]
    assert reply.status_code == 400 and (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert "\n" not in error["message"]
    return str(error["message"])


@pytest.mark.parametrize("path", ["settings", "faults", "clock", "reset"])
def test_a_body_that_is_no_object_is_refused(busy, path):
    complaints = [complaint(busy.post(f"/admin/{path}", content=body)) for body in NO_OBJECT]
    assert {one[:30] for one in complaints} == {"Invalid JSON payload received."}


@pytest.mark.parametrize(
    ("path", "body", "hint"),
    [
        ("settings", {"job_second": 1}, "Unknown member 'job_second'; did you mean 'job_seconds'?"),
        ("settings", {"max_live_job": 1}, "did you mean 'max_live_jobs'?"),
        ("settings", {"zzz": 1}, "Unknown member 'zzz'; known: api_keys, "),
        ("settings", {"max_live_jobs": 7, "": 1}, "Unknown member ''"),
        ("faults", {"name": "get_500", "tims": 1}, "Unknown member 'tims'; did you mean 'times'?"),
        ("faults", {"name": "job_fialed"}, "Did you mean 'job_failed'?"),
        ("faults", {"faults": [{"name": "get_503"}, {"name": "get_503", "rwo": 1}]}, "'rwo'; did you mean 'row'?"),
        ("faults", {"faults": [], "name": "get_500"}, 'Expected one fault, or {"faults": [...]}'),
        ("clock", {"advance_second": 1}, "Expected advance_seconds"),
        ("clock", {"advance_seconds": 1, "speed": 2}, "speed is one of the settings"),
        ("reset", {"settings": True}, "A reset takes no members"),
    ],
)
def test_an_unknown_member_is_named_with_what_was_meant(busy, path, body, hint):
    assert hint in complaint(busy.post(f"/admin/{path}", json=body))


WRONG: dict[str, list[Any]] = {
    "job_seconds": [-1, "soon", None, True, [1], 1e10, "uniform:1:2"],
    "queue_seconds": [-1, "uniform:1", "uniform:5:1", "lognormal:1:11", "cauchy:1", "1:2", [1], None, True, {}, "inf"],
    "run_seconds": ["exponential:-1", "exponential:", "exponential:nan", ":", ""],
    "speed": [0, -1, 1e7, "2", True, None],
    "max_live_jobs": [-1, 1.5, "3", True, None, [3]],
    "max_enqueued_tokens": [-1, 1.5, "x", True, None, {"a": -3}, {"a": True}, {"a": 1.0}, ["a="], ["a=b"], [[1]], ""],
    "max_creates_per_day": [-1, 1.5, "1", True],
    "max_file_bytes": [0, "1", None],
    "max_stored_bytes": [0, 1e3],
    "api_keys": ["k", [1], None, {"k": 1}],
    "projects": [[], {"a": "k"}, {"a": [1]}, None],
    "token_factor": [0, 101, "2", True],
    "chaos": [-0.1, 1.1, "0.1", True, None],
    "seed": [1],
    "faults": [[]],
}


def test_a_wrong_value_is_named(busy):
    tried = [(name, value) for name, values in WRONG.items() for value in values]
    replies = {str(one): busy.post("/admin/settings", json={"max_live_jobs": 50} | dict([one])) for one in tried}
    named = {str(one): one[0] in replies[str(one)].text for one in tried}
    assert [one for one, reply in replies.items() if reply.status_code != 400 or not named[one]] == []


def test_an_impossible_step_is_refused(busy):
    for seconds in (-1, "1", None, True, [1], 315_360_001, 1e300, 10**30):
        assert "advance_seconds" in complaint(busy.post("/admin/clock", json={"advance_seconds": seconds}))


def test_no_number_of_steps_leads_out_of_the_calendar(gemini_emulator):
    """Where dates end every reply would, since each tells the time."""
    with pytest.raises(ValueError, match="9000"):
        for _ in range(1000):
            gemini_emulator.advance(timedelta(days=3650))
    gemini_emulator.settings(queue_seconds=1e9, run_seconds=1e9)
    with with_key(gemini_emulator.url, "k") as http:
        assert "9000" in complaint(http.post("/admin/clock", json={"advance_seconds": 315_360_000}))
        assert create(http, HUNDRED_TOKENS).status_code == 200
        assert http.get("/v1/batches").json()["operations"]


@pytest.mark.parametrize("step", [timedelta(seconds=-1), timedelta(days=3651)])
def test_the_clock_goes_neither_back_nor_very_far_at_once(gemini_emulator, step):
    with pytest.raises(ValueError, match="3650 days"):
        gemini_emulator.advance(step)


@pytest.mark.parametrize("query", ["more_than=0", "more_than=x", "more_than=-1", "more_than=1e3", "by=key"])
def test_a_wrong_query_is_refused(http, query):
    assert query.partition("=")[0] in complaint(http.get(f"/admin/bought?{query}"))


@pytest.mark.parametrize(
    ("method", "call", "hint"),
    [
        ("GET", "bought?more_then=1", "did you mean 'more_than'?"),
        ("GET", "stats?since=1", "'since'"),
        ("DELETE", "faults?nam=get_500", "did you mean 'name'?"),
        ("DELETE", "faults?name=job_fialed", "Did you mean 'job_failed'?"),
    ],
)
def test_a_misspelt_query_does_not_mean_all(busy, method, call, hint):
    assert hint in complaint(busy.request(method, f"/admin/{call}"))


def test_any_number_of_purchases_may_be_asked_for(busy):
    for number in ("1", "9" * 18, "9" * 24):
        assert busy.get(f"/admin/bought?more_than={number}").json() == {"lines": []}


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "reset"), ("PUT", "settings"), ("POST", "stats"), ("DELETE", "clock"), ("GET", ""), ("POST", "faults/")],
)
def test_a_call_that_does_not_exist_is_not_found(busy, method, path):
    reply = busy.request(method, f"/admin/{path}", content=b"{}")
    assert (reply.status_code, reply.json()["error"]["status"]) == (404, "NOT_FOUND")


def test_admin_calls_need_no_key_and_show_none(url, http):
    settings(http, api_keys=["secret-one", "k"], projects={"p": ["secret-two"]})
    with with_key(url, "") as nobody:
        shown = [nobody.get(f"/admin/{path}") for path in ("stats", "bought", "faults", "settings", "clock")]
    assert {reply.status_code for reply in shown} == {200}
    assert not [reply.text for reply in shown if "secret" in reply.text]


def test_a_setting_changes_no_other(http):
    """Drawn times are put down exactly: a rounded one would count as a change and shorten live jobs."""
    given = {"queue_seconds": "lognormal:3600.123456789:0.8", "run_seconds": "exponential:1234567.5"}
    settings(http, **given)
    found = settings(http, max_live_jobs=7)
    assert {name: found[name] for name in given} == given
    assert found["max_live_jobs"] == 7


def test_reset_brings_back_the_settings_of_the_start(http):
    first = http.post("/admin/settings", json={}).json()
    settings(http, max_live_jobs=1, speed=5, max_file_bytes=1)
    http.post("/admin/reset")
    assert http.get("/admin/settings").json() == first


@pytest.mark.parametrize("name", ["get_500", None])
def test_faults_are_disarmed_by_name_or_all(http, name):
    http.post("/admin/faults", json={"faults": [{"name": "get_500"}, {"name": "list_500"}]})
    assert http.delete("/admin/faults", params={"name": name} if name else {}).json() == {}
    left = [fault["name"] for fault in http.get("/admin/faults").json()["armed"]]
    assert left == (["list_500"] if name else [])


def test_stats_count_each_rejection_by_call_and_reason(http):
    advance(http, seconds=0)
    settings(http, max_live_jobs=0, max_file_bytes=100)
    file = store(http, b"x" * 100)["name"]
    for _ in range(2):
        order(http, file)
    http.post("/v1/models/gemini-2.5-flash:batchGenerateContent", content=b"{")
    http.post("/v1/models/gpt-4:generateContent", json={})
    http.get("/v1/files/absent")
    http.post("/upload/v1/files", json={"file": {"sizeBytes": 101}})
    found = stats(http)
    assert found["rejected"] == {
        "create: live_jobs": 2,
        "create: invalid_argument": 1,
        "generate: not_found": 1,
        "file_get: permission_denied": 1,
        "upload_start: file_bytes": 1,
    }
    assert (found["creates"], found["creates_rejected"]) == (0, 3)


def test_what_was_bought_meanwhile_is_in_the_next_count(tmp_path):
    """A count that a purchase overtook must not be remembered."""
    bought = Bought(tmp_path / "bought.sqlite")
    count = bought._count

    def overtaken() -> Any:
        found = count()
        purchase = bought.begin()
        purchase.note(1, 1, "a")
        purchase.commit("job")
        purchase.close()
        bought._count = count
        return found

    bought._count = overtaken
    assert [bought.stats()["bought_total"] for _ in range(2)] == [0, 1]
    bought.close()


@pytest.mark.parametrize("name", EmulatorSettings.model_fields)
def test_each_setting_says_which_it_is_when_it_is_wrong(name):
    with pytest.raises(SettingsError, match=name):
        make_settings({name: object()})


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1, 10**70])
def test_a_seed_fits_into_the_dice(seed):
    with pytest.raises(SettingsError, match="seed"):
        make_settings({"seed": seed})
