"""What a killed emulator still knows when it is started on its folder again."""

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from emulator_calls import advance, create, create_inline, send_chunk, settings, start_upload, stats, store, with_key
from sdk_calls import MODEL, request_of

from gemini_batch.emulator.answers import expected_text
from gemini_batch.emulator.server import EmulatorError, opened
from gemini_batch.emulator.service import Order
from gemini_batch.emulator.settings import EmulatorSettings as Settings

KEY = "AIzaSyThisKeyMustNotBeWrittenAnywhere00"
OTHER_MODEL = "gemini-2.5-pro"
SPEED = 100
HALF = 20 * 3600
ANSWERS_THAT_STOP_HALF_WAY = """
import pathlib, threading

def answer(prompt):
    if prompt.key == "r50" and not pathlib.Path("go").exists():
        pathlib.Path("reached").touch()
        threading.Event().wait()
"""
LINES = [{"key": f"r{i}", "request": request_of(f"prompt {i}")} for i in range(100)]


class Lives:
    """An emulator that is killed while it holds jobs at every stage, and another one started on its folder."""

    def __init__(self, start: Any, folder: Path, look: Any) -> None:
        self.folder = folder / "state"
        (folder / "slow_answers.py").write_text(ANSWERS_THAT_STOP_HALF_WAY)
        flags = ["--state", self.folder, "--speed", SPEED, "--max-creates-per-day", 8, "--max-live-jobs", 4]
        flags += ["--answers", "slow_answers:answer", "--api-key", KEY]
        first = start(*map(str, flags))
        with with_key(first.url, KEY) as http:
            self.jobs = self._order(http)
            look.until((folder / "reached").exists, "a job to be half answered")
            self.torn = self._tear(http)
            self.before, self.clock_before = self._seen(http), _now(http)
            self.results_before = _results(http, self.jobs["ended"])
        real_before = datetime.now(UTC)
        first.kill()
        self.left = {path.name: path.read_bytes() for path in self.folder.iterdir()}

        (folder / "go").touch()
        self.second = start(*map(str, [*flags, "--port", first.url.rpartition(":")[2]]))
        self.real_seconds = (datetime.now(UTC) - real_before).total_seconds()
        with with_key(self.second.url, KEY) as http:
            self.clock_after, self.after = _now(http), self._seen(http)
            self.marks = stats(http)["jobs"]
            self.torn_reply = send_chunk(http, self.torn, b"more", 5)
            settings(http, run_seconds=HALF)
            self.codes = [create(http, *LINES[:1], model=OTHER_MODEL).status_code for _ in range(2)]
            self.codes += [self._after_a_cancel(http), self._after_a_cancel(http)]
            self.refusals = stats(http)["rejected"]
            advance(http, hours=41)
            self.results_after = {name: _results(http, self.jobs[name]) for name in ("ended", "half", "queued")}
            self.running = [json.loads(line)["key"] for line in _results(http, self.jobs["running"]).splitlines()]
            self.inline = http.get(f"/v1/{self.jobs['inline']}").json()["response"]["inlinedResponses"]
            self.used = stats(http)["usage"]

    def _order(self, http: httpx2.Client) -> dict[str, str]:
        """A shorter time would end live jobs sooner, so times only grow."""
        made = {"ended": create(http, *LINES[:1]), "inline": create_inline(http, request_of("inline"))}
        advance(http, seconds=1)
        settings(http, run_seconds=HALF)
        made["running"] = create(http, *LINES[:3])
        advance(http, seconds=1)
        made["half"] = create(http, *LINES)
        settings(http, queue_seconds=HALF)
        made["queued"], made["gone"] = create(http, *LINES[:2]), create(http, *LINES[:1])
        http.delete(f"/v1/{made['gone'].json()['name']}?key={KEY}")
        return {name: reply.json()["name"] for name, reply in made.items()}

    def _tear(self, http: httpx2.Client) -> str:
        store(http, b"kept", name="files/kept")
        url = str(start_upload(http, name="files/torn").headers["x-goog-upload-url"])
        send_chunk(http, url, b"first", command="upload")
        return url

    def _seen(self, http: httpx2.Client) -> Any:
        found = stats(http)
        return {
            "jobs": [_lasting(job) for job in http.get("/v1/batches").json()["operations"]],
            "files": http.get("/v1/files?pageSize=100").json()["files"],
            "requests": found["requests"],
            "creates": found["creates"],
            "live": found["jobs"]["live"],
        }

    def _after_a_cancel(self, http: httpx2.Client) -> int:
        http.post(f"/v1/{http.get('/v1/batches').json()['operations'][0]['name']}:cancel")
        return create(http, *LINES[:1], model=OTHER_MODEL).status_code


