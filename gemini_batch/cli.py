"""The command `gemini-batch-dist`: arguments in, exit code out, everything else is done elsewhere.

Results for programs go to stdout, words for people to stderr. Every error of ours is one message without a traceback.
"""

import json
import os
import signal
import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from gemini_batch._version import __version__
from gemini_batch.ask import asker
from gemini_batch.config import GENERATION, OF_WORKERS, OPERATIONAL, Options, resolve, resolve_account, variable
from gemini_batch.emulator.command import emulator
from gemini_batch.errors import BadInput, GeminiBatchError, RunStopped
from gemini_batch.flags import AsJson, CheckMedia, Config, JobHours, ManifestPath, RunName, Show, Simulate, with_options
from gemini_batch.fleet.broker import read_broker

app = typer.Typer(
    name="gemini-batch-dist",
    help="A manifest of prompts in, one aligned dataset out, over the Gemini Batch API, whatever dies in between.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
err = Console(stderr=True)

EXIT_STOPPED, EXIT_FINDINGS, EXIT_BAD_INPUT, EXIT_SOME_FAILED = 1, 1, 2, 3


class Interrupted(BaseException):
    """SIGTERM; like KeyboardInterrupt, but says which."""


def main() -> NoReturn:
    """Run the command and exit with a code of the contract."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    warnings.showwarning = lambda message, *_, **__: _warn(str(message))
    try:
        app()
    except BadInput as error:
        _fail(str(error), EXIT_BAD_INPUT)
    except GeminiBatchError as error:
        _fail(str(error), EXIT_STOPPED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_STOPPED)
    except OSError as error:
        _fail(str(error), EXIT_STOPPED)
    except KeyboardInterrupt:
        sys.exit(130)
    except Interrupted:
        sys.exit(143)
    sys.exit(0)


def _on_sigterm(signum: int, frame: FrameType | None) -> None:
    raise Interrupted


def _warn(message: str) -> None:
    err.print(f"[yellow]warning[/]: {_plain(message)}", soft_wrap=True, highlight=False)


def _fail(message: str, code: int) -> NoReturn:
    err.print(f"[red]error[/]: {_plain(message)}", soft_wrap=True, highlight=False)
    sys.exit(code)


def _plain(text: str) -> str:
    """Text that no console markup or control character can hide in."""
    return _printable(text).replace("[", r"\[")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


# --- commands ---------------------------------------------------------------------------------------------------------


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
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

    settings = resolve(options, config)
    request = runs.read_request(manifest, settings, resolve_account(settings.project, key_needed=False))
    closer = Closer(simulate, job_hours, show, check_media)
    for text in [json.dumps(plan_as_json(request, closer))] if as_json else plan_in_words(request, closer):
        typer.echo(_printable(text))


@app.command()
@with_options()
def submit(
    manifest: ManifestPath,
    config: Config = None,
    detach: Annotated[bool, typer.Option("--detach", help="leave the run to the workers (needs --broker)")] = False,
    as_json: AsJson = False,
    *,
    options: dict[str, Any],
) -> None:
    """Plan, run and merge. The same command again resumes and buys nothing. With --broker, workers do the work."""
    from gemini_batch import runs  # noqa: PLC0415

    settings = resolve(options, config)
    account = resolve_account(settings.project)
    if detach and not settings.broker:
        raise BadInput("--detach needs --broker: without one this process does the work")
    if settings.broker:
        read_broker(settings.broker).ping()
    files = runs.start(runs.read_request(manifest, settings, account), asker(err))
    _drive(files, settings, as_json, detach)


@app.command()
@with_options(OPERATIONAL | {"project"})
def resume(run: RunName = None, config: Config = None, as_json: AsJson = False, *, options: dict[str, Any]) -> None:
    """Go on with a run, whatever ended it."""
    from gemini_batch import runs  # noqa: PLC0415

    settings = resolve(options, config)
    _drive(runs.find(run, settings.runs), settings, as_json)


@app.command()
@with_options(OPERATIONAL | GENERATION | {"project", "key_column"})
def retry(
    run: RunName = None,
    status: Annotated[list[str] | None, typer.Option(help="rows of this status; repeatable")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="rows that failed for this reason; repeatable")] = None,
    keys: Annotated[Path | None, typer.Option(metavar="FILE", help="rows of these keys, one a line")] = None,
    replace: Annotated[
        str | None, typer.Option(metavar="MANIFEST", help="rows with new content, by key, else by index")
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
    *,
    options: dict[str, Any],
) -> None:
    """Buy rows of a finished run again: all that are not ok, or those that are named. What is ok stays."""
    from gemini_batch import runs  # noqa: PLC0415

    settings = resolve(options, config)
    files = runs.find(run, settings.runs)
    choice = runs.read_choice(status or [], kind or [], keys, replace, settings.key_column)
    rows = runs.retry_rows(files, settings, choice)
    said = "no row is to be bought again" if not rows else f"buying {rows:,} {'row' if rows == 1 else 'rows'} again"
    err.print(said, highlight=False)
    _drive(files, settings, as_json)


@app.command()
@with_options(frozenset({"runs", "broker"}))
def status(run: RunName = None, config: Config = None, as_json: AsJson = False, *, options: dict[str, Any]) -> None:
    """How a run stands, by its directory; with --broker also which workers there are and what troubles them."""
    from gemini_batch import runs  # noqa: PLC0415

    settings = resolve(options, config)
    now = runs.standing(runs.find(run, settings.runs), settings)
    if as_json:
        typer.echo(json.dumps(now))
        return
    for text in _told(now):
        typer.echo(text)


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
        typer.echo(_printable(text))


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
    from gemini_batch import runs  # noqa: PLC0415
    from gemini_batch.audit.report import audit_in_words  # noqa: PLC0415

    settings = resolve(options, config)
    files = runs.find(run, settings.runs)
    with err.status("auditing") as told:
        found = runs.audit_run(files, settings, offline, lambda done, of: told.update(f"{done:,} of {of:,} shards"))
    _tell(found, audit_in_words(found), as_json)


@app.command()
@with_options(frozenset({"runs", "broker", "project"}))
def doctor(config: Config = None, as_json: AsJson = False, *, options: dict[str, Any]) -> None:
    """What the provider holds and no run wants, stuck shards, wrong keys. Changes nothing. Exits 0 if all is well."""
    from gemini_batch import runs  # noqa: PLC0415
    from gemini_batch.doctor.report import diagnosis_in_words  # noqa: PLC0415

    found = runs.diagnose(resolve(options, config))
    _tell(found, diagnosis_in_words(found), as_json)


@app.command(context_settings={"allow_extra_args": True})
@with_options(OF_WORKERS)
def worker(
    context: typer.Context,
    config: Config = None,
    concurrency: Annotated[int | None, typer.Option("-c", "--concurrency", min=1, help="processes")] = None,
    queues: Annotated[str, typer.Option("-Q", "--queues", help="queues to listen to")] = "gemini-batch",
    hostname: Annotated[str | None, typer.Option("-n", "--hostname", help="name of the worker")] = None,
    pool: Annotated[str, typer.Option("-P", "--pool", help="prefork, threads or solo")] = "prefork",
    loglevel: Annotated[str, typer.Option("-l", "--loglevel", help="DEBUG, INFO, WARNING, ERROR")] = "WARNING",
    *,
    options: dict[str, Any],
) -> None:
    """A worker: any number, on any number of machines that share --runs. Further options of Celery's after --."""
    from gemini_batch.clock import SystemClock  # noqa: PLC0415
    from gemini_batch.gemini.roots import media_roots  # noqa: PLC0415
    from gemini_batch.supervise import Supervisor, worker_command, worker_environment  # noqa: PLC0415

    settings = resolve(options, config)
    resolve_account(settings.project)
    if settings.broker is None:
        raise BadInput("a worker needs --broker (or GEMINI_BATCH_BROKER_URL)")
    read_broker(settings.broker)
    _prove(settings.runs)
    named = {
        "--concurrency": concurrency,
        "--queues": queues,
        "--hostname": hostname,
        "--pool": pool,
        "--loglevel": loglevel,
    }
    arguments = [f"{flag}={value}" for flag, value in named.items() if value is not None]
    told = {"broker": settings.broker, "runs": settings.runs, "project": settings.project}
    environment = {variable(name): value for name, value in told.items() if value is not None}
    environment[variable("allow_schema")] = ",".join(settings.allow_schema)
    environment[variable("allow_http")] = str(settings.allow_http)
    media_roots((), settings.media_root)
    environment[variable("media_root")] = ",".join(settings.media_root)
    Supervisor(
        worker_command([*arguments, "--without-gossip", "--without-mingle", "--without-heartbeat", *context.args]),
        worker_environment(environment),
        SystemClock(),
    ).run()


app.command()(emulator)


@app.command()
def demo(
    rows: Annotated[int, typer.Option(min=1, help="prompts")] = 10_000,
    keep: Annotated[
        Path | None, typer.Option(help="directory for the manifest and the run; a new one if not given")
    ] = None,
) -> None:
    """10,000 prompts of real text and pictures through the local emulator."""
    from gemini_batch.demo import run_demo  # noqa: PLC0415

    run_demo(rows, keep)


def _prove(runs_root: str) -> None:
    """Refuse a place where two workers could both win the right to buy the same shard."""
    from gemini_batch.ledger.places import open_store  # noqa: PLC0415
    from gemini_batch.ledger.probe import probe  # noqa: PLC0415

    try:
        probe(open_store(runs_root))
    except OSError as error:
        raise BadInput(f"--runs {runs_root}: {error}") from None


def _tell(found: dict[str, Any], words: list[str], as_json: bool) -> NoReturn:
    """What an audit or a diagnosis found, and the exit code that says whether it found anything."""
    for text in [json.dumps(found)] if as_json else words:
        typer.echo(_printable(text))
    sys.exit(0 if found["clean"] else EXIT_FINDINGS)


# --- driving ----------------------------------------------------------------------------------------------------------


def _drive(files: Any, settings: Options, as_json: bool, detach: bool = False) -> NoReturn:
    """Take a run to its end, or until interrupted, and exit by the contract."""
    from gemini_batch import runs  # noqa: PLC0415
    from gemini_batch.access import record_of  # noqa: PLC0415
    from gemini_batch.clock import SystemClock  # noqa: PLC0415
    from gemini_batch.progress import progress_for  # noqa: PLC0415

    record = record_of(files)
    if not files.is_finished():
        err.print(f"run {record.run_id} in {_plain(files.store.url)}", highlight=False, soft_wrap=True)
    driver = runs.driver(files, settings)
    if detach:
        _detach(driver, 0, as_json)
    try:
        with progress_for(err, SystemClock()) as watch:
            final = driver.drive(watch)
    except RunStopped:
        if as_json:
            typer.echo(json.dumps(driver.status()))
        raise
    except (KeyboardInterrupt, Interrupted) as interrupt:
        _detach(driver, 143 if isinstance(interrupt, Interrupted) else 130, as_json)
    _finish(final, settings, as_json)


def _detach(driver: Any, code: int, as_json: bool) -> NoReturn:
    """Leave, whatever is under way: nothing that matters is in memory alone."""
    driver.close()
    run = driver.status()
    err.print(f"\n{driver.farewell} {_plain(run['run'])}", highlight=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps({**run, "exit_code": code}))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _finish(final: dict[str, Any], settings: Options, as_json: bool) -> NoReturn:
    failed, total = final["rows"]["failed"], final["rows"]["total"]
    if final["exit_code"] == EXIT_SOME_FAILED and failed <= settings.allowed_failures(total):
        final = {**final, "exit_code": 0}
    if as_json:
        typer.echo(json.dumps(final))
    else:
        for text in _told(final):
            err.print(_plain(text), highlight=False, soft_wrap=True)
    sys.exit(final["exit_code"])


def _told(status: dict[str, Any]) -> list[str]:
    """A status in a few lines."""
    from gemini_batch.progress import line  # noqa: PLC0415

    said = [f"run {status['run_id']} in {status['run']}", line(status)]
    if status["dataset"]:
        said.append(f"dataset: {status['dataset']}")
    said += [f"{problem['what']}: {problem['fix']}" for problem in status["problems"]]
    if status["rows"]["failed"]:
        said.append("rows that are not ok say why in the columns status and error")
    return said
