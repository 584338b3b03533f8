"""A shard in hand: its newest record, and the one way to change it."""

import logging
from datetime import timedelta

from gemini_batch.gemini.remote import Listing
from gemini_batch.jobs import events, stored, tidy
from gemini_batch.jobs.shop import STAYS_TRUE, Shop
from gemini_batch.logs import FIELDS

log = logging.getLogger(__name__)


class Held:
    """What the steps of one call of `advance` share."""

    def __init__(self, shop: Shop, shard: int, listing: Listing | None = None) -> None:
        self._shop = shop
        # A fleet's sweeps tell the desk of every record; what is recorded here, the desk is told here.
        self._record = shop.last(shard) if shop.sees_all else shop.read(shard)
        self._claim: str | None = None
        self._listed = listing

    def _save(self, event: events.Event) -> bool:
        before = self._record
        try:
            self._record, won = self._shop.save(before, event)
        except OSError:
            if isinstance(event, STAYS_TRUE):
                self._shop.unrecorded[self._record.shard] = event
            raise
        if won and isinstance(event, events.Claimed):
            self._claim = self._record.nonce
        if won:
            self._tell(event)
        if won and before.upload and stored.is_superseded(before, event, self._record):
            tidy.discard(self._shop, before.upload, before.requests)
        if not won and isinstance(event, events.Prepared):
            tidy.discard(self._shop, event.upload, event.requests)
        return won

    def _tell(self, event: events.Event) -> None:
        after = self._record
        fields = {"run": self._shop.run.run_id, "shard": after.shard, "event": type(event).__name__}
        fields |= {"state": after.state.value, "version": after.version}
        text = f"run {fields['run']} shard {after.shard}: {fields['event']}, now {after.state}"
        log.debug(text, extra={FIELDS: fields})

    @property
    def _size(self) -> tuple[int, int]:
        """Estimated input tokens of the shard, and the bytes of its request file as planned."""
        return self._shop.size(self._record.shard)

    def _ceiling(self) -> timedelta:
        return timedelta(seconds=self._shop.limits.poll_interval)
