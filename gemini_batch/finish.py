"""What comes after the shards of a run are collected, whoever takes the step: another round, or the dataset."""

from collections.abc import Sequence

from gemini_batch import rundir
from gemini_batch.coordinator.repair import Batch, Halt, next_round
from gemini_batch.coordinator.rounds import plan_batches
from gemini_batch.errors import RunStopped
from gemini_batch.jobs.collect import collect
from gemini_batch.jobs.shop import Shop
from gemini_batch.jobs.spending import settle_all
from gemini_batch.jobs.tidy import end_files
from gemini_batch.jobs.twins import end_all
from gemini_batch.records import ShardPlan, ShardRecord, ShardState
from gemini_batch.reducer.merge import merge


def due_batches(shop: Shop, plan: Sequence[ShardPlan] | None = None) -> tuple[Batch, ...]:
    """What a next round would buy again, if one is due, by the records at hand.

    Args:
        plan: to decide by; the shop's, which may grow meanwhile, by default.

    Raises:
        RunStopped: buying again cannot help.
    """
    if shop.order == "cancel":
        return ()
    if all(record.state is not ShardState.COLLECTED for record in shop.records.values()):
        return ()
    said = shop.files.controls().last() if any(record.refused for record in shop.records.values()) else None
    resumed_at = said.at if said else None
    plan = shop.plan if plan is None else plan
    found = next_round(shop.run, plan, shop.records, shop.limits, shop.clock.now(), resumed_at)
    if isinstance(found, Halt):
        raise RunStopped(found.reason)
    return found


def begin_round(shop: Shop) -> bool:
    """Plan the next round if one is due. Returns whether there are shards that were not there before.

    Raises:
        RunStopped: buying again cannot help, or a file of the run is damaged.
        OSError: the store cannot take it now.
    """
    plan = list(shop.plan)
    if batches := due_batches(shop, plan):
        plan_batches(shop.files, shop.run, shop.limits, batches, plan, shop.media_roots)
    for entry in shop.files.reread_plan()[len(plan) :]:
        shop.last(entry.shard)
    return len(shop.plan) > len(plan)


def finish(shop: Shop) -> None:
    """Write the dataset, unless it is there. A part that someone deleted is made again from the raw results.

    Raises:
        RunStopped: a part is damaged.
        RemoteError, OSError: not now.
    """
    store = shop.files.store
    if shop.files.is_finished():
        return
    end_all(shop)
    settle_all(shop)
    plan = list(shop.plan)  # one that grows meanwhile is for the next merge
    records = [shop.records.get(entry.shard) or shop.read(entry.shard) for entry in plan]
    if any(record.state is not ShardState.COLLECTED for record in records):
        return  # somebody began another round
    end_files(shop)
    if store.exists(rundir.SUCCESS):  # of an earlier round, or another merge was quicker
        if shop.files.is_finished():
            return
        store.delete(rundir.SUCCESS)
    parts = {f"{rundir.PARTS}/{name}" for name in store.names(rundir.PARTS)}
    whole = [record if rundir.part_of(record.shard) in parts else _with_part(shop, record) for record in records]
    merge(store, shop.run, plan, whole, shop.clock, shop.limits.max_cost)


def _with_part(shop: Shop, record: ShardRecord) -> ShardRecord:
    """The record, its part there. One that is made again may have other bytes: those that this release writes."""
    if shop.files.store.exists(rundir.part_of(record.shard)):
        return record
    return record.model_copy(update={"tally": collect(shop, record)})
