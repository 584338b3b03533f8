"""One call from prompts to answers."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Unpack

import orjson
import pyarrow as pa

from gemini_batch.config import resolve_account
from gemini_batch.errors import BadInput, RunStopped
from gemini_batch.fleet.broker import read_broker
from gemini_batch.library.handle import Run
from gemini_batch.library.keywords import SubmitKeywords, refuse_unknown, settings_of
from gemini_batch.library.prompts import is_list, read_source, roots_of
from gemini_batch.library.rows import instances
from gemini_batch.runs import read_request, start
from gemini_batch.status import is_over

OWN = frozenset({"prompts", "schema", "wait", "progress", "return_metadata"})
"""Keywords that are none of the command's options, or mean more."""


def distributed_batch_process(
    prompts: Iterable[Sequence[Any]] | str | Path | pa.Table | Any,
    schema: Any = None,
    *,
    wait: bool = True,
    progress: bool = True,
    return_metadata: bool = False,
    **options: Unpack[SubmitKeywords],
) -> Any:
    """Ask the same of every prompt, as Gemini Batch jobs, and get the answers in the order of the prompts. The same
    call again goes on with the same run, and buys nothing that was bought.

    Args:
        prompts: a list of prompts, each a list of str, Path, PIL.Image, bytes or `types.Part`; or the path or URL
            of a manifest; or a table with its columns: of Arrow, pandas, polars, DuckDB, or anything else that hands
            itself over as Arrow.
        schema: a pydantic model, or anything TypeAdapter takes, or `module:Name`, or a schema file; None for text.
        wait: False returns at once; the run goes on in the background of this process, or with the fleet.
        progress: show it while waiting, on stderr or below the cell of a notebook.
        return_metadata: for a list, return `(results, rows)`.
        options: every option of the command `submit` under the same name:
            `model`, `temperature`, `max_output_tokens`, … as in the command;
            `n_samples`: answers to ask for each prompt, 1 by default; a result is what most of the valid ones say,
            field by field; `min_valid` of them are needed;
            `out`: path or URL of the run directory; by default one below `runs`, by what is asked;
            `broker`: `redis://` URL of a fleet that does the work, the run directory being where its workers look
            (`runs`); by default this process does it; `detach=True` leaves the run to it, as `wait=False` does;
            `max_cost`: USD that the run may cost; needs `max_output_tokens`. A run that meets it raises `RunStopped`,
            keeps all that was paid for, and goes on with a larger one (`Run.resume(max_cost=…)`);
            `json=True`: print the final status as one JSON object on stdout.

    Returns:
        For a list and `wait=True`: a list of the same length, an instance of `schema` (or str) per prompt, None where
        it failed. Otherwise a `Run`.

    Raises:
        BadInput: something cannot be carried out as given; nothing was sent.
        CostNotConfirmed: a new run whose high estimate passes `confirm_above` USD (10), without `yes=True` or
            `max_cost`.
        RunStopped: the service refuses the key, the model or the form of the request, or the cap is met.
        UnknownOption: there is no such keyword; names the nearest one.
    """
    given = {name: value for name, value in options.items() if value is not None}
    refuse_unknown(given, OWN | SubmitKeywords.__annotations__.keys())
    detach, as_json = given.pop("detach", False), given.pop("json", False)
    settings = settings_of(given)
    if detach and not settings.broker:
        raise BadInput("detach=True needs broker: without one this process does the work")
    if settings.broker:
        read_broker(settings.broker).ping()
    account = resolve_account(settings.project)
    request = read_request(read_source(prompts), settings, account, schema, roots_of(prompts))
    run = Run(start(request), settings.runs, settings.broker, settings.project).go_on(settings)
    final = run.wait(progress=progress) if wait and not detach else None
    if as_json:
        sys.stdout.write(orjson.dumps(final or run.status(), option=orjson.OPT_APPEND_NEWLINE).decode())
    if final is None or not is_list(prompts):
        return run
    if not is_over(final):
        raise RunStopped(f"run {run.path}: {final['reason'] or final['state']}; go on with {run!r}.resume().wait()")
    results, rows = instances(list(run.results()), settings.schema_ if schema is None else schema)
    return (results, rows) if return_metadata else results
