"""The last step of a run whose shards are all collected, whoever takes it."""

from gemini_batch import rundir
from gemini_batch.jobs.collect import collect
from gemini_batch.jobs.shop import Shop
from gemini_batch.jobs.twins import end_all
from gemini_batch.reducer.merge import merge


def finish(shop: Shop) -> None:
    """Write the dataset, unless it is there. A part that someone deleted is made again from the raw results.

    Raises:
        RunStopped: a part is damaged.
        RemoteError, OSError: not now.
    """
    store = shop.files.store
    if store.exists(rundir.SUCCESS):
        return
    end_all(shop)
    records = shop.all_records()
    for record in records:
        if not store.exists(rundir.part_of(record.shard)):
            collect(shop, record)
    merge(store, shop.run, shop.plan, records, shop.clock)
