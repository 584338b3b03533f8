"""The command `gemini-batch-dist emulator`: flags and a TOML file in, a served emulator."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gemini_batch.errors import BadInput

if TYPE_CHECKING:
    from gemini_batch.emulator.settings import EmulatorSettings

_SPAN = "seconds, uniform:LEAST:MOST, exponential:MEAN or lognormal:MEDIAN:SIGMA"


def emulator(
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 8765,
    allow_remote: Annotated[bool, typer.Option(help="listen on an address other machines reach")] = False,
    state: Annotated[Path | None, typer.Option(metavar="DIR", help="keep jobs and files over a restart")] = None,
    answers: Annotated[
        str | None, typer.Option(metavar="MODULE:FUNCTION|FILE.jsonl", help="answer with these; the rest is made up")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="settings by name, and tables of faults; flags win")
    ] = None,
    fault: Annotated[
        list[str] | None, typer.Option(metavar="NAME[,times=N,…]", help="something that goes wrong; repeatable")
    ] = None,
    chaos: Annotated[
        float | None, typer.Option(min=0, max=1, help="share of all things that meet a survivable fault")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="answers depend on it and on the request alone")] = None,
    job_seconds: Annotated[float | None, typer.Option(min=0, help="from a job's create to its end")] = None,
    queue_seconds: Annotated[str | None, typer.Option(metavar="SPAN", help=f"time PENDING: {_SPAN}")] = None,
    run_seconds: Annotated[str | None, typer.Option(metavar="SPAN", help="time RUNNING, said likewise")] = None,
    speed: Annotated[float | None, typer.Option(help="virtual seconds in a second")] = None,
    max_live_jobs: Annotated[int | None, typer.Option(min=0, help="more get 429; 100 if not given")] = None,
    max_enqueued_tokens: Annotated[
        list[str] | None, typer.Option(metavar="[MODEL=]N", help="input tokens of live jobs of a model; repeatable")
    ] = None,
    max_creates_per_day: Annotated[int | None, typer.Option(min=0, help="more in any 24 hours get 429")] = None,
    max_file_bytes: Annotated[int | None, typer.Option(min=1, help="largest upload")] = None,
    max_stored_bytes: Annotated[int | None, typer.Option(min=1, help="all files of a project together")] = None,
    api_key: Annotated[list[str] | None, typer.Option(help="accept only this; repeatable")] = None,
) -> None:
    """A Gemini Batch API on this machine, for trying and testing without a key."""
    from gemini_batch.emulator.given import read_settings  # noqa: PLC0415 - so that --help of all commands is quick
    from gemini_batch.emulator.settings import SettingsError  # noqa: PLC0415

    typed = {
        "chaos": chaos,
        "seed": seed,
        "job_seconds": job_seconds,
        "queue_seconds": queue_seconds,
        "run_seconds": run_seconds,
        "speed": speed,
        "max_live_jobs": max_live_jobs,
        "max_enqueued_tokens": max_enqueued_tokens or None,
        "max_creates_per_day": max_creates_per_day,
        "max_file_bytes": max_file_bytes,
        "max_stored_bytes": max_stored_bytes,
        "api_keys": api_key or None,
    }
    try:
        settings = read_settings(typed, config, fault or [])
    except SettingsError as error:
        raise BadInput(str(error)) from None
    _serve(settings, answers, host=host, port=port, allow_remote=allow_remote, state=state)


def _serve(settings: "EmulatorSettings", answers: str | None, **where: Any) -> None:
    try:
        from gemini_batch.emulator.canned import load_answers  # noqa: PLC0415 - the extra may be missing
        from gemini_batch.emulator.server import EmulatorError, serve  # noqa: PLC0415
        from gemini_batch.emulator.settings import SettingsError  # noqa: PLC0415
    except ImportError as error:
        raise BadInput(
            f"the emulator needs an extra: pip install 'gemini-batch-dist[emulator]' ({error.name})"
        ) from None
    try:
        serve(settings, answers=load_answers(answers) if answers else None, **where)
    except (EmulatorError, SettingsError) as error:
        raise BadInput(str(error)) from None
