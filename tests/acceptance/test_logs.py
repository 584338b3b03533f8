"""`--log-format json`: whoever collects logs reads stderr line by line."""

import json
from pathlib import Path
from typing import Any


def _objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_line_on_stderr_is_an_object_and_debug_tells_each_event(
    cli: Any, emulator: Any, look: Any, folder: Path
) -> None:
    manifest = look.prompts(folder / "m.parquet", 4)
    how = ("--log-format", "json", "--log-level", "debug", "--yes", "--poll-interval", 1, "--out", "run")
    done = cli("submit", manifest, *how, "--json")
    assert done.code == 0
    said = _objects(done.err)
    assert all({"at", "level", "logger", "message"} <= entry.keys() for entry in said)
    events = [entry["event"] for entry in said if "event" in entry]
    assert events[:3] == ["Claimed", "Prepared", "SendBegan"]
    assert events[-1] == "Collected"
    assert {entry["run"] for entry in said if "event" in entry} == {done.json["run_id"]}
    assert any(entry.get("rows", {}).get("total") == 4 for entry in said), "progress too, with its numbers"


def test_an_error_is_an_object_with_its_exit_code_and_the_environment_may_ask_for_it(cli: Any) -> None:
    done = cli("status", "nowhere", env={"GEMINI_BATCH_LOG_FORMAT": "json"})
    assert done.code == 2
    (said,) = _objects(done.err)
    assert (said["level"], said["exit_code"]) == ("error", 2)
    assert "nowhere" in said["message"]
    quiet = cli("submit", "absent.parquet", "--log-level", "loud")
    assert quiet.code == 2
    assert "--log-level" in quiet.err
