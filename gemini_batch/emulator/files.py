"""The Files API: resumable upload, get, list, delete, and download of generated files."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gemini_batch.emulator.connection import PIECE_BYTES, CutDownload
from gemini_batch.emulator.faults import FaultBoard, Point
from gemini_batch.emulator.file_store import MAX_ID_CHARS, FileStore, StoredFile, Upload
from gemini_batch.emulator.wire import (
    JsonReply,
    base_url,
    invalid,
    message_member,
    no_access,
    not_found,
    owner_of,
    page,
    read_json,
    text_member,
    unavailable,
    whole,
)

_DEFAULT_PAGE = 10  # Files REST reference
_CHUNK_GRANULARITY = 8 << 20
_FILE_ID = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


class FilesApi:
    def __init__(self, store: FileStore, faults: FaultBoard) -> None:
        self._store = store
        self._faults = faults

    async def upload(self, request: Request) -> Response:
        """Start, or a chunk when the URL carries an upload id; only the start knows an API key."""
        upload_id = request.query_params.get("upload_id")
        return await (self._start(request) if upload_id is None else self._chunk(request, upload_id))

    async def _start(self, request: Request) -> Response:
        file = message_member(await read_json(request), "file")
        file_id = text_member(file, "name").removeprefix("files/")
        if file_id and not _FILE_ID.fullmatch(file_id):
            raise invalid("File name may hold lower-case letters, digits and inner dashes only.")
        mime_type = text_member(file, "mimeType") or request.headers.get("x-goog-upload-header-content-type", "")
        upload_id = self._store.start_upload(owner_of(request), file_id, mime_type, text_member(file, "displayName"))
        # The SDK uses this URL as it is, without rewriting the host.
        url = f"{base_url(request)}{request.url.path}?upload_id={upload_id}&upload_protocol=resumable"
        headers = {
            "x-goog-upload-url": url,
            "x-goog-upload-status": "active",
            "x-goog-upload-chunk-granularity": str(_CHUNK_GRANULARITY),
        }
        return JsonReply({}, headers=headers)

    async def _chunk(self, request: Request, upload_id: str) -> Response:
        upload = self._store.upload(upload_id)
        if upload is None:
            raise not_found("Upload id not found.")
        if "upload_503" in self._faults.take(Point.CHUNK):
            await request.body()
            raise unavailable()
        commands = [word.strip() for word in request.headers.get("x-goog-upload-command", "").split(",")]
        if "upload" in commands:
            await _receive(request, upload)
        if "finalize" not in commands:
            return JsonReply({}, headers={"x-goog-upload-status": "active"})
        file = await asyncio.to_thread(self._store.finish_upload, upload)
        return JsonReply({"file": file.shown(base_url(request))}, headers={"x-goog-upload-status": "final"})

    async def get(self, request: Request) -> Response:
        return JsonReply(self._found(request).shown(base_url(request)))

    async def list(self, request: Request) -> Response:
        files = self._store.newest_first(owner_of(request))
        shown, token = page(files, lambda file: file.serial, request, _DEFAULT_PAGE)
        listed = {"files": [file.shown(base_url(request)) for file in shown]} if shown else {}
        return JsonReply(listed | token)

    async def delete(self, request: Request) -> Response:
        # Result files have 42 characters, so the service cannot delete them (python-genai #1759).
        if len(request.path_params["file_id"]) > MAX_ID_CHARS:
            raise invalid(f"File name may be at most {MAX_ID_CHARS} characters long.")
        self._store.delete(self._found(request).id)
        return JsonReply({})

    async def download(self, request: Request) -> Response:
        file = self._found(request)
        if not file.generated:
            raise invalid("Only generated files can be downloaded.")
        if "download_cut" in self._faults.take(Point.DOWNLOAD):
            return CutDownload(file.path)
        headers = {"content-length": str(file.size_bytes)}
        return StreamingResponse(_pieces(file.path), media_type="application/octet-stream", headers=headers)

    def _found(self, request: Request) -> StoredFile:
        file_id = request.path_params["file_id"]
        file = self._store.find(owner_of(request), file_id)
        if file is None:
            raise no_access(file_id)
        return file


async def _receive(request: Request, upload: Upload) -> None:
    """One chunk to disk. A known offset is overwritten: the SDK repeats a chunk whose reply it missed."""
    offset = whole(request.headers.get("x-goog-upload-offset", ""))
    if offset is None or offset > upload.received_bytes:
        raise invalid(f"Upload offset {offset} does not continue {upload.received_bytes} received bytes.")
    if upload.file is not None:
        await request.body()
        return
    end = offset
    with upload.path.open("r+b") as target:
        target.seek(end)
        async for piece in request.stream():
            end += target.write(piece)
        target.truncate()
    upload.received_bytes = end


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as content:
        while piece := content.read(PIECE_BYTES):
            yield piece
