"""Commands that look on: status, runs, wait. They change nothing and need no key."""

import json
from typing import Any

import typer

from gemini_batch.cli.app import app, printable
from gemini_batch.cli.driving import told
from gemini_batch.config import resolve
from gemini_batch.flags import AsJson, Config, RunName, with_options


@app.command()
@with_options(frozenset({"runs", "broker"}))
def status(run: RunName = None, config: Config = None, as_json: AsJson = False, *, options: dict[str, Any]) -> None:
    """How a run stands, by its directory; with --broker also which workers there are and what troubles them."""
    from gemini_batch import inquiries, runs  # noqa: PLC0415 - the commands import what they need, so that --help is quick

    settings = resolve(options, config)
    now = inquiries.standing(runs.find(run, settings.runs), settings)
    if as_json:
        typer.echo(json.dumps(now))
        return
    for text in told(now):
        typer.echo(text)


@app.command()
@with_options(frozenset({"runs"}))
def runs(config: Config = None, as_json: AsJson = False, *, options: dict[str, Any]) -> None:
    """The runs below --runs, the newest first."""
    from gemini_batch import inquiries  # noqa: PLC0415
    from gemini_batch.progress import overview_in_words  # noqa: PLC0415

    found = inquiries.overview(resolve(options, config))
    for text in [json.dumps({"runs": found})] if as_json else overview_in_words(found):
        typer.echo(printable(text))
