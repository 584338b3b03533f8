"""Takes a run to its end and exits by the contract. Results for programs go to stdout, words for people to stderr."""

import json
import os
import sys
from typing import Any, NoReturn

import typer

from gemini_batch.cli.app import Interrupted, err, logs_json, say
from gemini_batch.config import Options
from gemini_batch.errors import RunStopped

NOT_OK = "rows that are not ok say why in the columns status and error"
OTHER_STATUSES = "--status failed --status blocked --status truncated --status invalid"


def drive(files: Any, settings: Options, as_json: bool, detach: bool = False, once: bool = False) -> NoReturn:
    """Take a run to its end, or until interrupted, and exit by the contract.

    Args:
        detach: leave it to a fleet.
        once: do what is due now, and leave; a pause stays.
    """
    from gemini_batch import runs  # noqa: PLC0415
    from gemini_batch.access import record_of  # noqa: PLC0415
    from gemini_batch.coordinator.differ import changes  # noqa: PLC0415

    record = record_of(files)
    if not files.is_finished():
        say(f"run {record.run_id} in {files.store.url}", run=record.run_id)
    before = files.limits(record)
    driver = runs.driver(files, settings, keep_pause=once)
    for text in changes(before, files.limits(record)):
        say(text, run=record.run_id)
    if detach:
        _detach(driver, 0, as_json)
    follow(driver, settings, as_json, once=once)


def follow(driver: Any, settings: Options, as_json: bool, **how: Any) -> NoReturn:
    """Be with a run until whoever drives it leaves it, or until interrupted, and exit by the contract.

    Args:
        how: passed on to `drive`.
    """
    try:
        with progress() as watch:
            final = driver.drive(watch, **how)
    except RunStopped:
        if as_json:
            typer.echo(json.dumps(driver.status()))
        raise
    except (KeyboardInterrupt, Interrupted) as interrupt:
        _detach(driver, 143 if isinstance(interrupt, Interrupted) else 130, as_json)
    _finish(final, settings, as_json)


def progress() -> Any:
    """Progress for whoever reads stderr."""
    from gemini_batch.clock import SystemClock  # noqa: PLC0415
    from gemini_batch.progress import LoggedProgress, progress_for  # noqa: PLC0415

    return LoggedProgress(say, SystemClock()) if logs_json() else progress_for(err, SystemClock())


def _detach(driver: Any, code: int, as_json: bool) -> NoReturn:
    """Leave, whatever is under way: nothing that matters is in memory alone."""
    driver.close()
    run = driver.status()
    say(f"\n{driver.farewell} {run['run']}", run=run["run_id"])
    if as_json:
        typer.echo(json.dumps({**run, "exit_code": code}))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _finish(final: dict[str, Any], settings: Options, as_json: bool) -> NoReturn:
    from gemini_batch.status import forgiven  # noqa: PLC0415

    final = forgiven(final, settings.allowed_failures(final["rows"]["total"]))
    if as_json:
        typer.echo(json.dumps(final))
    else:
        for text in told(final):
            say(text)
    sys.exit(final["exit_code"])


def told(status: dict[str, Any]) -> list[str]:
    """A status in a few lines."""
    from gemini_batch.progress import summary  # noqa: PLC0415

    owner = f", looked after by {status['owner']}" if status.get("owner") else ""
    said = [f"run {status['run_id']} in {status['run']}{owner}", *summary(status)]
    if status["dataset"]:
        said.append(f"dataset: {status['dataset']}")
    said += [f"{problem['what']}: {problem['fix']}" for problem in status["problems"]]
    if status["rows"]["failed"]:
        partial = "" if status["dataset"] else " --partial"
        said.append(f"{NOT_OK}: gemini-batch-dist results {status['run']}{partial} {OTHER_STATUSES}")
    return said
