"""One shard, its ledger, the service, and workers that may stop anywhere: every state, and every next one.

What a worker does between two effects is the shipped code (`calls.py`); what the ledger and the service may answer, and
in which order, is here. Equal tuples are the same state: workers have no names, time is age, and the number of a send
that nobody can hear of again is used once more.
"""

from functools import cache

from calls import IDLE, Append, Ask, Call, Calls, Create, End, Turn
from frame import OLDEST_LISTING, UNSENT, number_of, with_stale_upload
from judge import Violation, judge
from rules import Budget, Rules, Step, Worker, World

from gemini_batch.records import ShardRecord, ShardState

FREEING = frozenset({"SendFailed", "UploadGone", "Settled"})
"""The recorded reasons for another send."""

NEXT_LIVES = {"R": "DXNG", "N": "D", "D": "FG", "F": "G"}
WRONG = "NFG"
"""Lives that cost something of the budget."""


class Worlds:
    """The states of one model."""

    def __init__(self, rules: Rules, calls: Calls) -> None:
        self.rules = rules
        self.calls = calls
        self.sorted = sorted
        self._idle = calls.call_number(IDLE)
        self._timed = rules.shown_within is not None
        self._older_call = cache(calls.older_call)
        self._older_record = cache(calls.older_record)
        self._spent = cache(Budget.without)
        for pure in (
            self._renumbered, self._unsent, self._sent, self._numbers, self._refers, self._stale, self._sleepy,
            self._started, self._asked, self._gone_on, self._answered, self._judged,
        ):  # fmt: skip
            setattr(self, pure.__name__, cache(pure))

    def first(self) -> World:
        first = self.calls.record_number(ShardRecord(shard=0), 0)
        workers = (Worker(self._idle),) * self.rules.workers
        return World(first, False, (), (), workers, self.rules.budget.without(None))

    def steps(self, world: World) -> list[Step]:
        """All that may happen next."""
        found: list[Step] = []
        for slot, worker in enumerate(world.workers):
            if slot == 0 or worker != world.workers[slot - 1]:
                self._worker_steps(world, slot, worker, found)
        self._create_steps(world, found)
        self._job_steps(world, found)
        stale = self._stale(world.ledger)
        if stale != world.ledger:
            found.append(Step(("upload grows stale",), False, self._plain(*world._replace(ledger=stale))))
        later = self._later(world)
        if later is not None and later != world:
            found.append(Step(("tick",), True, later))
        return found

    # --- a worker goes on

    def _worker_steps(self, world, slot, worker, found):
        step = self.calls.step(worker.call)
        if worker.call != self._idle and world.budget.crashes:
            self._crash(world, slot, worker, step, found)
        match step:
            case End():
                for kind, after in self._started(world.ledger, worker.call, self._sweeping(world)):
                    found.append(Step((slot, kind), True, self._with(world, slot, after)))
            case Append() if step.sends <= self.rules.sends:
                self._append(world, slot, worker, step, found)
            case Create():
                self._create(world, slot, worker, step, found)
            case Ask():
                for answer, fair, after, jobs in self._asked(world.ledger, world.jobs, worker):
                    found.append(Step((slot, step.what, answer), fair, self._with(world, slot, after, jobs)))

    def _sweeping(self, world):
        looks = sum(self.calls.calls[worker.call].kind == "look" for worker in world.workers)
        return looks >= self.rules.sweeps

    def _started(self, ledger, idle, sweeping):
        """The first effects of the calls that an idle worker may begin."""
        final = self.calls.records[ledger].state is ShardState.COLLECTED
        allowed = {"finish": final, "look": not sweeping}
        overdue = self.calls.calls[idle].overdue
        calls = [Call(kind, ledger, overdue=overdue) for kind in self.rules.kinds if allowed.get(kind, True)]
        return [(call.kind, self._gone_on(ledger, self.calls.call_number(call), True)) for call in calls]

    def _asked(self, ledger, jobs, worker):
        """What the service may answer, with the worker and the jobs then; once, where answers come to the same."""
        step, found = self.calls.step(worker.call), {}
        for answer, fair, changed in getattr(self, f"_{step.what}")(ledger, jobs, worker, step.number):
            fresh = worker.fresh or step.what == "read"
            after = self._gone_on(ledger, self._answered(worker.call, answer), fresh)
            found.setdefault((after, changed), (answer, fair, after, changed))
        return list(found.values())

    def _answer(self, world, slot, worker, answer, label, found, fair=True):
        """The effect of a worker is answered: it goes on to its next."""
        after = self._gone_on(world.ledger, self._answered(worker.call, answer), worker.fresh)
        found.append(Step(label, fair, self._with(world, slot, after)))

    def _answered(self, number, answer):
        call = self.calls.calls[number]
        kept = call.answers
        if answer[0] == "record" and [one[0] for one in kept[-3:]] == ["no", "record", "no"]:
            kept = (*kept[:-3], kept[-1])  # of several tries to record the same, only what was read last matters
        return self.calls.call_number(call._replace(answers=(*kept, answer)))

    def _gone_on(self, ledger, number, fresh):
        """The worker at the next effect of its call.

        A write that must fail, because another worker wrote first, does so at once, and the new record is read: when it
        fails changes nothing for anybody, and what it would read later it may as well read in its next call.
        """
        while True:
            step = self.calls.step(number)
            match step:
                case Turn():
                    number = self._turned(ledger, number, step)
                case Append() if self.rules.exclusive and not fresh:
                    number = self._answered(self._answered(number, ("no",)), ("record", ledger, False))
                    fresh = True
                case End(overdue):
                    return Worker(self.calls.call_number(IDLE._replace(overdue=overdue)))
                case _:
                    return Worker(number, fresh, 0, "air" if isinstance(step, Create) else "")

    def _turned(self, ledger, number, step):
        """The same call at its next turn."""
        if self.rules.exclusive and self._renumbered(ledger, 0) != step.record:
            raise AssertionError("a worker that has just read the ledger holds another record")
        call = self.calls.calls[number]
        listed = call.listed or next((answer for answer in call.answers if answer[0] == "list"), None)
        listed = listed if call.kind == "look" else None
        return self.calls.call_number(Call(call.kind, ledger, step.claim, listed=listed))

    def _crash(self, world, slot, worker, step, found):
        wires = world.wires
        if worker.wire == "air":
            wires = self._on_its_way(world, worker, step)
        budget = self._spent(world.budget, "crashes")
        after = self._with(world, slot, Worker(self._idle), wires=wires, budget=budget)
        found.append(Step((slot, "crash"), False, after))

    # --- the same state for all that are the same but for names

    def _with(self, world, slot, worker, jobs=None, wires=None, budget=None):
        workers = list(world.workers)
        workers[slot] = worker
        jobs, wires = world.jobs if jobs is None else jobs, world.wires if wires is None else wires
        return self._plain(world.ledger, world.owed, jobs, wires, workers, budget or world.budget)

    def _plain(self, ledger, owed, jobs, wires, workers, budget):
        version = 0
        if self._unsent(ledger):  # its version says the number of the next send: the lowest that nobody can hear of
            used = self._sent(ledger) | self._numbers(jobs) | self._numbers(wires)
            for worker in workers:
                used |= self._refers(worker.call, worker.wire)
            version = (~used & -~used).bit_length() - 2
        if self.calls.records[ledger].version != version:
            before, ledger = ledger, self._renumbered(ledger, version)
            workers = [self._renumber(worker, before, ledger) for worker in workers]
        return World(ledger, owed, jobs, wires, tuple(self.sorted(workers)), budget)

    def _unsent(self, record):
        return self.calls.records[record].state in UNSENT

    def _sent(self, record):
        return _mask(send.number for send in self.calls.records[record].sends)

    def _numbers(self, entries):
        return _mask(entry[0] for entry in entries)

    def _refers(self, number, wire):
        """The sends that a worker knows of."""
        call, numbers = self.calls.calls[number], []
        if call.overdue:
            numbers.append(number_of(call.overdue.job.name) if hasattr(call.overdue, "job") else call.overdue.number)
        if call.kind != "idle":
            record = self.calls.records[call.record]
            numbers += [send.number for send in record.sends]
            numbers += [record.version + 1] * bool(wire or any(answer[0] == "ok" for answer in call.answers))
        return _mask(numbers)

    def _renumbered(self, record, version):
        return self.calls.record_number(self.calls.records[record], version)

    def _renumber(self, worker, before, after):
        call = self.calls.calls[worker.call]
        wrote = any(answer[0] in ("ok", "no") for answer in call.answers)  # it holds another record by now
        if not worker.fresh or wrote or call.record != before:
            return worker
        return worker._replace(call=self.calls.call_number(call._replace(record=after)))

    # --- the ledger

    def _append(self, world, slot, worker, step, found):
        label = (slot, "append", step.cause)
        if worker.wire == "kept":
            return self._answer(world, slot, worker, ("ok", worker.slept), (*label, "known"), found)
        written = self._written(world, slot, step)
        if step.cause == "SendBegan":  # others may see it long before its writer looks at the clock again
            found.append(Step((*label, "ok"), True, self._with(written, slot, worker._replace(wire="kept"))))
        else:
            self._answer(written, slot, worker, ("ok", worker.slept), (*label, "ok"), found)
        if world.budget.disk:
            budget = self._spent(world.budget, "disk")
            untouched, written = world._replace(budget=budget), written._replace(budget=budget)
            self._answer(untouched, slot, worker, ("disk",), (*label, "disk"), found, fair=False)
            self._answer(written, slot, worker, ("disk",), (*label, "disk, done"), found, fair=False)
        return None

    def _written(self, world, slot, step):
        """The world with one more record."""
        after = self._renumbered(step.record, self.calls.records[world.ledger].version)
        if not self.rules.only_money:
            self._judged(world.ledger, after, step.cause, world.jobs, world.owed)
        owed = step.cause == "SendBegan" or (world.owed and step.cause not in FREEING)
        workers = tuple(
            worker if place == slot else self._overtaken(worker, after) for place, worker in enumerate(world.workers)
        )
        return World(after, owed, world.jobs, world.wires, workers, world.budget)

    def _judged(self, before, after, cause, jobs, owed):
        if cause == "SendBegan" and owed:
            raise Violation("sent again without a recorded reason")
        judge(jobs, self.calls.records[before], self.calls.records[after], cause, self.rules.jobs == 1)

    def _overtaken(self, worker, ledger):
        """A worker after another one's write."""
        if self.rules.exclusive and not worker.wire and isinstance(self.calls.step(worker.call), Append):
            return self._gone_on(ledger, worker.call, False)
        return worker._replace(fresh=False) if worker.fresh else worker

    # --- the create

    def _create(self, world, slot, worker, step, found):
        label = (slot, "create")
        if worker.wire == "air" and (jobs := self._landed(world, step.number, step.file, worker.slept)):
            after = self._with(world, slot, worker._replace(wire="landed"), jobs)
            found.append(Step((*label, "lands"), True, after))
        if worker.wire == "air" and world.budget.refusals:
            refused = worker._replace(wire="no")
            after = self._with(world, slot, refused, budget=self._spent(world.budget, "refusals"))
            found.append(Step((*label, "refused"), False, after))
        if world.budget.cuts:
            wires = self._on_its_way(world, worker, step) if worker.wire == "air" else world.wires
            left = world._replace(wires=wires, budget=self._spent(world.budget, "cuts"))
            self._answer(left, slot, worker, ("cut",), (*label, "cut"), found, fair=False)
        for answer in {"landed": ("job",), "no": ("429", "400", "403", "404")}.get(worker.wire, ()):
            self._answer(world, slot, worker, (answer,), (*label, answer), found)

    def _on_its_way(self, world, worker, step):
        return tuple(sorted((*world.wires, (step.number, step.file, worker.slept if self._timed else 0))))

    def _landed(self, world, number, file, age):
        """The jobs when the service has made another one: it is paid for."""
        final = self.calls.records[world.ledger].state is ShardState.COLLECTED
        if self.rules.jobs == 1 and (world.jobs or final):
            raise Violation("paid twice" if world.jobs else "a job that nobody will look for")
        if len(world.jobs) >= self.rules.jobs:
            return None
        return tuple(sorted((*world.jobs, (number, file, age if self._timed else 0, "R"))))

    def _create_steps(self, world, found):
        """Creates that nobody waits for land, or never do."""
        for place, (number, file, age) in enumerate(world.wires):
            left = world._replace(wires=world.wires[:place] + world.wires[place + 1 :])
            found.append(Step(("never lands", number), True, self._plain(*left)))
            if jobs := self._landed(world, number, file, age):
                found.append(Step(("lands", number), True, self._plain(*left._replace(jobs=jobs))))

    # --- what a worker asks: answers, whether they are as they should be, and the jobs after it

    def _read(self, ledger, jobs, worker, _number):
        yield ("record", ledger, worker.fresh), True, jobs

    def _list(self, _ledger, jobs, worker, _number):
        """A complete listing shows each job, or not yet. Then one whose pages shifted, one cut, one by a wrong key."""
        solo = self.calls.calls[worker.call].kind == "advance"  # which takes nothing but the name from a list
        known = [(job, "R" if solo or life == "R" else "D") for job, _, _, life in jobs if life != "G"]
        must = {job for job, _, age, life in jobs if self._timed and age >= self.rules.shown_within and life != "G"}
        for shown in _subsets(known):
            if must <= {job for job, _ in shown}:
                yield ("list", "full", shown, 0), len(shown) == len(known), jobs
        yield ("down",), False, jobs
        yield ("list", "twice", (), 0), False, jobs
        if self.rules.sibling:
            yield ("list", "cut", (), 0), False, jobs
            yield ("list", "blind", (), 0), False, jobs

    def _get(self, _ledger, jobs, worker, number):
        life = _life(jobs, number)
        yield (("404",) if life == "G" else ("seen", life)), True, jobs
        yield ("down",), False, jobs
        if self.calls.calls[worker.call].kind != "look":  # its listing was by the same key
            yield ("404", "blind"), False, jobs

    def _collect(self, _ledger, jobs, _worker, number):
        yield (("ok",) if _life(jobs, number) == "D" else ("404",)), True, jobs
        yield ("down",), False, jobs
        yield ("404", "blind"), False, jobs

    def _cancel(self, _ledger, jobs, _worker, number):
        yield ("ok",), True, tuple((*job[:3], "C") if job[0] == number and job[3] == "R" else job for job in jobs)
        yield ("down",), False, jobs

    # --- what happens at the service, and time

    def _job_steps(self, world, found):
        recorded = not self._timed or self.calls.records[world.ledger].job
        for place, job in enumerate(world.jobs):
            for life in NEXT_LIVES.get(job[3], ""):
                if life in WRONG and not (world.budget.losses and recorded):
                    continue
                jobs = (*world.jobs[:place], (*job[:3], life), *world.jobs[place + 1 :])
                budget = self._spent(world.budget, "losses") if life in WRONG else world.budget
                after = self._plain(world.ledger, world.owed, jobs, world.wires, world.workers, budget)
                found.append(Step(("job", job[0], life), life not in WRONG, after))

    def _later(self, world):
        """A tick later; None where somebody would sleep for too long, or the service be too slow."""
        limit, jobs, wires = self.rules.shown_within, world.jobs, world.wires
        if any(self._sleepy(worker.call) for worker in world.workers):
            return None
        if self._timed:
            ages = [wire[2] for wire in wires] + [worker.slept for worker in world.workers if worker.wire == "air"]
            if any(age + 1 >= limit for age in ages):
                return None
            jobs = tuple((number, file, min(age + 1, limit), life) for number, file, age, life in jobs)
            wires = tuple((number, file, age + 1) for number, file, age in wires)
        workers = [Worker(self._older_call(one.call), one.fresh, self._slept(one), one.wire) for one in world.workers]
        return self._plain(self._older_record(world.ledger), world.owed, jobs, wires, workers, world.budget)

    def _sleepy(self, number):
        """Whether a worker has slept over a listing for as long as is modelled."""
        call = self.calls.calls[number]
        listings = [answer for answer in (call.listed, *call.answers) if answer and answer[0] == "list"]
        return any(age >= OLDEST_LISTING for _, _, _, age in listings)

    def _slept(self, worker):
        step = self.calls.step(worker.call)
        if isinstance(step, Append) and step.cause == "SendBegan":
            return 1
        return worker.slept + 1 if self._timed and worker.wire == "air" else worker.slept

    def _stale(self, number):
        record = self.calls.records[number]
        return self.calls.record_number(with_stale_upload(record), record.version)


def _life(jobs, number):
    return next(life for job, _, _, life in jobs if job == number)


def _subsets(known):
    subsets = [()]
    for one in known:
        subsets += [(*subset, one) for subset in subsets]
    return subsets


def _mask(numbers):
    mask = 1  # sends are counted from 1
    for number in numbers:
        mask |= 1 << number
    return mask
