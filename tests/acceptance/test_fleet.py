"""What a fleet promises before anything dies: detach and join, solo's dataset, limits, workers that do not fit."""

import base64
import io
import json
import os
import shlex
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from gemini_batch import __version__

PROMPTS, SHARDS = 40, 4
QUICK = ("--poll-interval", "1", "--settle", "5", "--json")
HERE = ("--out", "runs/run", "--max-requests-per-shard", PROMPTS // SHARDS)


@pytest.fixture
def submit(cli: Any, valkey: Any) -> Callable[..., Any]:
    """Start `submit --broker`."""
    return lambda manifest, *more: cli.start("submit", manifest, *QUICK, "--broker", valkey.url, *more)


@pytest.fixture
def detach(submit: Any) -> Callable[..., None]:
    """Hand a run over and leave."""

    def hand_over(manifest: Path, *more: object) -> None:
        done = submit(manifest, *more, "--detach").ended()
        assert done.code == 0, done.err

    return hand_over


@pytest.fixture
def status(cli: Any, valkey: Any, run: Path) -> Callable[[], Any]:
    return lambda: cli("status", run, "--broker", valkey.url, "--json").json


@pytest.fixture
def manifest(look: Any, folder: Path) -> Any:
    return look.prompts(folder / "m.parquet", PROMPTS)


@pytest.fixture
def finished(answered: Callable[[int, int], None], emulator: Any) -> Callable[[], None]:
    """Wait for the dataset; every answer is right and was bought once, and nothing is left at the service."""

    def wait() -> None:
        answered(PROMPTS, SHARDS)
        assert emulator.files() == [], "uploads are left at the service"

    return wait


# --- coming and going -------------------------------------------------------------------------------------------------


def test_a_detached_run_goes_on_with_nobody_attached_and_the_same_submit_joins_it(
    submit: Any, status: Any, manifest: Path, finished: Any, cli: Any, emulator: Any, start_worker: Any, look: Any
) -> None:
    """Start it, close the laptop, come back: whoever looks on or asks again, the workers have it."""
    emulator.settings(job_seconds=60)
    detached = submit(manifest, *HERE, "--detach").ended()
    assert (detached.code, cli.left()) == (0, []), detached.err
    lonely = status()
    assert (lonely["workers"], lonely["stalled"], emulator.creates) == ([], True, 0)
    assert "no worker" in lonely["problems"][0]["what"]

    for name in ("a@host-one", "b@host-two"):
        start_worker(name)
    seen = look.until(lambda: (now := status())["jobs"]["live"] and len(now["workers"]) == 2 and now, "both work")
    assert [worker["host"] for worker in seen["workers"]] == ["a@host-one", "b@host-two"]
    for worker in seen["workers"]:
        assert (worker["version"], worker["problem"]) == (__version__, None)
        assert abs(datetime.now(UTC) - datetime.fromisoformat(worker["seen_at"])) < timedelta(minutes=1)
    assert (seen["state"], seen["stalled"], seen["problems"]) == ("running", False, [])
    look.until(lambda: emulator.creates == SHARDS and len(emulator.files()) == 1, "sweeps delete what jobs have read")

    joined = submit(manifest, *HERE)
    look.until(lambda: "run " in joined.said, "the second submit has found the run")
    emulator.settings(job_seconds=0.2)
    finished()
    again = submit(manifest, *HERE)
    for done in (joined.ended(), again.ended()):
        assert (done.code, done.json["state"], done.json["rows"]["ok"]) == (0, "finished", PROMPTS), done.err
    finished()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_submit_leaves_the_run_to_the_workers(
    number: int, code: int, submit: Any, manifest: Path, finished: Any, cli: Any, emulator: Any, start_worker: Any,
    look: Any, folder: Path
) -> None:  # fmt: skip
    """Ctrl-C ends the watching, not the work that is being paid for; nor does what it advises to type."""
    emulator.settings(job_seconds=60)
    start_worker()
    watching = submit(manifest, *HERE)
    look.until(lambda: emulator.creates, "the first job is created")
    watching.signal(number)
    done = watching.ended(20)
    assert (done.code, done.json["exit_code"]) == (code, code), done.err
    advised = cli.start(*shlex.split(done.err.splitlines()[-1])[1:])
    look.until(lambda: f"of {PROMPTS} rows" in advised.said or not advised.running, "what was advised shows the run")
    assert list((folder / "runs" / ".active").glob("*.json")), "the fleet still has the run"
    emulator.settings(job_seconds=0.2)
    finished()


def test_a_program_that_is_interrupted_leaves_the_run_to_the_workers_and_may_come_back(
    manifest: Path, finished: Any, cli: Any, emulator: Any, valkey: Any, start_worker: Any, look: Any, folder: Path
) -> None:
    """What it waits for then, it only watches: nobody is to take the run from the fleet."""
    emulator.settings(job_seconds=60)
    start_worker()
    (folder / "script.py").write_text(
        "from gemini_batch import Run, distributed_batch_process\n"
        "try:\n"
        f"    distributed_batch_process('m.parquet', out='runs/run', broker='{valkey.url}', poll_interval=1,\n"
        f"                              max_requests_per_shard={PROMPTS // SHARDS})\n"
        "except KeyboardInterrupt:\n"
        "    print('left', flush=True)\n"
        "print(Run.open('runs/run').wait()['state'])\n"
    )
    program = cli.python("script.py")
    look.until(lambda: emulator.creates, "the first job is created")
    program.signal(signal.SIGINT)
    look.until(lambda: "left" in program.said, "it is interrupted")
    assert "the workers go on" in program.said and "Run.open('runs/run').wait()" in program.said
    emulator.settings(job_seconds=0.2)
    finished()
    done = program.ended(60)
    assert (done.code, done.out) == (0, "left\nfinished\n"), done.err


# --- the same dataset -------------------------------------------------------------------------------------------------

SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string"}, "score": {"type": "integer"}},
    "required": ["label", "score"],
}


