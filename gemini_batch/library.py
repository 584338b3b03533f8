"""The library: prompts in, answers out, by the same run that the command makes."""

import dataclasses
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, TypeAdapter

from gemini_batch import inquiries, orders, rundir, runs
from gemini_batch.access import record_of
from gemini_batch.config import GENERATION, OPERATIONAL, Options, resolve, resolve_account
from gemini_batch.errors import BadInput, RunStopped
from gemini_batch.ledger.places import is_url
from gemini_batch.ledger.run import RunFiles
from gemini_batch.parquet import read_blocks
from gemini_batch.parts import PARTS
from gemini_batch.records import Limits
from gemini_batch.reducer.merge import read_json
from gemini_batch.reducer.vote import vote
from gemini_batch.schema.check import instance_of
from gemini_batch.status import Status, is_over

PNG_MODES = {"1", "L", "LA", "P", "RGB", "RGBA"}


@dataclass(frozen=True)
class Row:
    """One row of the dataset; fields as its columns."""

    index: int
    key: str
    status: str
    result: Any
    text: str | None
    error: dict[str, Any] | None
    n_valid: int
    agreement: float | None
    disagreements: list[str] | None
    samples: list[dict[str, Any]] | None
    attempts: int
    round: int
    usage: dict[str, int] | None
    cost_usd: float | None
    finish_reason: str | None
    model_version: str | None
    request_digest: str | None
    kept: dict[str, Any] = field(default_factory=dict)
    """Columns of the manifest that were kept, by name."""


class Run:
    """A run directory, being worked on or finished."""

    def __init__(self, files: RunFiles, runs_root: str = "./runs", broker: str | None = None) -> None:
        self._files = files
        self._shared = {"runs": runs_root, "broker": broker}
        self._driver: runs.Driver | None = None
        self._thread: Thread | None = None
        self._failure: BaseException | None = None
        self._detached = False

    @classmethod
    def open(cls, run: str | Path, runs_root: str = "./runs", broker: str | None = None) -> "Run":
        """Come back to a run by path, URL or id.

        Args:
            broker: of the fleet that works on it, if one does.

        Raises:
            BadInput: there is none.
        """
        return cls(runs.find(str(run), runs_root), runs_root, broker)

    @property
    def path(self) -> Path | str:
        """Where the run directory is: a path, or the URL as text."""
        place = self._files.store.url
        return place if is_url(place) else Path(place)

    @property
    def dataset_path(self) -> Path | str:
        """The directory of the dataset, as `path`. Complete once `_SUCCESS` lies beside it."""
        return f"{self.path}/dataset" if isinstance(self.path, str) else self.path / "dataset"

    @property
    def report(self) -> dict[str, Any] | None:
        """`report.json`; None until the run has finished."""
        return read_json(self._files.store, rundir.REPORT) if self._files.is_finished() else None

    def status(self) -> Status:
        """The object of `status --json`."""
        return inquiries.standing(self._files, resolve(self._shared))

    def resume(self, **options: Any) -> "Run":
        """Go on in the background of this process, or with a broker let the fleet go on. Again does nothing.

        Args:
            options: `project`, as the run was made with, if it was; and anything that says how a run is carried out,
                such as `max_live_jobs`.
        """
        if self._thread is not None and self._detached:
            self._thread.join()
        settings = how_given({**self._shared, **options})
        if self._thread is None or not self._thread.is_alive():
            self._begin(runs.driver(self._files, settings))
        else:  # it hears what is said here
            orders.limits_in_force(self._files, settings)
        return self

    def pause(self) -> "Run":
        """Create no more jobs, whoever works on the run; those that run are collected. `resume` lifts it.

        Raises:
            BadInput: the run is being cancelled.
        """
        orders.pause(self._files)
        return self

    def cancel(self) -> "Run":
        """Create no more jobs, cancel those that run, keep what they hold, and finish: in the background, as `resume`.
        The dataset says `cancelled` of the rest, and `retry` may buy it. `wait()` for it."""
        orders.cancel(self._files)
        if self._thread is None or not self._thread.is_alive():
            self._attend()
        return self

    def retry(
        self,
        status: Sequence[str] = (),
        kind: Sequence[str] = (),
        keys: Sequence[str] | None = None,
        replace: str | Path | None = None,
        **options: Any,
    ) -> "Run":
        """Buy rows of the finished run again, in the background: all that are not ok, or those that meet all that is
        given. What is ok stays, whatever comes. `wait()` for it.

        Args:
            replace: manifest of rows with new content, by key, else by index.
            options: of generation, for these rows; and anything that says how a run is carried out.

        Raises:
            BadInput: the run has not finished, or a key names no row.
        """
        how = {name: value for name, value in options.items() if name not in GENERATION | {"key_column"}}
        how_given({**self._shared, **how})
        settings = resolve({**self._shared, **options})
        place = None if replace is None else str(replace)
        record, key_column = record_of(self._files), settings.given("key_column")
        choice = orders.read_choice(record, list(status), list(kind), None, place, key_column)
        chosen = choice if keys is None else dataclasses.replace(choice, keys=frozenset(keys))
        orders.retry_rows(self._files, settings, chosen)
        return self.resume(**how)

    def wait(self, timeout: float | None = None) -> Status:
        """Block until the run has finished, or for `timeout` seconds. KeyboardInterrupt detaches: `resume` goes on.

        Raises:
            RunStopped: it cannot go on without a person.
        """
        if self._thread is None and not is_over(self.status()):
            self._attend()
        try:
            if self._thread is not None:
                self._thread.join(timeout)
        except KeyboardInterrupt:
            self.detach()
            raise
        if self._failure is not None:
            raise self._failure
        return self.status()

    def _attend(self) -> None:
        """Go on with the run, or watch the fleet that has it."""
        if self._shared["broker"] is None and runs.is_handed_over(self._files, self._shared["runs"] or ""):
            self._begin(runs.watcher(self._files, resolve(self._shared)))
        else:
            self.resume()

    def _begin(self, driver: runs.Driver) -> None:
        self._driver, self._failure, self._detached = driver, None, False
        self._thread = Thread(target=self._drive, args=(driver,), name="gemini-batch-run", daemon=True)
        self._thread.start()

    def detach(self) -> None:
        """Stop working on the run in this process; what is at the service, and with a fleet, goes on."""
        if self._driver is not None:
            self._detached = True
            self._driver.close()

    def results(self) -> Iterator[Row]:
        """The rows in order, a block in memory at a time.

        Raises:
            RunStopped: the run has not finished.
        """
        for name in self._dataset_files():
            with self._files.store.local(name) as path:
                for block in read_blocks(path):
                    yield from (_row(values) for values in block.to_pylist())

    def to_table(self) -> pa.Table:
        """The whole dataset in memory."""
        return pa.concat_tables(self._table(name) for name in self._dataset_files())

    def _table(self, name: str) -> pa.Table:
        with self._files.store.local(name) as path:
            return pq.read_table(path, page_checksum_verification=True)

    def _dataset_files(self) -> list[str]:
        success = read_json(self._files.store, rundir.SUCCESS)
        if success is None:
            raise RunStopped(f"run {self.path} has not finished; wait() for it")
        return [entry["name"] for entry in success["files"]]

    def _drive(self, driver: runs.Driver) -> None:
        try:
            driver.drive()
        except BaseException as error:
            self._failure = error


