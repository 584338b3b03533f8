"""Jobs that should not be: a second one of a shard. Found, recorded, ended if they still run, counted, reported.

What makes one is a create that the service's complete lists hid for the whole settle time, or that was sent once and
arrived twice. Only jobs that carry the name of a send of this run's own ledger are ever ended.
"""

from gemini_batch.errors import NotFound, RemoteError
from gemini_batch.gemini.remote import Listing
from gemini_batch.jobs import events, lifecycle
from gemini_batch.jobs.shop import Shop
from gemini_batch.records import Job, ShardRecord


def learn_listed(shop: Shop, listing: Listing) -> list[ShardRecord]:
    """Record what a complete listing shows of this run and the ledger does not know. Returns the records of shards
    with a twin.

    Raises:
        OSError: the store could not take it.
    """
    sent = {send.display_name: record.shard for record in shop.all_records() for send in record.sends}
    known = {job.name for record in shop.all_records() for job in (record.job, *record.twins) if job}
    for job in listing.every:
        shard = sent.get(job.display_name)
        if shard is not None and job.name not in known:
            shop.save(shop.last(shard), events.JobLearned(job))
    return [record for record in shop.all_records() if record.twins]


def end_twins(shop: Shop, record: ShardRecord) -> ShardRecord:
    """Cancel the twins of a shard that may still run, and record what became of them.

    Raises:
        RemoteError: not now.
        OSError: the store could not take it.
    """
    for twin in lifecycle.live_twins(record):
        record, _ = shop.save(record, events.JobLearned(_ended(shop, twin)))
    return record


def end_all(shop: Shop) -> None:
    """The last look before a run is finished: whatever the service holds of it is known, and no twin runs on.

    A service that cannot be asked now does not hold the dataset back: the audit asks it again.

    Raises:
        OSError: the store could not take it.
    """
    try:
        for record in learn_listed(shop, shop.listing(shop.clock.boottime())):
            end_twins(shop, record)
    except RemoteError:
        return


def _ended(shop: Shop, twin: Job) -> Job:
    """The twin after a cancel. One that succeeded all the same is paid for; the audit says so."""
    try:
        shop.remote.cancel_job(twin.name)
        return shop.remote.get_job(twin.name).job.model_copy(update={"name": twin.name})
    except NotFound:
        return twin.model_copy(update={"state": lifecycle.GONE})
