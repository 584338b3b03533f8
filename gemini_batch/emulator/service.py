"""The service behind the calls: its clock, its stores, its one answering thread, put together and driven.

In: accepted orders. Out: jobs that are answered when they start. What a restart needs is in the state.
"""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from gemini_batch.clock import Clock, new_nonce
from gemini_batch.emulator.answering import Answerer, AnswerLine
from gemini_batch.emulator.answers import Respondent
from gemini_batch.emulator.board import FaultBoard, LineFaults
from gemini_batch.emulator.bought import Bought, Purchase
from gemini_batch.emulator.canned import Answers
from gemini_batch.emulator.clock import VirtualClock
from gemini_batch.emulator.damage import first_half
from gemini_batch.emulator.faults import Point, Subject
from gemini_batch.emulator.file_store import FileStore
from gemini_batch.emulator.job_store import JobStore
from gemini_batch.emulator.jobs import Job, ended_at
from gemini_batch.emulator.lines import Survey, survey_lines
from gemini_batch.emulator.settings import EmulatorSettings, make_settings
from gemini_batch.emulator.spending import Spending
from gemini_batch.emulator.state import State
from gemini_batch.emulator.wire import ApiError, Json, invalid, not_found

_OURS = re.compile(r"(upload|input|results)-[0-9a-f]{32,}(\.shuffled)?")


@dataclass(frozen=True)
class Order:
    """A create call, as far as it can be read without its lines."""

    owner: str
    model: str
    display_name: str
    input_file: str | None
    inline: list[Any]
    embeds: bool


