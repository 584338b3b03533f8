"""The Files API: resumable upload, get, list, delete, and download of generated files."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gemini_batch.clock import Clock
from gemini_batch.emulator.board import FaultBoard
from gemini_batch.emulator.connection import PIECE_BYTES, CutDownload, CutReply, flipped
from gemini_batch.emulator.faults import Point, Subject
from gemini_batch.emulator.file_store import MAX_ID_CHARS, FileStore, StoredFile, Upload, long_id, no_upload
from gemini_batch.emulator.wire import (
    ApiError,
    JsonReply,
    base_url,
    invalid,
    member,
    message_member,
    no_access,
    page,
    read_json,
    text_member,
    whole,
)

_DEFAULT_PAGE = 10  # Files REST reference
_CHUNK_GRANULARITY = 8 << 20
_COMMANDS = {"finalize", "query", "upload"}
_FILE_ID = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


class FilesApi:
    def __init__(
        self,
        store: FileStore,
        faults: FaultBoard,
        clock: Clock,
        owner_of: Callable[[Request], str],
        subject: Callable[[str], Subject],
    ) -> None:
        self._store = store
        self._faults = faults
        self._clock = clock
        self._owner_of = owner_of
        self._subject = subject

    async def upload(self, request: Request) -> Response:
        """Start, or a chunk when the URL carries an upload id; only the start knows an API key."""
        upload_id = request.query_params.get("upload_id")
        return await (self._start(request) if upload_id is None else self._chunk(request, upload_id))

    async def _start(self, request: Request) -> Response:
        protocol = request.headers.get("x-goog-upload-protocol", "resumable")
        if protocol != "resumable" or "uploadType" in request.query_params:
            raise invalid("Only resumable uploads are served: send X-Goog-Upload-Protocol: resumable.")
        file = message_member(await read_json(request), "file")
        file_id = text_member(file, "name").removeprefix("files/")
        if file_id and not _FILE_ID.fullmatch(file_id):
            raise invalid("File name may hold lower-case letters, digits and inner dashes only.")
        mime_type = text_member(file, "mimeType") or request.headers.get("x-goog-upload-header-content-type", "")
        size = request.headers.get("x-goog-upload-header-content-length") or str(member(file, "sizeBytes") or 0)
        upload_id = self._store.start_upload(
            self._owner_of(request), file_id, mime_type, text_member(file, "displayName"), whole(size) or 0
        )
        # The SDK uses this URL as it is, without rewriting the host.
        url = f"{base_url(request)}{request.url.path}?upload_id={upload_id}&upload_protocol=resumable"
        headers = {
            "x-goog-upload-url": url,
            "x-goog-upload-status": "active",
            "x-goog-upload-chunk-granularity": str(_CHUNK_GRANULARITY),
        }
        return Response(media_type="text/plain", headers=headers)

    async def _chunk(self, request: Request, upload_id: str) -> Response:
        upload = self._store.upload(upload_id)
        if upload is None:
            raise no_upload()
        commands = [word.strip() for word in request.headers.get("x-goog-upload-command", "").split(",")]
        if not set(commands) <= _COMMANDS:
            raise invalid(f"X-Goog-Upload-Command must be one of {', '.join(sorted(_COMMANDS))}, or several.")
        if "query" in commands:
            return JsonReply({}, headers=_received(upload))
        if "upload" in commands:
            await self._receive(request, upload)
        reply = JsonReply({}, headers={"x-goog-upload-status": "active"})
        if "finalize" in commands:
            file = await self._finish(upload)
            shown = {"file": file.shown(base_url(request), self._clock.now())}
            reply = JsonReply(shown, headers={"x-goog-upload-status": "final"})
        fired = self._faults.take(Point.CHUNK)
        if "upload_status_missing" in fired:
            del reply.headers["x-goog-upload-status"]
        return CutReply() if "upload_reply_lost" in fired else reply

    async def _finish(self, upload: Upload) -> StoredFile:
        fired = {} if upload.file else self._faults.take(Point.FILE)
        processing = timedelta(seconds=fired.get("file_processing", 0))
        return await asyncio.to_thread(self._store.finish_upload, upload, processing, "file_failed" in fired)

    async def _receive(self, request: Request, upload: Upload) -> None:
        """One chunk to disk. A known offset is overwritten: the SDK repeats a chunk whose reply it missed."""
        offset = whole(request.headers.get("x-goog-upload-offset", ""))
        if offset is None or offset > upload.received_bytes:
            raise invalid(f"Upload offset {offset} does not continue {upload.received_bytes} received bytes.")
        if upload.file is not None:
            await request.body()
            return
        pieces = request.stream()
        try:
            upload.received_bytes = await self._write(pieces, upload, offset)
        except ApiError:
            self._store.drop_upload(upload)
            async for _ in pieces:  # the reply to a body half sent may be lost with the connection
                pass
            raise

    async def _write(self, pieces: AsyncIterator[bytes], upload: Upload, offset: int) -> int:
        """Where the chunk ends; raises ApiError for more than was declared if there is no room for it."""
        end = offset
        with upload.path.open("r+b") as target:
            target.seek(end)
            async for piece in pieces:
                end += len(piece)
                if end > upload.declared_bytes:
                    self._store.check_room(upload.owner, end)
                target.write(piece)
            target.truncate()
        return end

    async def get(self, request: Request) -> Response:
        return JsonReply(self._found(request).shown(base_url(request), self._clock.now()))

    async def list(self, request: Request) -> Response:
        files, now = self._store.newest_first(self._owner_of(request)), self._clock.now()
        shown, token = page(files, lambda file: file.order, request, _DEFAULT_PAGE)
        listed = {"files": [file.shown(base_url(request), now) for file in shown]} if shown else {}
        return JsonReply(listed | token)

    async def delete(self, request: Request) -> Response:
        # Result files have 42 characters, so the service cannot delete them (python-genai #1759).
        if len(request.path_params["file_id"]) > MAX_ID_CHARS:
            raise long_id("DeleteFileRequest")
        self._store.delete(self._found(request).id)
        return JsonReply({})

    async def download(self, request: Request) -> Response:
        file = self._found(request)
        if not file.generated:
            raise invalid("Only generated files can be downloaded.")
        path = self._store.path_of(file)
        job, model = self._subject(file.id.removeprefix("batch-"))
        fired = self._faults.take(Point.DOWNLOAD, job=job, model=model)
        if how := next((name for name in fired if name.startswith("download_cut")), None):
            return CutDownload(path, how)
        pieces = _pieces(path)
        if "download_flipped" in fired:
            pieces = flipped(pieces, file.size_bytes // 2)
        headers = {"content-length": str(file.size_bytes)}
        return StreamingResponse(pieces, media_type="application/octet-stream", headers=headers)

    def _found(self, request: Request) -> StoredFile:
        file_id = request.path_params["file_id"]
        file = self._store.find(self._owner_of(request), file_id)
        if file is None:
            raise no_access(file_id)
        return file


def _received(upload: Upload) -> dict[str, str]:
    """The answer to a `query`: from where a broken upload goes on."""
    status = "active" if upload.file is None else "final"
    return {"x-goog-upload-status": status, "x-goog-upload-size-received": str(upload.received_bytes)}


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as content:
        while piece := content.read(PIECE_BYTES):
            yield piece
