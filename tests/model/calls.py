"""The shipped `advance`, `work`, `look` and `end_all`, one effect at a time.

In: how a call began, and what each of its effects so far was answered. Out: the next effect it asks for, or how it
ended. No rule is written down a second time: the code itself is run anew over those answers, and as it has no other
input, a search may hold any number of calls that are half done.
"""

from contextlib import ExitStack, suppress
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

from frame import DONE, NOW, RUNNING, SETTLE_TICKS, TALLY, TICK, at, canonical, number_of, older, upload
from judge import Violation

from gemini_batch.errors import Denied, IllegalTransition, NotFound, Refused, RunStopped, Throttled, Unavailable
from gemini_batch.gemini.remote import Listing, Seen, StoredFile
from gemini_batch.jobs import advance as advancing
from gemini_batch.jobs import events, lifecycle, looking, twins
from gemini_batch.jobs import shop as shops
from gemini_batch.records import Asked, Job, Limits, RunRecord, ShardPlan, ShardRecord, ShardState

SIBLING = ShardRecord(
    shard=1,
    version=1,
    state=ShardState.SUBMITTED,
    job=Job(name="batches/900", display_name="gbd-run-000001-900-0"),
)
"""Another shard of the run, whose job runs on: a complete listing has to show it."""

RUN = RunRecord.model_construct(run_id="run", nonce="n", media_roots=(), asked=Asked.model_construct(model="m"))
PLAN = [ShardPlan(shard=shard, first_index=shard, rows=1, requests=1, request_bytes=1, tokens=1) for shard in range(2)]
DESK = SimpleNamespace(ask=lambda *_: None, may_send=lambda *_: None, refused=lambda *_: None, follow=lambda *_: None)

STATES = {"R": RUNNING, "N": DONE, "D": DONE, "F": DONE, "X": "BATCH_STATE_EXPIRED", "C": "BATCH_STATE_CANCELLED"}
"""Lives of a job: running, done but no output shown, done, its results lost, expired, cancelled; G is forgotten."""

REFUSALS = {
    "429": Throttled("429", 429),
    "400": Refused("400", 400),
    "403": Denied("403", 403),
    "404": Refused("404", 404),
    "cut": Unavailable("cut"),
}


class Call(NamedTuple):
    """A call under way, from its last turn of the loop on."""

    kind: str
    record: int = -1
    """What it has read or written last."""
    claim: bool = False
    """Whether that is a claim of its own."""
    overdue: events.Event | None = None
    """What the process learned in an earlier call and could not record."""
    listed: tuple[Any, ...] | None = None
    """The listing that it was given."""
    answers: tuple[tuple[Any, ...], ...] = ()


IDLE = Call("idle")


class Append(NamedTuple):
    cause: str
    record: int
    sends: int
    """How many the record names."""


class Create(NamedTuple):
    number: int
    file: int


class Ask(NamedTuple):
    what: str
    """`list`, `get`, `cancel`, `collect` or `read`."""
    number: int = 0


class Turn(NamedTuple):
    """The loop of `advance` begins anew, with what is the newest record."""

    claim: bool
    record: int


class End(NamedTuple):
    overdue: events.Event | None = None


