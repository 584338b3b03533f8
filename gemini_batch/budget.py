"""A run's cap: how much of it is committed, and whether one more send fits. Pure.

In: the last record of the `spend/` chain, last known records of shards, the most that a send may cost. Out: the next
record of the chain, or None where the cap would be passed. All amounts are USD. A reservation is made before SENDING
is recorded and is given back, or replaced by what was really paid, only by what the shard's ledger says later; what
came back without a known cost stays committed at its highest.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from gemini_batch.errors import BadInput
from gemini_batch.gemini.calibrate import Calibration, read_shard
from gemini_batch.gemini.estimate import INPUT_HIGH, output_tokens
from gemini_batch.gemini.prices import BatchPrice, price_of
from gemini_batch.records import Asked, Limits, Reservation, ShardPlan, ShardRecord, ShardState, SpendRecord

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

    A shard has one reservation, its newest. One that is newer than `want` stays: whoever asks is behind the ledger, and
    its send will not be recorded. Of two for the same send, which one of two workers will make, the higher stays.
    """
    mine = held_for(book, want.shard)
    if mine and (mine.version, mine.usd) >= (want.version, want.usd):
        return book
    others = tuple(held for held in book.held if held.shard != want.shard)
    wanted = book.model_copy(update={"held": (*others, want), "cap_usd": cap})
    return wanted if committed(wanted) <= cap + ROUNDING else None


def held_for(book: SpendRecord, shard: int) -> Reservation | None:
    return next((held for held in book.held if held.shard == shard), None)


def settle(
    book: SpendRecord,
    records: Mapping[int, ShardRecord],
    plan: list[ShardPlan],
    highest: Callable[[int], float],
) -> SpendRecord:
    """The book with all that `records` say of what is held, and of what was sent without a reservation.

    A record that is older than the reservation says nothing of it. May be called with any part of the records, in any
    order, any number of times.

    Args:
        highest: what a send of a shard may cost, for those that have nothing reserved.
    """
    sums = _Sums(book)
    for held in book.held:
        record = records.get(held.shard)
        if record is None or record.version <= held.version or record.state in PAYING:
            sums.held.append(held)
        elif record.state is S.COLLECTED:
            sums.charge(record, held.usd, plan[held.shard])
    reserved = {held.shard for held in book.held}
    for shard, record in records.items():
        if shard not in reserved and _is_unheld(record) and not _within(shard, book.unheld):
            sums.take_over(record, highest(shard), plan[shard])
        for twin in record.twins:
            sums.add_twin(twin.name, record, highest)
    return sums.book()


def _is_unheld(record: ShardRecord) -> bool:
    """Whether it was sent while no cap was set."""
    return record.state in PAYING | {S.COLLECTED} and bool(record.sends) and record.sends[-1].reserved_usd is None


def _unknown_share(record: ShardRecord) -> float:
    """Of a collected shard's lines, those that may have been paid for at a cost that nobody knows."""
    if record.job is None or record.tally is None or not record.sends:
        return 0.0  # nothing was created
    return min(1.0, record.tally.unpriced / max(1, record.sends[-1].lines))


def unsettled_usd(record: ShardRecord) -> float:
    """What a shard's sends may cost beyond what is known, as far as it was reserved: what `settle` holds of it."""
    sent = [send.reserved_usd or 0.0 for send in record.sends]
    if not sent:
        return 0.0
    own = 1.0 if record.state in PAYING else _unknown_share(record) if record.state is S.COLLECTED else 0.0
    return sent[-1] * own + max(sent) * len(record.twins)


def lines_of_twins(record: ShardRecord) -> int:
    """Lines that were bought beside the shard's own job: what they cost is not known."""
    lines = {send.display_name: send.lines for send in record.sends}
    return sum(lines.get(twin.display_name, 0) for twin in record.twins)


class _Sums:
    """A book that is being worked on."""

    def __init__(self, book: SpendRecord) -> None:
        self._before = book
        self._settled, self._unknown = book.settled_usd, book.unknown_usd
        self._seen = Calibration(highest=book.highest_ratio)
        self._twins = dict.fromkeys(book.twins)
        self._unheld = list(book.unheld)
        self.held: list[Reservation] = []

    def charge(self, record: ShardRecord, usd: float, entry: ShardPlan) -> None:
        """A collected shard: what is known of its cost, and the rest at its highest."""
        if record.tally is None or not record.sends:
            return
        reserved = record.sends[-1].reserved_usd
        self._settled += record.tally.cost_usd
        self._unknown += (usd if reserved is None else reserved) * _unknown_share(record)
        self._seen = self._seen.add(read_shard(entry, record.tally))

    def take_over(self, record: ShardRecord, usd: float, entry: ShardPlan) -> None:
        """A shard that was sent without a reservation."""
        self._unheld = _joined([*self._unheld, (record.shard, record.shard + 1)])
        if record.state is S.COLLECTED:
            self.charge(record, usd, entry)
        else:
            self.held.append(Reservation(shard=record.shard, version=record.sends[-1].number - 1, usd=usd))

    def add_twin(self, name: str, record: ShardRecord, highest: Callable[[int], float]) -> None:
        """A job beside the shard's own: nobody fetches what it says, so nobody knows what it cost."""
        if name not in self._twins:
            self._twins[name] = None
            sent = [send.reserved_usd for send in record.sends if send.reserved_usd is not None]
            self._unknown += max(sent) if sent else highest(record.shard)

    def book(self) -> SpendRecord:
        return self._before.model_copy(
            update={
                "settled_usd": self._settled,
                "unknown_usd": self._unknown,
                "held": tuple(self.held),
                "unheld": tuple(self._unheld),
                "twins": tuple(self._twins),
                "highest_ratio": self._seen.highest,
            }
        )


def _within(shard: int, ranges: Iterable[tuple[int, int]]) -> bool:
    return any(start <= shard < stop for start, stop in ranges)


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted, neighbours as one."""
    found: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if found and found[-1][1] >= start:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))
    return found
