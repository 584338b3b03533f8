"""The application: what it is called, how it ends. Every error of ours is one message without a traceback."""

import logging
import os
import signal
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from gemini_batch._version import __version__
from gemini_batch.cli.examples import epilog
from gemini_batch.config import Options, resolve
from gemini_batch.errors import BadInput, GeminiBatchError
from gemini_batch.logs import FIELDS, printable, set_up

app = typer.Typer(
    name="gemini-batch-dist",
    help="A manifest of prompts in, one aligned dataset out, over the Gemini Batch API, whatever dies in between.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=epilog(""),
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
err = Console(stderr=True)
log = logging.getLogger(__name__)

MARKS = {logging.WARNING: "[yellow]warning[/]", logging.ERROR: "[red]error[/]"}


@dataclass
class _Stderr:
    for_programs: bool = False


_stderr = _Stderr()

EXIT_STOPPED, EXIT_FINDINGS, EXIT_BAD_INPUT, EXIT_SOME_FAILED, EXIT_NOT_FINISHED = 1, 1, 2, 3, 4


class Interrupted(BaseException):
    """SIGTERM; like KeyboardInterrupt, but says which."""


def main() -> NoReturn:
    """Run the command and exit with a code of the contract."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    warnings.showwarning = lambda message, *_, **__: _warn(str(message))
    try:
        app()
    except BadInput as error:
        fail(str(error), EXIT_BAD_INPUT)
    except GeminiBatchError as error:
        fail(str(error), EXIT_STOPPED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_STOPPED)
    except OSError as error:
        fail(str(error), EXIT_STOPPED)
    except KeyboardInterrupt:
        sys.exit(130)
    except Interrupted:
        sys.exit(143)
    sys.exit(0)


def _on_sigterm(signum: int, frame: FrameType | None) -> None:
    raise Interrupted


def read_options(options: dict[str, Any], config: Path | None = None) -> Options:
    """The options in force. From here on stderr is written as they say."""
    settings = resolve(options, config)
    set_up(settings.log_level, settings.log_format)
    _stderr.for_programs = settings.log_format == "json"
    return settings


def logs_json() -> bool:
    """Whether stderr is for programs."""
    return _stderr.for_programs


def say(text: str, level: int = logging.INFO, **fields: Any) -> None:
    """Tell people, or with `--log-format json` whoever reads logs.

    Args:
        fields: what else the object holds.
    """
    if logs_json():
        log.log(level, printable(text).strip(), extra={FIELDS: fields})
        return
    mark = f"{MARKS[level]}: " if level in MARKS else ""
    err.print(f"{mark}{plain(text)}", soft_wrap=True, highlight=False)


def _warn(message: str) -> None:
    say(message, logging.WARNING)


def fail(message: str, code: int) -> NoReturn:
    say(message, logging.ERROR, exit_code=code)
    sys.exit(code)


def plain(text: str) -> str:
    """Text that no console markup or control character can hide in."""
    return printable(text).replace("[", r"\[")


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
