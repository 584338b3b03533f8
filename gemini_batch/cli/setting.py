"""The command that shows settings: settings."""

import json
from typing import Annotated, Any

import typer

from gemini_batch.cli.app import app, read_options
from gemini_batch.cli.examples import epilog
from gemini_batch.config import OF_RUNS, OF_WORKERS, find, resolve_account
from gemini_batch.flags import AsJson, Config, complete_run, with_options
from gemini_batch.logs import printable


@app.command(epilog=epilog("settings"))
@with_options(OF_RUNS | OF_WORKERS)
def settings(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN", help="path, URL or id; without it, of a submit typed here", autocompletion=complete_run
        ),
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
    *,
    options: dict[str, Any],
) -> None:
    """Show each setting in force and where it is from. Of a run, or of a submit with the same options and files."""
    from gemini_batch import runs  # noqa: PLC0415 - the commands import what they need, so that --help is quick
    from gemini_batch.effective import settings_here, settings_in_words, settings_of  # noqa: PLC0415

    here, given = read_options(options, config), find(options, config)
    if run is None:
        found = settings_here(given, resolve_account(here.project, key_needed=False))
    else:
        found = settings_of(runs.find(run, here.runs), given)
    for text in [json.dumps(found)] if as_json else settings_in_words(found):
        typer.echo(printable(text))
