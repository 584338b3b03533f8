"""Commands that find out: explain, audit, doctor."""

import json
import sys
from typing import Annotated, Any, NoReturn

import typer

from gemini_batch.cli.app import EXIT_FINDINGS, app, err, read_options
from gemini_batch.cli.examples import epilog
from gemini_batch.flags import AsJson, Config, RunName, complete_run, with_options
from gemini_batch.logs import printable


@app.command(epilog=epilog("explain"))
@with_options(frozenset({"runs", "media_root"}))
def explain(
    run: Annotated[str, typer.Argument(metavar="RUN", help="path, URL or id", autocompletion=complete_run)],
    index: Annotated[int, typer.Argument(metavar="INDEX", help="of the row, from 0")],
    config: Config = None,
    as_json: AsJson = False,
    *,
    options: dict[str, Any],
) -> None:
    """All that is known of a row. What was sent, in which jobs, what came back, how it was read, what it cost."""
    from gemini_batch import runs  # noqa: PLC0415
    from gemini_batch.access import record_of  # noqa: PLC0415
    from gemini_batch.explain import explain as explain_row  # noqa: PLC0415
    from gemini_batch.explain import explanation_in_words  # noqa: PLC0415

    settings = read_options(options, config)
    files = runs.find(run, settings.runs)
    found = explain_row(files, record_of(files), index, settings.media_root)
    for text in [json.dumps(found, default=str)] if as_json else explanation_in_words(found):
        typer.echo(printable(text))


@app.command(epilog=epilog("audit"))
@with_options(frozenset({"runs", "project"}))
def audit(
    run: RunName = None,
    offline: Annotated[bool, typer.Option("--offline", help="leave the provider's jobs out; needs no key")] = False,
    config: Config = None,
    as_json: AsJson = False,
    *,
    options: dict[str, Any],
) -> None:
    """Hold ledger, files and the provider's jobs against one another. Exits 0 only if all is accounted for."""
    from gemini_batch import inquiries, runs  # noqa: PLC0415
    from gemini_batch.audit.report import audit_in_words  # noqa: PLC0415

    settings = read_options(options, config)
    files = runs.find(run, settings.runs)
    with err.status("auditing") as told:
        found = inquiries.audit_run(
            files, settings, offline, lambda done, of: told.update(f"{done:,} of {of:,} shards")
        )
    _tell(found, audit_in_words(found), as_json)


@app.command(epilog=epilog("doctor"))
@with_options(frozenset({"runs", "broker", "project"}))
def doctor(config: Config = None, as_json: AsJson = False, *, options: dict[str, Any]) -> None:
    """Find what no run wants, stuck shards and wrong keys. Changes nothing. Exits 0 if all is well."""
    from gemini_batch import inquiries  # noqa: PLC0415
    from gemini_batch.doctor.report import diagnosis_in_words  # noqa: PLC0415

    found = inquiries.diagnose(read_options(options, config))
    _tell(found, diagnosis_in_words(found), as_json)


def _tell(found: dict[str, Any], words: list[str], as_json: bool) -> NoReturn:
    """What an audit or a diagnosis found, and the exit code that says whether it found anything."""
    for text in [json.dumps(found)] if as_json else words:
        typer.echo(printable(text))
    sys.exit(0 if found["clean"] else EXIT_FINDINGS)
