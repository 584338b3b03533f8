"""Commands that look on: status, runs, wait. They change nothing and need no key."""

import json
from contextlib import suppress
from math import inf
from typing import Annotated, Any

import typer

from gemini_batch.cli.app import EXIT_NOT_FINISHED, EXIT_STOPPED, app, read_options
from gemini_batch.cli.driving import follow, progress, told
from gemini_batch.cli.examples import epilog
from gemini_batch.errors import BadInput, RunStopped
from gemini_batch.flags import AsJson, Config, RunName, with_options
from gemini_batch.logs import printable


@app.command(epilog=epilog("status"))
@with_options(frozenset({"runs", "broker"}))
def status(
    run: RunName = None,
    config: Config = None,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="show it anew until the run is over or stopped")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="for monitors: exit 4 if nobody works on the run, 1 if it is stopped")
    ] = False,
    *,
    options: dict[str, Any],
) -> None:
    """How a run stands. With --broker also which workers there are and what troubles them."""
    from gemini_batch import inquiries, runs  # noqa: PLC0415 - the commands import what they need: --help is quick

    settings = read_options(options, config)
    if watch and as_json:
        raise BadInput("--watch is for people; for programs there is: gemini-batch-dist wait RUN --json")
    files = runs.find(run, settings.runs)
    if watch:
        _watch(runs.watcher(files, settings, only_looks=True))
    now = inquiries.standing(files, settings)
    for text in [json.dumps(now)] if as_json else told(now):
        typer.echo(text)
    if check and inquiries.cannot_be_told(now):
        raise BadInput("--check: a fleet has the run, and whether it has workers is known to its broker: give --broker")
    if check:
        raise typer.Exit(check_code(now))


def check_code(status: dict[str, Any]) -> int:
    """What `status --check` exits with: 0 where nobody is needed."""
    if status["state"] == "stopped":
        return EXIT_STOPPED
    return EXIT_NOT_FINISHED if status["stalled"] else 0


def _watch(watcher: Any) -> None:
    with suppress(RunStopped), progress() as shown:
        watcher.drive(shown)


@app.command(epilog=epilog("wait"))
@with_options(frozenset({"runs", "broker", "allow_failed"}))
def wait(
    run: RunName = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0, metavar="S", help="seconds; then exit 4")] = inf,
    config: Config = None,
    as_json: AsJson = False,
    *,
    options: dict[str, Any],
) -> None:
    """Wait until a run is over, whoever works on it. Does none of the work and needs no key."""
    from gemini_batch import runs  # noqa: PLC0415

    settings = read_options(options, config)
    files = runs.find(run, settings.runs)
    follow(runs.watcher(files, settings, only_looks=True), settings, as_json, timeout=timeout)


@app.command(epilog=epilog("runs"))
@with_options(frozenset({"runs"}))
def runs(config: Config = None, as_json: AsJson = False, *, options: dict[str, Any]) -> None:
    """The runs below --runs, the newest first."""
    from gemini_batch import inquiries  # noqa: PLC0415
    from gemini_batch.progress import overview_in_words  # noqa: PLC0415

    found = inquiries.overview(read_options(options, config))
    for text in [json.dumps({"runs": found})] if as_json else overview_in_words(found):
        typer.echo(printable(text))