def _lasting(job: Any) -> Any:
    """Without what goes on by the second."""
    kept = {name: value for name, value in job["metadata"].items() if name not in ("updateTime", "batchStats")}
    return job | {"metadata": kept}


def _now(http: httpx2.Client) -> datetime:
    return datetime.fromisoformat(http.get("/admin/clock").json()["now"][:26])


def _results(http: httpx2.Client, job: str) -> bytes:
    return http.get(f"/v1/files/batch-{job.removeprefix('batches/')}:download?alt=media").content


@pytest.fixture(scope="module")
def lives(start_emulator, tmp_path_factory, look):
    folder = tmp_path_factory.mktemp("lives")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield Lives(start_emulator, folder, look)


def test_jobs_files_and_what_was_bought_are_as_before_the_kill(lives):
    assert lives.after == lives.before
    assert lives.before["requests"] == {"bought_total": 108, "distinct": 101, "bought_more_than_once": 3}
    states = {job["name"]: job["metadata"]["state"].removeprefix("BATCH_STATE_") for job in lives.after["jobs"]}
    assert {name: states.get(job) for name, job in lives.jobs.items()} == {
        "ended": "SUCCEEDED",
        "inline": "SUCCEEDED",
        "running": "RUNNING",
        "half": "RUNNING",
        "queued": "PENDING",
        "gone": None,
    }


def test_results_from_before_the_kill_are_byte_for_byte_the_same(lives):
    assert lives.results_after["ended"] == lives.results_before != b""


def test_a_job_that_was_half_answered_has_each_answer_once(lives):
    found = [json.loads(line) for line in lives.results_after["half"].splitlines()]
    texts = {line["key"]: line["response"]["candidates"][0]["content"]["parts"][0]["text"] for line in found}
    assert texts == {line["key"]: expected_text(0, line["request"]) for line in LINES} and len(found) == 100


def test_jobs_that_waited_or_ran_go_on_and_inline_answers_are_kept(lives):
    assert [json.loads(line)["key"] for line in lives.results_after["queued"].splitlines()] == ["r0", "r1"]
    assert lives.running == ["r0", "r1", "r2"]
    assert len(lives.inline["inlinedResponses"]) == 1


def test_the_clock_has_gone_on_at_its_speed_while_nobody_served(lives):
    passed = (lives.clock_after - lives.clock_before).total_seconds()
    assert lives.real_seconds * SPEED * 0.95 <= passed <= (lives.real_seconds + 30) * SPEED


def test_limits_go_on_counting(lives):
    """Three jobs live and six creates: one more fits, then four are live; each cancel lets another in, up to eight."""
    assert lives.codes == [200, 429, 200, 429]
    assert lives.refusals["create: live_jobs"] == 1 and lives.refusals["create: creates_per_day"] == 1


def test_the_mark_of_live_jobs_is_at_least_what_is_live(lives):
    assert lives.marks["live_max"] == lives.marks["live"] == 3


def test_what_was_used_is_counted_once(lives):
    assert lives.used["models"][MODEL]["requests"] == 1 + 1 + 3 + 100 + 2 + 0


def test_an_upload_that_the_kill_cut_short_is_unknown(lives):
    assert lives.torn_reply.status_code == 404


def test_nothing_but_files_and_results_is_left_in_the_folder(lives):
    kinds = {re.sub(r"-[0-9a-f]{8,}$", "", path.name) for path in lives.folder.iterdir()}
    assert {kind for kind in kinds if not kind.startswith(("state.sqlite", "bought.sqlite"))} == {"upload", "results"}
    uploads = [path for path in lives.folder.iterdir() if path.name.startswith("upload-")]
    assert len(uploads) == sum(file["source"] == "UPLOADED" for file in lives.after["files"]) + 4


def test_no_api_key_is_in_the_folder(lives):
    written = lives.left | {path.name: path.read_bytes() for path in lives.folder.iterdir()}
    assert written and not [name for name, content in written.items() if KEY.encode() in content]


def test_a_second_emulator_on_the_same_folder_is_refused(lives):
    with pytest.raises(EmulatorError, match="another emulator at work there"), opened(Settings(), lives.folder, None):
        pass


# --- the smallest moments ---------------------------------------------------------------------------------------------

