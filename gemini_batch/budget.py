"""A run's cap: how much of it is committed, and whether one more send fits. Pure.

In: the last record of the `spend/` chain, last known records of shards, the most that a send may cost. Out: the next
record of the chain, or None where the cap would be passed. All amounts are USD. A reservation is made before SENDING
is recorded and is given back, or replaced by what was really paid, only by what the shard's ledger says later; what
came back without a known cost stays committed at its highest.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any

from gemini_batch.errors import BadInput
from gemini_batch.gemini.calibrate import Calibration, read_shard
from gemini_batch.gemini.estimate import INPUT_HIGH, output_tokens
from gemini_batch.gemini.prices import BatchPrice, price_of
from gemini_batch.records import (
    Asked,
    Job,
    Limits,
    Reservation,
    Send,
    ShardPlan,
    ShardRecord,
    ShardState,
    SpendRecord,
)

S = ShardState
PAYING = frozenset({S.SENDING, S.UNKNOWN, S.SUBMITTED, S.ENDED})
"""A send may have taken effect, and what it cost is not known yet."""

MARGIN = Decimal("1.25")
"""On the highest ratio of counted to estimated input tokens of any shard so far. Ours: shards of one run are alike."""

SHARE = 8
"""Shards that a cap pays for at once, at their highest: one may cost an eighth of it, so that a cap below the cost of
the whole run is used up to the last part."""

ROUNDING = 1e-9


@dataclass(frozen=True)
class Tariff:
    """What one send may cost at most. Prices change at a date (pricing page), and a job that is created right after
    midnight has the price of its day: `price` is the higher of two days'."""

    price: BatchPrice
    output_tokens: int
    """The most that one request is answered with, thoughts included."""

    def highest(self, requests: int, tokens: int, factor: Decimal) -> float:
        """USD.

        Args:
            requests: that are sent.
            tokens: estimated input tokens of all of them.
            factor: by which the estimate may be too low.
        """
        return float(self.price.cost_usd(math.ceil(tokens * factor), requests * self.output_tokens))


def tariff_of(asked: Asked, at: datetime, given: tuple[float, float] | None) -> Tariff | None:
    """None where nothing bounds the answers, or nobody knows a price.

    Args:
        given: what the user says that a million input and output tokens cost.
    """
    today, tomorrow = (price_of(asked.model, day, given) for day in (at, at + timedelta(days=1)))
    out = output_tokens(asked.model, asked.generation_config)
    if today is None or tomorrow is None or not out.bounded:
        return None
    price = BatchPrice(
        max(today.input_usd, tomorrow.input_usd),
        max(today.output_usd, tomorrow.output_usd),
        max(today.cached_usd, tomorrow.cached_usd),
    )
    return Tariff(price, out.high)


def refuse_uncappable(asked: Asked, limits: Limits, at: datetime) -> None:
    """Raise if a cap is set that nothing could keep.

    Raises:
        BadInput: says what is missing.
    """
    if limits.max_cost is None or tariff_of(asked, at, limits.price):
        return
    if not output_tokens(asked.model, asked.generation_config).bounded:
        raise BadInput(
            f"--max-cost {limits.max_cost:g}: without --max-output-tokens an answer may be of any length, so no cap "
            "can be kept; give --max-output-tokens"
        )
    raise BadInput(
        f"--max-cost {limits.max_cost:g}: no price of {asked.model} is known and no cap can be kept; give --price"
    )


def sized(limits: Limits, asked: Asked, at: datetime) -> Limits:
    """The limits with shards of which a cap pays for several; those of a run without a cap as they are."""
    tariff = tariff_of(asked, at, limits.price) if limits.max_cost is not None else None
    if limits.max_cost is None or tariff is None:
        return limits
    share = Decimal(str(limits.max_cost)) / (2 * SHARE)  # as much for the answers as for what is asked
    requests = _affordable(share, tariff.price.output_usd * tariff.output_tokens)
    tokens = _affordable(share, tariff.price.input_usd * INPUT_HIGH)
    changes: dict[str, Any] = {}
    if requests is not None:
        changes["max_requests_per_shard"] = min(limits.max_requests_per_shard, requests)
    if tokens is not None:
        changes["max_tokens_per_shard"] = min(limits.max_tokens_per_shard or tokens, tokens)
    return limits.model_copy(update=changes)


def _affordable(usd: Decimal, each: Decimal) -> int | None:
    return max(1, int(usd / each)) if each else None


# --- the chain --------------------------------------------------------------------------------------------------------


def committed(book: SpendRecord) -> float:
    """What is paid, may have been paid, or is held back."""
    return book.settled_usd + book.unknown_usd + sum(held.usd for held in book.held)


def input_factor(book: SpendRecord) -> Decimal:
    """By how much an estimate of input tokens may be too low, by what has come back."""
    if book.highest_ratio is None:
        return INPUT_HIGH
    return max(Decimal(1), MARGIN * Decimal(str(book.highest_ratio)))


def reserve(book: SpendRecord, want: Reservation, cap: float) -> SpendRecord | None:
    """Hold money back for a send; None where the cap would be passed.

    A shard has one reservation, its newest. One that is newer than `want` stays, and one that is collected gets none:
    whoever asks is behind the ledger, and its send will not be recorded. Of two for the same send, which one of two
    workers will make, the higher stays, if the cap, which may be a lower one now, allows it.
    """
    mine = held_for(book, want.shard)
    if (mine and mine.version > want.version) or want.shard in _counted(book):
        return book
    if mine and mine.version == want.version and mine.usd >= want.usd:
        return book if committed(book) <= cap + ROUNDING else None
    others = tuple(held for held in book.held if held.shard != want.shard)
    wanted = book.model_copy(update={"held": (*others, want), "cap_usd": cap})
    return wanted if committed(wanted) <= cap + ROUNDING else None


