"""Pictures that each worker finds by itself: in other directories than rows say, and on the web where it may."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def web(tmp_path: Any) -> Any:
    """The URL of a folder with a picture."""
    (tmp_path / "web").mkdir()
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "web" / "b.png")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(tmp_path / "web")))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_worker_reads_pictures_where_its_machine_has_them_and_leaves_the_web_to_one_that_may(
    cli: Any, emulator: Any, valkey: Any, start_worker: Any, look: Any, folder: Any, tmp_path: Any, web: str
) -> None:
    (tmp_path / "here").mkdir(exist_ok=True)
    Image.new("RGB", (8, 8), "red").save(tmp_path / "here" / "a.png")
    moved = ("--media-root", f"/elsewhere={tmp_path}/here")
    pictures = ["/elsewhere/a.png"] * 2 + [f"{web}/b.png"] * 2
    manifest = look.jsonl(folder / "m.jsonl", [{"prompt": f"What {n}?", "i": p} for n, p in enumerate(pictures)])
    start_worker("a@one", *moved)
    options = ("--image-column", "i", "--allow-http", "--max-requests-per-shard", 2, "--poll-interval", 1)
    fleet = ("--broker", valkey.url, "--json")
    submitted = cli("submit", manifest, *options, *moved, "--out", "runs/run", "--detach", *fleet)
    assert submitted.code == 0, submitted.err

    def waits() -> bool:
        status = cli("status", "runs/run", *fleet).json
        said = " ".join(one["reason"] for one in status["waiting"])
        return status["rows"]["ok"] == 2 and "--allow-http" in said

    look.until(waits, "the pictures on the web wait for a worker that may fetch them")
    start_worker("b@two", *moved, "--allow-http")
    done = cli("wait", "runs/run", *fleet)
    assert (done.code, done.json["rows"]["ok"]) == (0, 4), done.words
    assert emulator.bought_twice() == []
    assert cli("audit", "runs/run").code == 0


def test_limits_that_are_said_to_one_process_hold_for_a_fleet_within_a_sweep(
    cli: Any, emulator: Any, valkey: Any, start_worker: Any, look: Any, folder: Any
) -> None:
    """By no restart: four jobs may run, then two."""
    emulator.settings(job_seconds=4 * 3600)
    manifest = look.prompts(folder / "m.parquet", 8)
    fleet, run = ("--broker", valkey.url, "--json"), "runs/run"
    options = ("--max-requests-per-shard", 1, "--max-live-jobs", 1, "--poll-interval", 1, "--out", run)
    assert cli("submit", manifest, *options, "--detach", *fleet).code == 0
    start_worker()
    look.until(lambda: emulator.creates == 1, "one job is created")
    told = cli.start("resume", run, "--max-live-jobs", 4, *fleet)
    look.until(lambda: emulator.creates == 4, "three more are")
    look.until(lambda: "max_live_jobs 1 -> 4" in told.said, "it is told")
    told.kill()
    lower = cli.start("resume", run, "--max-live-jobs", 2, *fleet)
    look.until(lambda: "max_live_jobs 4 -> 2" in lower.said, "it is recorded")
    lower.kill()
    emulator.settings(job_seconds=0)
    emulator.advance(5 * 3600)
    assert cli("wait", run, *fleet).code == 0
    shown = cli("settings", run, "--json").json["settings"]
    assert (shown["max_live_jobs"]["value"], shown["max_live_jobs"]["where"]) == (2, "control/000002.json")
    assert shown["broker"]["value"] == valkey.url
