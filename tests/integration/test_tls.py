"""A broker behind TLS: what may be trusted works end to end, and nothing else gets as far as the password.

A small proxy ends TLS in front of a real Valkey server, with certificates made here.
"""

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from gemini_batch.errors import BadInput
from gemini_batch.fleet.broker import read_broker

PASSWORD = "CANARY-PW-7f3a91"
UNVERIFIED = "certificate verify failed"


class TlsProxy:
    """Ends TLS on loopback and passes on what comes to a port without it."""

    def __init__(self, to_port: int, cert: trustme.LeafCert, clients: trustme.CA | None) -> None:
        self._to_port = to_port
        self.connections = 0
        """That were made: the client has accepted the certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        cert.configure_cert(context)
        if clients:
            clients.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        self._tasks: set[Any] = set()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda *_: None)
        self._thread = threading.Thread(target=self._loop.run_forever, name="tls-proxy")
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        self._tasks.add(task)
        with suppress(OSError, asyncio.CancelledError):
            back, forth = await asyncio.open_connection("127.0.0.1", self._to_port)
            both = [asyncio.ensure_future(self._pump(*pair)) for pair in ((reader, forth), (back, writer))]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for one in both:
                one.cancel()
            forth.close()
        writer.close()
        self._tasks.discard(task)

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ssl.SSLError):
            while some := await reader.read(65_536):
                writer.write(some)
                await writer.drain()

    async def _end(self) -> None:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def stop(self) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    """The one that clients trust."""
    return trustme.CA()


@pytest.fixture
def ca_file(ca: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def proxy(valkey: Any) -> Iterator[Callable[..., TlsProxy]]:
    """Starts proxies in front of a server that asks for a password."""
    started: list[TlsProxy] = []
    valkey.client.acl_setuser(
        "fleet", enabled=True, reset=True, passwords=[f"+{PASSWORD}"], keys=["*"], channels=["*"], categories=["+@all"]
    )

    def start(cert: trustme.LeafCert, clients: trustme.CA | None = None) -> TlsProxy:
        started.append(TlsProxy(valkey.port, cert, clients))
        return started[-1]

    yield start
    for one in started:
        one.stop()
    valkey.client.acl_deluser("fleet")


def address(port: int, *files: str, host: str = "localhost", scheme: str = "rediss") -> str:
    return f"{scheme}://fleet:{PASSWORD}@{host}:{port}/0" + ("?" + "&".join(files) if files else "")


YESTERDAY = datetime.now(UTC) - timedelta(days=1)

NOT_TO_BE_TRUSTED = {
    "of another CA": lambda ca: trustme.CA().issue_cert("localhost"),
    "for another name": lambda ca: ca.issue_cert("redis.example"),
    "for an address alone": lambda ca: ca.issue_cert("127.0.0.1"),
    "that has expired": lambda ca: ca.issue_cert("localhost", not_after=YESTERDAY),
}


@pytest.fixture(params=NOT_TO_BE_TRUSTED)
def impostor(request: pytest.FixtureRequest, ca: trustme.CA, proxy: Any) -> TlsProxy:
    """A server that shows a certificate which must not be believed."""
    made: TlsProxy = proxy(NOT_TO_BE_TRUSTED[request.param](ca))
    return made


# --- our own client ---------------------------------------------------------------------------------------------------


def test_a_server_with_a_certificate_of_the_given_ca_is_trusted(ca: trustme.CA, ca_file: Path, proxy: Any) -> None:
    """A company's own CA is in no system's store."""
    server = proxy(ca.issue_cert("localhost"))
    read_broker(address(server.port, f"ssl_ca_certs={ca_file}")).ping()
    assert server.connections == 1


def test_our_client_refuses_an_impostor(impostor: TlsProxy, ca_file: Path) -> None:
    """The password goes to whoever answers."""
    with pytest.raises(BadInput, match=UNVERIFIED) as refused:
        read_broker(address(impostor.port, f"ssl_ca_certs={ca_file}")).ping()
    assert PASSWORD not in str(refused.value)
    assert f"rediss://localhost:{impostor.port}/0" in str(refused.value)
    assert impostor.connections == 0


def test_without_a_file_the_system_s_cas_are_asked_and_not_anybody(ca: trustme.CA, proxy: Any) -> None:
    """No setting is not no check."""
    server = proxy(ca.issue_cert("localhost"))
    with pytest.raises(BadInput, match=UNVERIFIED):
        read_broker(address(server.port)).ping()
    assert server.connections == 0


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_client_that_speaks_the_other_way_is_told_and_does_not_wait(
    scheme: str, ca: trustme.CA, ca_file: Path, proxy: Any, valkey: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One letter in an address is a slip; a server without TLS says nothing at all to one who begins with it."""
    monkeypatch.setattr("gemini_batch.fleet.broker.SOCKET_SECONDS", 1.0)
    port = proxy(ca.issue_cert("localhost")).port if scheme == "redis" else valkey.port
    files = (f"ssl_ca_certs={ca_file}",) if scheme == "rediss" else ()
    with pytest.raises(BadInput, match="does not answer") as refused:
        read_broker(address(port, *files, scheme=scheme)).ping()
    assert PASSWORD not in str(refused.value)


