"""What a project has in flight, and who may add to it. Pure: no clock, no network, no dice.

In: the leases of all shards of all runs of one project, and a shard that wants in or wants to send. Out: leave, or the
reason to wait. Leases follow the ledger: whatever is in flight there holds one, after any restart too.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from gemini_batch.records import IN_FLIGHT, Frozen, Limits, ShardState

S = ShardState
SENT = frozenset({S.SENDING, S.UNKNOWN, S.SUBMITTED})

LEASE_SECONDS = 900.0
"""A lease that neither a worker nor a sweep has renewed for so long is nobody's. Sweeps come every few seconds."""

ASKED_SECONDS = 60.0
"""The same for one that was granted and never became a record: its worker died in between."""

PROBE_SECONDS = 600.0
"""After a 429 one shard asks again for all; if it is not heard of for so long, another may."""


PILOT = "the first job of the run has yet to be accepted"


class Applicant(Frozen):
    """A shard at the desk: what it would hold, as of `version` of its ledger."""

    run: str
    shard: int
    model: str
    tokens: int
    state: ShardState
    version: int
    has_job: bool = False

    @property
    def name(self) -> str:
        return f"{self.run}/{self.shard}"


class Lease(Applicant):
    until: float
    """Desk time, in seconds."""
    asked: bool = False
    """Granted, and not yet seen in the ledger."""


class Probe(Frozen):
    """The one shard that may send after a 429."""

    name: str
    until: float


@dataclass
class Book:
    """One project's desk."""

    leases: dict[str, Lease] = field(default_factory=dict)
    proven: set[str] = field(default_factory=set)
    """Runs of which the service has accepted a job. Until then one shard goes ahead alone, as a pilot."""
    probes: dict[str, Probe] = field(default_factory=dict)
    """By model."""
    scales: dict[str, float] = field(default_factory=dict)
    """By run: actual over estimated input tokens of what has come back."""

    def ask(self, who: Applicant, limits: Limits, now: float) -> str | None:
        """Grant a lease, or say why not. Asking again with a lease renews it."""
        self._forget(now)
        if who.name not in self.leases and (reason := self._full(who, limits)):
            return reason
        self.leases[who.name] = _lease(who, now + ASKED_SECONDS, asked=True)
        return None

    def may_send(self, who: Applicant, limits: Limits, now: float) -> str | None:
        """Why a shard may not create its job now. One whose lease was lost has to get in first."""
        self._forget(now)
        probe = self.probes.get(who.model)
        if probe and probe.name != who.name:
            return _probing(probe)
        if who.name not in self.leases and (reason := self.ask(who, limits, now)):
            return reason
        sent = sum(lease.state in SENT for name, lease in self.leases.items() if name != who.name)
        return _live_reason(limits) if sent >= limits.max_live_jobs else None

    def refused(self, who: Applicant, now: float) -> None:
        """The service answered 429 to this shard's create: it alone tries again, the others wait for it."""
        self._forget(now)
        probe = self.probes.get(who.model)
        if probe is None or probe.name == who.name:
            self.probes[who.model] = Probe(name=who.name, until=now + PROBE_SECONDS)

    def follow(self, who: Applicant, now: float) -> None:
        """Hold or give back a lease as the ledger says. What is older than the lease says nothing."""
        if who.has_job:
            self.proven.add(who.run)
        in_flight, held = who.state in IN_FLIGHT, self.leases.get(who.name)
        if held and (held.version > who.version or (held.asked and held.version == who.version and not in_flight)):
            return
        if (probe := self.probes.get(who.model)) and probe.name == who.name and not _asks_again(who):
            del self.probes[who.model]
        if in_flight:
            self.leases[who.name] = _lease(who, now + LEASE_SECONDS)
        else:
            self.leases.pop(who.name, None)

    def room(self, run: str, model: str, limits: Limits, now: float) -> tuple[int, str]:
        """How many shards of a run could be let in by count (tokens are weighed when they ask), and why no more."""
        self._forget(now)
        if probe := self.probes.get(model):
            return 0, _probing(probe)
        if run not in self.proven:
            return int(not self._pilot_under_way(run)), PILOT
        return max(0, limits.max_live_jobs - len(self.leases)), _live_reason(limits)

    def calibrate(self, run: str, scale: float) -> None:
        """Weigh a run's tokens by `scale`: actual over estimated input tokens of what has come back."""
        self.scales[run] = scale

    def _weight(self, who: Applicant) -> float:
        return who.tokens * self.scales.get(who.run, 1.0)

    def _full(self, who: Applicant, limits: Limits) -> str | None:
        if who.run not in self.proven and self._pilot_under_way(who.run):
            return PILOT
        if len(self.leases) >= limits.max_live_jobs:
            return _live_reason(limits)
        same_model = [self._weight(lease) for lease in self.leases.values() if lease.model == who.model]
        limit = limits.max_enqueued_tokens
        # Alone, a shard over the token limit is tried rather than waiting for ever.
        if limit is not None and same_model and sum(same_model) + self._weight(who) > limit:
            return f"{limit:,} tokens are enqueued (--max-enqueued-tokens)"
        return None

    def _pilot_under_way(self, run: str) -> bool:
        return any(lease.run == run and lease.state is not S.UNKNOWN for lease in self.leases.values())

    def _forget(self, now: float) -> None:
        for name in [name for name, lease in self.leases.items() if lease.until < now]:
            del self.leases[name]
        for model in [model for model, probe in self.probes.items() if probe.until < now]:
            del self.probes[model]


def follow_all(book: Book, ledger: Iterable[Applicant], now: float) -> None:
    """Hold the book against the ledgers of runs: renews every lease that is in flight, gives back the others."""
    for who in ledger:
        book.follow(who, now)


def _lease(who: Applicant, until: float, asked: bool = False) -> Lease:
    return Lease(**{**who.model_dump(), "until": until, "asked": asked})


def _asks_again(who: Applicant) -> bool:
    """Whether a shard is on its way to another create. One whose create was lost may never make another."""
    return who.state in IN_FLIGHT and who.state is not S.UNKNOWN and not who.has_job


def _probing(probe: Probe) -> str:
    return f"the service answered 429; shard {probe.name.partition('/')[2]} asks again for all"


def _live_reason(limits: Limits) -> str:
    return f"{limits.max_live_jobs} jobs are in flight (--max-live-jobs)"