def distributed_batch_process(
    prompts: Sequence[Sequence[Any]] | str | Path | pa.Table,
    schema: Any = None,
    *,
    n_samples: int | None = None,
    broker: str | None = None,
    max_cost: float | None = None,
    wait: bool = True,
    return_metadata: bool = False,
    **options: Any,
) -> Any:
    """Ask the same of every prompt, as Gemini Batch jobs, and get the answers in the order of the prompts.

    Args:
        prompts: a list of prompts, each a list of str, Path, PIL.Image, bytes or `types.Part`; or the path or URL
            of a manifest; or an Arrow table with its columns.
        schema: a pydantic model, or anything TypeAdapter takes, or `module:Name`, or a schema file; None for text.
        n_samples: answers to ask for each prompt, 1 by default; a result is what most of the valid ones say, field by
            field. `min_valid` of them are needed.
        broker: `redis://` URL of a fleet that does the work, the run directory being where its workers look (`runs`);
            None: this process does it.
        max_cost: USD that the run may cost; needs `max_output_tokens`. A run that meets it raises `RunStopped`, keeps
            all that was paid for, and goes on with a larger one (`Run.resume(max_cost=…)`).
        wait: False returns at once; the run goes on in the background of this process, or with the fleet.
        return_metadata: for a list, return `(results, rows)`.
        options: every option of the command under the same name: `model`, `out`, `temperature`, `max_live_jobs`, …

    Returns:
        For a list and `wait=True`: a list of the same length, an instance of `schema` (or str) per prompt, None where
        it failed. Otherwise a `Run`.

    Raises:
        BadInput: something cannot be carried out as given; nothing was sent.
        CostNotConfirmed: a new run whose high estimate passes `confirm_above` USD (10), without `yes=True` or
            `max_cost`.
        RunStopped: the service refuses the key, the model or the form of the request, or the cap is met.
    """
    given = {**options, "max_cost": max_cost}
    settings = resolve({**given, "n_samples": n_samples, "broker": broker})
    request = runs.read_request(_source(prompts), settings, resolve_account(settings.project), schema, _roots(prompts))
    run = Run(runs.start(request), settings.runs, settings.broker)
    run.resume(project=settings.project, **{name: given[name] for name in given if name in HOW})
    if not wait:
        return run
    run.wait()
    if not _is_list(prompts):
        return run
    rows = list(run.results())
    results, rows = _instances(rows, settings.schema_ if schema is None else schema)
    return (results, rows) if return_metadata else results


HOW = frozenset(Limits.model_fields) | {"media_root"}
"""Options of a call that the driver of its run needs as well."""

FIXED = frozenset(one.name for one in dataclasses.fields(Row)) - {"kept"}


def _row(values: dict[str, Any]) -> Row:
    own = {name: value for name, value in values.items() if name in FIXED}
    return Row(**own, kept={name: value for name, value in values.items() if name not in FIXED})


