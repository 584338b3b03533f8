"""A plain run, and what else may happen to one: together they come to every effect that a process by itself has."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.crash.lab import PROMPTS, SHARDS, STOPPED, At, Case, Story

BEFORE_CREATE = At("before", "remote.create_job", "")
BEFORE_LOOK = At("before", "remote.get_job", "")
ALL_COLLECTED = At("before", "remote.list_files", "")

ALWAYS = {"times": "always"}

MINUTES_PASS = {"speed": 6000}
"""What is gone is believed to be gone after three looks in ten minutes; here so long lies between any two."""


ONCE = {"max_attempts": 1}
"""What is lost is not bought again."""


def second_job(case: Case) -> None:
    """A send that arrived twice: a job under the name of the first, which does not end by itself."""
    record = case.lab.look.json(max(case.run.glob("ledger/000000/*.json")))
    batch = {
        "displayName": record["sends"][0]["display_name"],
        "inputConfig": {"fileName": record["upload"]["name"]},
    }
    case.lab.call("POST", "/admin/faults", {"name": "job_stuck"})
    case.lab.call("POST", "/v1beta/models/gemini-2.5-flash:batchGenerateContent", {"batch": batch})


def job_deleted(case: Case) -> None:
    (job,) = case.lab.call("GET", "/v1beta/batches")["operations"]
    case.lab.call("DELETE", f"/v1beta/{job['name']}")


def days_pass(case: Case) -> None:
    case.lab.call("POST", "/admin/clock", {"advance_seconds": 37 * 3600})


def handed_to_a_fleet(case: Case) -> None:
    run_id = case.lab.look.json(case.run / "run.json")["run_id"]
    (case.folder / ".active").mkdir()
    (case.folder / ".active" / f"{run_id}.json").write_text('{"folder": "run"}')


PLAIN = Story("a plain run")

ODD = (
    Story(
        "a line of each shard that fails once",
        manifest="texts",
        faults=({"name": "result_line_error", "row": 1, "times": SHARDS},),
        creates=SHARDS + 1,
        bought_twice=SHARDS,
    ),
    Story("a create whose answer is lost", faults=({"name": "create_reply_lost"},)),
    Story("a create that fails on the way", faults=({"name": "create_503"},)),
    Story("a create that is throttled", faults=({"name": "create_429"},)),
    Story("an input file that is gone at the create", faults=({"name": "create_404"},)),
    Story(
        "an input file that is still being processed",
        manifest="texts",
        faults=({"name": "file_processing", "seconds": 0.3},),
    ),
    Story(
        "a create that is refused for a line",
        manifest="texts",
        faults=({"name": "create_line_refused", "key": "*-3-0-*"},),
    ),
    Story("a run that is stopped", faults=({"name": "create_403"},), code=STOPPED),
    Story("a shard without a row that can be sent", manifest="bad", creates=1),
    Story(
        "a list that lacks a job",
        faults=({"name": "list_lag", "seconds": 0.5}, {"name": "create_reply_lost", "after": 1}),
    ),
    Story("a job whose output shows late", faults=({"name": "succeeded_without_output"},)),
    Story(
        "a job that somebody deleted",
        do="resume",
        until=BEFORE_LOOK,
        then=job_deleted,
        settings=MINUTES_PASS,
        options=ONCE,
        audit=("lost_results",),
        one_fails=True,
    ),
    Story(
        "results that are gone",
        faults=({"name": "download_404", **ALWAYS},),
        settings=MINUTES_PASS,
        options=ONCE,
        audit=("lost_results", "lost_results"),
    ),
    Story(
        "a second job of a shard",
        do="resume",
        until=ALL_COLLECTED,
        then=second_job,
        creates=3,
        bought_twice=2,
        audit=("bought_twice",),
    ),
    Story(
        "a job that runs for days",
        do="resume",
        manifest="texts",
        until=BEFORE_LOOK,
        faults=({"name": "job_stuck"},),
        then=days_pass,
        changed={"stuck": "cancel"},
        creates=4,
        bought_twice=2,
        one_fails=True,
    ),
    Story(
        "a run that is cancelled",
        do="cancel",
        manifest="texts",
        until=BEFORE_LOOK,
        faults=({"name": "job_stuck"},),
        options={"max_live_jobs": 1},
        creates=1,
        one_fails=True,
    ),
    Story(
        "a cap that pays for one job at a time",
        manifest="texts",
        options={"max_cost": 0.0003, "max_output_tokens": 200},
        creates=len(PROMPTS),
    ),
    Story("the newest run", do="resume_newest", until=BEFORE_CREATE),
    Story("a run that is taken back from a fleet", do="resume", until=BEFORE_CREATE, then=handed_to_a_fleet),
    Story("an audit of a run whose job no list shows", do="audit", until=BEFORE_LOOK, faults=({"name": "list_lag"},)),
    Story(
        "a retry of what was blocked",
        do="retry",
        manifest="texts",
        faults=({"name": "result_line_blocked", "row": 1, "times": SHARDS},),
        finished=True,
        creates=SHARDS + 1,
        bought_twice=SHARDS,
    ),
    Story("a doctor's visit", do="doctor", until=BEFORE_LOOK),
)

OF_A_FLEET = {
    ("store.create", "fleet/registry:Registry.identity"),
    ("store.publish", "fleet/registry:Registry.add"),
    ("store.sweep_scratch", "fleet/host:Host.let_go"),
    ("remote.list_jobs", "fleet/sweep:_Sweep._listing"),
}
"""Effects that no process by itself comes to, by place. Workers die at these, in test_death_in_a_fleet.py."""


def write_manifests(folder: Path) -> None:
    """Four prompts: with a picture that is uploaded, without, and two of four with a picture that is not there."""
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 30, 30)).save(picture, "PNG")
    _write(folder / "pictures.parquet", {1: {"data": picture.getvalue()}})
    _write(folder / "texts.parquet", {})
    _write(folder / "bad.parquet", {2: {"path": "absent.png"}, 3: {"path": "absent.png"}})


def _write(path: Path, pictures: dict[int, dict[str, Any]]) -> None:
    kind = pa.list_(pa.struct([("text", pa.string()), ("path", pa.string()), ("data", pa.binary())]))
    rows = [[{"text": prompt}, *filter(None, [pictures.get(row)])] for row, prompt in enumerate(PROMPTS)]
    pq.write_table(pa.table({"parts": pa.array(rows, kind)}), path)
