"""The real steps of a shard over a ledger in memory and a simulated service; each takes its time.

`Steps` is what `advance` does, stopped before each command, so that time can pass in between. Only what reads or
writes data is replaced: encoding with its upload, the wire of a create, and collecting.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar, cast

from gemini_batch.errors import RemoteError
from gemini_batch.jobs import events, lifecycle, tidy
from gemini_batch.jobs.advance import _Advance
from gemini_batch.jobs.shop import Shop
from gemini_batch.jobs.verdicts import Outcome, Rest, Verdict
from gemini_batch.quota.book import Book
from gemini_batch.quota.desk import Desk
from gemini_batch.records import Asked, Job, Limits, RunRecord, Send, ShardRecord, ShardState, Tally, Upload
from gemini_batch.simulate.scenario import Offered, Scenario, uniform
from gemini_batch.simulate.service import EPOCH, Service, VirtualClock

if TYPE_CHECKING:
    from gemini_batch.ledger.run import RunFiles

R = TypeVar("R")

Seconds = Callable[[int], float]
"""How long the job of a shard takes."""


class VirtualBooks:
    """One project's book, by the simulation's time."""

    def __init__(self, clock: VirtualClock) -> None:
        self.book = Book()
        self._clock = clock

    def change(self, step: Callable[[Book, float], R]) -> R:
        return step(self.book, self._clock.now().timestamp())


class _SeededDesk(Desk):
    """A desk whose dice are the scenario's."""

    def __init__(self, books: VirtualBooks, run: RunRecord, limits: Limits, seed: int) -> None:
        super().__init__(books, run, limits)
        self._thrown = (uniform(seed, nth) for nth in count())

    def refused(self, record: ShardRecord, tokens: int, request_bytes: int = 0) -> bool:
        who, spread = self.applicant(record, tokens, request_bytes), next(self._thrown)
        return self._books.change(lambda book, now: book.refused(who, now, spread))


class _NothingSaid:
    """What operators say of a simulated run."""

    def last(self, known: object = None) -> None:
        """No limits but those it came with."""


@dataclass
class _Histories:
    """A run's ledger in memory: the newest record of each shard."""

    newest: dict[int, ShardRecord] = field(default_factory=dict)

    def last(self, shard: int, known: ShardRecord | None = None) -> ShardRecord:
        return self.newest.get(shard) or known or ShardRecord(shard=shard)

    def history(self, shard: int) -> "_Histories":
        return self

    def controls(self) -> "_NothingSaid":
        return _NothingSaid()

    def append(self, record: ShardRecord) -> bool:
        self.newest[record.shard] = record
        return True


class _Remote:
    """The service as one run calls it."""

    def __init__(self, service: Service, shards: Any, seconds: Seconds) -> None:
        self._service = service
        self._shards = shards
        self._seconds = seconds
        self.get_job, self.get_file = service.get_job, service.get_file
        self.delete_file, self.upload_bytes = service.delete_file, service.upload_bytes

    def create_job(self, model: str, file_name: str, display_name: str) -> Job:
        shard = int(file_name.rsplit("-", 2)[1])
        return self._service.create(display_name, self._shards[shard], self._seconds(shard))


def make_shop(scenario: Scenario, number: int, service: Service, books: VirtualBooks) -> Shop:
    """What the steps of a run have at hand."""
    offered = scenario.runs[number]
    run = _run_record(f"run{number:03d}", offered)
    plan = list(offered.shards)
    remote = _Remote(service, plan, lambda shard: scenario.job_seconds(number, shard))
    return Shop(
        run=run,
        limits=offered.limits,
        files=cast("RunFiles", _Histories()),
        plan=plan,
        remote=cast(Any, remote),
        desk=_SeededDesk(books, run, offered.limits, scenario.seed * 1_000 + number),
        pool=cast(Any, None),
        clock=service.clock,
        owner="simulated",
    )


def _run_record(run_id: str, offered: Offered) -> RunRecord:
    asked = Asked(
        rows=0, rows_digest="", model=offered.model, response_schema=None, generation_config={},
        system_instruction=None, media="inline", n_samples=1, endpoint="", project="",
    )  # fmt: skip
    return RunRecord(
        run_id=run_id, nonce=run_id, created_at=EPOCH, version="", manifest="", media_roots=(), asked=asked,
        limits=offered.limits, shards=len(offered.shards),
    )  # fmt: skip


class Steps(_Advance):
    """One worker with one shard in hand."""

    def __init__(self, shop: Shop, shard: int) -> None:
        super().__init__(shop, shard)
        self.next: lifecycle.Command | None = None
        """What was left to do, where a step ended with more to do."""
        self._wire: tuple[Send, str] | None = None

    @property
    def shard(self) -> int:
        return self._record.shard

    @property
    def collects(self) -> bool:
        """Whether the shard's results are what is next."""
        return self._record.state is ShardState.ENDED

    @property
    def on_the_wire(self) -> bool:
        """Whether a create was sent and not answered yet."""
        return self._wire is not None

    def step(self) -> Verdict | None:
        """Carry out one command, or take a create's answer; None when there is more to do now."""
        return self._guarded(self._answered if self._wire else self._one)

    def _one(self) -> Verdict | None:
        self.next, asked = None, 0

        def ours(command: lifecycle.Command) -> bool:
            nonlocal asked
            asked += 1
            if asked > 1 and not isinstance(command, lifecycle.LOOKS):
                self.next = command
            return asked == 1 and not isinstance(command, lifecycle.LOOKS)

        verdict = self.go(ours)
        return None if self.next or self._wire else verdict

    def _answered(self) -> Verdict | None:
        send, file_name = cast(tuple[Send, str], self._wire)
        self._wire = None
        outcome = super()._post(send, file_name)
        if isinstance(outcome, events.Event):
            self._save(outcome)
            return Rest("news", timedelta(0))
        return outcome

    @staticmethod
    def _guarded(go: Callable[[], Verdict | None]) -> Verdict | None:
        try:
            return go()
        except RemoteError as error:
            return Rest(f"the service: {error}")

    def _post(self, send: Send, file_name: str) -> Outcome:
        self._wire = send, file_name
        return Rest("a create is on the wire", timedelta(0))

    def _perform(self, command: lifecycle.Command) -> Outcome | None:
        match command:
            case lifecycle.Prepare():
                return self._upload()
            case lifecycle.Collect():
                return self._collected()
        return super()._perform(command)

    def _collected(self) -> events.Event | None:
        if (gone := tidy.delete_spent(self._shop, self._record)) and not self._save(gone):
            return None
        return events.Collected(Tally(rows=0, by_status={}, by_kind={}, part_sha256=""))

    def _upload(self) -> events.Event:
        shard, version = self._record.shard, self._record.version
        entry = self._shop.plan[shard]
        name = f"files/{self._shop.run.run_id}-{shard}-{version}"
        cast(_Remote, self._shop.remote).upload_bytes(name, entry.request_bytes)
        upload = Upload(
            name=name,
            size_bytes=entry.request_bytes,
            sha256="",
            lines=entry.requests,
            uploaded_at=self._shop.clock.now(),
        )
        return events.Prepared(upload, "requests")