def test_a_server_that_asks_for_a_client_s_certificate_gets_the_given_one(
    ca: trustme.CA, ca_file: Path, proxy: Any, tmp_path: Path
) -> None:
    """Managed Redis servers offer that instead of a password."""
    mine = ca.issue_cert("worker@fleet.example")
    mine.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    mine.private_key_pem.write_to_path(tmp_path / "key.pem")
    server = proxy(ca.issue_cert("localhost"), clients=ca)
    files = [f"ssl_ca_certs={ca_file}", f"ssl_certfile={tmp_path / 'cert.pem'}", f"ssl_keyfile={tmp_path / 'key.pem'}"]
    read_broker(address(server.port, *files)).ping()
    with pytest.raises(BadInput, match="does not answer"):
        read_broker(address(server.port, files[0])).ping()


# --- a fleet ----------------------------------------------------------------------------------------------------------


def test_a_run_finishes_over_tls_alone(
    ca: trustme.CA, ca_file: Path, proxy: Any, start_worker: Any, cli: Any, look: Any, folder: Path
) -> None:
    """Both clients of a worker, ours and Celery's, and the command read the same address."""
    server = proxy(ca.issue_cert("localhost"))
    url = address(server.port, f"ssl_ca_certs={ca_file}")
    worker = start_worker("t@test", "-c", 1, "-l", "INFO", "--broker", url)
    look.until(lambda: "t@test ready" in worker.said, "the worker is ready")
    before = server.connections
    manifest = look.prompts(folder / "m.parquet", 3)
    done = cli("submit", manifest, "--broker", url, "--runs", folder / "runs", "--poll-interval", "1", "--json")
    assert done.code == 0, done.err
    rows = look.rows(Path(done.json["run"]))
    assert [row["text"] for row in rows] == [look.answer(f"Prompt number {i}") for i in range(3)]
    assert 1 < before < server.connections
    assert PASSWORD not in worker.said + done.words


def test_a_worker_does_not_connect_to_an_impostor(
    impostor: TlsProxy, ca_file: Path, start_worker: Any, look: Any
) -> None:
    """Celery brings a client of its own, with settings of its own."""
    worker = start_worker(
        "t@test", "-c", 1, "-l", "INFO", "--broker", address(impostor.port, f"ssl_ca_certs={ca_file}")
    )
    look.until(lambda: worker.said.count(UNVERIFIED) >= 2, "the worker has tried twice")
    assert "ready" not in worker.said
    assert PASSWORD not in worker.said
    assert impostor.connections == 0


def test_a_submit_to_an_impostor_is_refused_before_anything_is_written(
    impostor: TlsProxy, ca_file: Path, cli: Any, emulator: Any, look: Any, folder: Path
) -> None:
    """A run that nobody can be told of would lie there half handed over."""
    url = address(impostor.port, f"ssl_ca_certs={ca_file}")
    done = cli("submit", look.prompts(folder / "m.parquet", 3), "--broker", url, "--runs", folder / "runs")
    assert done.code == 2
    assert UNVERIFIED in done.err
    assert PASSWORD not in done.words
    assert impostor.connections == 0
    assert not (folder / "runs").exists()
    assert emulator.untouched()