def how_given(options: dict[str, Any]) -> Options:
    """Options that say how a run is carried out, and by whom.

    Raises:
        BadInput: an option that may not change, or a value out of range.
    """
    for name, value in options.items():
        if value is not None and name not in OPERATIONAL | {"project"}:
            raise BadInput(f"{name} belongs to what the run asks for and cannot change; submit anew")
    return resolve(options)


def _is_list(prompts: Any) -> bool:
    return not isinstance(prompts, str | Path | pa.Table)


def _source(prompts: Any) -> str | pa.Table:
    if isinstance(prompts, pa.Table):
        return prompts
    if not _is_list(prompts):
        return str(prompts)
    if not prompts:
        raise BadInput("prompts is empty")
    parts = [
        [_part(part, row, at) for at, part in enumerate(_prompt(prompt, row))] for row, prompt in enumerate(prompts)
    ]
    try:
        return pa.table({"parts": pa.array(parts, PARTS)})
    except UnicodeEncodeError as error:
        raise BadInput(f"a prompt holds text that is not Unicode (a lone surrogate): {error}") from None


def _roots(prompts: Any) -> tuple[Path, ...] | None:
    """A list's paths were written by the caller and may lie anywhere; they are made absolute."""
    return (Path("/"),) if _is_list(prompts) else None


def _prompt(prompt: Any, row: int) -> Sequence[Any]:
    if isinstance(prompt, list | tuple):
        return prompt
    raise BadInput(f"prompt {row} is a {type(prompt).__name__}; a prompt is a list of parts, such as [{prompt!r:.40}]")


def _part(part: Any, row: int, at: int) -> dict[str, Any]:
    """One part of a list prompt as a part of the manifest."""
    if isinstance(part, str):
        return {"text": part}
    if isinstance(part, Path):
        return {"path": str(part.absolute())}
    if isinstance(part, bytes | bytearray | memoryview):
        return {"data": bytes(part)}
    if hasattr(part, "save") and hasattr(part, "convert"):  # PIL.Image without importing it for text-only callers
        return {"data": _png(part)}
    if type(part).__name__ == "Part" and type(part).__module__.startswith("google.genai"):
        return _of_sdk_part(part, row, at)
    raise BadInput(
        f"prompt {row}, part {at} is a {type(part).__name__}; parts are str, Path, PIL.Image, bytes or types.Part"
    )


def _of_sdk_part(part: Any, row: int, at: int) -> dict[str, Any]:
    if part.text is not None:
        return {"text": part.text}
    if part.inline_data is not None:
        return {"data": part.inline_data.data, "mime_type": part.inline_data.mime_type}
    if part.file_data is not None:
        return {"uri": part.file_data.file_uri, "mime_type": part.file_data.mime_type}
    raise BadInput(f"prompt {row}, part {at}: a types.Part of text, inline_data or file_data is due")


def _png(picture: Any) -> bytes:
    body = io.BytesIO()
    kept = picture if picture.mode in PNG_MODES else picture.convert("RGB")
    kept.save(body, "PNG")
    return body.getvalue()


def _instances(rows: list[Row], schema: Any) -> tuple[list[Any], list[Row]]:
    """Results as instances of a Python type, which may refuse what its JSON Schema let pass.

    A schema given by name or file gives what the dataset holds.
    """
    if schema is None or isinstance(schema, str):
        return [row.result for row in rows], rows
    adapter = TypeAdapter(schema)
    pairs = [_instance(row, adapter) for row in rows]
    return [result for result, _ in pairs], [row for _, row in pairs]


def _voted(row: Row, samples: list[dict[str, Any]], adapter: TypeAdapter[Any]) -> Any:
    """The valid samples' instances as one, by the vote that made the row.

    Where no sample has it all, a model is a copy of the nearest one with the other samples' fields.
    """
    instances = [instance_of(adapter, sample["text"]) for sample in samples if sample["status"] == "ok"]
    dumps = [adapter.dump_python(instance, mode="json") for instance in instances]
    found = vote(dumps, isinstance(row.result, dict))
    nearest = instances[found.winner]
    if found.value is dumps[found.winner]:
        return nearest
    if not isinstance(nearest, BaseModel):
        return adapter.validate_python(found.value)
    own = [name for name in found.value if name in type(nearest).model_fields]
    places = {name: next(at for at, dump in enumerate(dumps) if dump[name] == found.value[name]) for name in own}
    return nearest.model_copy(update={name: getattr(instances[place], name) for name, place in places.items()})


def _instance(row: Row, adapter: TypeAdapter[Any]) -> tuple[Any, Row]:
    if row.status != "ok":
        return None, row
    try:
        if row.samples is not None:
            return _voted(row, row.samples, adapter), row
        return instance_of(adapter, row.text or ""), row
    except Exception as error:  # the class's own validators may raise anything
        reason = {"kind": "schema_invalid", "code": None, "message": str(error)}
        return None, dataclasses.replace(row, status="invalid", result=None, error=reason, n_valid=0, agreement=None)
