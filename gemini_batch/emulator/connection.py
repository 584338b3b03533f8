"""Replies that ASGI has no word for: none at all, none for long, and half of one.

They need the socket, which `CuttableProtocol` puts into the scope of each request.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

_PROTOCOL = "gemini_batch.protocol"
PIECE_BYTES = 1 << 20


class CuttableProtocol(H11Protocol):
    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        app: Any = self.app

        async def with_protocol(scope: Any, receive: Any, send: Any) -> None:
            scope[_PROTOCOL] = self
            await app(scope, receive, send)

        self.app = with_protocol


class CutReply(Response):
    """The connection closes without a byte of reply."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[_PROTOCOL].transport.abort()
        await _disconnected(receive)


class Hang(Response):
    """No reply, then the connection closes. The wait is of real time, as a client's time-out is."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(_disconnected(receive), self._seconds)
        scope[_PROTOCOL].transport.abort()
        await _disconnected(receive)


class CutDownload(Response):
    """200 and the first half of a file, under one of four sorts of head."""

    def __init__(self, path: Path, how: str) -> None:
        super().__init__()
        self._path = path
        self._size = path.stat().st_size
        self._half = self._size // 2
        self._is_chunked = how == "download_cut_chunked"
        self._head = {
            "download_cut": "connection: close",
            "download_cut_length": f"content-length: {self._size}",
            "download_cut_chunked": "transfer-encoding: chunked",
            "download_cut_short": f"content-length: {self._half}\r\nconnection: close",
        }[how]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        protocol: CuttableProtocol = scope[_PROTOCOL]
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n{self._head}\r\n\r\n"
        protocol.transport.write(head.encode())
        left = self._half
        with self._path.open("rb") as body:
            while left and not protocol.transport.is_closing():
                piece = body.read(min(PIECE_BYTES, left))
                protocol.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._is_chunked else piece)
                left -= len(piece)
                await protocol.flow.drain()
        protocol.transport.close()
        await _disconnected(receive)


async def flipped(pieces: AsyncIterator[bytes], position: int) -> AsyncIterator[bytes]:
    """The same bytes but for one bit."""
    seen = 0
    async for piece in pieces:
        if seen <= position < seen + len(piece):
            at = position - seen
            yield piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]
        else:
            yield piece
        seen += len(piece)


async def _disconnected(receive: Receive) -> None:
    """uvicorn reports an app that returns without a reply, unless the client is already gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
