"""Replies that ASGI has no word for: none at all, and half of one.

Both need the socket, which `CuttableProtocol` puts into the scope of each request.
"""

import asyncio
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


class CutDownload(Response):
    """200, the first half of a file without any length, end: to a careless client a complete body."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        protocol: CuttableProtocol = scope[_PROTOCOL]
        protocol.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\nconnection: close\r\n\r\n"
        )
        left = self._path.stat().st_size // 2
        with self._path.open("rb") as body:
            while left and not protocol.transport.is_closing():
                piece = body.read(min(PIECE_BYTES, left))
                protocol.transport.write(piece)
                left -= len(piece)
                await protocol.flow.drain()
        protocol.transport.close()
        await _disconnected(receive)


async def _disconnected(receive: Receive) -> None:
    """uvicorn reports an app that returns without a reply, unless the client is already gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
