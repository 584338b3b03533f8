"""The handle of a run: how it stands, its rows, and what a person may tell it."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace as with_fields
from html import escape
from math import inf
from pathlib import Path
from typing import Any, Unpack

import pyarrow as pa

from gemini_batch import orders, rundir
from gemini_batch.access import record_of
from gemini_batch.config import GENERATION, Options
from gemini_batch.coordinator.differ import changes
from gemini_batch.errors import GeminiBatchError, RunStopped
from gemini_batch.inquiries import standing
from gemini_batch.ledger.places import is_url
from gemini_batch.ledger.run import RunFiles
from gemini_batch.library.keywords import HowKeywords, RetryKeywords, refuse_unknown, settings_of, settings_of_how
from gemini_batch.library.prompts import read_replacement
from gemini_batch.library.rows import Row, rows_in, typed
from gemini_batch.library.shown import as_html, tell, watching
from gemini_batch.library.work import Work
from gemini_batch.records import Limits
from gemini_batch.reducer.merge import read_json
from gemini_batch.results import Wanted, rows_of, schema_of, write_results
from gemini_batch.runs import Driver, driver, find, hurry, is_handed_over, watcher
from gemini_batch.status import Status, forgiven, is_held_back, is_over

log = logging.getLogger(__name__)

Names = str | Iterable[str]
"""One name, or several."""

SHARED = ("runs", "broker", "project", "media_root", "allow_failed")
"""Options that hold for all that is done with a handle, once they were given."""


class Run:
    """A run directory, being worked on or finished."""

    def __init__(
        self, files: RunFiles, runs: str | Path | None = None, broker: str | None = None, project: str | None = None
    ) -> None:
        self._files = files
        self._shared: dict[str, Any] = {"runs": runs, "broker": broker, "project": project}
        self._settings = settings_of(self._shared)
        self._as_logs = self._settings.log_format == "json"
        self._work: Work | None = None

    @classmethod
    def open(
        cls,
        run: str | Path | None = None,
        runs: str | Path | None = None,
        broker: str | None = None,
        project: str | None = None,
    ) -> "Run":
        """Come back to a run.

        Args:
            run: its path, URL or id; the newest below `runs` by default.
            runs: path or URL of the runs root; by default GEMINI_BATCH_RUNS, else `./runs`.
            broker: of the fleet that works on it, if one does; by default GEMINI_BATCH_BROKER_URL.
            project: as the run was made with, if it was.

        Raises:
            BadInput: there is none.
        """
        root = settings_of({"runs": runs}).runs
        return cls(find(None if run is None else str(run), root), root, broker, project)

    def __repr__(self) -> str:
        return f"Run.open({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """How it stands, for notebooks."""
        try:
            return as_html(self.status())
        except (GeminiBatchError, OSError) as error:
            return f"<div>{escape(f'{self!r}: {error}')}</div>"

    # --- how it stands ------------------------------------------------------------------------------------------------

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
        found = standing(self._files, self._settings)
        return forgiven(found, self._settings.allowed_failures(found["rows"]["total"]))

    # --- what it is told ----------------------------------------------------------------------------------------------

    def resume(self, *, once: bool = False, **options: Unpack[HowKeywords]) -> "Run":
        """Go on in the background of this process, or with a broker let the fleet go on. Lifts a pause. Again does
        nothing.

        Args:
            once: do what is due now, before it returns, and leave the rest. A pause stays.
            options: anything that says how a run is carried out, such as `max_live_jobs`.

        Raises:
            BadInput: an option that belongs to what the run asks; another project's run.
        """
        return self.go_on(settings_of_how({**self._shared, **_given(options)}), once=once)

    def go_on(self, settings: Options, once: bool = False) -> "Run":
        """The same with settings that were read before."""
        self._settings = settings
        self._shared |= {name: getattr(settings, name) for name in SHARED}
        self._as_logs = self._as_logs or settings.log_format == "json"
        before = self._limits()
        if self._work is not None and self._work.is_driving:
            orders.limits_in_force(self._files, settings, keep_pause=once)  # it hears what is said
            self._tell_changes(before)
            return self
        if once:
            self._alone()
        found = driver(self._files, settings, keep_pause=once)
        self._tell_changes(before)
        if once:
            found.drive(once=True)
        else:
            self._begin(found)
        return self

    def _limits(self) -> Limits:
        return self._files.limits(record_of(self._files))

    def _tell_changes(self, before: Limits) -> None:
        for text in changes(before, self._limits()):
            log.info("run %s: %s", self.path, text)

    def pause(self) -> "Run":
        """Create no more jobs, whoever works on the run; those that run are collected. `resume` lifts it.

        Raises:
            BadInput: the run is being cancelled.
        """
        orders.pause(self._files)
        hurry(self._settings)
        return self

    def cancel(self) -> "Run":
        """Create no more jobs, cancel those that run, keep what they hold, and finish: in the background, as `resume`.
        The dataset says `cancelled` of the rest, and `retry` may buy it. `wait()` for it."""
        orders.cancel(self._files)
        hurry(self._settings)
        if self._work is None or self._work.is_spent:
            self._attend()
        return self

    def retry(
        self,
        status: Names = (),
        kind: Names = (),
        keys: Path | Sequence[Any] | None = None,
        replace: Any = None,
        **options: Unpack[RetryKeywords],
    ) -> "Run":
        """Buy rows of the finished run again, in the background: all that are not ok, or those that meet all that is
        given. What is ok stays, whatever comes. `wait()` for it.

        Args:
            status: one or several, such as "invalid".
            kind: one or several, such as "blocked_answer".
            keys: of rows; or the Path of a file with one a line.
            replace: rows with new content, by key, else by index: path or URL of a manifest, or a table.
            options: of generation, for these rows; and anything that says how a run is carried out.

        Raises:
            BadInput: the run has not finished, or a key names no row.
        """
        given = _given(options)
        refuse_unknown(given, RetryKeywords.__annotations__)
        how = {name: value for name, value in given.items() if name not in GENERATION | {"key_column"}}
        settings_of_how({**self._shared, **how})
        settings = settings_of({**self._shared, **given})
        source = None if replace is None else read_replacement(replace)
        of_file = keys if isinstance(keys, Path) else None
        record, key_column = record_of(self._files), settings.given("key_column")
        choice = orders.read_choice(record, _names(status), _names(kind), of_file, source, key_column)
        if keys is not None and of_file is None:
            choice = with_fields(choice, keys=frozenset(map(str, _names(keys))))
        orders.retry_rows(self._files, settings, choice)
        return self.go_on(settings_of_how({**self._shared, **how}))

    # --- waiting ------------------------------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None, *, progress: bool = True) -> Status:
        """Block until the run is over, for `timeout` seconds, or until it is paused and nothing of it is in flight. If
        nobody works on it, this process does. KeyboardInterrupt detaches: `wait` again, or `resume`, goes on.

        Args:
            progress: show it on stderr, or below the cell of a notebook.

        Raises:
            RunStopped: it cannot go on without a person.
        """
        work = self._work
        if work is None or work.is_spent:
            status = self.status()
            if is_over(status) or is_held_back(status):
                return status
            work = self._attend()
        try:
            with watching(progress, self._as_logs) as shown:
                work.stay(shown, inf if timeout is None else timeout)
        except KeyboardInterrupt:
            work.leave()
            tell(f"\n{work.farewell} {self.path}\nor in Python:\n  {self!r}.wait()")
            raise
        return self.status()

    def detach(self) -> None:
        """Stop working on the run in this process; what is at the service, and with a fleet, goes on."""
        if self._work is not None:
            self._work.leave()

    def _attend(self) -> Work:
        """Go on with the run, or watch the fleet that has it."""
        if is_handed_over(self._files, self._settings.runs):
            return self._begin(watcher(self._files, self._settings))
        return self._begin(driver(self._files, self._settings, keep_pause=True))

    def _begin(self, found: Driver) -> Work:
        self._alone()
        self._work = Work(found)
        return self._work

    def _alone(self) -> None:
        if self._work is not None:
            self._work.end()  # who was told to leave ends its steps first

    # --- rows ---------------------------------------------------------------------------------------------------------

    def results(
        self, schema: Any = None, *, status: Names = (), with_input: bool = False, partial: bool = False
    ) -> Iterator[Row]:
        """The rows in order, a block in memory at a time.

        Args:
            schema: a type whose instances `Row.result` shall be; by default it is as the column has it.
            status: only rows of one or several.
            with_input: with what each row asked, as `Row.input`.
            partial: of a run that has not finished as well; rows without an outcome yet are `pending`.

        Raises:
            BadInput: a status that is not known, a schema that is none.
            RunStopped: the run has not finished, or a file of it is damaged.
        """
        rows = rows_in(rows_of(self._files, self._wanted(status, with_input, partial)), with_input)
        return rows if schema is None else typed(rows, schema)

    def to_table(self, *, status: Names = (), with_input: bool = False, partial: bool = False) -> pa.Table:
        """The rows in memory, as an Arrow table. Arguments and errors as of `results`."""
        wanted = self._wanted(status, with_input, partial)
        blocks = list(rows_of(self._files, wanted))
        return pa.Table.from_batches(blocks, blocks[0].schema if blocks else schema_of(self._files, wanted))

    def write(self, to: str | Path, *, status: Names = (), with_input: bool = False, partial: bool = False) -> int:
        """Write the rows to a local file that ends in .parquet, .csv or .jsonl. Returns how many.

        Raises:
            BadInput: the file cannot be written; and the errors of `results`.
        """
        return write_results(self._files, str(to), self._wanted(status, with_input, partial))

    def _wanted(self, status: Names, with_input: bool, partial: bool) -> Wanted:
        if not partial and not self._files.is_finished():
            raise RunStopped(f"run {self.path} has not finished; wait() for it, or take what there is: partial=True")
        return Wanted(frozenset(_names(status)), with_input, partial)


def _names(given: Any) -> list[Any]:
    return [given] if isinstance(given, str) else list(given)


def _given(options: Any) -> dict[str, Any]:
    """Keywords that say something."""
    return {name: value for name, value in options.items() if value is not None}