DIES = """
import os, sys
from pathlib import Path
from gemini_batch.clock import SystemClock
from gemini_batch.emulator import answering, bought, service
from gemini_batch.emulator.settings import EmulatorSettings
from gemini_batch.emulator.state import State

folder, moment, speed = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
settings = EmulatorSettings(run_seconds=3600, speed=speed)
emulator = service.Service(settings, SystemClock(), folder, State(folder), None)
inline = [{"request": {"contents": [{"parts": [{"text": "x"}]}]}}]
order = service.Order("me", "gemini-2.5-flash", "j", None, inline, False)
emulator.accept(order)
def dies(*_):
    os.kill(os.getpid(), 9)
moments = {
    "read": (service.Service, "_survey"),
    "made": (bought.Purchase, "commit"),
    "bought": (answering.Answerer, "put"),
}
setattr(*moments[moment], dies)
emulator.accept(order)
"""


def die(folder: Path, moment: str, speed: float = 1) -> None:
    died = subprocess.run([sys.executable, "-c", DIES, folder, moment, str(speed)], check=False)
    assert died.returncode == -9


def restarted(folder: Path) -> tuple[int, int]:
    """Jobs, and requests bought."""
    with opened(Settings(run_seconds=3600), folder, None) as (service, _):
        service.start()
        try:
            service.advance(timedelta(0))
            return len(service.jobs.newest_first("me")), service.bought.stats()["bought_total"]
        finally:
            service.close()


@pytest.mark.parametrize(("moment", "jobs"), [("read", 1), ("made", 2), ("bought", 2)])
def test_a_create_that_a_kill_cuts_short_is_bought_if_it_made_a_job_and_only_then(tmp_path, moment, jobs):
    die(tmp_path, moment)
    assert [restarted(tmp_path) for _ in range(2)] == [(jobs, jobs)] * 2
    assert not list(tmp_path.glob("input-*"))


def test_a_clock_that_was_never_stepped_goes_on_too(tmp_path):
    """Else the jobs of a fast clock lie ahead of it after a kill, and nobody can see them."""
    die(tmp_path, "bought", speed=1e6)
    assert restarted(tmp_path) == (2, 2)


def test_a_create_counts_for_its_day_even_when_its_number_is_used_again(tmp_path):
    """After a restart, numbers go on from the highest job there is: deleted ones must not be forgotten."""
    order = Order("me", MODEL, "j", None, [{"request": request_of("x")}], False)
    for count in (2, 4, 6):
        with opened(Settings(), tmp_path, None) as (service, _):
            for job in [service.accept(order) for _ in range(2)]:
                service.delete(job)
            assert service.jobs.stats()["creates"] == count
            service.close()


def test_a_create_whose_purchase_cannot_be_written_makes_no_job(tmp_path, monkeypatch):
    order = Order("me", MODEL, "j", None, [{"request": request_of("x")}], False)
    with opened(Settings(), tmp_path, None) as (service, _):
        full = "gemini_batch.emulator.bought.Purchase.commit"
        monkeypatch.setattr(full, lambda *_: (_ for _ in ()).throw(sqlite3.OperationalError("disk is full")))
        with pytest.raises(sqlite3.OperationalError):
            service.accept(order)
        assert service.jobs.stats()["jobs"] == {"total": 0, "live": 0, "live_max": 1}
        assert service.jobs.stats()["creates"] == 0
        service.close()
    assert not list(tmp_path.glob("input-*"))


# --- folders that are none --------------------------------------------------------------------------------------------


def garbage(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"this is no database, whatever it is called" * 100)


def of_another_program(folder: Path, name: str) -> None:
    with closing(sqlite3.connect(folder / name)) as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")


def of_another_program_with_tables_of_our_names(folder: Path, name: str) -> None:
    with closing(sqlite3.connect(folder / name)) as db:
        db.execute("CREATE TABLE records (artist TEXT)")
        db.execute("CREATE TABLE bought (shop TEXT)")


def of_a_newer_release(folder: Path, name: str) -> None:
    with opened(Settings(), folder, None) as (service, _):
        service.close()
    with closing(sqlite3.connect(folder / name)) as db:
        db.execute("PRAGMA user_version = 99")


FOREIGN = [garbage, of_another_program, of_another_program_with_tables_of_our_names, of_a_newer_release]


@pytest.mark.parametrize("name", ["state.sqlite", "bought.sqlite"])
@pytest.mark.parametrize("make", FOREIGN)
def test_a_file_that_is_not_ours_is_refused_and_left_as_it_is(tmp_path, make, name):
    make(tmp_path, name)
    content = (tmp_path / name).read_bytes()
    with (
        pytest.raises(EmulatorError, match=rf"{name} .*take another folder") as refused,
        opened(Settings(), tmp_path, None),
    ):
        pass
    assert "\n" not in str(refused.value)
    assert (tmp_path / name).read_bytes() == content


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EmulatorError, match="file"), opened(Settings(), tmp_path / "file", None):
        pass
