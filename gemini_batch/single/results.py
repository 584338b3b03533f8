"""Result lines of one job become answers in the order of the prompts, matched by key.

In: a result file, or its lines as dicts. Out: one answer per request, None where there is none. What a line says and
whether it fits the schema is decided where the distributed path decides it.
"""

import gc
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from gemini_batch.errors import BadInput
from gemini_batch.gemini.lines import parsed_lines
from gemini_batch.gemini.lines import read_lines as read_columns
from gemini_batch.gemini.wire import Answer, plain_text, read_answer
from gemini_batch.jobs.parse import CHUNK_BYTES, read_bodies, whole_lines
from gemini_batch.schema.check import Check, Invalid, checker, instance_checker
from gemini_batch.schema.load import load_schema
from gemini_batch.single.alignment import NONE, NOWHERE, Alignment

log = logging.getLogger(__name__)

Source = str | os.PathLike[str] | Iterable[Mapping[str, Any] | None]
Entry = dict[str, Any] | None
"""A result line; None for one that is broken."""

T = TypeVar("T")

BLOCK = 64
"""Lines at a time: few enough to stay in the processor's cache, and for one odd line to cost little."""

METADATA = ("usageMetadata", "modelVersion")
BROKEN = Answer("failed", kind="unknown", message="the line is no JSON object")


@dataclass(frozen=True, slots=True)
class BatchResult:
    """One result line."""

    key: str | None
    index: int | None
    """Of the prompt; None where the key does not tell."""
    sample: int
    result: Any
    """An instance of the schema, or text; None unless `status` is ok."""
    status: str
    """`ok`, `failed`, `blocked`, `truncated` or `invalid`, as in a dataset."""
    text: str | None
    """The raw answer, whenever one came."""
    error: dict[str, Any] | None
    """`kind`, `code` and `message` as in a dataset; None if ok."""
    metadata: dict[str, Any] | None
    """`usageMetadata` and `modelVersion` as the service gave them; None where no response came."""


def parse_batch_results(
    results: Source,
    schema: Any = None,
    validate: bool = True,
    return_metadata: bool = False,
    *,
    n: int | None = None,
    n_samples: int | None = None,
    keys: Sequence[str] | None = None,
) -> Any:
    """Answers in the order of the requests: prompt by prompt, the samples of a prompt one after the other.

    Args:
        results: path of a JSONL file, or result lines as dicts, such as `get_inline_results` gives.
        schema: pydantic model, or anything TypeAdapter takes, such as `list[Model]`, or `module:Name`, or a JSON Schema
            file; None for text.
        validate: has no effect: an instance is always validated, as it was in the public library.
        return_metadata: return `(results, metadata)`.
        n: how many prompts there were; without it, as many as the keys and lines tell, or `keys` has.
        n_samples: how many samples of each; without it, as many as the keys tell.
        keys: the prompts' own keys, in the order of the prompts.

    Returns:
        A list of instances of `schema` (or str), None where the line failed, is broken or is missing: `n * n_samples`
        entries. With `return_metadata` also a list of the same length of `{"usageMetadata": …, "modelVersion": …}`,
        None where the result is. `iter_batch_results` says why a line failed.

    Raises:
        BadInput: no such file, or the lines cannot be told apart.
    """
    read, aligned = _reader(schema), Alignment(n, n_samples, keys)
    values, metadata = list[Any](), list[dict[str, Any] | None]()
    with _no_collections():
        for block_keys, found, told in _read(results, read, return_metadata):
            aligned.note(block_keys)
            values += found
            metadata += told
    lines = aligned.lines()
    placed = [None if line == NONE else values[line] for line in lines]
    log.info("%d of %d requests answered", sum(value is not None for value in placed), len(placed))
    return (placed, [None if line == NONE else metadata[line] for line in lines]) if return_metadata else placed


def iter_batch_results(
    results: Source, schema: Any = None, *, keys: Sequence[str] | None = None
) -> Iterator[BatchResult]:
    """The result lines one by one, in the order in which they stand, a block in memory at a time.

    Args:
        results: as `parse_batch_results`.
        schema: likewise.
        keys: likewise; for `index`.

    Raises:
        BadInput: no such file.
    """
    read, aligned = _reader(schema), Alignment(keys=keys)
    return (_result(entry, read, aligned) for entries in _blocks(results) for entry in entries)


def _result(entry: Entry, read: Check, aligned: Alignment) -> BatchResult:
    if entry is None:
        return BatchResult(None, None, 0, None, BROKEN.status, None, _error(BROKEN), None)
    answer, value, key = read_answer(entry), None, _key(entry)
    status, error = answer.status, _error(answer)
    if answer.status == "ok":
        try:
            value = read(answer.text or "")
        except Invalid as reason:
            status, error = "invalid", {"kind": "schema_invalid", "code": None, "message": str(reason)}
    prompt, sample = NOWHERE if key is None else aligned.place(str(key))
    return BatchResult(
        key=None if key is None else str(key),
        index=None if prompt == NONE else prompt,
        sample=max(sample, 0),
        result=value,
        status=status,
        text=answer.text,
        error=error,
        metadata=_metadata(entry),
    )


# --- a few lines at a time --------------------------------------------------------------------------------------------


