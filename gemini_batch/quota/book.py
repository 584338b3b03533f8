"""What a project has in flight, and who may add to it. Pure: no clock, no network, no dice.

In: the leases of all shards of all runs of one project, and a shard that wants in or wants to send. Out: leave, or the
reason to wait. Leases follow the ledger: whatever is in flight there holds one, after any restart too. What a limit
counts is re-read from the ledgers after any loss; what was learnt of the limits (`belief.py`) may be lost.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from gemini_batch.quota import turns
from gemini_batch.quota.belief import Belief, after_refusal
from gemini_batch.quota.holdings import Held, Holdings
from gemini_batch.quota.turns import Kept, Waiter
from gemini_batch.quota.uses import DAY_SECONDS, Uses
from gemini_batch.quota.words import (
    Applicant,
    Foreign,
    Lease,
    ListedJob,
    Room,
    Wait,
    creates_wait,
    jobs_wait,
    learnt_wait,
    paused_wait,
    pilot_wait,
    stored_wait,
    tokens_wait,
    turn_wait,
)
from gemini_batch.records import IN_FLIGHT, Limits, ShardState

S = ShardState

LEASE_SECONDS = 900.0
"""A lease that neither a worker nor a sweep has renewed for so long is nobody's. Sweeps come every few seconds."""

ASKED_SECONDS = 60.0
"""The same for one that was granted and never became a record: its worker died in between. As long does a word to send
hold places, and one that was refused count as wanting to."""

FOREIGN_SECONDS = 900.0
"""What a listing showed of others is believed for so long: longer than between two listings."""

OUTGREW_SECONDS = DAY_SECONDS + 3600.0
"""A shard no larger than a job that was once accepted is refused for something else, creates of a day perhaps; split,
it would take more of them. Only after a day can that not be it."""


