"""One set of settings for the command, the workers and the library: what a run asks stays, how it is carried out may
change, and both can be seen."""

import json
import logging
import signal
import sys
import warnings
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from PIL import Image

from gemini_batch import Run, distributed_batch_process, runs
from gemini_batch.cli import main
from gemini_batch.config import Options, option_name, resolve, resolve_account
from gemini_batch.errors import BadInput
from gemini_batch.fleet.registry import Registry
from gemini_batch.ledger.places import open_store
from gemini_batch.logs import OURS
from gemini_batch.status import UNSEEN

HOURS = 3600.0
QUICK = ("--yes", "--poll-interval", "0.1", "--max-requests-per-shard", "4")


class Done:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def typed(emulator, folder, monkeypatch, capfd):
    """Types a command in this process: how it ends and what it says is that of the command."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", emulator.url)
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def run(*words):
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["gemini-batch-dist", *map(str, words)])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
            warnings.simplefilter("always")
            main()
        said = capfd.readouterr()
        return Done(ended.value.code or 0, said.out, said.err)

    loggers = [logging.getLogger(name) for name in OURS]
    kept = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    handler = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, handler)
    for logger, handlers, level, propagate in kept:
        logger.handlers[:], logger.level, logger.propagate = handlers, level, propagate


@pytest.fixture
def manifest(look, folder):
    return look.prompts(folder / "m.parquet", 8)


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_the_same_question_by_command_and_by_library_is_one_run_and_fresh_is_another(typed, manifest, emulator):
    first = typed("submit", manifest, *QUICK, "--temperature", "0.5", "--json").json
    run = distributed_batch_process(str(manifest), temperature=0.5, max_requests_per_shard=3)
    assert run.status()["run_id"] == first["run_id"]
    assert typed("submit", manifest, *QUICK, "--temperature", "0.5", "--json").json["run_id"] == first["run_id"]
    assert emulator.bought == 8
    fresh = distributed_batch_process(str(manifest), temperature=0.5, fresh=True)
    assert fresh.status()["run_id"] != first["run_id"]
    assert emulator.bought == 16


def test_another_question_is_refused_with_each_field_by_command_and_by_library(
    typed, manifest, emulator, folder, look, monkeypatch
):
    for name, kind in (("a", "string"), ("b", "integer")):
        schema = {"type": "object", "properties": {"size": {"type": kind}}, "required": ["size"]}
        (folder / f"{name}.json").write_text(json.dumps(schema))
    here = ("--schema", "a.json", "--system-instruction", "Be kind. " * 30, "--out", "run")
    assert typed("submit", manifest, *QUICK, *here).code == 0
    before, bought = look.tree(folder / "run"), emulator.bought
    other = look.prompts(folder / "other.parquet", 9)
    again = ("--schema", "b.json", "--system-instruction", "Be kind. " * 30 + "Be brief.", "--out", "run")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", emulator.url.replace("127.0.0.1", "localhost"))
    monkeypatch.setenv("GEMINI_API_KEY", "another-secret")
    done = typed("submit", other, *QUICK, *again, "--top-k", "3")
    assert done.code == 2
    for told in (
        "rows: 8 -> 9", "content of the rows (sha256): ", 'properties.size.type: "string" -> "integer"',
        "generation_config.topK: (nothing) -> 3", "endpoint: ", "localhost", "project: ", 'Be brief."',
    ):  # fmt: skip
        assert told in done.err
    assert "another-secret" not in done.err
    assert "n_samples" not in done.err, "only what differs"
    with pytest.raises(BadInput, match=r'size\.type: "string" -> "integer"'):
        distributed_batch_process(str(manifest), "b.json", out="run", yes=True)
    assert (look.tree(folder / "run"), emulator.bought) == (before, bought)


def test_a_run_is_opened_by_path_by_url_and_by_id_where_the_environment_says_runs_are(
    typed, manifest, folder, monkeypatch
):
    status = typed("submit", manifest, *QUICK, "--runs", "deep/runs", "--json").json
    monkeypatch.setenv("GEMINI_BATCH_RUNS", "deep/runs")
    place = folder / "deep" / "runs" / status["run_id"]
    for name in (place, str(place), status["run_id"]):
        assert Run.open(name).status()["run_id"] == status["run_id"]
        assert typed("status", name, "--json").json["run_id"] == status["run_id"]
    with pytest.raises(BadInput, match="nowhere"):
        Run.open("nowhere")


# --- how it is carried out --------------------------------------------------------------------------------------------


@pytest.fixture
def begun(typed, manifest, emulator):
    """A run of two shards in `run` that nobody has worked on; jobs take hours."""
    emulator.settings(job_seconds=4 * HOURS)

    def begin(**options):
        settings = resolve({"out": "run", "max_requests_per_shard": 4, "poll_interval": 0.1, **options})
        return runs.start(runs.read_request(str(manifest), settings, resolve_account(settings.project)))

    return begin


def test_what_changes_is_shown_and_what_holds_is_printed_with_where_it_is_from(typed, begun, folder, monkeypatch):
    begun(max_live_jobs=1, owner="Ada")
    done = typed("resume", "run", "--once", "--max-live-jobs", "2", "--max-attempts", "5", "--json")
    assert (done.code, done.json["owner"]) == (4, "Ada")
    assert done.json["jobs"]["live"] in {1, 2}, "the second goes as soon as the first is accepted, or the next time"
    assert typed("resume", "run", "--once", "--json").json["jobs"]["live"] == 2
    assert "max_live_jobs 1 -> 2" in done.err
    assert "max_attempts 3 -> 5" in done.err
    (folder / "s.toml").write_text("# mine\nmax_live_jobs = 9\n")
    monkeypatch.setenv("GEMINI_BATCH_OWNER", "Grace")
    shown = typed("settings", "run", "--config", "s.toml", "--allow-failed", "3", "--json").json["settings"]
    assert shown["max_live_jobs"] == {
        "value": 2, "from": "recorded", "where": "control/000001.json",
        "next": {"value": 9, "from": "file", "where": "s.toml, line 2"},
    }  # fmt: skip
    assert shown["owner"]["next"] == {"value": "Grace", "from": "environment", "where": "GEMINI_BATCH_OWNER"}
    assert shown["model"] == {"value": "gemini-2.5-flash", "from": "recorded", "where": "run.json"}
    assert shown["allow_failed"] == {"value": "3", "from": "flag", "where": "--allow-failed"}
    assert shown["runs"]["from"] == "default"
    words = typed("settings", "run", "--config", "s.toml").out
    assert "max_live_jobs" in words
    assert "control/000001.json; a resume from here: 9 (s.toml, line 2)" in words


def test_settings_of_a_submit_typed_here_show_no_secret(typed, folder, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "very-secret")
    monkeypatch.setenv("GEMINI_BATCH_BROKER_URL", "rediss://user:very-secret@host/0")
    (folder / "s.toml").write_text("tier = 2\n")
    done = typed("settings", "--config", "s.toml", "--temperature", "0.5", "--json")
    found = done.json["settings"]
    assert "very-secret" not in done.out + typed("settings").out
    assert found["api_key"] == {"value": "(set)", "from": "environment", "where": "GEMINI_API_KEY"}
    assert found["broker"] == {
        "value": "rediss://***@host/0",
        "from": "environment",
        "where": "GEMINI_BATCH_BROKER_URL",
    }
    assert found["temperature"] == {"value": 0.5, "from": "flag", "where": "--temperature"}
    assert found["tier"] == {"value": "2", "from": "file", "where": "s.toml, line 1"}
    assert found["max_enqueued_tokens"] == {"value": 400_000_000, "from": "file", "where": "by tier in s.toml, line 1"}
    assert found["max_live_jobs"] == {"value": 100, "from": "default", "where": "default"}
    assert found.keys() >= {option_name(field) for field in Options.model_fields}


def test_a_project_is_named_by_the_key_of_the_run_and_then_any_key_of_it_goes_on(typed, begun, monkeypatch, manifest):
    monkeypatch.setenv("GEMINI_API_KEY", "first")
    begun()
    monkeypatch.setenv("GEMINI_API_KEY", "second")
    assert typed("resume", "run", "--once", "--project", "ours").code == 2
    monkeypatch.setenv("GEMINI_API_KEY", "first")
    done = typed("resume", "run", "--once", "--project", "ours")
    assert (done.code, 'project (not given) -> "ours"' in done.err) == (4, True)
    monkeypatch.setenv("GEMINI_API_KEY", "second")
    assert typed("resume", "run", "--once", "--project", "ours").code == 4
    assert typed("resume", "run", "--once").code == 2, "without the name it is a stranger"


def test_the_run_of_a_question_is_found_again_when_its_project_has_got_a_name(typed, manifest, emulator):
    first = typed("submit", manifest, *QUICK, "--json").json
    assert typed("submit", manifest, *QUICK, "--project", "ours", "--json").json["run_id"] == first["run_id"]
    assert typed("submit", manifest, *QUICK, "--project", "ours", "--out", first["run"]).code == 0
    assert emulator.bought == 8


def test_cron_collects_a_paused_run_without_lifting_the_pause(typed, begun, emulator):
    begun(max_live_jobs=1)
    assert typed("resume", "run", "--once").code == 4
    assert typed("pause", "run").code == 0
    emulator.advance(5 * HOURS)
    done = typed("resume", "run", "--once", "--json")
    assert (done.code, done.json["state"], done.json["rows"]["ok"]) == (4, "paused", 4)
    assert emulator.creates == 1
    emulator.settings(job_seconds=0)
    assert typed("resume", "run").code == 0
    assert (emulator.creates, emulator.bought_twice()) == (2, [])


def test_switches_may_be_turned_off_again(typed, begun):
    begun(retry_invalid=True)
    assert "retry_invalid true -> false" in typed("resume", "run", "--once", "--no-retry-invalid").err


def test_a_larger_bound_of_jobs_holds_for_rows_that_are_bought_again(typed, folder, emulator, look):
    """Rows too large for a job of the run as it was begun."""
    prompts = look.parquet(folder / "m.parquet", {"prompt": ["short", "long " * 400]})
    small = typed("submit", prompts, *QUICK, "--max-bytes-per-shard", "1000", "--out", "run", "--json")
    assert (small.code, small.json["rows"]["failed"]) == (3, 1)
    more = typed("retry", "run", "--max-bytes-per-shard", "100000", "--json")
    assert (more.code, more.json["rows"]["ok"]) == (0, 2), more.err
    assert typed("audit", "run", "--json").json["clean"]


# --- one resolution ---------------------------------------------------------------------------------------------------


def test_the_library_reads_the_environment_and_a_settings_file_as_the_command_does(
    typed, manifest, folder, monkeypatch, emulator
):
    (folder / "s.toml").write_text("runs = 'from-file'\nmax_requests_per_shard = 4\n")
    monkeypatch.setenv("GEMINI_BATCH_CONFIG", "s.toml")
    monkeypatch.setenv("GEMINI_BATCH_TEMPERATURE", "0.5")
    run = distributed_batch_process(str(manifest))
    assert typed("submit", manifest, "--json").json["run_id"] == run.status()["run_id"]
    assert [path.name for path in (folder / "from-file").iterdir()] == [run.status()["run_id"]]
    assert (emulator.creates, emulator.bought) == (2, 8)


def test_an_unknown_variable_is_warned_of_and_an_unknown_key_refused(typed, manifest, folder, monkeypatch, emulator):
    monkeypatch.setenv("GEMINI_BATCH_MAX_LIVE_JOB", "3")
    done = typed("plan", manifest, "--json")
    assert done.code == 0
    assert (
        "GEMINI_BATCH_MAX_LIVE_JOB is no setting and is not read; did you mean 'GEMINI_BATCH_MAX_LIVE_JOBS'" in done.err
    )
    (folder / "s.toml").write_text("\nmax_live_job = 3\n")
    done = typed("plan", manifest, "--config", "s.toml")
    assert (done.code, "s.toml, line 2: unknown key 'max_live_job'; did you mean 'max_live_jobs'?" in done.err) == (
        2,
        True,
    )
    assert emulator.untouched()


def test_switches_of_single_calls_stand_in_the_environment_too(typed, manifest, monkeypatch):
    monkeypatch.setenv("GEMINI_BATCH_JSON", "1")
    assert typed("plan", manifest).json["rows"] == 8
    monkeypatch.setenv("GEMINI_BATCH_DETACH", "1")
    assert "--detach needs --broker" in typed("submit", manifest).err


# --- where things are -------------------------------------------------------------------------------------------------


def test_retry_and_explain_look_for_pictures_where_this_machine_has_them(typed, folder, look, emulator):
    for name in ("before", "since"):
        (folder / name).mkdir()
    Image.new("RGB", (8, 8), "red").save(folder / "before" / "a.png")
    look.jsonl(folder / "m.jsonl", [{"prompt": "What?", "i": "/elsewhere/a.png"}])
    asked = ("--image-column", "i", "--media-root", "/elsewhere=before")
    assert typed("submit", "m.jsonl", *QUICK, *asked, "--out", "run").code == 0
    (folder / "before" / "a.png").rename(folder / "since" / "a.png")
    lost = typed("explain", "run", 0, "--json").json["rounds"][0]
    assert (lost["samples"][0]["sent"], "/elsewhere/a.png" in lost["not_sent"]) == (None, True)
    moved = ("--media-root", "/elsewhere=since", "--json")
    found = typed("explain", "run", 0, *moved).json["rounds"][0]
    assert "inlineData" in found["samples"][0]["sent"]
    again = typed("retry", "run", "--status", "ok", *moved)
    assert (again.code, again.json["rows"]["ok"], emulator.bought) == (0, 1, 2)


def test_pictures_on_the_web_are_read_where_that_is_allowed_and_the_audit_does_not_miss_them(
    typed, folder, look, emulator
):
    """It encodes anew what was sent, and fetches nothing."""
    Image.new("RGB", (8, 8), "blue").save(folder / "a.png")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    look.jsonl(folder / "m.jsonl", [{"prompt": "What?", "i": f"http://127.0.0.1:{server.server_port}/a.png"}])
    refused = typed("submit", "m.jsonl", *QUICK, "--image-column", "i", "--out", "run", "--json")
    assert (refused.code, emulator.bought) == (3, 0)
    assert typed("audit", "run").code == 0
    allowed = typed("retry", "run", "--allow-http", "--json")
    server.shutdown()
    thread.join()
    server.server_close()
    assert (allowed.code, allowed.json["rows"]["ok"], "allow_http false -> true" in allowed.err) == (0, 1, True)
    assert typed("audit", "run").code == 0


def test_of_a_run_that_a_fleet_has_nobody_says_that_it_stalls_without_seeing_its_workers(typed, begun):
    files = begun(out="runs/run")
    Registry(open_store("runs")).add(files.record().run_id, "run")
    status = typed("status", "runs/run", "--json").json
    assert (status["stalled"], [problem["what"] for problem in status["problems"]]) == (False, [UNSEEN])
    assert "--broker" in status["problems"][0]["fix"]
    checked = typed("status", "runs/run", "--check")
    assert (checked.code, "give --broker" in checked.err) == (2, True)
    assert typed("doctor", "--json").json["clean"]


def test_a_run_in_a_bucket_is_paused_collected_and_cancelled(typed, begun, s3, monkeypatch, emulator, look, tmp_path):
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    run = f"s3://{s3.new_bucket()}/runs/run"
    begun(out=run)
    assert typed("resume", run, "--once").code == 4
    assert typed("pause", run, "--json").json["state"] == "paused"
    emulator.advance(5 * HOURS)
    held = typed("resume", run, "--once", "--json").json
    assert (held["state"], held["rows"]["ok"], emulator.creates) == ("paused", 4, 1)
    done = typed("cancel", run, "--json")
    assert (done.code, done.json["state"], emulator.creates) == (3, "cancelled", 1)
    rows = look.rows(s3.mirror(run, tmp_path / "copy"))
    assert sorted((row["error"] or {"kind": "none"})["kind"] for row in rows) == ["cancelled"] * 4 + ["none"] * 4
    assert typed("audit", run, "--json").json["clean"]
