"""What an ended job holds becomes the shard's part.

Fetch, accept only what is certainly whole, keep it raw, then parse. Every step may be repeated: the raw file is
published once and is what the part is made from, whatever happens to the service's copy afterwards.
"""

from contextlib import ExitStack
from pathlib import Path

from gemini_batch import rundir
from gemini_batch.gemini.prices import BatchPrice, price_of
from gemini_batch.jobs.asked import NoAnswer
from gemini_batch.jobs.parse import Packed, PackTask, ParseTask, pack, parse
from gemini_batch.jobs.shop import Shop
from gemini_batch.jobs.whole import fetch_whole
from gemini_batch.records import Job, ShardRecord, Tally


def collect(shop: Shop, record: ShardRecord) -> Tally:
    """Publish raw and part of an ENDED shard.

    Raises:
        RemoteError: the results cannot be fetched now.
        OSError: the store cannot take them now.
    """
    store, shard = shop.files.store, record.shard
    if record.requests is None:
        raise AssertionError("ENDED without a record of requests")
    raw, asked = _keep_raw(shop, record), shop.asked(shard)
    with ExitStack() as files:
        part = files.enter_context(store.scratch(f"{shard:06d}.part"))
        task = ParseTask(
            nonce=shop.run.nonce,
            response_schema=asked.response_schema,
            rows=files.enter_context(store.local(shop.rows(shard))),
            requests=files.enter_context(store.local(record.requests)),
            raw=files.enter_context(store.local(raw)) if raw else None,
            part=part,
            no_answer=_no_answer(record, raw),
            n_samples=asked.n_samples,
            min_valid=asked.min_valid,
            round=shop.plan[shard].round,
            replaced=shop.plan[shard].replaced,
            bought=record.refused is None,  # one that a lost upload ended counts too, or it were tried for ever
            price=_price(shop, asked.model, record),
        )
        tally = shop.pool.run(parse, task)
        store.publish(rundir.part_of(shard), part)
    return tally


def _price(shop: Shop, model: str, record: ShardRecord) -> BatchPrice | None:
    """That of the day on which the job was made: prices change at a date."""
    at = (record.job and record.job.created_at) or (record.sends[-1].began_at if record.sends else None)
    return price_of(model, at, shop.limits.price) if at else None


def _keep_raw(shop: Shop, record: ShardRecord) -> str | None:
    """The name of the shard's raw results, fetched if they are not here yet; None when the job left none."""
    store, name = shop.files.store, rundir.raw_of(record.shard)
    if not store.exists(name):
        if record.job is None or record.job.responses_file is None:
            return None
        with store.scratch(f"{record.shard:06d}.zst") as packed:
            _fetch(shop, record.job, record.job.responses_file, packed)
            store.publish(name, packed)
    return name


def _fetch(shop: Shop, job: Job, file_name: str, target: Path) -> None:
    """Download and pack a result file, whole."""
    with shop.files.store.scratch(target.name) as again:
        targets = iter((target, again))
        fetch_whole(shop.remote, job, file_name, lambda: _download(shop, file_name, next(targets)))


def _download(shop: Shop, file_name: str, target: Path) -> Packed:
    with shop.files.store.scratch(f"{target.name}.jsonl") as plain:
        shop.remote.download(file_name, plain)
        return shop.pool.run(pack, PackTask(plain, target))


def _no_answer(record: ShardRecord, raw: str | None) -> NoAnswer:
    """Why a row that was sent has no answer."""
    job = record.job
    if job is None and record.refused:
        return NoAnswer("invalid_argument", record.refused)
    if job is None:
        return NoAnswer("transient", record.problem or "nothing was sent")
    if raw is not None:
        return NoAnswer("missing", f"the results of {job.name} have no line for this row")
    kind = "cancelled" if job.state.endswith("CANCELLED") and not record.stuck_since else "transient"
    return NoAnswer(
        kind,
        f"{job.name} ended as {job.state.rpartition('STATE_')[2]}: {record.problem or 'no reason given'}",
    )
