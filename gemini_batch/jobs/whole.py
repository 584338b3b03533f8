"""A result file, accepted only if it is certainly whole: a cut download can end in HTTP 200.

The proof is the digest the service names; without one the size, or as many whole lines as the job has. Where it names
neither, and a line may be missing for good, it is the same bytes a second time; that alone would not tell a cut that
falls in one place. It also serves where the digest is another one's than we take it for.
"""

from collections.abc import Callable

from gemini_batch.errors import Denied, NotFound, Unavailable
from gemini_batch.gemini.remote import Remote, StoredFile
from gemini_batch.jobs.parse import Packed
from gemini_batch.records import Job


def fetch_whole(remote: Remote, job: Job, file_name: str, download: Callable[[], Packed]) -> None:
    """
    Args:
        download: fetches the file and says what came; called a second time, to another place, if that is the only
            proof.

    Raises:
        RemoteError: the results cannot be fetched now, or came damaged.
    """
    stored, packed = _stored(remote, file_name), download()
    if _is_whole(packed, stored, job):
        return
    if stored and stored.size_bytes not in (None, packed.size_bytes) and not _has_every_line(packed, job):
        raise Unavailable(f"{file_name} was cut at {packed.size_bytes:,} of {stored.size_bytes:,} bytes")
    if download().sha256 != packed.sha256:
        raise Unavailable(f"two downloads of {file_name} differ; one was damaged")


def _is_whole(packed: Packed, stored: StoredFile | None, job: Job) -> bool:
    if stored and stored.sha256:
        return packed.sha256 == stored.sha256
    return _has_every_line(packed, job) or (stored is not None and packed.size_bytes == stored.size_bytes)


def _has_every_line(packed: Packed, job: Job) -> bool:
    return packed.ends_line and packed.lines == job.requests


def _stored(remote: Remote, file_name: str) -> StoredFile | None:
    """What the service says of the file, if it says anything of result files at all (python-genai #1759)."""
    try:
        return remote.get_file(file_name)
    except (NotFound, Denied):
        return None
