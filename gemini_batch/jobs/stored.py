"""What a shard has at the service, and what of it is of no more use. Pure.

In: records. Out: whether a file may be deleted, and what a record says once it is. The request file is read at the
create (its answer has the request count); pictures may be read until the job has ended.
"""

from collections.abc import Iterable
from heapq import nlargest

from gemini_batch.jobs.events import Event, FilesDeleted, SendRefused, UploadGone
from gemini_batch.records import Job, ShardRecord, ShardState

S = ShardState

WITNESSES = 3
"""Files that are asked for at most, to see whether the key at hand is the run's."""


def deleted(record: ShardRecord, gone: FilesDeleted) -> dict[str, object] | None:
    """What changes in a record; None where that cannot have happened, or is known."""
    was = record.upload
    if was is None or (gone.media and (record.state is S.SUBMITTED or not was.media)):
        return None
    if (was.deleted or not gone.input) and (was.media_deleted or not gone.media):
        return None
    upload = was.model_copy(
        update={"deleted": was.deleted or gone.input, "media_deleted": was.media_deleted or gone.media}
    )
    seen = gone.requests if record.state is S.SUBMITTED else None
    return {"upload": upload, "job": record.job and record.job.with_requests(seen)}


def input_is_spent(record: ShardRecord, job: Job | None) -> bool:
    """Whether the request file has done its work: the job, as last seen, holds every line of it.

    One whose job holds another number stays until the run has ended: whoever looks into it may want it. Where no
    number was ever shown, the end of the job will do.
    """
    if record.upload is None or record.upload.deleted:
        return False
    if record.state is S.ENDED:
        return job is None or job.requests in (None, record.sent_lines)
    return record.state is S.SUBMITTED and job is not None and job.requests is not None and not miscounts(record, job)


def miscounts(record: ShardRecord, job: Job | None) -> bool:
    """Whether the service says that the job has another number of requests than lines were sent."""
    return job is not None and job.requests is not None and job.requests != record.sent_lines


def media_are_spent(record: ShardRecord) -> bool:
    """Whether the shard's pictures are stored for nothing."""
    upload = record.upload
    return record.state in (S.ENDED, S.COLLECTED) and bool(upload and upload.media and not upload.media_deleted)


def is_witness(record: ShardRecord) -> bool:
    """Whether the shard's request file shows that a key sees the run, for as long as it is stored."""
    return record.job is not None and record.upload is not None and not record.upload.deleted


def witnesses(record: ShardRecord, others: Iterable[ShardRecord]) -> list[str]:
    """Files of the run that should be stored: the shard's own, then the newest of the others."""
    stored = [other.upload for other in others if other.upload and not other.upload.deleted]
    newest = nlargest(WITNESSES, stored, key=lambda upload: upload.uploaded_at)
    own = [record.upload] if record.upload and not record.upload.deleted else []
    return list(dict.fromkeys(upload.name for upload in (*own, *newest)))[:WITNESSES]


def is_superseded(before: ShardRecord, event: Event, after: ShardRecord) -> bool:
    """Whether what `before` had stored can be in no job any more: the record lets nobody send it, and no create with it
    may yet turn out to have been made."""
    if before.upload is None or after.upload is not None:
        return False
    refused = event.number if isinstance(event, UploadGone | SendRefused) else None
    return all(send.requests != before.requests or send.number == refused for send in before.sends)