class Calls:
    """Records and calls by number, and what each call does next. Patches the modules under test while it is open."""

    def __init__(self, policy: str = "wait", sibling: bool = True) -> None:
        self.records: list[ShardRecord] = []
        self.calls: list[Call] = []
        self.display: dict[int, str] = {}
        """Names of the sends by their numbers."""
        self.sibling = sibling
        """Without it the shard is the first of its run: nothing is proven, and no listing has a witness."""
        self._record_numbers: dict[ShardRecord, int] = {}
        self._call_numbers: dict[Call, int] = {}
        self._steps: list[Any] = []
        self._limits = Limits.model_construct(
            on_unknown=policy, settle=SETTLE_TICKS * TICK.total_seconds(), poll_interval=60.0
        )
        self._script: Script | None = None
        self._patches = ExitStack()

    def __enter__(self):
        self._command = lifecycle.command
        for module, name, fake in (
            (lifecycle, "command", self._turn),
            (shops, "new_nonce", self._nonce),
            (advancing, "prepare", fake_prepare),
            (looking, "collect", lambda _, record: self._script.collect(record)),
        ):
            self._patches.enter_context(patch.object(module, name, fake))
        return self

    def __exit__(self, *_):
        self._patches.close()

    def _nonce(self) -> str:
        return self._script.nonce()

    # --- numbers for records and calls

    def record_number(self, record: ShardRecord, version: int) -> int:
        record = record if record.version == version else record.model_copy(update={"version": version})
        number = self._record_numbers.setdefault(record, len(self.records))
        if number == len(self.records):
            self.records.append(record)
        return number

    def call_number(self, call: Call) -> int:
        number = self._call_numbers.setdefault(call, len(self.calls))
        if number == len(self.calls):
            self.calls.append(call)
            self._steps.append(None)
        return number

    def older_record(self, number: int) -> int:
        """The record a tick later."""
        record = self.records[number]
        return self.record_number(older(record), record.version)

    def older_call(self, number: int) -> int:
        """The call a tick later."""
        call = self.calls[number]
        answers = tuple(self._older(answer) for answer in call.answers)
        record = -1 if call.record < 0 else self.older_record(call.record)
        return self.call_number(call._replace(record=record, listed=self._older(call.listed), answers=answers))

    def _older(self, answer):
        match answer:
            case ("record", number, same):
                return "record", self.older_record(number), same
            case ("list", mode, shown, age):
                return "list", mode, shown, age + 1
        return answer

    # --- what a call does

    def step(self, number: int) -> Any:
        """Append, Create or Ask, which need an answer; Turn; or End."""
        step = self._steps[number]
        if step is None:
            step = self._steps[number] = self._step(self.calls[number])
        return step

    def _step(self, call: Call) -> Any:
        if call.kind == "idle":
            return End(call.overdue)
        self._script = Script(self, call)
        shop = self._shop(call, self._script)
        try:
            self._perform(call, shop)
        except _Pending as pending:
            return pending.step
        except RunStopped:  # a person is needed, and says `resume`
            pass
        except (IllegalTransition, AssertionError) as defect:
            raise Violation(f"{type(defect).__name__}: {defect}") from defect
        return End(_plain_event(shop.unrecorded.get(0)))

    def _perform(self, call: Call, shop: shops.Shop) -> None:
        match call.kind:
            case "advance":
                advancing.advance(shop, 0)
            case "work":
                advancing.work(shop, 0)
            case "finish":
                with suppress(OSError):  # the next `resume` tries again
                    twins.end_all(shop)
            case "look":
                self._look(call, shop)

    def _look(self, call: Call, shop: shops.Shop) -> None:
        """As a sweep does: read, list, look."""
        before = self.records[call.record]
        try:
            listing = self._script.listing(call.listed) if call.listed else shop.remote.list_jobs()
        except Unavailable:
            return
        advancing.look(shop, before, listing)

    def _shop(self, call: Call, script: "Script") -> shops.Shop:
        shop = shops.Shop(
            run=RUN, limits=self._limits, files=script, plan=PLAN if self.sibling else PLAN[:1],
            remote=script, desk=DESK, pool=None, clock=script, owner="o",
        )  # fmt: skip
        shop.records = {0: self.records[call.record]} | ({1: SIBLING} if self.sibling else {})
        shop.unrecorded = {0: call.overdue} if call.overdue else {}
        return shop

    def _turn(self, record: ShardRecord, claim: str | None, now: Any) -> lifecycle.Command:
        """`lifecycle.command`, which is asked once in each turn of the loop."""
        script = self._script
        mine = CLAIM if script.call.claim else None
        if script.turned or script.wrote:
            claimed = record.state is ShardState.CLAIMED and record.nonce == (claim or mine)
            raise _Pending(Turn(claimed, self.record_number(canonical(record), 0)))
        script.turned = True
        return self._command(record, mine or claim, now)


class _Pending(BaseException):
    """The call is at an effect that has no answer yet, or at a new turn."""

    def __init__(self, step: Any) -> None:
        self.step = step


