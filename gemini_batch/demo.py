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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw
from pydantic import BaseModel, Field
from rich.console import Console
from rich.table import Table

from gemini_batch import rundir
from gemini_batch.errors import BadInput, RunStopped
from gemini_batch.parquet import read_blocks
from gemini_batch.parts import PARTS

PICTURE_EVERY = 20
"""One prompt in so many carries a picture."""

LETTERS = "etaoinshrdlu"


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
    with _emulator() as url:
        out.print(f"emulator: {url}", highlight=False)
        code = _submit(manifest, folder / "run", url)
    if code != 0:
        raise RunStopped(f"the demo's submit ended with exit code {code}")
    _show(out, folder / "run")


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
    process = subprocess.Popen(
        [sys.executable, "-m", "gemini_batch", "emulator", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
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


def _submit(manifest: Path, out: Path, url: str) -> int:
    command = [sys.executable, "-m", "gemini_batch", "submit", str(manifest), "--out", str(out)]
    command += ["--schema", "gemini_batch.demo:Summary", "--max-requests-per-shard", "1000", "--poll-interval", "2"]
    keyless = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    return subprocess.run(command, env={**keyless, "GOOGLE_GEMINI_BASE_URL": url}, check=False).returncode


def _show(out: Console, run: Path) -> None:
    report = json.loads((run / rundir.REPORT).read_text())
    table = Table("index", "key", "status", "result", "agreement", title="first rows", title_justify="left")
    first = next(read_blocks(run / rundir.dataset_file(0)))
    for row in first.slice(0, 5).to_pylist():
        table.add_row(str(row["index"]), row["key"], row["status"], json.dumps(row["result"]), f"{row['agreement']}")
    out.print(table)
    shown = ("rows", "ok", "failed", "shards", "jobs", "requests_bought", "tokens", "seconds")
    out.print("report: " + json.dumps({name: report[name] for name in shown}), highlight=False, soft_wrap=True)
    out.print(f"dataset: {run / 'dataset'}", highlight=False, soft_wrap=True)
