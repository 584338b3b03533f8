"""Commands that buy: plan, submit, resume, retry."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gemini_batch.cli.app import app, err, read_options, say
from gemini_batch.cli.driving import drive
from gemini_batch.cli.examples import epilog
from gemini_batch.config import GENERATION, OPERATIONAL, resolve_account
from gemini_batch.errors import BadInput
from gemini_batch.flags import (
    AsJson,
    CheckMedia,
    Config,
    Detach,
    JobHours,
    ManifestPath,
    RunName,
    Show,
    Simulate,
    with_options,
)
from gemini_batch.fleet.broker import read_broker
from gemini_batch.logs import printable


@app.command(epilog=epilog("plan"))
@with_options()
def plan(
    manifest: ManifestPath,
    config: Config = None,
    simulate: Simulate = False,
    job_hours: JobHours = None,
    show: Show = 0,
    check_media: CheckMedia = False,
    as_json: AsJson = False,
    *,
    options: dict[str, Any],
) -> None:
    """Show how a manifest would be split and what it may cost. Sends nothing, writes nothing."""
    from gemini_batch import runs  # noqa: PLC0415 - the commands import what they need, so that --help is quick
    from gemini_batch.planned import Closer, plan_as_json, plan_in_words  # noqa: PLC0415

    settings = read_options(options, config)
    request = runs.read_request(manifest, settings, resolve_account(settings.project, key_needed=False))
    closer = Closer(simulate, job_hours, show, check_media)
    for text in [json.dumps(plan_as_json(request, closer))] if as_json else plan_in_words(request, closer):
        typer.echo(printable(text))


@app.command(epilog=epilog("submit"))
@with_options()
def submit(
    manifest: ManifestPath,
    config: Config = None,
    detach: Detach = False,
    as_json: AsJson = False,
    *,
    options: dict[str, Any],
) -> None:
    """Plan, run and merge. The same command again resumes and buys nothing. With --broker, workers do the work."""
    from gemini_batch import runs  # noqa: PLC0415
    from gemini_batch.ask import asker  # noqa: PLC0415

    settings = read_options(options, config)
    account = resolve_account(settings.project)
    if detach and not settings.broker:
        raise BadInput("--detach needs --broker: without one this process does the work")
    if settings.broker:
        read_broker(settings.broker).ping()
    files = runs.start(runs.read_request(manifest, settings, account), asker(err))
    drive(files, settings, as_json, detach)


@app.command(epilog=epilog("resume"))
@with_options(OPERATIONAL | {"project"})
def resume(
    run: RunName = None,
    once: Annotated[
        bool, typer.Option("--once", help="do what is due now and exit 4, for cron; a pause stays")
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
    *,
    options: dict[str, Any],
) -> None:
    """Go on with a run, whatever ended it. Lifts a pause; ends a cancelling that somebody began."""
    from gemini_batch import runs  # noqa: PLC0415

    settings = read_options(options, config)
    drive(runs.find(run, settings.runs), settings, as_json, once=once)


@app.command(epilog=epilog("retry"))
@with_options(OPERATIONAL | GENERATION | {"project", "key_column"})
def retry(
    run: RunName = None,
    status: Annotated[list[str] | None, typer.Option(metavar="STATUS", help="rows of this status; repeatable")] = None,
    kind: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="rows that failed for this reason; repeatable")
    ] = None,
    keys: Annotated[Path | None, typer.Option(metavar="FILE", help="rows of these keys, one a line")] = None,
    replace: Annotated[
        str | None, typer.Option(metavar="MANIFEST", help="rows with new content, by key, else by index")
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
    *,
    options: dict[str, Any],
) -> None:
    """Buy rows of a finished run again. All that are not ok, or those that are named; what is ok stays."""
    from gemini_batch import orders, runs  # noqa: PLC0415
    from gemini_batch.access import record_of  # noqa: PLC0415

    settings = read_options(options, config)
    files = runs.find(run, settings.runs)
    key_column = settings.given("key_column")
    choice = orders.read_choice(record_of(files), status or [], kind or [], keys, replace, key_column)
    rows = orders.retry_rows(files, settings, choice)
    said = "no row is to be bought again" if not rows else f"buying {rows:,} {'row' if rows == 1 else 'rows'} again"
    say(said)
    drive(files, settings, as_json)