class Service:
    def __init__(
        self, start: EmulatorSettings, real: Clock, folder: Path, state: State, answers: Answers | None
    ) -> None:
        self.start_settings = self._settings = start
        self.start_answers = self.answers = answers
        self.folder = folder
        self._state = state
        self._real = real
        self.clock = VirtualClock(real, start.speed)
        self._restore_clock()
        self.faults = FaultBoard(self.clock.now, start.seed)
        self.bought = Bought(folder / "bought.sqlite")
        self.spending = Spending(state)
        self.files = FileStore(self.settings, folder, self.clock, state)
        self.jobs = JobStore(self.settings, self.clock, state)
        self._answerer = Answerer(folder, self.clock, self, start.seed)
        self._closing = False
        self.jobs.changed = self._answerer.put
        self.clock.changed = self._clock_changed
        self._keep_clock()
        self._arm()

    def settings(self) -> EmulatorSettings:
        return self._settings

    # --- driven from outside ------------------------------------------------------------------------------------------

    def start(self) -> None:
        if self._state.is_kept:
            self._sweep()
        for job in self.jobs.unanswered():
            if not self.bought.holds(job.id):
                self._buy_again(job)
            self._answerer.put(job)
        self._answerer.start()

    def _sweep(self) -> None:
        """What a kill left of uploads and creates that nobody can go on with."""
        waiting = {job.source for job in self.jobs.unanswered()}
        kept = waiting | self.jobs.results() | self.files.blobs()
        for path in self.folder.iterdir():
            if _OURS.fullmatch(path.name) and path.name not in kept:
                path.unlink()

    def begin_close(self) -> None:
        """Creates that are being read give up."""
        self._closing = True

    def close(self) -> None:
        self.begin_close()
        self._answerer.close()
        self._keep_clock()
        self.bought.close()
        self._state.close()

    def configure(self, values: Json) -> EmulatorSettings:
        """Raises SettingsError."""
        before, self._settings = self._settings, make_settings(values, self._settings)
        if before.speed != self._settings.speed:
            self.clock.set_speed(self._settings.speed)
        if (before.queue_seconds, before.run_seconds) != (self._settings.queue_seconds, self._settings.run_seconds):
            self.jobs.shorten(self._settings, self._ends_sooner)
        self.faults.set_chaos(self._settings.chaos)
        return self._settings

    def _ends_sooner(self, job: Job) -> None:
        self.files.move_result(job.result_id, ended_at(job))

    def reset(self) -> None:
        """As at the start: no jobs, files or counts, the first settings, faults and time."""
        for job in self.jobs.clear():
            self._answerer.put(replace(job, cancelled=self.clock.now()))
            if job.answered:
                (self.folder / job.results).unlink(missing_ok=True)
        self.files.clear()
        self.bought.clear()
        self.spending.clear()
        self._state.clear()
        self._settings, self.answers = self.start_settings, self.start_answers
        self.clock.set_speed(self._settings.speed)
        self.clock.set_to(self._real.now())
        self._arm()

    def advance(self, step: timedelta) -> None:
        """Blocks until all jobs that have started by then are answered."""
        self.clock.advance(step)
        self._answerer.wait_until_idle()

    def _arm(self) -> None:
        self.faults.clear()
        for spec in self._settings.faults:
            self.faults.arm(spec)
        self.faults.set_chaos(self._settings.chaos)

    def _clock_changed(self) -> None:
        self._answerer.wake()
        self._keep_clock()

    def _keep_clock(self) -> None:
        if self._state.is_kept:
            moments = [self._real.now().isoformat(), self.clock.now().isoformat(), self.clock.speed]
            self._state.put("clock", "", orjson.dumps(moments))

    def _restore_clock(self) -> None:
        """Time has gone on while nobody served, at the speed it had."""
        for record in self._state.all("clock"):
            real, virtual, speed = orjson.loads(record)
            passed = (self._real.now() - datetime.fromisoformat(real)) * speed
            self.clock.set_to(datetime.fromisoformat(virtual) + max(passed, timedelta(0)))

    # --- create -------------------------------------------------------------------------------------------------------

    def accept(self, order: Order) -> Job:
        """Reads every line of the job: for another thread than the one that serves.

        Raises:
            ApiError: refused; nothing is left of it.
            AbandonedError: the emulator is stopping.
        """
        self.jobs.check_room(order.owner, order.model)
        job_id = new_nonce(18)
        source = self.folder / f"input-{job_id}"
        purchase = self.bought.begin()
        try:
            self._stage(order, source)
            fault = self.faults.take_input_lines(order.display_name, order.model)
            survey = self._survey(order, source, purchase.note, fault)
            job, line_faults = self._make(order, job_id, survey)
            self._buy(job, purchase)
        except BaseException:
            source.unlink(missing_ok=True)
            raise
        finally:
            purchase.close()
        self._answerer.put(job, line_faults)
        return job

    def _stage(self, order: Order, source: Path) -> None:
        """The job's own name for its lines: the input file may be deleted right after create."""
        if order.input_file is None:
            try:
                with source.open("wb") as lines:
                    lines.writelines(orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE) for one in order.inline)
            except orjson.JSONEncodeError as e:
                raise invalid(f"batch.input_config.requests: {e}", reason="bad_line") from e
            return
        file = self.files.find(order.owner, order.input_file.removeprefix("files/"))
        if file is None:
            raise not_found()
        if file.state_at(self.clock.now()) != "ACTIVE":
            message = f"The File {file.id} is not in an ACTIVE state and usage is not allowed."
            raise ApiError(400, "FAILED_PRECONDITION", message)
        try:
            source.hardlink_to(self.files.path_of(file))
        except FileNotFoundError:  # deleted this instant
            raise not_found() from None
        except OSError:  # no hard links on this file system
            shutil.copyfile(self.files.path_of(file), source)

    def _survey(
        self,
        order: Order,
        source: Path,
        note: Callable[[int, int, str], None],
        fault: Callable[[int, str], str | None] | None = None,
    ) -> Survey:
        respondent = self.respondent(order.owner, order.model)
        count = respondent.count_embedded if order.embeds else respondent.count
        with source.open("rb", buffering=1 << 20) as lines:
            survey = survey_lines(
                lines,
                embeds=order.embeds,
                inline=order.input_file is None,
                count_tokens=count,
                note=note,
                wanted=lambda: not self._closing,
                fault=fault,
            )
        if not survey.n_lines:
            raise invalid("The batch has no requests.")
        return survey

    def _make(self, order: Order, job_id: str, survey: Survey) -> tuple[Job, LineFaults]:
        self.jobs.check_room(order.owner, order.model, survey.tokens)  # a refused create uses up no fault
        fired = self.faults.take(Point.JOB, job=order.display_name, model=order.model)
        line_faults = self.faults.take_lines(survey.n_lines, order.display_name, order.model)
        job = self.jobs.add(
            order.owner,
            order.model,
            survey.tokens,
            timedelta(seconds=fired.get("create_late", 0)),
            {
                "id": job_id,
                "display_name": order.display_name,
                "input_file": order.input_file,
                "n_requests": survey.n_lines,
                "embeds": order.embeds,
                "faults": fired,
                "line_faults": line_faults.fixed,
            },
        )
        return job, line_faults

    def _buy(self, job: Job, purchase: Purchase) -> None:
        try:
            purchase.commit(job.id)
        except BaseException:
            self.jobs.undo(job)
            raise

    def _buy_again(self, job: Job) -> None:
        """A kill came between the two halves of its create; its lines are still there."""
        order = Order(job.owner, job.model, job.display_name, job.input_file, [], job.embeds)
        purchase = self.bought.begin()
        try:
            self._survey(order, self.folder / job.source, purchase.note)
            purchase.commit(job.id)
        finally:
            purchase.close()

    def respondent(self, owner: str, model: str, at: datetime | None = None) -> Respondent:
        """`at`: when files are looked for; None for now."""
        settings = self._settings
        return Respondent(
            seed=settings.seed,
            model=model,
            knows_file=lambda file_id: self.files.find(owner, file_id, at) is not None,
            sizes=self.files.medium,
            answers=self.answers,
            token_factor=settings.token_factor,
        )

    def subject(self, job_id: str) -> Subject:
        job = self.jobs.current(job_id)
        return (job.display_name, job.model) if job else (None, None)

    # --- cancel, delete -----------------------------------------------------------------------------------------------

    def cancel(self, job: Job) -> None:
        cancelled = self.jobs.cancel(job)
        if cancelled is None or not cancelled.answered:
            return
        results = self.folder / job.results
        self.files.delete(job.result_id, keep_bytes=True)
        if "cancelled_with_output" in job.faults and cancelled.cancelled and results.exists():
            first_half(results, job.n_requests)
            if job.input_file is not None:
                self.files.add_result(job.owner, job.result_id, results, cancelled.cancelled)
        else:
            results.unlink(missing_ok=True)

    def delete(self, job: Job) -> None:
        """A result file already published stays readable."""
        last = self.jobs.remove(job)
        if last.answered and (last.input_file is None or self.clock.now() < ended_at(last)):
            self.files.delete(last.result_id, keep_bytes=True)
            (self.folder / last.results).unlink(missing_ok=True)

    # --- what the answerer asks ---------------------------------------------------------------------------------------

    def current(self, job_id: str) -> Job | None:
        return self.jobs.current(job_id)

    def answerer_of(self, job: Job) -> AnswerLine:
        respondent = self.respondent(job.owner, job.model, job.starts)
        return respondent.embed_line if job.embeds else respondent.answer_line

    def finished(self, job: Job) -> None:
        """The results first: nobody may see a job that has succeeded and its file not there."""
        now = self.clock.now()
        if job.input_file is not None and job.has_output:
            ended = ended_at(replace(job, answered=now))
            self.files.add_result(job.owner, job.result_id, self.folder / job.results, ended)
        done = self.jobs.answered(job, now)
        if done is None:
            self.files.delete(job.result_id, keep_bytes=True)
            (self.folder / job.results).unlink(missing_ok=True)
        else:
            self._ends_sooner(done)  # if its time was shortened meanwhile
            if done.has_output:
                self.spending.add(done)

    def broke(self, job: Job) -> None:
        self.jobs.answered(job, self.clock.now(), broken=True)
