"""The remote service as we use it: nine calls. `client.py` is the one implementation over the SDK.

Every method raises a leaf of `RemoteError` and nothing else that comes from the network.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Protocol

from gemini_batch.errors import Unavailable
from gemini_batch.records import Job


@dataclass(frozen=True)
class StoredFile:
    """A file at the service. `size_bytes` is None where the service does not say."""

    name: str
    uri: str
    size_bytes: int | None
    active: bool = True
    """False while the service is still processing it."""
    display_name: str = ""
    sha256: str | None = None
    """Of its bytes, in hex, where the service says."""


@dataclass(frozen=True)
class Seen:
    """A job and the provider's time of the look."""

    job: Job
    at: datetime


@dataclass(frozen=True)
class Listing:
    """The jobs the key can see, all pages read, at provider time `at`."""

    jobs: Mapping[str, Job]
    """By display name; of several with one name the oldest."""
    names: frozenset[str]
    at: datetime
    every: tuple[Job, ...] = ()
    """All of ours, also those that share a name, oldest first."""
    others: tuple[Job, ...] = ()
    """All of other programs, of which only names and state are read."""
    whole: bool = True
    """False where a job is shown twice: pages shifted or came again, and what others held is not known."""

    @cached_property
    def by_name(self) -> Mapping[str, Job]:
        """Ours by the provider's name."""
        return {job.name: job for job in self.every}


class BatchJob(Job):
    """A job as the service shows it, whoever made it. `state` is spelled as the SDK has it: `JOB_STATE_SUCCEEDED`."""

    model: str | None = None
    input_file: str | None = None
    """None where requests were inline, or the service does not say."""
    succeeded: int | None = None
    """Requests that were answered, as far as the service counts them; `requests` is all."""
    failed: int | None = None
    done: bool = False
    """Whether the service says that it is over."""
    has_output: bool = False
    """Whether results are shown, as a file or inline."""


class Remote(Protocol):
    def upload(self, path: Path, display_name: str, mime_type: str) -> StoredFile:
        """Upload a file. Free, repeatable. It may be used once it is `active`."""

    def create_job(self, model: str, file_name: str, display_name: str) -> Job:
        """Create a batch job: one POST, never repeated. NOT idempotent, costs money.

        Raises:
            NotSent: the connection was never made.
            Throttled, Refused, Denied: nothing was created.
            Unavailable: nobody knows.
        """

    def get_job(self, name: str) -> Seen: ...

    def cancel_job(self, name: str) -> None:
        """Ask the service to end a job. It may end otherwise all the same: look at what became of it."""

    def list_jobs(self) -> Listing: ...

    def get_file(self, name: str) -> StoredFile: ...

    def delete_file(self, name: str) -> None:
        """Delete an uploaded file. Result files cannot be (python-genai #1759).

        Raises:
            NotFound, Denied: it is gone, or was never the key's to see.
        """

    def list_files(self) -> tuple[StoredFile, ...]:
        """Every file the key can see, all pages read. Of files that are not ours only what can be read is there."""

    def download(self, name: str, target: Path) -> None:
        """Write the file's bytes to `target`. A cut download may end without an error: compare digests or sizes."""


LIST_TRIES = 3


def list_whole(remote: Remote) -> Listing:
    """A listing that lacks nothing, for who looks once and has no next time.

    Raises:
        RemoteError: there is none now.
    """
    for _ in range(LIST_TRIES):
        if (listing := remote.list_jobs()).whole:
            return listing
    raise Unavailable("each list of the jobs shows one of them twice, so what it lacks is not known")
