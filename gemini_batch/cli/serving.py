"""Commands that go on until they are told to end: worker, emulator; and the demo."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gemini_batch.cli.app import app, read_options
from gemini_batch.cli.examples import epilog
from gemini_batch.config import OF_WORKERS, resolve_account
from gemini_batch.emulator.command import emulator
from gemini_batch.errors import BadInput
from gemini_batch.flags import Config, with_options
from gemini_batch.fleet.broker import read_broker
from gemini_batch.given import variable


@app.command(epilog=epilog("worker"), context_settings={"allow_extra_args": True})
@with_options(OF_WORKERS, of_calls=frozenset())
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

    settings = read_options(options, config)
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
    told = {name: getattr(settings, name) for name in ("broker", "runs", "project", "log_format")}
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


app.command(short_help="A Gemini Batch API on this machine, without a key.")(emulator)


@app.command(epilog=epilog("demo"))
def demo(
    rows: Annotated[int, typer.Option(min=1, help="prompts")] = 10_000,
    keep: Annotated[
        Path | None, typer.Option(help="directory for the manifest and the run; a new one if not given")
    ] = None,
) -> None:
    """Send 10,000 prompts through the local emulator. Real text and pictures; no key, no cost."""
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