class Script:
    """The ledger, the service and the clock of one call: each effect takes the next answer, or the call is pending."""

    def __init__(self, calls: Calls, call: Call) -> None:
        self.call = call
        self.turned = self.wrote = False
        self._calls = calls
        self._answers = iter(call.answers)
        self._read_anew = call.kind == "finish" or (call.kind == "look" and call.listed is None)
        self._nonces = self._elapsed = 0
        self._blind = False

    def nonce(self) -> str:
        self._nonces += 1
        return f"nonce-{self._nonces}"

    def _take(self, step: Any) -> tuple[Any, ...]:
        answer = self._answer_to(step)
        if answer[0] == "down":
            raise Unavailable("down")
        self._blind = self._blind or "blind" in answer
        return answer

    def _answer_to(self, step: Any) -> tuple[Any, ...]:
        answer = next(self._answers, None)
        if answer is None:
            raise _Pending(step)
        return answer

    # --- the ledger

    def last(self, _shard, _known):
        """A call begins with what it was given; it reads anew after another one's write, and a look after its list."""
        if not self._read_anew:
            record = self._calls.records[self.call.record]
            return record.model_copy(update={"nonce": CLAIM}) if self.call.claim else record
        self._read_anew = self.call.kind == "finish"
        _, number, same = self._take(Ask("read"))
        record = self._calls.records[number]
        return record if same else record.model_copy(update={"version": record.version + 1000})

    def history(self, _shard):
        return SimpleNamespace(append=self._append)

    def controls(self):
        """No person has said anything since the run began."""
        return SimpleNamespace(last=lambda _known=None: None)

    def _append(self, record):
        self._calls.display.update({send.number: send.display_name for send in record.sends})
        written = self._calls.record_number(canonical(record), 0)
        answer = self._take(Append(record.cause, written, len(record.sends)))
        if answer[0] == "disk":
            raise OSError(28, "No space left on device")
        self.wrote = True
        self._read_anew = self._read_anew or answer[0] == "no"
        self._elapsed += answer[1] if answer[0] == "ok" else 0
        return answer[0] == "ok"

    # --- the service

    def create_job(self, _model, file_name, display_name):
        (answer,) = self._take(Create(number_of(display_name), number_of(file_name)))
        if answer in REFUSALS:
            raise REFUSALS[answer]
        return Job(name=f"batches/{number_of(display_name)}", display_name=display_name)

    def list_jobs(self):
        return self.listing(("list", "blind", (), 0) if self._blind else self._take(Ask("list")))

    def listing(self, answer):
        _, mode, shown, age = answer
        self._blind = self._blind or mode == "blind"
        jobs = [self._job(number, life) for number, life in shown]
        jobs += [SIBLING.job] if mode in ("full", "twice") and self._calls.sibling else []
        by_display_name, names = {job.display_name: job for job in reversed(jobs)}, frozenset(job.name for job in jobs)
        return Listing(by_display_name, names, at(age), tuple(jobs), whole=mode != "twice")

    def get_job(self, name):
        if self._blind:
            raise NotFound("404", 404)
        if name == SIBLING.job.name:
            return Seen(SIBLING.job, NOW)
        answer = self._take(Ask("get", number_of(name)))
        if answer[0] != "seen":
            raise NotFound("404", 404)
        return Seen(self._job(number_of(name), answer[1]), NOW)

    def cancel_job(self, name):
        self._take(Ask("cancel", number_of(name)))

    def get_file(self, name):
        if self._blind:
            raise NotFound("404", 404)
        return StoredFile(name, "u", 1)

    def delete_file(self, name):
        """Files that no record leads to any more: nothing that is decided here asks for one."""

    def collect(self, record):
        job = record.job
        if job and job.responses_file and self._take(Ask("collect", number_of(job.name)))[0] != "ok":
            raise NotFound("404", 404)
        return TALLY

    def _job(self, number, life):
        results = f"files/out-{number}" if life in "DF" else None
        name = self._calls.display[number]
        return Job(name=f"batches/{number}", display_name=name, state=STATES[life], responses_file=results)

    # --- the clock

    def now(self):
        return NOW

    def boottime(self):
        return self._elapsed * TICK.total_seconds()


CLAIM = "claim"
"""The nonce of a claim from an earlier turn."""


def fake_prepare(_shop, record):
    """Encoding and uploading decide nothing. Files that no send refers to may share a name."""
    number = len(record.sends)
    return events.Prepared(upload(number), f"requests/{number}")


def _plain_event(event):
    match event:
        case None:
            return None
        case events.JobLearned(job):
            return events.JobLearned(Job(name=job.name, display_name=job.display_name, state=RUNNING))
    return type(event)(event.number, "")
