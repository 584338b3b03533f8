"""What `batch_process` was given becomes request lines: settings, prompts, keys, and the pictures they hold.

In: Python values. Out: a file of lines, with all they refer to at the service. Whatever cannot be sent as given is a
`BadInput` that names prompt and part, before anything is uploaded.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import orjson

from gemini_batch.clock import SystemClock
from gemini_batch.config import GENERATION, Options, resolve
from gemini_batch.errors import BadInput, UnknownOption
from gemini_batch.gemini.generation import generation_config, request_members
from gemini_batch.jobs.encode import EncodeTask, Encoding, ToUpload
from gemini_batch.jobs.fetch import fetch_media
from gemini_batch.parts import FIELDS
from gemini_batch.prompts import read_prompt
from gemini_batch.records import Asked
from gemini_batch.schema.load import load_schema
from gemini_batch.single.alignment import Alignment
from gemini_batch.single.create import write_lines
from gemini_batch.single.media import Uploads, read_resolution

SETTINGS = (GENERATION - {"stop_sequence", "generation_config"}) | {"stop_sequences"}
"""Names of `generation_kwargs`, besides `generation_config`."""

NO_PART: dict[str, Any] = dict.fromkeys(FIELDS)

Row = dict[str, Any]


# --- what is asked ----------------------------------------------------------------------------------------------------


def read_settings(
    model: str, n_samples: int, media: str, media_resolution: Any, given: Mapping[str, Any]
) -> tuple[Options, dict[str, Any]]:
    """Options of generation, and raw fields of `generationConfig`.

    Raises:
        BadInput: an unknown setting, or a value out of range.
    """
    named = {**given}
    members = request_members(named.pop("generation_config", None))
    raw = members.pop("generationConfig", {})
    if members:
        raise BadInput(f"generation_config: {min(members)!r} is no field of generationConfig, it stands beside it")
    if unknown := next((name for name in named if name not in SETTINGS), None):
        near = difflib.get_close_matches(unknown, SETTINGS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(SETTINGS))}"
        raise UnknownOption(f"batch_process has no keyword {unknown!r}{hint}")
    if "stop_sequences" in named:
        named["stop_sequence"] = named.pop("stop_sequences")
    if named.get("thinking_level") is not None:
        level = named["thinking_level"]
        named["thinking_level"] = str(getattr(level, "value", level)).lower()
    resolution = read_resolution(media_resolution, "media_resolution")
    own = {"model": model.removeprefix("models/"), "n_samples": n_samples, "media": media}
    return resolve({**named, **own, "media_resolution": resolution}), raw


def read_rows(prompts: Sequence[Any], resolution: str | None) -> list[Row]:
    """Prompts as rows of a shard.

    Raises:
        BadInput: there are none, or one of another kind.
    """
    if isinstance(prompts, str | bytes | Mapping) or not isinstance(prompts, Sequence):
        raise BadInput(f"prompts has to be a list of prompts, each a list of parts, not a {type(prompts).__name__}")
    if not prompts:
        raise BadInput("prompts is empty")
    rows = []
    for index, prompt in enumerate(prompts):
        parts = [{**NO_PART, **part} for part in read_prompt(prompt, index)]
        for part in parts:
            if part["text"] is None and part["media_resolution"] is None:
                part["media_resolution"] = resolution
        rows.append({"index": index, "prompt": None, "parts": parts, "system_instruction": None})
    return rows


def what_is_asked(options: Options, schema: Any, raw: Mapping[str, Any]) -> Asked:
    spec = load_schema(schema)
    return Asked(
        rows=0,
        rows_digest="",
        model=options.model,
        response_schema=spec,
        generation_config={**raw, **generation_config(options, spec)},
        system_instruction=options.system_instruction,
        media=options.media,
        n_samples=options.n_samples,
        endpoint="",
        project="",
        safety_settings=options.safety_settings,
    )


def line_keys(keys: Sequence[str] | None, prompts: int, n_samples: int) -> Callable[[int, int], bytes]:
    """Names the line of a prompt's sample, so that it can be told whose it is by its name alone.

    Raises:
        BadInput: keys that are not one for each prompt, or of which one could be taken for another's.
    """
    if keys is None:
        return lambda index, sample: b"prompt_%d_sample_%d" % (index, sample)
    named = [str(key) for key in keys]
    alignment = Alignment(prompts, n_samples, named)  # what reads them later has its say before they are sent
    for index, key in enumerate(named):
        for sample in range(n_samples):
            if alignment.place(_named(index, key, sample, n_samples)) != (index, sample):
                raise BadInput(f"keys: a line of {key!r} could be taken for that of another prompt; call it otherwise")
    return lambda index, sample: orjson.dumps(_named(index, named[index], sample, n_samples))[1:-1]


def _named(index: int, key: str, sample: int, n_samples: int) -> str:
    return f"{index}_{key}" if n_samples == 1 else f"{key}_sample_{sample}"


# --- request lines ----------------------------------------------------------------------------------------------------


def write_requests(
    out: BinaryIO,
    rows: Sequence[Row],
    asked: Asked,
    key: Callable[[int, int], bytes],
    uploads: Uploads,
    name: str,
) -> None:
    """Write the request lines; what they refer to lies at the service then."""
    nothing = Path()
    with TemporaryDirectory(prefix="gemini-batch-") as folder:
        media = Path(folder) / "media"
        task = EncodeTask(asked, "", (Path("/"),), 1 << 62, nothing, nothing, nothing, media, allow_http=True, key=key)
        done = _pass(out, rows, task)
        if done.unfetched:
            task = replace(task, fetched=fetch_media(list(done.unfetched), media.with_name("fetched"), SystemClock()))
            done = _pass(out, rows, task)
        if not done.missing:
            return
        items = [ToUpload(sha256, mime_type) for sha256, mime_type in done.missing.items()]
        if _pass(out, rows, replace(task, uris=uploads.pictures(items, media, name))).missing:
            raise BadInput("a picture changed while it was being uploaded; nothing was sent")


def _pass(out: BinaryIO, rows: Sequence[Row], task: EncodeTask) -> Encoding:
    """Write all lines, in place of those of an earlier pass. What is still missing stands in what is returned."""
    out.seek(0)
    out.truncate()
    encoding = Encoding(task)
    write_lines(out, _lines(encoding, rows))
    return encoding


def _lines(encoding: Encoding, rows: Sequence[Row]) -> Iterator[bytes]:
    for row in rows:
        try:
            lines, outcome = encoding.row(row)
        except orjson.JSONEncodeError as error:
            raise BadInput(f"prompt {row['index']} cannot be written as JSON: {error}") from None
        if "error_message" in outcome:
            raise BadInput(f"prompt {row['index']}, {outcome['error_message']}; nothing was sent")
        yield lines
