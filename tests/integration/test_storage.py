"""A project stores 20 GB at most: what a run needs no more goes, so that it may be larger than that; at its end nothing
of it is left but results, which the service does not delete. Over a real emulator with little room."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

SHARDS, ROWS = 6, 12
PICTURE_BYTES = 40_000
ROOM = 5 * PICTURE_BYTES
"""For two shards and a little; the pictures of all need more than twice as much."""

QUICK = ("--media", "upload", "--max-requests-per-shard", str(ROWS // SHARDS), "--poll-interval", "0.5", "--json")


def picture(number: int) -> bytes:
    """Noise, which does not compress: a little less than `PICTURE_BYTES`."""
    body = io.BytesIO()
    Image.effect_noise((190, 190 + number), 90).save(body, "PNG")
    return body.getvalue()


@pytest.fixture
def manifest(look: Any, folder: Path) -> Path:
    rows = [
        {"parts": [{"text": f"Row {row}"}, {"data": base64.b64encode(picture(row)).decode()}]} for row in range(ROWS)
    ]
    made: Path = look.jsonl(folder / "m.jsonl", rows)
    return made


@pytest.fixture
def small(start_emulator: Callable[..., Any], make_cli: Any, folder: Path) -> tuple[Any, Any]:
    """An emulator with little room, and the command that uses it."""
    emulator = start_emulator("--max-stored-bytes", str(ROOM), "--job-seconds", "0.5")
    return emulator, make_cli(emulator)


def inputs(names: list[str]) -> list[str]:
    return [name for name in names if name.endswith("-input")]


def test_a_run_whose_files_do_not_fit_together_finishes_and_leaves_nothing(
    small: tuple[Any, Any], manifest: Path, look: Any, folder: Path
) -> None:
    emulator, cli = small
    assert len(picture(0)) * ROWS > 2 * ROOM
    done = cli("submit", manifest, *QUICK, "--out", folder / "run", cwd=folder)
    assert done.code == 0, done.err
    assert {row["status"] for row in look.rows(folder / "run")} == {"ok"}
    assert (emulator.creates, emulator.bought) == (SHARDS, ROWS)
    assert emulator.files() == []
    doctor = cli("doctor", "--json", "--runs", folder)
    assert (doctor.code, doctor.json["files"]["of_these_runs"]) == (0, {"files": 0, "bytes": 0}), doctor.words


def test_killed_in_between_the_next_process_deletes_what_the_dead_one_left(
    small: tuple[Any, Any], manifest: Path, look: Any, folder: Path
) -> None:
    emulator, cli = small
    running = cli.start("submit", manifest, *QUICK, "--out", folder / "run", cwd=folder)
    look.until(lambda: emulator.creates >= 2 or not running.running, "two jobs")
    assert running.kill(), running.said
    done = cli("resume", folder / "run", "--json", cwd=folder)
    assert done.code == 0, done.err
    assert (emulator.creates, emulator.bought_twice()) == (SHARDS, [])
    assert emulator.files() == []
    assert cli("doctor", "--runs", folder).code == 0
    assert cli("audit", folder / "run").code == 0


def test_pictures_are_there_for_as_long_as_their_job_runs_and_request_files_are_not(
    cli: Any, emulator: Any, manifest: Path, look: Any, folder: Path
) -> None:
    """One request file stays, and shows whether a key sees the run."""
    emulator.settings(job_seconds=86_400)
    running = cli.start("submit", manifest, *QUICK, "--out", folder / "run", cwd=folder)
    look.until(
        lambda: (emulator.creates, len(inputs(emulator.files()))) == (SHARDS, 1) or not running.running, "all jobs run"
    )
    assert len(emulator.files()) == ROWS + 1
    status = cli("status", folder / "run", "--json")
    assert status.json["problems"] == []
    doctor = cli("doctor", "--json", "--runs", folder)
    assert (doctor.code, doctor.json["findings"]) == (0, [])
    emulator.advance(86_400)
    assert running.ended().code == 0, running.said
    assert emulator.files() == []
    assert {row["status"] for row in look.rows(folder / "run")} == {"ok"}
