"""Files on their way to the service: each distinct one once, several at a time, with a bar for who watches.

In: files on the disk. Out: the same at the service, ready to be used. Uploads are free and may be repeated.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gemini_batch.config import Resolution
from gemini_batch.errors import BadInput, RemoteError, Unavailable
from gemini_batch.gemini.client import GeminiClient
from gemini_batch.gemini.remote import StoredFile
from gemini_batch.jobs.encode import ToUpload
from gemini_batch.jobs.lifecycle import poll_delay
from gemini_batch.single.service import patiently, pause

UPLOADS_AT_ONCE = 8

PROCESSED_WITHIN = timedelta(minutes=10)
"""The service takes seconds to process a picture or a request file (Files API guide)."""

LEVEL = "MEDIA_RESOLUTION_"


class Uploads:
    """What one call has uploaded.

    Args:
        at_once: most uploads at a time.
        show: draw a bar where there is a terminal.
    """

    def __init__(
        self,
        service: GeminiClient,
        at_once: int = UPLOADS_AT_ONCE,
        show: bool = True,
        pause: Callable[[float], None] = pause,
    ) -> None:
        if at_once < 1:
            raise BadInput(f"max_upload_workers has to be at least 1 (got {at_once})")
        self._service = service
        self._at_once = at_once
        self._show = show
        self._pause = pause
        self._names: list[str] = []

    def pictures(self, items: Sequence[ToUpload], folder: Path, name: str) -> dict[str, str]:
        """Upload pictures that lie in `folder` under their sha256. Returns sha256 -> URI.

        Raises:
            RemoteError: one cannot be uploaded.
        """

        def upload(item: ToUpload) -> tuple[str, str]:
            return item.sha256, self.file(folder / item.sha256, f"{name}-{item.sha256[:16]}", item.mime_type).uri

        with ThreadPoolExecutor(self._at_once) as threads, _bar(len(items), self._show) as advance:
            uploads = [threads.submit(upload, item) for item in items]
            try:
                done = []
                for upload_done in as_completed(uploads):
                    done.append(upload_done.result())
                    advance()
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        return dict(done)

    def file(self, path: Path, display_name: str, mime_type: str) -> StoredFile:
        """Upload one file, and wait until the service is done with it.

        Raises:
            RemoteError: it cannot be uploaded, or is not processed in time.
        """
        stored = patiently(lambda: self._service.upload(path, display_name, mime_type), pause=self._pause)
        self._names.append(stored.name)
        if stored.size_bytes not in (None, size := path.stat().st_size):
            raise Unavailable(f"the upload {display_name} has {stored.size_bytes:,} bytes, {size:,} were sent")
        return stored if stored.active else self._processed(stored)

    def _processed(self, stored: StoredFile) -> StoredFile:
        waited = timedelta(0)
        while not patiently(lambda: self._service.get_file(stored.name), pause=self._pause).active:
            if waited > PROCESSED_WITHIN:
                raise Unavailable(f"the service has not processed the upload {stored.display_name} for {waited}")
            step = poll_delay(waited, 10)
            self._pause(step.total_seconds())
            waited += step
        return stored

    @contextmanager
    def wasted_if_refused(self) -> Iterator[None]:
        """Where no job comes of it, for certain, nothing is left at the service."""
        try:
            yield
        except (BadInput, RemoteError):
            self.delete()
            raise

    def delete(self) -> None:
        """Delete all of them: no job needs them any more. What cannot be deleted expires after 48 hours."""
        for name in self._names:
            with suppress(RemoteError):
                self._service.delete_file(name)
        self._names.clear()


@contextmanager
def _bar(total: int, show: bool) -> Iterator[Callable[[], None]]:
    console = Console(stderr=True)
    columns = (TextColumn("uploading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not (show and console.is_terminal)) as progress:
        task = progress.add_task("uploading", total=total)
        yield lambda: progress.advance(task)


def read_resolution(value: Any, name: str) -> str | None:
    """A media resolution in full: `MEDIA_RESOLUTION_LOW`, also where `LOW` or the SDK's own was given.

    Raises:
        BadInput: it is none.
    """
    if value is None:
        return None
    text = str(getattr(value, "value", value)).upper()
    full = text if text.startswith(LEVEL) else LEVEL + text
    if full not in get_args(Resolution):
        raise BadInput(f"{name} has to be one of {', '.join(get_args(Resolution))} (got {value!r})")
    return full