def _picture(number: int) -> bytes:
    body = io.BytesIO()
    Image.new("RGB", (20 + number, 10), "steelblue").save(body, "PNG")
    return body.getvalue()


@pytest.fixture
def mixed(folder: Path, look: Any) -> Path:
    """Text, keys, system instructions, pictures by path and inline, and rows that cannot be sent."""
    rows = []
    for number in range(60):
        parts: list[dict[str, Any]] = [{"text": f"What is number {number}?"}]
        if number % 6 == 1:
            (folder / f"{number}.png").write_bytes(_picture(number))
            parts.append({"path": f"{number}.png"})
        if number % 6 == 2:
            parts.append({"data": base64.b64encode(_picture(number)).decode(), "mime_type": "image/png"})
        if number % 20 == 3:
            parts.append({"path": "missing.png"})
        instruction = "Answer like a librarian." if number % 3 else None
        rows.append({"parts": parts, "key": f"key-{number}", "system_instruction": instruction})
    made: Path = look.jsonl(folder / "mixed.jsonl", rows)
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    return made


def test_a_fleet_and_one_process_make_the_same_dataset(
    submit: Any, mixed: Path, cli: Any, emulator: Any, start_worker: Any, look: Any, folder: Path
) -> None:
    """Who does the work is no business of whoever reads the answers: no column may differ, digests and attempts
    included (with uploaded pictures the answers would, because the emulator's depend on the URI)."""
    asked = ("--schema", "schema.json", "--temperature", "0.5", "--max-requests-per-shard", "25")
    alone = cli("submit", mixed, *QUICK, *asked, "--runs", "solo", "--out", "solo/run")
    bought = emulator.stats()["requests"]
    emulator.reset()
    for name in ("a@host-one", "b@host-two"):
        start_worker(name)
    together = submit(mixed, *asked, "--out", "runs/run").ended()
    assert (alone.code, together.code) == (3, 3), together.err
    assert bought == emulator.stats()["requests"] == {"bought_total": 57, "distinct": 57, "bought_more_than_once": 0}
    one, other = look.dataset(folder / "solo" / "run"), look.dataset(folder / "runs" / "run")
    assert one.schema.equals(other.schema, check_metadata=True)
    assert [name for name in one.schema.names if not one[name].equals(other[name])] == []
    assert one["status"].value_counts().to_pylist() == [
        {"values": "ok", "counts": 57},
        {"values": "failed", "counts": 3},
    ]
    assert one.schema.field("result").type == pa.struct([("label", pa.string()), ("score", pa.int64())])


