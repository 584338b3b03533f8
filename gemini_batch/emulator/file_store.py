"""Files on disk and what is known of them: uploads as they arrive, then files, both scoped by API key."""

import base64
import hashlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import TypeAdapter

from gemini_batch.clock import Clock, new_nonce
from gemini_batch.emulator.settings import EmulatorSettings
from gemini_batch.emulator.sizes import Medium, look
from gemini_batch.emulator.state import State
from gemini_batch.emulator.wire import (
    ApiError,
    Json,
    invalid,
    not_found,
    place_in_time,
    quota_exceeded,
    short_timestamp,
    timestamp,
)

UPLOAD_LIFETIME = timedelta(hours=48)  # Files API guide
RESULT_LIFETIME = timedelta(weeks=6)  # Batch API guide
MAX_ID_CHARS = 40  # Files REST reference


@dataclass(frozen=True, slots=True)
class StoredFile:
    serial: int
    id: str
    owner: str
    blob: str
    """The name of its bytes in the emulator's folder."""
    size_bytes: int
    sha256: str
    mime_type: str
    display_name: str
    created: datetime
    """May lie ahead: the results of a job that has not ended yet."""
    expires: datetime
    generated: bool
    active: datetime
    """PROCESSING before that."""
    failed: bool = False

    @property
    def order(self) -> int:
        return place_in_time(self.created, self.serial)

    def state_at(self, now: datetime) -> str:
        if now < self.active:
            return "PROCESSING"
        return "FAILED" if self.failed else "ACTIVE"

    def shown(self, base: str, now: datetime) -> Json:
        """The File object; `base` is the emulator's own URL."""
        shown: Json = {
            "name": f"files/{self.id}",
            "mimeType": self.mime_type,
            "sizeBytes": str(self.size_bytes),
            "createTime": short_timestamp(self.created),
            "updateTime": short_timestamp(self.created),
            "expirationTime": timestamp(self.expires),
            "sha256Hash": self.sha256,
            "uri": f"{base}/v1beta/files/{self.id}",
            "state": self.state_at(now),
            "source": "GENERATED" if self.generated else "UPLOADED",
        }
        if self.display_name:
            shown["displayName"] = self.display_name
        if shown["state"] == "FAILED":
            shown["error"] = {"code": 13, "message": "The file could not be processed."}
        if self.generated:
            shown["downloadUri"] = f"{base}/download/v1beta/files/{self.id}:download?alt=media"
        return shown


def long_id(call: str = "CreateFileRequest.file") -> ApiError:
    """As recorded (python-genai #1759)."""
    return invalid(
        f"* {call}.name: File ID (name excluding 'files/') cannot be more than {MAX_ID_CHARS} characters.",
        reason="long_id",
    )


def no_upload() -> ApiError:
    return not_found("Upload id not found.")


@dataclass(slots=True)
class Upload:
    """A resumable upload; `received_bytes` moves only when a whole chunk has arrived."""

    id: str
    owner: str
    file_id: str
    path: Path
    mime_type: str
    display_name: str
    declared_bytes: int = 0
    received_bytes: int = 0
    file: StoredFile | None = None


_FILE = TypeAdapter(StoredFile)


