"""Files on disk and what is known of them: uploads as they arrive, then files, both scoped by API key."""

import base64
import hashlib
import itertools
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from gemini_batch.clock import Clock, new_nonce
from gemini_batch.emulator.wire import ApiError, Json, invalid, timestamp

UPLOAD_LIFETIME = timedelta(hours=48)  # Files API guide
RESULT_LIFETIME = timedelta(weeks=6)  # Batch API guide
MAX_ID_CHARS = 40  # Files REST reference


@dataclass(frozen=True, slots=True)
class StoredFile:
    serial: int
    id: str
    owner: str
    path: Path
    size_bytes: int
    sha256: str
    mime_type: str
    display_name: str
    created: datetime
    expires: datetime
    generated: bool

    def shown(self, base: str) -> Json:
        """The File object; `base` is the emulator's own URL."""
        shown: Json = {
            "name": f"files/{self.id}",
            "mimeType": self.mime_type,
            "sizeBytes": str(self.size_bytes),
            "createTime": timestamp(self.created),
            "updateTime": timestamp(self.created),
            "expirationTime": timestamp(self.expires),
            "sha256Hash": self.sha256,
            "uri": f"{base}/v1beta/files/{self.id}",
            "state": "ACTIVE",
            "source": "GENERATED" if self.generated else "UPLOADED",
        }
        if self.display_name:
            shown["displayName"] = self.display_name
        if self.generated:
            shown["downloadUri"] = f"{base}/download/v1beta/files/{self.id}:download?alt=media"
        return shown


@dataclass(slots=True)
class Upload:
    """A resumable upload; `received_bytes` moves only when a whole chunk has arrived."""

    owner: str
    file_id: str
    path: Path
    mime_type: str
    display_name: str
    received_bytes: int = 0
    file: StoredFile | None = None


class FileStore:
    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._serials = itertools.count(1)
        self._files: dict[str, StoredFile] = {}
        self._uploads: dict[str, Upload] = {}

    def start_upload(self, owner: str, file_id: str, mime_type: str, display_name: str) -> str:
        """The upload id."""
        if len(file_id) > MAX_ID_CHARS:
            raise invalid(f"File name may be at most {MAX_ID_CHARS} characters long.")
        if file_id in self._files:
            raise ApiError(409, "ALREADY_EXISTS", f"File files/{file_id} already exists.")
        upload_id = new_nonce(16)
        path = self._folder / f"upload-{upload_id}"
        path.touch()
        self._uploads[upload_id] = Upload(owner, file_id or new_nonce(6), path, mime_type, display_name)
        return upload_id

    def upload(self, upload_id: str) -> Upload | None:
        return self._uploads.get(upload_id)

    def finish_upload(self, upload: Upload) -> StoredFile:
        """Idempotent: a final chunk sent twice makes one file."""
        if upload.file is None:
            upload.file = self._add(
                upload.owner,
                upload.file_id,
                upload.path,
                UPLOAD_LIFETIME,
                mime_type=upload.mime_type,
                display_name=upload.display_name,
            )
        return upload.file

    def add_result(self, owner: str, file_id: str, path: Path) -> None:
        self._add(owner, file_id, path, RESULT_LIFETIME, mime_type="jsonl", generated=True)

    def _add(
        self,
        owner: str,
        file_id: str,
        path: Path,
        lifetime: timedelta,
        *,
        mime_type: str,
        display_name: str = "",
        generated: bool = False,
    ) -> StoredFile:
        now = self._clock.now()
        file = StoredFile(
            serial=next(self._serials),
            id=file_id,
            owner=owner,
            path=path,
            size_bytes=path.stat().st_size,
            sha256=_sha256(path),
            mime_type=mime_type,
            display_name=display_name,
            created=now,
            expires=now + lifetime,
            generated=generated,
        )
        self._files[file_id] = file
        return file

    def find(self, owner: str, file_id: str) -> StoredFile | None:
        """None for another key's file as for one that is gone: the service does not tell them apart."""
        file = self._files.get(file_id)
        if file is None or file.owner != owner or file.expires <= self._clock.now():
            return None
        return file

    def newest_first(self, owner: str) -> list[StoredFile]:
        now = self._clock.now()
        mine = [file for file in list(self._files.values()) if file.owner == owner and now < file.expires]
        return sorted(mine, key=lambda file: -file.serial)

    def delete(self, file_id: str) -> None:
        if file := self._files.pop(file_id, None):
            file.path.unlink(missing_ok=True)

    def clear(self) -> None:
        paths = {file.path for file in self._files.values()} | {one.path for one in self._uploads.values()}
        self._files.clear()
        self._uploads.clear()
        for path in paths:
            path.unlink(missing_ok=True)

    def stats(self) -> Json:
        files = list(self._files.values())
        return {"stored": len(files), "bytes": sum(file.size_bytes for file in files)}


def _sha256(path: Path) -> str:
    """Base64 of the hex digest, as the service shows it (cookbook sample)."""
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return base64.b64encode(digest.encode()).decode()
