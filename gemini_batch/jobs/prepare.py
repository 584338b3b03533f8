"""A claimed shard becomes a request file at the service. Free, and repeatable by anyone.

In: a shard's frozen rows. Out: the upload and the record of what its lines hold.
"""

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import orjson

from gemini_batch import rundir
from gemini_batch.errors import Throttled, Unavailable
from gemini_batch.gemini.remote import StoredFile
from gemini_batch.jobs import events, lifecycle
from gemini_batch.jobs.encode import Encoded, EncodeTask, ToUpload, encode, write_given_up
from gemini_batch.jobs.fetch import fetch_media
from gemini_batch.jobs.shop import Shop, Uploaded
from gemini_batch.jobs.tidy import delete
from gemini_batch.parts import WEB
from gemini_batch.records import ShardRecord, Upload, most_bytes

MEDIA_UPLOADS_AT_ONCE = 8

NO_ROOM = "file_storage_bytes"
"""What a 429 of an upload says when the project's storage is full (sourcelibrary-v2 batch-ocr-operations)."""


def prepare(shop: Shop, record: ShardRecord) -> events.Event:
    """Encode and upload a CLAIMED shard.

    Raises:
        RemoteError: the service cannot take it now.
        OSError: the store cannot take it now.
    """
    shard = record.shard
    requests = rundir.requests_of(shard, record.nonce)
    with ExitStack() as scratch:
        task = _encode_task(shop, record, scratch)
        with _giving_room(shop, shard):
            encoded, pictures = _encode(shop, shard, task)
            stored = _upload(shop, shard, task.lines, encoded) if encoded.lines else None
        shop.files.store.publish(requests, task.requests)
    names = [picture.name for picture in pictures]
    if stored is not None and names:
        shop.files.store.create(rundir.media_of(requests), orjson.dumps(names))
    shop.uris.pop(shard, None)
    if stored is None:
        delete(shop.remote, names)
        return events.NothingToSend(requests)
    upload = Upload(
        name=stored.name,
        size_bytes=encoded.size_bytes,
        sha256=encoded.sha256,
        lines=encoded.lines,
        uploaded_at=shop.clock.now(),
        active=stored.active,
        media=len(pictures),
        media_bytes=sum(picture.size_bytes or 0 for picture in pictures),
    )
    return events.Prepared(upload, requests)


def give_up(shop: Shop, record: ShardRecord) -> events.Event:
    """Say of every row of a CLAIMED shard that it is not sent, because the run is cancelled. Nothing is encoded.

    Raises:
        RunStopped: the shard's rows are damaged.
        OSError: the store cannot take it now.
    """
    shard, store = record.shard, shop.files.store
    requests = rundir.requests_of(shard, record.nonce)
    with store.local(shop.rows(shard)) as rows, store.scratch(f"{shard:06d}.requests") as made:
        write_given_up(rows, made, {row.index: row.why for row in record.left_out})
        store.publish(requests, made)
    if known := shop.uris.pop(shard, None):
        delete(shop.remote, [picture.name for picture in known.files.values()])
    return events.NothingToSend(requests)


@contextmanager
def _giving_room(shop: Shop, shard: int) -> Iterator[None]:
    """Give back the pictures of a shard that the service has no room for: shards that each hold some of theirs and wait
    for the others' room would wait for ever."""
    try:
        yield
    except Throttled as error:
        if NO_ROOM in str(error) and (known := shop.uris.pop(shard, None)):
            delete(shop.remote, [picture.name for picture in known.files.values()])
        raise


def _upload(shop: Shop, shard: int, lines: Path, encoded: Encoded) -> StoredFile:
    stored = shop.remote.upload(lines, shop.file_name(shard, "input"), "jsonl")
    if stored.size_bytes not in (None, encoded.size_bytes):
        raise Unavailable(f"the upload has {stored.size_bytes:,} bytes, {encoded.size_bytes:,} were sent")
    return stored


def _encode_task(shop: Shop, record: ShardRecord, scratch: ExitStack) -> EncodeTask:
    store, shard = shop.files.store, record.shard
    return EncodeTask(
        asked=shop.asked(shard),
        nonce=shop.run.nonce,
        roots=shop.media_roots,
        max_bytes=most_bytes(shop.run, shop.plan[shard]),
        rows=scratch.enter_context(store.local(shop.rows(shard))),
        lines=scratch.enter_context(store.scratch(f"{shard:06d}.jsonl")),
        requests=scratch.enter_context(store.scratch(f"{shard:06d}.requests")),
        media=_media_folder(shop, shard, scratch),
        allow_http=shop.limits.allow_http,
        left_out={row.index: row.why for row in record.left_out},
    )


def _media_folder(shop: Shop, shard: int, scratch: ExitStack) -> Path:
    """For pictures that are uploaded; beside it one for those that are fetched, which goes with it."""
    folder = scratch.enter_context(shop.files.store.scratch(f"{shard:06d}.media"))
    scratch.callback(shutil.rmtree, folder.with_suffix(".fetched"), ignore_errors=True)
    return folder


def _encode(shop: Shop, shard: int, task: EncodeTask) -> tuple[Encoded, list[StoredFile]]:
    """Encode; when pictures have to lie at the service first, upload them right before the create and encode anew.

    What was uploaded is kept for the next try, should this one fail. Returns also what the file refers to.
    """

    def upload(item: ToUpload) -> None:
        path, name = task.media / item.sha256, shop.file_name(shard, item.sha256[:16])
        stored = shop.remote.upload(path, name, item.mime_type)
        known.files[item.sha256] = replace(stored, size_bytes=path.stat().st_size)

    known = _uploaded(shop, shard)
    encoded = shop.pool.run(encode, replace(task, uris=known.uris))
    if encoded.to_fetch:
        _refuse_http(shop, encoded.to_fetch)
        task = replace(task, fetched=fetch_media(encoded.to_fetch, task.media.with_suffix(".fetched"), shop.clock))
        encoded = shop.pool.run(encode, replace(task, uris=known.uris))
    if not encoded.to_upload:
        return encoded, list(known.files.values())
    with ThreadPoolExecutor(MEDIA_UPLOADS_AT_ONCE) as uploads:
        list(uploads.map(upload, encoded.to_upload))
    encoded = shop.pool.run(encode, replace(task, uris=known.uris))
    if encoded.to_upload:
        raise Unavailable("pictures changed while they were being uploaded")
    return encoded, list(known.files.values())


def _refuse_http(shop: Shop, uris: Sequence[str]) -> None:
    """A run may allow what this process was not started for: then another one has to take the shard."""
    if not shop.allow_http and any(uri.startswith(WEB) for uri in uris):
        raise Unavailable("the run fetches pictures by http(s), and this worker was started without --allow-http")


def _uploaded(shop: Shop, shard: int) -> Uploaded:
    now = shop.clock.boottime()
    known = shop.uris.get(shard)
    if known is None or timedelta(seconds=now - known.began) > lifecycle.UPLOAD_LIFE:
        known = shop.uris[shard] = Uploaded(now)
    return known