def held_for(book: SpendRecord, shard: int) -> Reservation | None:
    return next((held for held in book.held if held.shard == shard), None)


def settle(
    book: SpendRecord,
    records: Mapping[int, ShardRecord],
    plan: Sequence[ShardPlan],
    highest: Callable[[int], float],
) -> SpendRecord:
    """The book with all that `records` say of what is held, and of what was sent without a reservation.

    A record that is older than the reservation says nothing of it. May be called with any part of the records, in any
    order, any number of times.

    Args:
        highest: what a send of a shard may cost, for those that have nothing reserved.
    """
    sums = _Sums(book, plan, highest)
    for held in book.held:
        record = records.get(held.shard)
        if record is None or record.version <= held.version:
            sums.held.append(held)
        else:
            sums.take(record, held)
    done = {held.shard for held in book.held} | _counted(book)
    for shard, record in records.items():
        if shard not in done:
            sums.take(record, None)
        for twin in record.twins:
            sums.add_twin(twin, record)
    return sums.book()


def _counted(book: SpendRecord) -> set[int]:
    return {shard for start, stop in book.counted for shard in range(start, stop)}


def _send_of(record: ShardRecord, job: Job | None) -> Send | None:
    """The send that a job is of; None if that was taken for not made, and left the record."""
    return next((send for send in record.sends if job and send.display_name == job.display_name), None)


def _unknown_share(record: ShardRecord) -> float:
    """Of a collected shard's lines, those that may have been paid for at a cost that nobody knows."""
    if record.job is None or record.tally is None:
        return 0.0  # nothing was created
    send = _send_of(record, record.job) or (record.sends[-1] if record.sends else None)
    return min(1.0, record.tally.unpriced / max(1, send.lines if send else record.tally.unpriced))


def unsettled_usd(record: ShardRecord) -> float:
    """What a shard's sends may cost beyond what is known, as far as it was reserved: what `settle` holds of it."""
    sent = [send.reserved_usd or 0.0 for send in record.sends]
    if not sent:
        return 0.0
    share = 1.0 if record.state in PAYING else _unknown_share(record) if record.state is S.COLLECTED else 0.0
    own = _send_of(record, record.job)
    twins = (_send_of(record, twin) for twin in record.twins)
    return max(sent[-1], (own and own.reserved_usd) or 0.0) * share + sum(
        max(sent) if twin is None or twin.reserved_usd is None else twin.reserved_usd for twin in twins
    )


def lines_of_twins(record: ShardRecord) -> int:
    """Lines that were bought beside the shard's own job: what they cost is not known."""
    lines = {send.display_name: send.lines for send in record.sends}
    return sum(lines.get(twin.display_name, 0) for twin in record.twins)


class _Sums:
    """A book that is being worked on."""

    def __init__(self, book: SpendRecord, plan: Sequence[ShardPlan], highest: Callable[[int], float]) -> None:
        self._before, self._plan, self._highest = book, plan, highest
        self._settled, self._unknown = book.settled_usd, book.unknown_usd
        self._seen = Calibration(highest=book.highest_ratio)
        self._twins = dict.fromkeys(book.twins)
        self._counted = _counted(book)
        self.held: list[Reservation] = []

    def take(self, record: ShardRecord, held: Reservation | None) -> None:
        """What the ledger says of a shard that is not in the sums, or only held.

        Without a reservation it was sent while no cap was set, or by a send that was believed to have made no job.
        """
        shard = record.shard
        if record.state in PAYING and (record.sends or record.job):
            most = self._most(record, held)
            mine = held or Reservation(shard=shard, version=record.version - 1, usd=most)
            self.held.append(mine if mine.usd >= most else mine.model_copy(update={"usd": most}))
        elif record.state is S.COLLECTED and shard not in self._counted:
            self._counted.add(shard)
            self._charge(record, held)

    def add_twin(self, twin: Job, record: ShardRecord) -> None:
        """A job beside the shard's own: nobody fetches what it says, so nobody knows what it cost."""
        if twin.name in self._twins:
            return
        self._twins[twin.name] = None
        send = _send_of(record, twin)
        self._unknown += self._highest(record.shard) if send is None or send.reserved_usd is None else send.reserved_usd

    def _most(self, record: ShardRecord, held: Reservation | None) -> float:
        """What the shard's job may cost, by its send, which may be another than the one that money is held for."""
        send = _send_of(record, record.job) if record.job else record.sends[-1]
        if send is not None and send.reserved_usd is not None:
            return send.reserved_usd
        return max(self._highest(record.shard), held.usd if held else 0.0)

    def _charge(self, record: ShardRecord, held: Reservation | None) -> None:
        """What is known of a collected shard's cost, and the rest at its highest."""
        if record.tally is None or record.job is None:
            return  # nothing was created
        self._settled += record.tally.cost_usd
        if share := _unknown_share(record):
            self._unknown += share * self._most(record, held)
        self._seen = self._seen.add(read_shard(self._plan[record.shard], record.tally))

    def book(self) -> SpendRecord:
        return self._before.model_copy(
            update={
                "settled_usd": self._settled,
                "unknown_usd": self._unknown,
                "held": tuple(self.held),
                "counted": tuple(_ranges(self._counted)),
                "twins": tuple(self._twins),
                "highest_ratio": self._seen.highest,
            }
        )


def _ranges(shards: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Neighbours as one."""
    for _, group in groupby(enumerate(sorted(shards)), key=lambda pair: pair[1] - pair[0]):
        run = [shard for _, shard in group]
        yield run[0], run[-1] + 1
