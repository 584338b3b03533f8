"""Commands that find out: explain, audit, doctor."""

import json
import sys
from typing import Annotated, Any, NoReturn

import typer

from gemini_batch.cli.app import EXIT_FINDINGS, app, err, printable
from gemini_batch.config import resolve
from gemini_batch.flags import AsJson, Config, RunName, with_options


@app.command()
@with_options(frozenset({"runs"}))
def explain(
    run: Annotated[str, typer.Argument(help="path, URL or id")],
    index: Annotated[int, typer.Argument(help="of the row, from 0")],
    as_json: AsJson = False,
    *,
    options: dict[str, Any],
) -> None:
    """All that is known of a row: what was sent, in which jobs, what came back, how it was read, what it cost."""
    from gemini_batch import runs  # noqa: PLC0415
    from gemini_batch.access import record_of  # noqa: PLC0415
    from gemini_batch.explain import explain as explain_row  # noqa: PLC0415
    from gemini_batch.explain import explanation_in_words  # noqa: PLC0415

    files = runs.find(run, resolve(options).runs)
    found = explain_row(files, record_of(files), index)
    for text in [json.dumps(found, default=str)] if as_json else explanation_in_words(found):
        typer.echo(printable(text))


@app.command()
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

    settings = resolve(options, config)
    files = runs.find(run, settings.runs)
    with err.status("auditing") as told:
        found = inquiries.audit_run(
            files, settings, offline, lambda done, of: told.update(f"{done:,} of {of:,} shards")
        )
    _tell(found, audit_in_words(found), as_json)


@app.command()
@with_options(frozenset({"runs", "broker", "project"}))
def doctor(config: Config = None, as_json: AsJson = False, *, options: dict[str, Any]) -> None:
    """What the provider holds and no run wants, stuck shards, wrong keys. Changes nothing. Exits 0 if all is well."""
    from gemini_batch import inquiries  # noqa: PLC0415
    from gemini_batch.doctor.report import diagnosis_in_words  # noqa: PLC0415

    found = inquiries.diagnose(resolve(options, config))
    _tell(found, diagnosis_in_words(found), as_json)


def _tell(found: dict[str, Any], words: list[str], as_json: bool) -> NoReturn:
    """What an audit or a diagnosis found, and the exit code that says whether it found anything."""
    for text in [json.dumps(found)] if as_json else words:
        typer.echo(printable(text))
    sys.exit(0 if found["clean"] else EXIT_FINDINGS)
