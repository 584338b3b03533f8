"""Deletes what a run has stored at the service and needs no more, and says so in the ledger.

Free, repeatable and never urgent: what is refused now is tried again later, at the latest when the run ends, and no
shard waits for it. Only files that a record of this run names are deleted, or that bear its name.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import orjson

from gemini_batch import rundir
from gemini_batch.errors import Denied, NotFound, Refused, RemoteError
from gemini_batch.gemini.names import mark_of, read_file_name
from gemini_batch.gemini.remote import Remote, StoredFile
from gemini_batch.jobs import stored
from gemini_batch.jobs.events import FilesDeleted
from gemini_batch.jobs.shop import Shop
from gemini_batch.records import Job, RunRecord, ShardRecord, ShardState, Upload

DELETES_AT_ONCE = 8
FORBIDDEN = 403
"""The answer for a file that is not there, or another project's (deprecated-generative-ai-python #692)."""


def delete_input(shop: Shop, record: ShardRecord, job: Job, counted: bool) -> FilesDeleted | None:
    """Delete the request file of a job that is under way, if it may go. Returns what to record of it.

    Args:
        counted: only while the shop allows for another deletion.

    Raises:
        OSError: the store cannot be read.
    """
    if not stored.input_is_spent(record, job) or record.upload is None or not _may_lose_input(shop, record.shard):
        return None
    if counted and not shop.may_delete():
        return None
    left = delete(shop.remote, [record.upload.name])
    return None if left else FilesDeleted(input=True, media=False, requests=job.requests)


def delete_spent(shop: Shop, record: ShardRecord) -> FilesDeleted | None:
    """Delete what is stored for a shard whose results are here. Returns what to record of it.

    Raises:
        OSError: the store cannot be read.
    """
    if record.upload is None:
        return None
    spent = stored.input_is_spent(record, record.job) and _may_lose_input(shop, record.shard)
    of_input = [record.upload.name] if spent else []
    of_media = media_names(shop, record.upload, record.requests) if stored.media_are_spent(record) else []
    left = delete(shop.remote, [*of_input, *of_media])
    gone = FilesDeleted(input=spent and left.isdisjoint(of_input), media=bool(of_media) and left.isdisjoint(of_media))
    return gone if gone.input or gone.media else None


def discard(shop: Shop, upload: Upload, requests: str | None) -> None:
    """Delete an upload that no record leads to any more.

    Raises:
        OSError: the store cannot be read.
    """
    delete(shop.remote, [upload.name, *media_names(shop, upload, requests)])


def end_files(shop: Shop) -> None:
    """Delete all that the run still has stored, when its shards are collected: also what processes uploaded that died
    before they could record it. A service that cannot be asked now holds no dataset back.

    Raises:
        OSError: the store cannot be read, or could not take it.
    """
    try:
        listed = shop.remote.list_files()
    except RemoteError:
        return
    records = _collected(shop)  # read after the list: a file of a shard that is planned meanwhile is not in it
    theirs = {name: shard for name, shard in _files_of(shop.run, listed) if shard in records}
    left = delete(shop.remote, list(theirs))
    keeping = {theirs[name] for name in left}
    for shard, record in records.items():
        still = record.upload is not None and not record.upload.deleted
        gone = FilesDeleted(input=still, media=stored.media_are_spent(record))
        if shard not in keeping and (gone.input or gone.media):
            shop.save(record, gone)


def _files_of(run: RunRecord, listed: Sequence[StoredFile]) -> list[tuple[str, int]]:
    """The run's among the files of a project, with their shards. An id may begin with another one's, and whoever asks
    the same in another directory has the same id."""
    made = [(file.name, read_file_name(file.display_name)) for file in listed]
    return [(name, of.shard) for name, of in made if of and (of.run, of.mark) == (run.run_id, mark_of(run.nonce))]


def _collected(shop: Shop) -> dict[int, ShardRecord]:
    plan = list(shop.files.reread_plan())
    known = {entry.shard: shop.records.get(entry.shard) for entry in plan}
    records = {
        shard: record if record and record.state is ShardState.COLLECTED else shop.read(shard)
        for shard, record in known.items()
    }
    return {shard: record for shard, record in records.items() if record.state is ShardState.COLLECTED}


def media_names(shop: Shop, upload: Upload, requests: str | None) -> list[str]:
    """The service's names of the pictures that were uploaded with a request file.

    Raises:
        OSError: the store cannot be read.
    """
    body = shop.files.store.read(rundir.media_of(requests)) if upload.media and requests else None
    return [str(name) for name in orjson.loads(body)] if body else []


def delete(remote: Remote, names: Sequence[str]) -> set[str]:
    """Delete files. Returns those that are still there, or may be: after one refusal that can pass no more is asked."""
    tired, gone = Event(), set[str]()

    def one(name: str) -> None:
        if not tired.is_set() and _is_gone(remote, name, tired):
            gone.add(name)

    if len(names) <= 1:
        for name in names:
            one(name)
    else:
        with ThreadPoolExecutor(min(DELETES_AT_ONCE, len(names)), thread_name_prefix="delete") as threads:
            list(threads.map(one, names))
    return set(names) - gone


def _is_gone(remote: Remote, name: str, tired: Event) -> bool:
    try:
        remote.delete_file(name)
    except NotFound:
        return True
    except (Denied, Refused) as error:
        return error.code == FORBIDDEN
    except RemoteError:
        tired.set()
        return False
    return True


def _may_lose_input(shop: Shop, shard: int) -> bool:
    """Whether another shard's request file stays: while the run goes on, one at least is to show that a key sees it.

    The shard with the lowest number that has one and a job keeps it; so a record that is a little old does no harm: if
    the file that it tells of has gone, that was for one with a lower number still.
    """
    for entry in list(shop.plan):
        if entry.shard >= shard:
            return False
        record = shop.records.get(entry.shard)
        if record is None or record.state is not ShardState.COLLECTED or stored.is_witness(record):
            record = shop.read(entry.shard)
        if stored.is_witness(record):
            return True
    return False