def _read(source: Source, read: Check, with_metadata: bool) -> Iterator[tuple[list[Any], list[Any], list[Any]]]:
    """Keys of lines, the answers on them, and if asked for their metadata."""
    if with_metadata or not isinstance(source, str | os.PathLike):
        for entries in _blocks(source):
            yield _of_entries(entries, read, with_metadata)
        return
    for body in _bodies(source):
        lines = read_columns(body)
        if lines.broken or lines.keys.null_count:  # columns do not tell where a broken line stood, nor of other keys
            for entries in _entries(body):
                yield _of_entries(entries, read, with_metadata)
        else:
            yield lines.keys.to_pylist(), _of_columns(lines.answers, read), []


def _of_columns(answers: pa.RecordBatch, read: Check) -> list[Any]:
    texts = answers.column("text").to_pylist()
    statuses = answers.column("status")
    if statuses.unique().to_pylist() == ["ok"]:
        try:
            return list(map(read, texts))
        except Invalid:
            pass
    pairs = zip(statuses.to_pylist(), texts, strict=True)
    return [_fitting(text or "", read) if status == "ok" else None for status, text in pairs]


def _of_entries(entries: Sequence[Entry], read: Check, with_metadata: bool) -> tuple[list[Any], list[Any], list[Any]]:
    values = _values(entries, read)
    return _keys(entries), values, list(map(_metadata_of, entries, values)) if with_metadata else []


def _values(entries: Sequence[Entry], read: Check) -> list[Any]:
    """The answer on each line, None where there is none. Where all have one, no line takes a turn of its own."""
    texts: list[Any] = list(map(plain_text, entries))
    if None not in texts:
        try:
            return list(map(read, texts))
        except Invalid:
            pass
    return [_value(entry, read) for entry in entries]


def _keys(entries: Sequence[Entry]) -> list[Any]:
    try:
        keys = [entry["key"] for entry in entries]  # type: ignore[index]
    except (KeyError, TypeError):
        return list(map(_key, entries))
    return keys if set(map(type, keys)) <= {str} else list(map(_key, entries))


# --- one line ---------------------------------------------------------------------------------------------------------


def _reader(schema: Any) -> Check:
    """From the text of an answer to its value; raises `Invalid`."""
    return checker(load_schema(schema)) if schema is None or isinstance(schema, str) else instance_checker(schema)


def _value(entry: Entry, read: Check) -> Any:
    """None where there is no answer, or it does not fit."""
    if entry is None:
        return None
    text = plain_text(entry)
    if text is None:
        answer = read_answer(entry)
        if answer.status != "ok":
            return None
        text = answer.text or ""
    return _fitting(text, read)


def _fitting(text: str, read: Check) -> Any:
    try:
        return read(text)
    except Invalid:
        return None


def _key(entry: Entry) -> str | int | None:
    """Of a file's line `key`, of an inline response `metadata.key`, else its `index`."""
    if entry is None:
        return None
    key = entry.get("key")
    if type(key) is str:
        return key
    if key is None:
        inner = entry.get("metadata")
        key = inner.get("key") if isinstance(inner, Mapping) else None
        key = entry.get("index") if key is None else key
    return key if type(key) is str or type(key) is int else None


def _metadata_of(entry: Entry, value: Any) -> dict[str, Any] | None:
    return None if entry is None or value is None else _metadata(entry)


def _metadata(entry: dict[str, Any]) -> dict[str, Any] | None:
    response = entry.get("response")
    return {name: response[name] for name in METADATA if name in response} if isinstance(response, Mapping) else None


def _error(answer: Answer) -> dict[str, Any] | None:
    if answer.status == "ok":
        return None
    return {"kind": answer.kind, "code": answer.code, "message": answer.message}


# --- all lines --------------------------------------------------------------------------------------------------------


def _blocks(source: Source) -> Iterator[Sequence[Entry]]:
    """The lines, some at a time.

    Raises:
        BadInput: there is no such file.
    """
    if not isinstance(source, str | os.PathLike):
        return _cut(_as_on_a_line(given, place) for place, given in enumerate(source))
    return (entries for body in _bodies(source) for entries in _entries(body))


def _bodies(source: str | os.PathLike[str]) -> Iterator[bytes]:
    """A file in stretches that end where a line does."""
    path = Path(source)
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file of results")
    return read_bodies(path) if path.suffix == ".zst" else whole_lines(_chunks(path))


def _entries(body: bytes) -> Iterator[list[Entry]]:
    lines = [line for line in body.split(b"\n") if line and not line.isspace()]
    return (parsed_lines(lines[at : at + BLOCK]) for at in range(0, len(lines), BLOCK))


def _cut(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    return iter(lambda: list(islice(rest, BLOCK)), [])


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def _as_on_a_line(given: Any, place: int) -> Entry:
    """An entry of a list: a dict as on a line, or with objects of the SDK in it, or one of its inlined responses."""
    entry = _plain(given)
    if entry is None:
        return None
    if not isinstance(entry, Mapping):
        raise BadInput(f"result {place} is a {type(given).__name__}; a dict with `response` or `error` is due")
    return {name: _plain(value) for name, value in entry.items()}


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json", by_alias=True, exclude_none=True) if hasattr(value, "model_dump") else value


@contextmanager
def _no_collections() -> Iterator[None]:
    """Millions of new objects, none of them garbage, would be looked through again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
