"""Commands that tell a run what to do: pause, cancel. Whoever works on it hears them within a second or a sweep."""

import json
from typing import Annotated, Any

import typer

from gemini_batch.cli.app import app, read_options
from gemini_batch.cli.driving import drive, follow, told
from gemini_batch.cli.examples import epilog
from gemini_batch.config import Options
from gemini_batch.flags import AsJson, Config, RunName, with_options


@app.command(epilog=epilog("pause"))
@with_options(frozenset({"runs", "broker"}))
def pause(run: RunName = None, config: Config = None, as_json: AsJson = False, *, options: dict[str, Any]) -> None:
    """Create no more jobs. Those that run are collected; `resume` lifts it."""
    from gemini_batch import orders, runs  # noqa: PLC0415

    settings = read_options(options, config)
    files = runs.find(run, settings.runs)
    orders.pause(files)
    runs.hurry(settings)
    _tell(files, settings, as_json)


@app.command(epilog=epilog("cancel"))
@with_options(frozenset({"runs", "broker", "project", "allow_failed"}))
def cancel(
    run: RunName = None,
    config: Config = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="leave it to whoever works on the run; without anyone, to `resume`")
    ] = False,
    as_json: AsJson = False,
    *,
    options: dict[str, Any],
) -> None:
    """End a run early and keep what it has. No more jobs are created, those that run are cancelled and what they hold
    is collected; the dataset says `cancelled` of the rest, and `retry` may buy it."""
    from gemini_batch import orders, runs  # noqa: PLC0415

    settings = read_options(options, config)
    files = runs.find(run, settings.runs)
    orders.cancel(files)
    runs.hurry(settings)
    if detach:
        _tell(files, settings, as_json)
    elif settings.broker is None and runs.is_handed_over(files, settings.runs):
        follow(runs.watcher(files, settings), settings, as_json)
    else:
        drive(files, settings, as_json)


def _tell(files: Any, settings: Options, as_json: bool) -> None:
    from gemini_batch import inquiries  # noqa: PLC0415

    now = inquiries.standing(files, settings)
    for text in [json.dumps(now)] if as_json else told(now):
        typer.echo(text)
