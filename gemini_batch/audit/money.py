"""The money of a run, held against what its ledgers say. Reading is `see_chain`; the rest is pure.

In: every version of the `spend/` chain, one in memory at a time, and what the shards' last records say. Out: what is
wrong. Nothing may be reserved above the cap, sent above its reservation, or left out of the sums.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import isclose

from gemini_batch.audit.facts import Chain, Told, Version
from gemini_batch.budget import ROUNDING, committed, unsettled_usd
from gemini_batch.errors import RunStopped
from gemini_batch.gemini.calibrate import Calibration, read_shard
from gemini_batch.ledger.log import Log
from gemini_batch.records import FORMAT, ShardPlan, ShardRecord, ShardState, SpendRecord

CAUSES = ("Reserved", "Settled")


def see_chain(log: Log[SpendRecord], said_caps: Iterable[float]) -> Chain:
    """The whole chain.

    Args:
        said_caps: all that were ever said, on submit or resume.
    """
    chain, faults = Chain(said_caps=tuple(sorted(set(said_caps)))), list[str]()
    reserved, caps, nonces, end = dict[tuple[int, int], float](), set[float](), set[str](), log.end()
    for number in range(1, end + 1):
        try:
            record = log.at(number)
        except RunStopped as error:
            faults.append(f"version {number} cannot be read: {error}")
            continue
        if record is None:
            faults.append(f"version {number} is missing")
            continue
        if record.nonce in nonces or number < end:
            faults += [f"version {number} {what}" for what in marks(record, number, nonces)]
        nonces.add(record.nonce)
        caps.add(record.cap_usd)
        for held in record.held:
            made = (held.shard, held.version)
            reserved[made] = max(held.usd, reserved.get(made, 0.0))
        chain = replace(chain, last=record)
    return replace(chain, versions=end, faults=tuple(faults), reserved=reserved, caps=tuple(sorted(caps)))


def marks(record: SpendRecord, number: int, nonces: set[str]) -> Iterator[str]:
    """What is wrong with one version by itself."""
    if record.version != number:
        yield f"calls itself version {record.version}"
    if not record.nonce or record.nonce in nonces:
        yield "has a nonce that another version has, or none"
    if not 1 <= record.format <= FORMAT or record.cause not in CAUSES or not record.owner or record.at is None:
        yield "is of a format or cause that is not known, or does not say who wrote it, or when"
    if record.cause == "Reserved" and committed(record) > record.cap_usd + ROUNDING:
        yield f"reserves up to {committed(record)} USD of {record.cap_usd}"


@dataclass
class Telling:
    """What the last records of all shards come to, one shard at a time."""

    settled_usd: float = 0.0
    unsettled_usd: float = 0.0
    is_exact: bool = True
    sends: dict[tuple[int, int], float] = field(default_factory=dict)
    twins: set[str] = field(default_factory=set)
    seen: Calibration = field(default_factory=Calibration)

    def add(self, plan: ShardPlan, history: Sequence[Version]) -> None:
        """A shard, by its history."""
        records = [version.record for version in history if version.record]
        for send in (one.sends[-1] for one in records if one.cause == "SendBegan" and one.sends):
            if send.reserved_usd is not None:
                self.sends[plan.shard, send.number - 1] = send.reserved_usd
        if not records:
            return
        last = records[-1]
        self.unsettled_usd += unsettled_usd(last)
        self.is_exact = self.is_exact and _is_exact(last)
        self.twins.update(twin.name for twin in last.twins)
        if last.state is ShardState.COLLECTED and last.tally and last.job:
            self.settled_usd += last.tally.cost_usd
            self.seen = self.seen.add(read_shard(plan, last.tally))

    def told(self) -> Told:
        return Told(
            self.settled_usd,
            self.unsettled_usd,
            self.is_exact,
            self.sends,
            tuple(sorted(self.twins)),
            self.seen.highest,
        )


def _is_exact(record: ShardRecord) -> bool:
    """Whether the ledger says what was reserved for each job of the shard."""
    reserved = {send.display_name for send in record.sends if send.reserved_usd is not None}
    return all(job.display_name in reserved for job in (record.job, *record.twins) if job)


def judge_chain(chain: Chain, told: Told | None, shards: int | None) -> Iterator[str]:
    """What is wrong with the money of a run.

    Args:
        told: what the ledgers of all shards say, read before the chain of a run that is under way.
        shards: of a run that has finished; None for others.
    """
    yield from chain.faults
    last = chain.last
    if last is None:
        if chain.versions and not chain.faults:
            yield f"none of its {chain.versions:,} versions is there"
        if told and told.sends and not chain.versions:
            yield f"{len(told.sends):,} sends have a reservation, and there is no record of one"
        return
    yield from (f"version {chain.versions} {what}" for what in marks(last, chain.versions, set()))
    if unsaid := sorted({*chain.caps, last.cap_usd} - set(chain.said_caps)):
        yield f"it keeps a cap of {unsaid[0]} USD, which nobody said"
    if told and not chain.faults:
        for (shard, version), usd in told.sends.items():
            if usd > (reserved := chain.reserved.get((shard, version), 0.0)) + ROUNDING:
                yield f"a send of shard {shard} may cost {usd} USD, and {reserved} were reserved for it"
        if shards is not None:
            yield from _unlike(last, told, shards)


def _unlike(last: SpendRecord, told: Told, shards: int) -> Iterator[str]:
    """The end of the chain of a finished run."""
    if last.held:
        yield f"{len(last.held):,} reservations are held after the end, that of shard {last.held[0].shard} among them"
    if last.counted != ((0, shards),):
        yield f"it counts the shards {last.counted}, and the run has {shards:,}"
    if not isclose(last.settled_usd, told.settled_usd, rel_tol=1e-9, abs_tol=ROUNDING):
        yield f"it settles {last.settled_usd} USD, and the ledgers say {told.settled_usd}"
    same = isclose(last.unknown_usd, told.unsettled_usd, rel_tol=1e-9, abs_tol=ROUNDING)
    if not same and (told.is_exact or last.unknown_usd < told.unsettled_usd):
        yield f"it has {last.unknown_usd} USD for what has no known cost, and the ledgers say {told.unsettled_usd}"
    if tuple(sorted(last.twins)) != told.twins:
        yield f"it counts the second jobs {last.twins}, and the ledgers say {told.twins}"
    if last.highest_ratio != told.highest_ratio:
        yield f"it takes input tokens for {last.highest_ratio} of their estimate at most; the ledgers say otherwise"


def judge_sends(chain: Chain, history: Sequence[Version]) -> Iterator[str]:
    """Sends of a shard of a finished run, whose reservations are all in the chain as it was read."""
    if chain.last is None or chain.faults:
        return
    for record in (version.record for version in history if version.record and version.record.cause == "SendBegan"):
        for send in record.sends[-1:]:
            if (send.reserved_usd or 0.0) > chain.reserved.get((record.shard, send.number - 1), 0.0) + ROUNDING:
                yield f"send {send.number} may cost {send.reserved_usd} USD, and less was reserved for it"
