"""A fleet keeps its keys and passwords: they are in no file, no log, no message and no command line."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

KEY = "CANARY-KEY-7f3a91"
PASSWORD = "CANARY-PW-7f3a91"
WORKER = ("-c", 2, "-n", "t@test", "-l", "DEBUG")
FAULTS = ("result_line_error", "get_500", "upload_503", "create_429", "job_failed", "create_reply_lost")


def found_in(*texts: str) -> list[str]:
    """What surrounds each secret that was given away."""
    marks = [(text, at) for text in texts for secret in (KEY, PASSWORD) if (at := text.find(secret)) >= 0]
    return [text[max(0, at - 100) : at + 100] for text, at in marks]


def held(folder: Path) -> Iterator[str]:
    """All that lies below a folder, Parquet and compressed files also as what they hold."""
    for path in sorted(folder.rglob("*")):
        yield str(path)
        if path.is_file():
            yield path.read_bytes().decode("latin-1")
        if path.suffix == ".parquet":
            yield str(pq.read_table(path).to_pylist())
        if path.suffix == ".zst":
            with pa.CompressedInputStream(str(path), "zstd") as stream:
                yield stream.read().decode()


def dumped(client: Any) -> str:
    """Every key of a Redis server with its value."""
    read = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"zset": lambda key: client.zrange(key, 0, -1),
    }
    return "\n".join(f"{key} {read[kind](key)}" for key in client.scan_iter() if (kind := client.type(key)) in read)


def command_lines(pids: list[int]) -> dict[int, str]:
    lines = {}
    for pid in pids:
        try:
            lines[pid] = Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
    return lines


class Listener:
    """Hears every command that a server is sent."""

    def __init__(self, port: int) -> None:
        self._heard: list[bytes] = []
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.sendall(f"AUTH {PASSWORD}\r\nMONITOR\r\n".encode())
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while some := self._socket.recv(1 << 16):
            self._heard.append(some)

    @property
    def heard(self) -> str:
        return b"".join(self._heard).decode("latin-1")

    def stop(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


@pytest.fixture
def admin(valkey: Any) -> Iterator[Any]:
    """A client of a server that asks for the password from now on."""
    valkey.client.config_set("requirepass", PASSWORD)
    client = redis.Redis(port=valkey.port, password=PASSWORD, socket_timeout=10)
    yield client
    client.config_set("requirepass", "")
    client.close()


@pytest.fixture
def listener(admin: Any, valkey: Any) -> Iterator[Listener]:
    started = Listener(valkey.port)
    yield started
    started.stop()


@pytest.fixture
def url(admin: Any, valkey: Any) -> str:
    return str(valkey.url.replace("redis://", f"redis://:{PASSWORD}@"))


@pytest.fixture
def secret_cli(cli: Any, url: str, folder: Path) -> Any:
    """The command with key, broker and runs from its environment alone."""
    cli.env |= {"GEMINI_API_KEY": KEY, "GEMINI_BATCH_BROKER_URL": url, "GEMINI_BATCH_RUNS": str(folder / "runs")}
    return cli


@pytest.fixture
def start(secret_cli: Any, look: Any) -> Iterator[Callable[..., Any]]:
    """Starts a worker that says everything it can say."""
    started: list[Any] = []

    def begin(*arguments: object, env: dict[str, str] | None = None) -> Any:
        started.append(secret_cli.start("worker", *WORKER, *arguments, env=env))
        return started[-1]

    yield begin
    for worker in started:
        if worker.running:
            worker.signal(15)
            worker.ended()


def test_of_a_whole_run_neither_the_key_nor_the_broker_s_password_is_anywhere(
    start: Any, secret_cli: Any, emulator: Any, listener: Listener, admin: Any, look: Any, folder: Path, tmp_path: Path
) -> None:
    """Everything that can fail is made to, for errors say most."""
    emulator.settings(job_seconds=1)
    for fault in FAULTS:
        emulator.fault(fault, times=1)
    worker = start()
    manifest = look.prompts(folder / "m.parquet", 12)
    options = ("--poll-interval", "1", "--settle", "2", "--max-requests-per-shard", "3")
    running = secret_cli.start("submit", manifest, *options, "--json")
    lines, dumps = dict[int, str](), set[str]()

    def over() -> bool:
        lines.update(command_lines(secret_cli.left()))
        dumps.add(dumped(admin))
        return not running.running

    look.until(over, "the run ends")
    done = running.ended()
    assert done.code == 0, done.err
    said = [done, secret_cli("status", "--json"), secret_cli("status"), secret_cli("resume")]
    assert [one.code for one in said] == [0, 0, 0, 0]
    worker.signal(15)
    worker.ended()
    assert len(lines) >= 5, "the submit, the supervisor, Celery and its pool"
    assert found_in(*lines.values()) == []
    assert "gemini-batch.advance" in listener.heard, "the doorbells were heard"
    assert found_in(listener.heard, *dumps, dumped(admin)) == []
    assert "DEBUG" in worker.said
    assert found_in(worker.said, *(one.words for one in said)) == []
    everything = list(held(tmp_path))
    assert sum(map(len, everything)) > 20_000
    assert found_in(*everything) == []


def test_when_the_broker_goes_and_comes_back_its_password_is_not_shown(
    start: Any, secret_cli: Any, valkey: Any, admin: Any, look: Any, folder: Path, tmp_path: Path
) -> None:
    """A client that cannot connect says what it tried; for a while the new server knows no password at all."""
    worker = start()
    look.until(lambda: "t@test ready" in worker.said, "the worker is ready")
    valkey.kill()
    look.until(lambda: "Cannot connect" in worker.said or "Connection to broker lost" in worker.said, "it is missed")
    lost = [
        secret_cli("submit", look.prompts(folder / "m.parquet", 2)),
        secret_cli("status"),
    ]
    valkey.start()
    valkey.client.config_set("requirepass", PASSWORD)
    done = secret_cli("submit", folder / "m.parquet", "--poll-interval", "1")
    assert done.code == 0, done.err
    assert lost[0].code == 2
    assert found_in(worker.said, *(one.words for one in (*lost, done)), *held(tmp_path)) == []


def test_a_password_that_the_broker_refuses_is_not_repeated(
    start: Any, secret_cli: Any, valkey: Any, look: Any, folder: Path
) -> None:
    """A mistyped password is nearly the right one."""
    wrong = {"GEMINI_BATCH_BROKER_URL": valkey.url.replace("redis://", f"redis://fleet:{PASSWORD}x@")}
    worker = start(env=wrong)
    done = secret_cli("submit", look.prompts(folder / "m.parquet", 2), env=wrong)
    assert done.code == 2
    assert "does not answer" in done.err
    seen = secret_cli("status", env=wrong)
    look.until(lambda: worker.said.count("Cannot connect to") >= 2, "the worker has tried twice")
    assert found_in(worker.said, done.words, seen.words) == []


def test_a_broker_given_by_flag_is_on_no_other_command_line(
    start: Any, secret_cli: Any, look: Any, url: str, valkey: Any, folder: Path
) -> None:
    """Everybody on the machine can read them; what was typed is the typist's own doing."""
    nowhere = {"GEMINI_BATCH_BROKER_URL": "redis://127.0.0.1:1/0"}
    worker = start("--broker", url, env=nowhere)
    look.until(lambda: "t@test ready" in worker.said, "the worker is ready")
    running = secret_cli.start("submit", look.prompts(folder / "m.parquet", 2), "--broker", url, env=nowhere)
    lines: dict[int, str] = {}

    def over() -> bool:
        lines.update(command_lines(secret_cli.left()))
        return not running.running

    look.until(over, "the run ends")
    assert running.ended().code == 0
    others = [line for pid, line in lines.items() if pid not in {worker.pid, running.pid}]
    assert len(others) >= 3, "Celery and its pool"
    assert found_in(*others) == []
    assert found_in(worker.said, running.said) == []
