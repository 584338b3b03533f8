"""The options of the command as flags: declared once, in `config.Options`; a few are of the command alone."""

import inspect
import os
from collections.abc import Callable
from functools import wraps
from glob import escape
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from gemini_batch.config import OF_CALLS, OF_RUNS, OPERATIONAL, Options, option_name
from gemini_batch.given import ENV_PREFIX, variable
from gemini_batch.ledger.places import is_url
from gemini_batch.rundir import RUN


def complete_run(incomplete: str) -> list[str]:
    """Ids of runs below the root, for a shell. A root at a URL would take too long."""
    root = os.environ.get(variable("runs"), Options.model_fields["runs"].default)
    if is_url(root):
        return []
    return sorted(path.parent.name for path in Path(root).glob(f"{escape(incomplete)}*/{RUN}"))


Config = Annotated[Path | None, typer.Option("--config", metavar="FILE.toml", help="settings, flat snake_case keys")]
AsJson = Annotated[
    bool,
    typer.Option("--json", envvar=f"{ENV_PREFIX}JSON", show_envvar=False, help="print one JSON object on stdout"),
]
Detach = Annotated[
    bool,
    typer.Option(
        "--detach",
        envvar=f"{ENV_PREFIX}DETACH",
        show_envvar=False,
        help="leave the run to the workers (needs --broker)",
    ),
]
Simulate = Annotated[bool, typer.Option("--simulate", help="say how long it may take, by a simulation")]
JobHours = Annotated[
    float | None,
    typer.Option(min=0.01, max=48, metavar="X", help="with --simulate: what half of the jobs take at most (default 4)"),
]
Show = Annotated[int, typer.Option("--show", min=0, metavar="N", help="the first N lines as they would be sent")]
CheckMedia = Annotated[bool, typer.Option("--check-media", help="open every picture and list bad rows")]
ManifestPath = Annotated[
    str,
    typer.Argument(
        metavar="MANIFEST",
        help="path or URL of Parquet, JSONL, CSV or Arrow files of prompts: a file, a directory, a glob in quotes",
    ),
]
RunName = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN", help="path, URL or id; the newest below --runs if not given", autocompletion=complete_run
    ),
]


def with_options(
    only: frozenset[str] = OF_RUNS, of_calls: frozenset[str] = OF_CALLS
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command a flag for each of these fields of `Options`, passed on as the dict `options`."""
    fields = {name: field for name, field in Options.model_fields.items() if name in only | of_calls}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = [p for p in inspect.signature(command).parameters.values() if p.name != "options"]
        flags = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_flag(name))
            for name in fields
        ]

        @wraps(command)
        def wrapped(**given: Any) -> Any:
            typed = {option_name(name): given.pop(name) for name in fields if name in given}
            typed = {name: value for name, value in typed.items() if value not in (None, [], ())}
            return command(**given, options=typed)

        kept = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        wrapped.__signature__ = inspect.Signature([*kept, *flags])  # type: ignore[attr-defined]
        return wrapped

    return decorate


def _flag(name: str) -> Any:
    """A field of `Options` as a typer annotation. Types and ranges are checked by `Options`, in one place."""
    field = Options.model_fields[name]
    flag = "--" + option_name(name).replace("_", "-")
    default = "" if field.default in (None, (), False) else f" (default {field.default})"
    about = (field.description or "") + default
    if field.annotation is bool and name in OPERATIONAL:
        return Annotated[bool | None, typer.Option(f"{flag}/{flag.replace('--', '--no-')}", help=about)]
    if field.annotation is bool:
        return Annotated[bool | None, typer.Option(flag, help=about)]
    if get_origin(field.annotation) is tuple:
        return Annotated[list[str] | None, typer.Option(flag, help=about, metavar=_metavar(field))]
    return Annotated[str | None, typer.Option(flag, help=about, metavar=_metavar(field))]


def _metavar(field: FieldInfo) -> str:
    if field.examples:
        return str(field.examples[0])
    annotation = field.annotation
    choices = [
        value for part in (annotation, *get_args(annotation)) for value in get_args(part) if isinstance(value, str)
    ]
    if choices:
        return "|".join(choices)
    kinds = {int: "N", float: "X", Path: "PATH"}
    return next((kinds[kind] for kind in (annotation, *get_args(annotation)) if kind in kinds), "TEXT")