@dataclass
class Book(Holdings):
    """One project's desk."""

    proven: set[str] = field(default_factory=set)
    """Runs of which the service has accepted a job. Until then one shard goes ahead alone, as a pilot."""
    largest: dict[str, int] = field(default_factory=dict)
    """By model, the tokens of the largest job that was accepted."""
    heads: dict[str, Waiter] = field(default_factory=dict)
    """By run: the shard that waits first."""
    lasting: bool = False
    """Whether leases never expire: whoever holds one lives as long as the book."""

    # --- the four questions

    def ask(self, who: Applicant, limits: Limits, now: float) -> Wait | None:
        """Grant a lease, or say why not. Asking again with a lease renews it.

        A shard that is turned away waits in its run's name; it has to ask again, or to be named to `room`, within
        `turns.WAIT_SECONDS` to keep its place.
        """
        self._forget(now)
        if who.name not in self.leases:
            wait = self._pilot_wait(who.run) or self._full(who, limits, now)
            if wait:
                if not wait.pilot:
                    self._queue(who, now)
                return wait
        self.leases[who.name] = _lease(who, now + ASKED_SECONDS, asked=True)
        self._leave_queue(who)
        return None

    def may_send(self, who: Applicant, limits: Limits, now: float) -> Wait | None:
        """Why a shard may not create its job now. One whose lease was lost has to get in first."""
        self._forget(now)
        if who.name not in self.leases and (wait := self.ask(who, limits, now)):
            return wait
        lease, sent = self.leases[who.name], self.sent(who.name, now)
        if len(sent) + self.foreign.live >= limits.max_live_jobs:
            wait = jobs_wait(limits, len(sent), self.foreign.live)
        else:
            wait = self._learnt(who, sent, now)
        cleared, wants = (0.0, now + ASKED_SECONDS) if wait else (now + ASKED_SECONDS, 0.0)
        self.leases[who.name] = lease.model_copy(update={"cleared_until": cleared, "wants_until": wants})
        return wait

    def refused(self, who: Applicant, now: float, spread: float = 0.5) -> bool:
        """The service answered 429 to this shard's create. Nothing was created, and it costs no attempt.

        Args:
            spread: a random number from 0 to 1; it sets apart when several fleets try again.

        Returns:
            whether the shard is to be split, if it has more than one row: it was refused for minutes with nothing else
            live, so it may be larger than the limit.
        """
        self._forget(now)
        others = self.sent(who.name, now)
        waiting = [self.weight(head) for head in self.heads.values() if head.model == who.model]
        belief = self.beliefs[who.model] = after_refusal(
            self.beliefs.get(who.model),
            who.name,
            jobs=len(others) + self.foreign.live,
            tokens=self.tokens(others, who.model),
            more=self.weight(who),
            least=min([self.weight(who), *waiting]),
            now=now,
            spread=spread,
        )
        if lease := self.leases.get(who.name):
            self.leases[who.name] = lease.model_copy(update={"cleared_until": 0.0})
        if not belief.may_be_too_large(who.name, now):
            return False
        outgrew = self.weight(who) > self.largest.get(who.model, 0)
        if not outgrew and now - belief.alone[who.name].since < OUTGREW_SECONDS:
            return False
        self.beliefs[who.model] = belief.after_split(who.name)
        return True

    def room(self, run: str, model: str, limits: Limits, now: float, head: Applicant | None = None) -> Room:
        """What of a run could be let in now.

        Args:
            head: the run's first shard that has not begun. Naming it, at every sweep, keeps the run in the queue;
                None takes the run out of it.
        """
        self._forget(now)
        pilot = self._pilot_wait(run)
        if head is None or pilot:
            self.heads.pop(run, None)
        else:
            self._queue(head, now)
        if pilot:
            return Room(0, None, pilot)
        waiter = self.heads.get(run)
        kept = self._kept_from(waiter, limits, now)[0] if waiter else Kept()
        if waiter and waiter.has_waited(now) and (wait := self._lacks(waiter, limits, kept, now)):
            return Room(0, None, wait)  # room is kept for it, against its own run too
        room = self._room(model, limits, kept, now)
        if run in self.proven or not room.shards:
            return room
        return Room(1, room.tokens, pilot_wait())

    # --- what is told

    def follow(self, who: Applicant, now: float) -> None:
        """Hold or give back a lease as the ledger says. What is older than the lease says nothing."""
        in_flight, held = who.state in IN_FLIGHT, self.leases.get(who.name)
        if who.has_job:
            self._prove(who)
        if held and (held.version > who.version or (held.asked and held.version == who.version and not in_flight)):
            return
        if in_flight:
            self.leases[who.name] = _lease(who, now + LEASE_SECONDS)
            self._leave_queue(who)
        elif held:
            del self.leases[who.name]
            self.uses[who.run] = self.uses.get(who.run, Uses()).plus(who.creates, who.files)
        self._learn(who, held, now)

    def follow_run(self, run: str, ledger: Iterable[Applicant], now: float) -> None:
        """Hold the book against all records of a run: what its shards still take is counted anew."""
        uses = Uses()
        for who in ledger:
            held = self.leases.get(who.name)
            overtaken = held is not None and held.version > who.version
            self.follow(who, now)
            if who.state not in IN_FLIGHT and not overtaken:
                uses = uses.plus(who.creates, who.files)
        self.uses[run] = uses.at(now)

    def see(self, listed: Iterable[ListedJob], now: float) -> None:
        """Count what a listing of the project's jobs shows of others: jobs of no run that is known here."""
        known = self.proven | {lease.run for lease in self.leases.values()} | set(self.uses)
        foreign = [job for job in listed if job.run not in known]
        created = [job.created for job in foreign if job.created is not None]
        self.foreign = Foreign(
            live=sum(job.live for job in foreign),
            creates=Uses().plus(created, ()).at(now).creates,
            until=now + FOREIGN_SECONDS,
        )

    def calibrate(self, run: str, scale: float) -> None:
        """Weigh a run's tokens by `scale`: actual over estimated input tokens of what has come back."""
        self.scales[run] = scale

    # --- what is full

    def _full(self, who: Applicant, limits: Limits, now: float) -> Wait | None:
        if wait := self._lacks(who, limits, Kept(), now):
            return wait
        kept, ahead = self._kept_from(who, limits, now)
        if ahead and self._lacks(who, limits, kept, now):
            return turn_wait(ahead, kept=ahead.has_waited(now))
        return None

    def _lacks(
        self, who: Applicant | Waiter, limits: Limits, kept: Kept, now: float, held: Held | None = None
    ) -> Wait | None:
        """What there is too little of for a shard, beside what is held and what is kept for others.

        Alone, a shard over the limit of tokens or bytes is tried rather than waiting for ever.

        Args:
            held: what is held now, where it is known.
        """
        tokens, stored = held or self.held(who.model, now)
        jobs = len(self.leases) + kept.jobs
        if jobs + self.foreign.live >= limits.max_live_jobs:
            return jobs_wait(limits, jobs, self.foreign.live)
        tokens += kept.tokens[who.model]
        limit, more = limits.max_enqueued_tokens, self.weight(who)
        if limit is not None and tokens and tokens + more > limit:
            return tokens_wait(limit, tokens, more)
        if (creates := limits.max_creates_per_day) is not None and self.creates(now) + kept.jobs >= creates:
            return creates_wait(creates, self.creates(now), self.next_create_ends())
        stored += kept.stored_bytes
        if (most := limits.max_stored_bytes) is not None and stored and stored + who.request_bytes > most:
            return stored_wait(most, stored, self.next_file_ends(now))
        belief = self.beliefs.get(who.model)
        if (
            belief
            and (kept.jobs or self.has_unsent(who.model))
            and not belief.holds(jobs + self.foreign.live, tokens, more)
        ):
            return learnt_wait(belief, now)
        return None

    def _room(self, model: str, limits: Limits, kept: Kept, now: float) -> Room:
        jobs = len(self.leases) + self.foreign.live + kept.jobs
        held = self.tokens(self.leases.values(), model)
        tokens, limit = held + kept.tokens[model], limits.max_enqueued_tokens
        most = [(limits.max_live_jobs - jobs, jobs_wait(limits, len(self.leases), self.foreign.live))]
        if limit is not None and tokens:
            free = limit - tokens
            most.append((limits.max_live_jobs if free > 0 else 0, tokens_wait(limit, held, 0)))
        if (creates := limits.max_creates_per_day) is not None:
            used = self.creates(now)
            most.append((creates - used - kept.jobs, creates_wait(creates, used, self.next_create_ends())))
        if (room := limits.max_stored_bytes) is not None and (
            stored := self.stored_bytes(now)
        ) + kept.stored_bytes >= room:
            most.append((0, stored_wait(room, stored, self.next_file_ends(now))))
        budget = None if limit is None else max(0, int(limit - tokens))
        if belief := self.beliefs.get(model):
            within = int(belief.jobs) - jobs if belief.tokens > tokens else 0
            if within > 0:
                free = int(belief.tokens - tokens)
                budget = free if budget is None else min(free, budget)
            most.append((max(within, 0 if kept.jobs or self.has_unsent(model) else 1), learnt_wait(belief, now)))
        shards, wait = min(most, key=lambda one: one[0])
        return Room(max(0, shards), budget, wait)

    def _kept_from(self, who: Applicant | Waiter, limits: Limits, now: float) -> tuple[Kept, Waiter | None]:
        """Room that is for the heads of runs that come before a shard, and the first of them.

        Of those that do not fit now only the one that has waited for longest is kept room for.
        """
        kept, first = Kept(), None
        own = self.heads.get(who.run)
        passed = own is not None and own.name != who.name and own.has_waited(now)
        since = now if own is None or passed else own.since
        mine = _waiter(who, since, now)
        others = [head for run, head in self.heads.items() if run != who.run or passed]
        leases = self.by_run() if others else {}
        order = turns.in_turn([*others, mine], lambda head: self._share(head, leases.get(head.run, []), limits), now)
        held: dict[str, Held] = {}
        for place, head in enumerate(order):
            if head is mine:
                break
            if head.model not in held:
                held[head.model] = self.held(head.model, now)
            if (place == 0 and head.has_waited(now)) or not self._lacks(head, limits, kept, now, held[head.model]):
                first = first or head
                kept.jobs += 1
                kept.tokens[head.model] += int(self.weight(head))
                kept.stored_bytes += head.request_bytes
        return kept, first

    def _share(self, head: Waiter, own: list[Lease], limits: Limits) -> float:
        """Of what is scarce, the largest part that the run of a head holds by its leases."""
        shares = [len(own) / limits.max_live_jobs]
        belief = self.beliefs.get(head.model)
        caps = [limits.max_enqueued_tokens, belief.tokens if belief else None]
        if cap := min((cap for cap in caps if cap), default=None):
            shares.append(self.tokens(own, head.model) / cap)
        return max(shares)

    def _learnt(self, who: Applicant, sent: list[Lease], now: float) -> Wait | None:
        """Why a shard may not send by what refusals have taught."""
        belief = self.beliefs.get(who.model)
        if belief is None:
            return None
        if now < belief.pause_until:
            return paused_wait(belief)
        on_the_wire = (one for one in sent if one.model == who.model and not (one.has_job or one.state is S.UNKNOWN))
        if belief.refusals and (asks := next(on_the_wire, None)):
            return Wait(f"the service answered 429; shard {asks.shard} asks again for all")
        jobs, tokens, more = len(sent) + self.foreign.live, self.tokens(sent, who.model), self.weight(who)
        if belief.holds(jobs, tokens, more):
            return self._sends_first(who, sent, belief)
        if belief.probing == who.name and now < belief.probing_until:
            return None
        if not belief.probe_is_due(now):
            return learnt_wait(belief, now)
        self.beliefs[who.model] = belief.probed_by(who.name, now)
        return None

    def _sends_first(self, who: Applicant, sent: list[Lease], belief: Belief) -> Wait | None:
        """Whether another run's shard that is ready and has less at the service would find no room after this one."""
        jobs, tokens = len(sent) + self.foreign.live + 1, self.tokens(sent, who.model) + self.weight(who)
        mine = self.tokens((lease for lease in sent if lease.run == who.run), who.model)
        for other in self.leases.values():
            wants = other.wants_until > 0 and other.run != who.run and other.model == who.model
            if not wants or other in sent or belief.holds(jobs, tokens, self.weight(other)):
                continue
            if self.tokens((lease for lease in sent if lease.run == other.run), who.model) < mine:
                return turn_wait(other)
        return None

    def _learn(self, who: Applicant, held: Lease | None, now: float) -> None:
        """What a record says of the last create of its shard."""
        belief = self.beliefs.get(who.model)
        if belief is None:
            return
        if who.has_job and held and not held.has_job and who.state is S.SUBMITTED:
            sent = self.sent("", now)
            belief = belief.after_taken(who.name, len(sent) + self.foreign.live, self.tokens(sent, who.model), now)
        elif not _asks_again(who):
            belief = belief.without_probe(who.name)
        self.beliefs[who.model] = belief

    def _prove(self, who: Applicant) -> None:
        self.proven.add(who.run)
        self.largest[who.model] = max(self.largest.get(who.model, 0), int(self.weight(who)))

    # --- the queue

    def _pilot_wait(self, run: str) -> Wait | None:
        under_way = any(lease.run == run and lease.state is not S.UNKNOWN for lease in self.leases.values())
        return pilot_wait() if run not in self.proven and under_way else None

    def _queue(self, who: Applicant, now: float) -> None:
        """The first shard of a run that waits is its head until it is let in."""
        known = self.heads.get(who.run)
        if known is None or known.name == who.name:
            self.heads[who.run] = _waiter(who, known.since if known else now, now)
        else:
            self.heads[who.run] = known.model_copy(update={"until": now + turns.WAIT_SECONDS})

    def _leave_queue(self, who: Applicant) -> None:
        head = self.heads.get(who.run)
        if head and head.name == who.name:
            del self.heads[who.run]

    def _forget(self, now: float) -> None:
        if not self.lasting:
            self.leases = {name: lease for name, lease in self.leases.items() if lease.until >= now}
        self.heads = {run: head for run, head in self.heads.items() if head.until >= now}
        self.uses = {run: left for run, uses in self.uses.items() if not (left := uses.at(now)).is_empty}
        if self.foreign.until < now:
            self.foreign = Foreign()


def follow_all(book: Book, ledger: Iterable[Applicant], now: float) -> None:
    """Hold the book against the ledgers of runs, complete ones: renews every lease that is in flight, gives back the
    others, and counts anew what those still take."""
    runs: dict[str, list[Applicant]] = {}
    for who in ledger:
        runs.setdefault(who.run, []).append(who)
    for run, records in runs.items():
        book.follow_run(run, records, now)


def _lease(who: Applicant, until: float, asked: bool = False) -> Lease:
    known = {name: getattr(who, name) for name in Applicant.model_fields}  # of a lease only what an applicant has
    return Lease.model_construct(**known, until=until, asked=asked)


def _waiter(who: Applicant | Waiter, since: float, now: float) -> Waiter:
    return Waiter(
        run=who.run, shard=who.shard, model=who.model, tokens=who.tokens, request_bytes=who.request_bytes,
        since=since, until=now + turns.WAIT_SECONDS,
    )  # fmt: skip


def _asks_again(who: Applicant) -> bool:
    """Whether a shard is on its way to another create. One whose create was lost may never make another."""
    return who.state in IN_FLIGHT and who.state is not S.UNKNOWN and not who.has_job