class FileStore:
    def __init__(self, settings: Callable[[], EmulatorSettings], folder: Path, clock: Clock, state: State) -> None:
        self._settings = settings
        self._folder = folder
        self._clock = clock
        self._state = state
        self._lock = threading.Lock()
        self._files: dict[str, StoredFile] = {}
        self._uploads: dict[str, Upload] = {}
        self._media: dict[str, Medium] = {}
        for record in state.all("file"):
            file = _FILE.validate_json(record)
            self._files[file.id] = file
        self._serials = itertools.count(1 + max((file.serial for file in self._files.values()), default=0))

    def start_upload(self, owner: str, file_id: str, mime_type: str, display_name: str, size_bytes: int) -> str:
        """The upload id.

        Args:
            size_bytes: as declared; 0 for unknown.
        """
        if len(file_id) > MAX_ID_CHARS:
            raise long_id()
        self._drop_expired()
        self._check_name(file_id)
        self.check_room(owner, size_bytes)
        upload_id = new_nonce(16)
        path = self._folder / f"upload-{upload_id}"
        path.touch()
        self._uploads[upload_id] = Upload(
            upload_id, owner, file_id or new_nonce(6), path, mime_type, display_name, size_bytes
        )
        return upload_id

    def _check_name(self, file_id: str) -> None:
        if file_id in self._files:
            raise ApiError(409, "ALREADY_EXISTS", f"File files/{file_id} already exists.")

    def check_room(self, owner: str, size_bytes: int) -> None:
        """Raises ApiError: too large a file, or a full project."""
        settings = self._settings()
        if size_bytes > settings.max_file_bytes:
            raise invalid(f"File size exceeds the limit of {settings.max_file_bytes} bytes.", reason="file_bytes")
        held = sum(file.size_bytes for file in self._visible() if file.owner == owner)
        if held + size_bytes > settings.max_stored_bytes:
            # Names what is full, unlike other 429s (sourcelibrary-v2 batch-ocr-operations).
            message = f"Quota exceeded: file_storage_bytes, limit {settings.max_stored_bytes}."
            raise quota_exceeded("file_storage_bytes", message)

    def upload(self, upload_id: str) -> Upload | None:
        return self._uploads.get(upload_id)

    def drop_upload(self, upload: Upload) -> None:
        self._uploads.pop(upload.id, None)
        upload.path.unlink(missing_ok=True)

    def finish_upload(self, upload: Upload, processing: timedelta, failed: bool) -> StoredFile:
        """Idempotent: a final chunk sent twice makes one file.

        Raises:
            ApiError: another upload has taken the name or the room since this one began.
        """
        with self._lock:
            if upload.file is None:
                upload.file = self._finish(upload, self._clock.now(), processing, failed)
        return upload.file

    def _finish(self, upload: Upload, now: datetime, processing: timedelta, failed: bool) -> StoredFile:
        try:
            os.truncate(upload.path, upload.received_bytes)  # a chunk that broke off may have left more
            self._check_name(upload.file_id)
            self.check_room(upload.owner, upload.received_bytes)
        except FileNotFoundError:  # reset this instant
            raise no_upload() from None
        except ApiError:
            self.drop_upload(upload)
            raise
        return self._add(
            upload.owner,
            upload.file_id,
            upload.path,
            now,
            UPLOAD_LIFETIME,
            mime_type=upload.mime_type,
            display_name=upload.display_name,
            active=now + processing,
            failed=failed,
        )

    def add_result(self, owner: str, file_id: str, path: Path, created: datetime) -> None:
        self._add(owner, file_id, path, created, RESULT_LIFETIME, mime_type="jsonl", generated=True, active=created)

    def move_result(self, file_id: str, created: datetime) -> None:
        """Its job ends at another time than was thought."""
        if file := self._files.get(file_id):
            self._put(replace(file, created=created, expires=created + RESULT_LIFETIME, active=created))

    def _add(
        self,
        owner: str,
        file_id: str,
        path: Path,
        created: datetime,
        lifetime: timedelta,
        *,
        mime_type: str,
        active: datetime,
        display_name: str = "",
        generated: bool = False,
        failed: bool = False,
    ) -> StoredFile:
        file = StoredFile(
            serial=next(self._serials),
            id=file_id,
            owner=owner,
            blob=path.name,
            size_bytes=path.stat().st_size,
            sha256=_sha256(path),
            mime_type=mime_type,
            display_name=display_name,
            created=created,
            expires=created + lifetime,
            generated=generated,
            active=active,
            failed=failed,
        )
        self._put(file)
        return file

    def _put(self, file: StoredFile) -> None:
        self._files[file.id] = file
        if self._state.is_kept:
            self._state.put("file", file.id, _FILE.dump_json(file))

    def blobs(self) -> set[str]:
        return {file.blob for file in self._files.values()}

    def path_of(self, file: StoredFile) -> Path:
        return self._folder / file.blob

    def find(self, owner: str, file_id: str, at: datetime | None = None) -> StoredFile | None:
        """None for another key's file as for one that is gone: the service does not tell them apart."""
        file = self._files.get(file_id)
        if file is None or file.owner != owner or not file.created <= (at or self._clock.now()) < file.expires:
            return None
        return file

    def medium(self, file_id: str) -> Medium | None:
        """How large the picture or recording in a file is, read once."""
        if file_id not in self._media:
            file = self._files.get(file_id)
            if file is None:
                return None
            try:
                with self.path_of(file).open("rb") as content:
                    self._media[file_id] = look(content, file.mime_type, file.size_bytes)
            except OSError:  # deleted this instant
                return None
        return self._media[file_id]

    def newest_first(self, owner: str) -> list[StoredFile]:
        mine = [file for file in self._visible() if file.owner == owner]
        return sorted(mine, key=lambda file: file.order, reverse=True)

    def _visible(self) -> Iterator[StoredFile]:
        now = self._clock.now()
        return (file for file in list(self._files.values()) if file.created <= now < file.expires)

    def delete(self, file_id: str, keep_bytes: bool = False) -> None:
        if file := self._files.pop(file_id, None):
            self._state.drop("file", file_id)
            self._media.pop(file_id, None)
            if not keep_bytes:
                self.path_of(file).unlink(missing_ok=True)

    def _drop_expired(self) -> None:
        now = self._clock.now()
        for file in list(self._files.values()):
            if file.expires <= now:
                self.delete(file.id)

    def clear(self) -> None:
        paths = {self.path_of(file) for file in self._files.values()} | {one.path for one in self._uploads.values()}
        self._files.clear()
        self._uploads.clear()
        self._media.clear()
        for path in paths:
            path.unlink(missing_ok=True)

    def stats(self) -> Json:
        files = list(self._visible())
        return {"stored": len(files), "bytes": sum(file.size_bytes for file in files)}


def _sha256(path: Path) -> str:
    """Base64 of the hex digest, as the service shows it (cookbook sample)."""
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return base64.b64encode(digest.encode()).decode()
