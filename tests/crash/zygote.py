"""A process that has imported everything and begun nothing. It forks a child for each line it reads; the child works
on a run, through the library, until it is done or dies at the effect that it was told to die at.

In: a line of JSON per child. Out: the exit code of each, on a line. A child closes what it inherits, and never returns.
"""

import gc
import importlib
import json
import os
import re
import signal
import ssl
import sys
import threading
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from google.genai import types

from gemini_batch import effects, library, runs, solo
from gemini_batch.config import resolve, resolve_account
from gemini_batch.coordinator.retry import Choice
from gemini_batch.errors import BadInput, RunStopped
from gemini_batch.gemini import client  # noqa: F401 - the SDK and all it needs
from gemini_batch.jobs import encode, parse  # noqa: F401 - pyarrow and the readers of pictures
from gemini_batch.ledger import posix

DIED, STOPPED, FAILED = 86, 87, 88
"""How a child exits: at its point; because a person is needed; over a defect."""

LONGEST = 60
"""Seconds after which a child that does not end is killed."""

CHANGES = ("os.rename", "os.link", "os.remove", "os.rmdir", "os.symlink", "os.truncate", "shutil.move")
NO_EFFECT = (".scratch", ".lock")

PACKAGE = f"{Path(solo.__file__).parent}/"
ON_THE_WAY = "jobs/paced"
"""What every call of the service passes, whoever makes it."""

COMPREHENSION = r"\.<locals>\.<\w+>"
"""A function of its own before Python 3.12."""


# --- effects, as they happen ------------------------------------------------------------------------------------------


def about(point: str, args: tuple[Any, ...]) -> str:
    """What an effect is about, the same for every shard and run."""
    if not point.startswith("store.") or not args:
        return ""
    folder, _, name = str(args[0]).rpartition("/")
    kind = folder.partition("/")[0]
    if point == "store.create" and kind in ("ledger", "control"):
        return f"{kind}: {json.loads(args[1])['cause']}"
    return kind or (".probe" if name.startswith(".probe-") else name)


def path_of(frame: FrameType | None) -> list[str]:
    """The functions of the package that are under way, the innermost first, each as `module:name`."""
    found = []
    while frame is not None:
        code = frame.f_code
        module = code.co_filename.removeprefix(PACKAGE).removesuffix(".py")
        if code.co_filename.startswith(PACKAGE) and code.co_name != "announced" and module != ON_THE_WAY:
            found.append(f"{module}:{re.sub(COMPREHENSION, '', code.co_qualname)}")
        frame = frame.f_back
    return found


