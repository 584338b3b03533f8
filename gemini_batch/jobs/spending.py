"""Money is held back before a send and settled after it: the `spend/` chain of a run with a cap.

The chain serialises: version v+1 is created by exactly one process, which has read version v. So whatever dies, and
however many workers ask at once, what is settled and reserved together never passes the cap by a new reservation.
"""

from gemini_batch import budget
from gemini_batch.clock import new_nonce
from gemini_batch.errors import RunStopped
from gemini_batch.gemini.prices import in_usd
from gemini_batch.jobs.shop import Shop
from gemini_batch.records import Reservation, ShardRecord, SpendRecord


def reserve(shop: Shop, record: ShardRecord) -> tuple[float | None, str | None]:
    """Hold back what a send of a READY shard may cost: the amount, None without a cap; and the reason to wait, if any.

    Raises:
        RunStopped: the cap is too low for it, and nothing is in flight that could leave something over.
        OSError: the store could not take it.
    """
    return _Spending(shop, record).reserve() if shop.limits.max_cost is not None else (None, None)


def may_spend(shop: Shop, record: ShardRecord) -> str | None:
    """The same before the work of preparing a shard; nothing is held back."""
    return _Spending(shop, record).reserve(look_only=True)[1] if shop.limits.max_cost is not None else None


def settle_all(shop: Shop) -> None:
    """Take into the chain what the ledger, as far as this process knows it, says of all shards.

    Raises:
        OSError: the store could not take it.
    """
    if shop.limits.max_cost is not None:
        with shop.spending:
            _settled(shop, {record.shard: record for record in shop.all_records()})


class _Spending:
    """One shard that wants to send."""

    def __init__(self, shop: Shop, record: ShardRecord) -> None:
        if shop.limits.max_cost is None:
            raise AssertionError("no cap")
        self._shop = shop
        self._record = record
        self._cap = shop.limits.max_cost

    def reserve(self, look_only: bool = False) -> tuple[float | None, str | None]:
        shop = self._shop
        with shop.spending:  # one chain: threads that raced for it would only read each other's versions
            known = {shard: record for shard, record in shop.records.items() if record.version}
            while True:
                book = _last(shop) or _settled(shop, {})
                settled = _settle(shop, book, known)
                want = self._want(settled)
                wanted = budget.reserve(settled, want, self._cap)
                if wanted is None:  # the ledger may know more than this process has seen
                    settled = _settled(shop, _read_held(shop, book))
                    want = self._want(settled)
                    wanted = budget.reserve(settled, want, self._cap)
                if wanted is None:
                    return None, self._wait_or_stop(settled, want)
                cause = "Settled" if wanted == settled else "Reserved"
                if look_only or wanted == _last(shop) or _append(shop, wanted, cause):
                    held = budget.held_for(wanted, self._record.shard)
                    return held.usd if held else None, None

    def _want(self, book: SpendRecord) -> Reservation:
        shard = self._record.shard
        return Reservation(shard=shard, version=self._record.version, usd=_highest(self._shop, shard, book))

    def _wait_or_stop(self, book: SpendRecord, want: Reservation) -> str:
        """What is in flight is held back at its highest; when it has come back there may be enough."""
        others = [held for held in book.held if held.shard != want.shard]
        spent, unknown = in_usd(book.settled_usd), book.unknown_usd
        if others:
            reserved = in_usd(sum(held.usd for held in others) + unknown)
            return f"{spent} are spent and {reserved} reserved of {in_usd(self._cap)} (--max-cost)"
        kept = f" and up to {in_usd(unknown)} for what came back without a known cost" if unknown else ""
        raise RunStopped(
            f"the cap is reached: {spent} are spent{kept}, the next job may cost {in_usd(want.usd)}, and --max-cost is "
            f"{in_usd(self._cap)}. All that was paid for is kept; a larger --max-cost on resume goes on",
            resume_with="--max-cost USD",
        )


def _settled(shop: Shop, records: dict[int, ShardRecord]) -> SpendRecord:
    """The last of the chain with what these records say; recorded, if that is news.

    Raises:
        OSError: the store could not take it.
    """
    while True:
        last = _last(shop)
        if last is None:  # the chain begins with all that was sent before there was a cap
            records = _read_all(shop)
        settled = _settle(shop, last or SpendRecord(), records)
        if settled == last or _append(shop, settled, "Settled"):
            return shop.book or settled


def _settle(shop: Shop, book: SpendRecord, records: dict[int, ShardRecord]) -> SpendRecord:
    return budget.settle(book, records, shop.plan, lambda shard: _highest(shop, shard, book))


def _highest(shop: Shop, shard: int, book: SpendRecord) -> float:
    entry = shop.plan[shard]
    tariff = budget.tariff_of(shop.asked(shard), shop.clock.now(), shop.limits.price)
    if tariff is None:  # a cap came with it, so somebody took it away
        raise RunStopped("--max-cost needs --max-output-tokens and a known price (--price)")
    return tariff.highest(entry.requests, entry.tokens, budget.input_factor(book))


def _last(shop: Shop) -> SpendRecord | None:
    shop.book = shop.files.spend().last(shop.book)
    return shop.book


def _append(shop: Shop, book: SpendRecord, cause: str) -> bool:
    """Write it as the next version. False when another process was first."""
    written = book.model_copy(
        update={
            "version": book.version + 1,
            "nonce": new_nonce(),
            "cause": cause,
            "at": shop.clock.now(),
            "owner": shop.owner,
            "cap_usd": shop.limits.max_cost,
        }
    )
    if not shop.files.spend().append(written):
        return False
    shop.book = written
    return True


def _read_held(shop: Shop, book: SpendRecord) -> dict[int, ShardRecord]:
    if max((held.shard for held in book.held), default=-1) >= len(shop.plan):  # others are in a later round
        shop.files.reread_plan()
    return {held.shard: shop.read(held.shard) for held in book.held}


def _read_all(shop: Shop) -> dict[int, ShardRecord]:
    """Every shard's last record, by the ledger."""
    shop.files.refresh(shop.plan, shop.records, strict=True)
    return {record.shard: record for record in shop.all_records() if record.version}
