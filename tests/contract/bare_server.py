"""A server that is only a socket: it mishandles each connection as a test says, and counts what arrives."""

import contextlib
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


class Arrival(socketserver.StreamRequestHandler):
    """One connection. It closes when `treat` returns."""

    def handle(self) -> None:
        wire: Wire = self.server.wire
        wire.connections += 1
        with contextlib.suppress(ConnectionError):
            wire.treat(self)

    def read(self) -> bytes:
        """The next request's body; EOFError when the client has left instead."""
        head = [self.rfile.readline()]
        if not head[0]:
            raise EOFError
        self.server.wire.requests.append(head[0].split(b" ")[0].decode())
        while line := self.rfile.readline().strip().lower():
            head.append(line)
        lengths = [int(line.partition(b":")[2]) for line in head if line.startswith(b"content-length:")]
        return self.rfile.read(sum(lengths))

    def reset(self) -> None:
        """Close with RST: whatever was sent and not read is lost."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def wait(self) -> None:
        """Until the client has had enough."""
        self.rfile.read()


Treat = Callable[[Arrival], None]


@dataclass
class Wire:
    """What became of one test's calls."""

    treat: Treat
    connections: int = 0
    requests: list[str] = field(default_factory=list)
    """The method of each."""


class BareServer(socketserver.ThreadingTCPServer):
    daemon_threads = True  # a client that keeps its connection must not hold up the end
    block_on_close = False
    wire: Wire

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Arrival)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def treats(self, treat: Treat) -> Wire:
        self.wire = Wire(treat)
        return self.wire


@contextlib.contextmanager
def bare_server() -> Iterator[BareServer]:
    with BareServer() as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield server
        finally:
            server.shutdown()
            serving.join()


def reply(status: int, body: bytes = b"{}", *fields: str, length: int | None = None) -> bytes:
    """An HTTP reply; with a `length` of its own it is another than it says."""
    head = [f"HTTP/1.1 {status} Some", "Content-Type: application/json", *fields]
    if not any(line.startswith("Transfer-Encoding") for line in fields):
        head.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*head, "", ""]).encode() + body


def answers(*pieces: bytes) -> Treat:
    """Read the request, answer, close."""

    def treat(arrival: Arrival) -> None:
        arrival.read()
        for piece in pieces:
            arrival.wfile.write(piece)

    return treat


def resets(*pieces: bytes) -> Treat:
    """Read the request, answer, and reset the connection."""

    def treat(arrival: Arrival) -> None:
        answers(*pieces)(arrival)
        arrival.reset()

    return treat


def hangs(*pieces: bytes) -> Treat:
    """Read the request, answer, and say no more for as long as the client waits."""

    def treat(arrival: Arrival) -> None:
        answers(*pieces)(arrival)
        arrival.wait()

    return treat


def resets_unread(arrival: Arrival) -> None:
    """Accept, and reset before anything is read."""
    arrival.reset()


def closes_unread(arrival: Arrival) -> None:
    """Accept, and close before anything is read."""


def resets_within_the_request(arrival: Arrival) -> None:
    """Read the request's first line only."""
    arrival.server.wire.requests.append(arrival.rfile.readline().split(b" ")[0].decode())
    arrival.reset()


def keeps(*pieces: bytes) -> Treat:
    """Answer request after request on one connection, as a good server does."""

    def treat(arrival: Arrival) -> None:
        with contextlib.suppress(EOFError):
            while True:
                answers(*pieces)(arrival)

    return treat