def _spoil(emulator: Any) -> None:
    """Two lines fail once, one is refused by its number, one without a word of where."""
    for fault, row in (
        ("result_line_error", 3),
        ("result_line_error", 38),
        ("create_line_refused", 14),
        ("create_line_refused_unnamed", 25),
    ):
        emulator.fault(fault, key=f"*-{row}-0-*")


def _ended(done: Any, cli: Any, *resume: object) -> Any:
    """A refusal that names no line ends the run if it meets the first shard sent, any of them: a person goes on."""
    return cli("resume", *resume, "--json") if done.code == 1 and "first job" in done.json["reason"] else done


def test_a_fleet_buys_again_what_failed_and_isolates_what_is_refused_as_one_process_does(
    submit: Any, manifest: Path, run: Path, cli: Any, emulator: Any, start_worker: Any, look: Any, folder: Path,
    valkey: Any
) -> None:  # fmt: skip
    _spoil(emulator)
    size = ("--max-requests-per-shard", PROMPTS // SHARDS)
    alone = _ended(cli("submit", manifest, *QUICK, *size, "--runs", "solo", "--out", "solo/run"), cli, "solo/run")
    bought = emulator.stats()["requests"]
    emulator.reset()
    _spoil(emulator)
    for name in ("a@host-one", "b@host-two"):
        start_worker(name)
    together = _ended(submit(manifest, *HERE).ended(), cli, run, "--broker", valkey.url)
    assert (alone.code, together.code) == (3, 3), alone.err + together.err
    assert bought == emulator.stats()["requests"]
    assert (bought["bought_total"], bought["distinct"]) == (PROMPTS, PROMPTS - 2)
    one, other = look.dataset(folder / "solo" / "run"), look.dataset(run)
    differ = [name for name in one.schema.names if not one[name].equals(other[name])]
    assert set(differ) <= {"round"}, "how many rounds there are depends on when they are planned"
    assert [row["index"] for row in look.rows(run) if row["status"] != "ok"] == [14, 25]
    assert [row["index"] for row in look.rows(run) if row["attempts"] == 2] == [3, 38]


# --- limits -----------------------------------------------------------------------------------------------------------


def test_runs_of_a_fleet_share_its_limit_though_redis_forgets(
    detach: Any, cli: Any, emulator: Any, valkey: Any, start_worker: Any, look: Any, folder: Path
) -> None:
    """Nothing the desk forgets may let a job in that the service has no room for."""
    emulator.settings(job_seconds=0.8, max_live_jobs=3)
    for name in ("a@host-one", "b@host-two"):
        start_worker(name)
    runs = [folder / "runs" / name for name in ("one", "two")]
    for run in runs:
        manifest = look.prompts(folder / f"{run.name}.parquet", 60 + len(run.name))
        detach(manifest, "--max-live-jobs", "3", "--max-requests-per-shard", "5", "--out", f"runs/{run.name}")

    def all_done() -> bool:
        return all((run / "_SUCCESS").exists() for run in runs)

    flushes, creates = 0, 0
    while not all_done():
        look.until(lambda: emulator.creates >= creates + 3 or all_done(), "three more jobs")  # noqa: B023
        creates, flushes = emulator.creates, flushes + 1
        valkey.client.flushall()
    stats = emulator.stats()
    assert [cli("audit", run).code for run in runs] == [0, 0]
    assert flushes >= 5
    assert stats["jobs"]["live_max"] <= 3
    assert (stats["creates_rejected"], stats["creates"]) == (0, 26)
    assert emulator.bought_twice() == []


def test_a_worker_that_sees_no_run_does_not_open_the_desk(
    detach: Any, manifest: Path, run: Path, emulator: Any, valkey: Any, start_worker: Any, look: Any, folder: Path
) -> None:
    """After a flush the desk is rebuilt from the ledgers; whoever cannot see them must not call it complete."""
    emulator.settings(job_seconds=60)
    start_worker("fit@host-one")
    detach(manifest, *HERE, "--max-live-jobs", "2")
    look.until(lambda: emulator.creates == 2, "two jobs are live")
    blind = start_worker("blind@host-two", "--runs", folder / "elsewhere")
    look.until(lambda: blind.ready, "the second worker runs")
    for _ in range(3):
        valkey.client.flushall()
        look.until(lambda: valkey.client.keys("gemini-batch:desk:*:generation"), "the desk is open again")
        look.until(lambda: not valkey.client.keys("gemini-batch:hold:*"), "nobody is busy")
    assert (emulator.creates, emulator.stats()["jobs"]["live_max"]) == (2, 2)


# --- workers that do not fit ------------------------------------------------------------------------------------------


def _left_alone(seen: dict[str, Any], name: str, word: str) -> bool:
    """Whether a worker is shown with what is wrong with it."""
    problems = {worker["host"]: worker["problem"] or "" for worker in seen["workers"]}
    return word in problems.get(name, "") and any(word in problem["what"] for problem in seen["problems"])


def test_a_worker_with_another_key_leaves_the_run_alone_and_says_so(
    detach: Any, status: Any, manifest: Path, finished: Any, emulator: Any, start_worker: Any, look: Any
) -> None:
    """Under another key all jobs look gone, which must never look like "gone, buy again"."""
    start_worker("other@host-one", env={"GEMINI_API_KEY": "another"})
    detach(manifest, *HERE)
    look.until(lambda: _left_alone(status(), "other@host-one", "project"), "status names what is wrong with it")
    assert emulator.untouched()
    start_worker("fit@host-two")
    finished()


def test_a_worker_that_may_not_import_the_schema_leaves_the_run_alone_and_says_so(
    detach: Any, status: Any, run: Path, folder: Path, emulator: Any, start_worker: Any, look: Any
) -> None:
    """What a worker could not check it must not buy; and it imports only what its operator allowed."""
    (folder / "shapes.py").write_text("from pydantic import BaseModel\n\n\nclass Label(BaseModel):\n    label: str\n")
    importable = {"PYTHONPATH": os.pathsep.join([str(folder), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])}
    start_worker("strict@host-one", "--allow-schema", "others.*", env=importable)
    detach(look.prompts(folder / "m.parquet", PROMPTS), *HERE, "--schema", "shapes:Label")
    look.until(lambda: _left_alone(status(), "strict@host-one", "--allow-schema"), "status names what is wrong with it")
    assert emulator.untouched()
    start_worker("fit@host-two", "--allow-schema", "shapes.*", env=importable)
    look.until((run / "_SUCCESS").exists, "the run has finished")
    assert {row["status"] for row in look.rows(run)} == {"ok"}
    assert emulator.bought == PROMPTS


@pytest.mark.parametrize("kind", ["empty", "lost"])
def test_a_worker_that_does_not_see_the_run_does_not_hold_up_those_who_do(
    kind: str, detach: Any, manifest: Path, finished: Any, emulator: Any, start_worker: Any, folder: Path, look: Any
) -> None:
    """A mistyped or lost mount on one machine is its own trouble; here it gets every other message."""
    mount = folder / "mount"
    mount.symlink_to(folder / ("elsewhere" if kind == "empty" else "runs"))
    mount.resolve().mkdir()
    blind = start_worker("blind@host-one", "--runs", mount)
    look.until(lambda: blind.ready, "the worker runs")
    if kind == "lost":
        mount.unlink()
        mount.symlink_to(mount)  # too many levels of symbolic links: for root, too
    detach(manifest, *HERE)
    start_worker("fit@host-two")
    finished()
    assert blind.ready


def test_a_worker_refuses_a_runs_root_that_it_cannot_use(start_worker: Any, folder: Path) -> None:
    """At start its operator is still there to read it."""
    loop = folder / "loop"
    loop.symlink_to(loop)
    done = start_worker("blind@host-one", "--runs", loop).ended()
    assert (done.code, str(loop) in done.err) == (2, True), done.err


def test_a_worker_whose_supervisor_is_killed_follows_it(start_worker: Any, look: Any) -> None:
    """Otherwise a service manager would start a second one beside it."""
    worker = start_worker()
    look.until(lambda: worker.ready, "the worker runs")
    worker.kill_supervisor()
    look.until(lambda: not worker.all, "the rest has left", 40)
