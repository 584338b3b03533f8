"""Commands that hand out what a run holds: results."""

import sys
from typing import Annotated, Any

import typer

from gemini_batch.cli.app import app, read_options, say
from gemini_batch.cli.examples import epilog
from gemini_batch.flags import Config, RunName, with_options


@app.command(epilog=epilog("results"))
@with_options(frozenset({"runs"}))
def results(
    run: RunName = None,
    to: Annotated[
        str, typer.Option("--to", metavar="FILE|-", help="ends in .parquet, .csv or .jsonl; - is stdout")
    ] = "-",
    status: Annotated[
        list[str] | None, typer.Option("--status", metavar="STATUS", help="rows of this status; repeatable")
    ] = None,
    with_input: Annotated[bool, typer.Option("--with-input", help="with what each row asked")] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="of an unfinished run as well; rows without an outcome are pending")
    ] = False,
    config: Config = None,
    *,
    options: dict[str, Any],
) -> None:
    """The rows of a run as one file, or as JSON lines on stdout."""
    from gemini_batch import runs  # noqa: PLC0415
    from gemini_batch.results import Wanted, write_results  # noqa: PLC0415

    files = runs.find(run, read_options(options, config).runs)
    wanted = Wanted(frozenset(status or ()), with_input, partial)
    rows = write_results(files, to, wanted, sys.stdout.buffer)
    sys.stdout.buffer.flush()
    if to != "-":
        say(f"{rows:,} {'row' if rows == 1 else 'rows'} in {to}")
