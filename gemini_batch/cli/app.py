"""The application: what it is called, how it ends. Every error of ours is one message without a traceback."""

import os
import signal
import sys
import warnings
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from gemini_batch._version import __version__
from gemini_batch.errors import BadInput, GeminiBatchError

app = typer.Typer(
    name="gemini-batch-dist",
    help="A manifest of prompts in, one aligned dataset out, over the Gemini Batch API, whatever dies in between.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
err = Console(stderr=True)

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


def _warn(message: str) -> None:
    err.print(f"[yellow]warning[/]: {plain(message)}", soft_wrap=True, highlight=False)


def fail(message: str, code: int) -> NoReturn:
    err.print(f"[red]error[/]: {plain(message)}", soft_wrap=True, highlight=False)
    sys.exit(code)


def plain(text: str) -> str:
    """Text that no console markup or control character can hide in."""
    return printable(text).replace("[", r"\[")


def printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