class Watch:
    """Counts the effects of this process, notes them, and ends it at one of them."""

    def __init__(self, die: list[Any] | None, torn: bool) -> None:
        self._die = die
        self._torn = torn
        self._tearing = threading.local()
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, ...]] = Counter()
        self.seen: list[dict[str, Any]] = []
        if torn:
            self._write, posix._write_durably = posix._write_durably, self._write_half

    def __call__(self, point: str, phase: str) -> None:
        args = sys._getframe(1).f_locals["args"][1:]
        what = (phase, point, about(point, args))
        with self._lock:
            self._counts[what] += 1
            at = [*what, self._counts[what]]
            self.seen.append({"at": at, "path": path_of(sys._getframe(2))})
            if at == self._die:
                self._end(point, args)

    def _end(self, point: str, args: tuple[Any, ...]) -> None:
        if self._torn and point == "store.create":
            self._tearing.on = True  # it dies in the middle of its write
            return
        if self._torn:
            os.truncate(args[1], args[1].stat().st_size // 2)
        os._exit(DIED)

    def _write_half(self, path: Path, body: bytes) -> None:
        torn = getattr(self._tearing, "on", False)
        self._write(path, body[: len(body) // 2] if torn else body)
        if torn:
            os._exit(DIED)


def guard(root: str, strays: list[str]) -> None:
    """Note what is written below the root, or sent, and is no effect."""
    looking = threading.local()

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if getattr(looking, "on", False):
            return
        looking.on = True
        try:
            if _matters(root, event, args) and not _in_effect():
                strays.append(f"{event} {args}")
        finally:
            looking.on = False

    sys.addaudithook(hook)


def _matters(root: str, event: str, args: tuple[Any, ...]) -> bool:
    if event == "socket.connect":
        return True
    if event == "open":
        return isinstance(args[2], int) and bool(args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) and _in(root, args)
    return event in CHANGES and _in(root, args)


def _in(root: str, args: tuple[Any, ...]) -> bool:
    """Whether any of these is a path of a run, beside its scratch files and its lock."""
    paths = [str(Path(arg).absolute()) for arg in args if isinstance(arg, str | Path)]
    return any(path.startswith(f"{root}/") and not set(NO_EFFECT) & set(Path(path).parts) for path in paths)


def _in_effect() -> bool:
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == "announced" and frame.f_code.co_filename == effects.__file__:
            return True
        frame = frame.f_back
    return False


# --- what a child does ------------------------------------------------------------------------------------------------


def submit(order: dict[str, Any]) -> None:
    library.distributed_batch_process(order["manifest"], out=order["out"], **order["options"])


def resume(order: dict[str, Any]) -> None:
    library.Run.open(order["out"], order["options"]["runs"]).resume(**order["changed"]).wait()


def resume_newest(order: dict[str, Any]) -> None:
    library.Run(runs.find(None, order["options"]["runs"]), order["options"]["runs"]).wait()


def retry(order: dict[str, Any]) -> None:
    files = runs.find(order["out"], order["options"]["runs"])
    runs.retry_rows(files, resolve(order["options"]), Choice())
    library.Run(files, order["options"]["runs"]).wait()


def hand_over(order: dict[str, Any]) -> None:
    """As `submit --detach` does."""
    settings = resolve({**order["options"], "out": order["out"], "broker": order["broker"]})
    files = runs.start(runs.read_request(order["manifest"], settings, resolve_account(None)))
    runs.driver(files, settings)


def audit(order: dict[str, Any]) -> None:
    runs.audit_run(runs.find(order["out"], order["options"]["runs"]), resolve({}), offline=False)


def doctor(order: dict[str, Any]) -> None:
    runs.diagnose(resolve({"runs": order["options"]["runs"]}))


DEEDS = {deed.__name__: deed for deed in (submit, resume, resume_newest, retry, hand_over, audit, doctor)}


def child(order: dict[str, Any], report: Path) -> int:
    leave_parent(report.with_suffix(".log"))
    signal.alarm(LONGEST)
    os.environ["GOOGLE_GEMINI_BASE_URL"] = order["url"]
    ssl.create_default_context = lambda *_, **__: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # nobody speaks TLS here
    if order["pool"]:  # otherwise none is made: it is no effect, and its processes are most of what a case would cost
        solo.SMALL_ROWS = 0
    watch, strays, imported, built = Watch(order["die"], order["torn"]), list[str](), set(sys.modules), built_models()
    if order["die"] or order["observe"]:
        effects.observe(watch)
    if order["observe"]:
        guard(order["options"]["runs"], strays)
    code = 0
    try:
        DEEDS[order["do"]](order)
    except (RunStopped, BadInput) as error:
        print("stopped:", error)
        code = STOPPED
    effects.observe(None)
    if order["observe"]:
        late = {"modules": sorted(set(sys.modules) - imported), "models": sorted(built_models() - built)}
        report.write_text(json.dumps({"seen": watch.seen, "strays": strays, "late": late}))
    return code


def leave_parent(log: Path) -> None:
    """Nothing of the parent's stays open, and what is said goes to a file."""
    os.closerange(0, 256)
    assert os.open(os.devnull, os.O_RDONLY) == 0
    assert os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND) == 1
    os.dup2(1, 2)


def live(order: dict[str, Any]) -> None:
    code = FAILED
    try:
        code = child(order, Path(order["report"]))
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


# --- the parent -------------------------------------------------------------------------------------------------------


def built_models() -> set[str]:
    """Models of the SDK that pydantic has built, which it does at their first use."""
    return {name for name, model in vars(types).items() if getattr(model, "__pydantic_complete__", False)}


def import_late(modules: list[str], models: list[str]) -> None:
    """What a child imported only as it ran: the next ones need not."""
    for name in modules:
        with suppress(ImportError):
            importlib.import_module(name)
    for name in models:
        getattr(types, name).model_rebuild()


def main() -> None:
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        order = json.loads(line)
        import_late(**order["late"])
        assert threading.enumerate() == [threading.main_thread()], "the parent has done more than import"
        pid = os.fork()
        if pid == 0:
            live(order)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
