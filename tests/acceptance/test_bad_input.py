"""Whatever is wrong with what was typed: exit 2, one message that names thing and fix; nothing is sent or written."""

import os
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

MODULE = """
from pydantic import BaseModel
class Fine(BaseModel):
    a: int
thing = object()
"""


@pytest.fixture
def refused(bare_cli: Any, idle_emulator: Any, look: Any, folder: Path) -> Any:
    """Runs a command that must be refused; returns what it said."""
    bare_cli.env["GOOGLE_GEMINI_BASE_URL"] = idle_emulator.url

    def run(*arguments: object, says: tuple[str, ...] = (), env: dict[str, str] | None = None) -> str:
        before, stats = look.tree(folder), idle_emulator.stats()
        done = bare_cli(*arguments, env=env, timeout=10)
        assert "Traceback" not in done.words, done.words
        assert done.code == 2, f"exit {done.code}: {done.words}"
        assert done.out == ""
        assert len(re.findall(r"^error: ", done.err, re.MULTILINE)) <= 1, done.err
        for word in says:
            assert word in done.err, done.err
        assert idle_emulator.stats() == stats
        assert look.tree(folder) == before
        return str(done.err)

    return run


@pytest.fixture
def fine(look: Any, folder: Path) -> Path:
    return look.prompts(folder / "fine.parquet", 3)


# --- the manifest -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["submit", "plan"])
def test_a_manifest_that_is_not_there(command: str, refused: Any) -> None:
    refused(command, "nowhere.parquet", says=("nowhere.parquet", "does not exist"))


def test_a_manifest_that_is_a_directory(refused: Any, folder: Path) -> None:
    (folder / "rows").mkdir()
    refused("submit", "rows", says=("rows", "directory"))


@pytest.mark.parametrize("name", ["empty.parquet", "empty.jsonl", "empty.arrow", "empty"])
def test_an_empty_file(name: str, refused: Any, folder: Path) -> None:
    (folder / name).write_bytes(b"")
    refused("submit", name, says=(name,))


def test_a_manifest_without_rows(refused: Any, look: Any, folder: Path) -> None:
    look.parquet(folder / "none.parquet", {"prompt": pa.array([], pa.string())})
    refused("submit", "none.parquet", says=("none.parquet", "no rows"))


@pytest.mark.parametrize("name", ["text.parquet", "text.arrow"])
def test_a_file_that_is_something_else(name: str, refused: Any, folder: Path) -> None:
    (folder / name).write_text("prompt\nhello\n" * 100)
    refused("submit", name, says=(name,))


def test_a_parquet_file_that_is_cut(refused: Any, fine: Path, folder: Path) -> None:
    (folder / "cut.parquet").write_bytes(fine.read_bytes()[:-20])
    refused("submit", "cut.parquet", says=("cut.parquet",))


def test_a_parquet_file_with_a_flipped_page(refused: Any, look: Any, folder: Path) -> None:
    path = look.parquet(folder / "flipped.parquet", {"prompt": [f"text {os.urandom(8).hex()}" for _ in range(5000)]})
    body = bytearray(path.read_bytes())
    body[100:400] = bytes(300)
    path.write_bytes(body)
    refused("submit", "flipped.parquet", says=("flipped.parquet",))


def test_text_that_is_not_utf8(refused: Any, look: Any, folder: Path) -> None:
    buffers = [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0\4\0\0\0"), pa.py_buffer(b"ok\xff\xfe")]
    look.parquet(folder / "latin.parquet", {"prompt": pa.Array.from_buffers(pa.string(), 2, buffers)})
    refused("submit", "latin.parquet", says=("latin.parquet", "prompt"))


@pytest.mark.parametrize(
    ("line", "says"),
    [("{not json", "line 3"), ("[1]", "line 3"), ('{"prompt": 5}', "row 2"), ('{"prompt": "a", "key": [1]}', "row 2")],
)
def test_a_jsonl_with_a_bad_line(line: str, says: str, refused: Any, folder: Path) -> None:
    (folder / "bad.jsonl").write_text('{"prompt":"a","key":"1"}\n{"prompt":"b","key":"2"}\n' + line + "\n")
    refused("submit", "bad.jsonl", says=("bad.jsonl", says))


def test_no_column_of_prompts(refused: Any, look: Any, folder: Path) -> None:
    look.parquet(folder / "m.parquet", {"question": ["a"]})
    refused("submit", "m.parquet", says=("m.parquet", "'prompt'", "question", "--prompt-column"))
    refused("submit", "m.parquet", "--prompt-column", "questoin", says=("questoin", "question"))


def test_no_column_of_keys_where_one_was_named(refused: Any, fine: Path) -> None:
    refused("submit", fine, "--key-column", "id", says=("'id'", "prompt"))


@pytest.mark.parametrize(
    ("name", "values"),
    [("prompt", [1, 2]), ("key", [["a"], ["b"]]), ("system_instruction", [1.5, 2]), ("parts", ["a", "b"])],
)
def test_a_column_of_a_wrong_type(name: str, values: list[Any], refused: Any, look: Any, folder: Path) -> None:
    columns = ({} if name in {"prompt", "parts"} else {"prompt": ["a", "b"]}) | {name: values}
    look.parquet(folder / "m.parquet", columns)
    refused("submit", "m.parquet", says=("m.parquet", f"'{name}'"))


def test_parts_with_an_unknown_field(refused: Any, look: Any, folder: Path) -> None:
    look.parquet(folder / "m.parquet", {"parts": [[{"txt": "a"}]]})
    refused("submit", "m.parquet", says=("'txt'", "text"))


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_a_key_that_occurs_twice(form: str, refused: Any, look: Any, folder: Path) -> None:
    rows = [{"prompt": f"p{i}", "key": f"k{i}"} for i in range(1000)]
    rows[700]["key"] = "k31"
    path = folder / f"m.{form}"
    if form == "jsonl":
        look.jsonl(path, rows)
    else:
        look.parquet(path, {name: [row[name] for row in rows] for name in ("prompt", "key")})
    refused("submit", path, says=(path.name, "k31", "31", "700"))


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_a_row_without_its_key(form: str, refused: Any, look: Any, folder: Path) -> None:
    path = folder / f"m.{form}"
    if form == "jsonl":
        look.jsonl(path, [{"prompt": "a", "key": "x"}, {"prompt": "b"}])
    else:
        look.parquet(path, {"prompt": ["a", "b"], "key": ["x", None]})
    refused("submit", path, says=(path.name, "row 1", "key"))


# --- the schema -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ("no_such_module:Model", "no_such_module"),
        ("shapes:Missing", "Missing"),
        ("shapes:thing", "thing"),
        ("shapes:", "shapes"),
        ("broken_module:Model", "broken_module"),
        ("nowhere.json", "nowhere.json"),
        ("shapes", "shapes"),
        ("text.json", "text.json"),
        ("list.json", "list.json"),
        ("dangling.json", "dangling.json"),
        ("wrong_type.json", "wrong_type.json"),
        ("wrong_pattern.json", "wrong_pattern.json"),
    ],
)
def test_a_schema_that_cannot_be_used(schema: str, says: str, refused: Any, fine: Path, folder: Path) -> None:
    (folder / "shapes.py").write_text(MODULE)
    (folder / "broken_module.py").write_text("1/0\n")
    (folder / "text.json").write_text("{")
    (folder / "list.json").write_text("[]")
    (folder / "dangling.json").write_text('{"type":"object","properties":{"a":{"$ref":"#/$defs/A"}}}')
    (folder / "wrong_type.json").write_text('{"type":"strnig"}')
    (folder / "wrong_pattern.json").write_text('{"type":"string","pattern":"("}')
    refused("submit", fine, "--schema", schema, says=(says,), env={"PYTHONDONTWRITEBYTECODE": "1"})


# --- options ----------------------------------------------------------------------------------------------------------

WHOLE = ("--max-requests-per-shard", "--max-tokens-per-shard", "--max-live-jobs", "--max-enqueued-tokens", "--top-k")


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *[(flag, value) for flag in WHOLE for value in ("0", "ten", "1.5")],
        *[("--max-bytes-per-shard", value) for value in ("-5", "x", "99999999999")],
        *[("--poll-interval", value) for value in ("0", "soon", "nan")],
        *[("--settle", value) for value in ("-1", "long", "nan")],
        *[("--temperature", value) for value in ("-1", "2.1", "hot")],
        *[("--top-p", value) for value in ("-1", "1.5", "x")],
        *[("--seed", value) for value in ("x", "99999999999")],
        *[("--max-output-tokens", value) for value in ("0", "-1", "many")],
        *[("--thinking-budget", value) for value in ("-2", "x")],
        *[("--allow-failed", value) for value in ("-1", "some", "5%%")],
        ("--thinking-level", "deep"),
        ("--media", "fax"),
        ("--on-unknown", "retry"),
        ("--media-resolution", "HUGE"),
        ("--model", "../etc"),
    ],
)
def test_a_value_out_of_range(flag: str, value: str, refused: Any, fine: Path) -> None:
    refused("submit", fine, f"{flag}={value}", says=(flag, value))


@pytest.mark.parametrize("flag", ["--settle", "--poll-interval"])
def test_no_time_is_infinite(flag: str, refused: Any, fine: Path) -> None:
    refused("submit", fine, flag, "inf", says=(flag, "inf"))


@pytest.mark.parametrize("flag", ["--max-live-jobs", "--model", "--settle"])
def test_an_empty_value_is_not_taken_for_the_default(flag: str, refused: Any, fine: Path) -> None:
    """As a script writes it: `--model "$MODEL"` with MODEL unset."""
    refused("submit", fine, f"{flag}=", says=(flag,))


def test_an_unknown_option(refused: Any, fine: Path) -> None:
    refused("submit", fine, "--max-live-job", "3", says=("--max-live-job",))


def test_a_wrong_number_in_the_environment(refused: Any, fine: Path) -> None:
    refused("submit", fine, env={"GEMINI_BATCH_MAX_LIVE_JOBS": "many"}, says=("GEMINI_BATCH_MAX_LIVE_JOBS", "many"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_live_jobs = ", "settings.toml"),
        ("max_live_job = 3", "max_live_job"),
        ("[limits]\nsettle = 1", "limits"),
        ("max_live_jobs = 'x'", "max_live_jobs"),
        ("max_live_jobs = 0", "max_live_jobs"),
    ],
)
def test_a_settings_file_that_is_wrong(text: str, says: str, refused: Any, fine: Path, folder: Path) -> None:
    (folder / "settings.toml").write_text(text)
    refused("submit", fine, "--config", "settings.toml", says=("settings.toml", says))


def test_a_settings_file_that_is_not_there(refused: Any, fine: Path) -> None:
    refused("submit", fine, "--config", "nowhere.toml", says=("nowhere.toml",))


@pytest.mark.parametrize("text", ["{", "[]", None])
def test_a_generation_config_that_is_wrong(text: str | None, refused: Any, fine: Path, folder: Path) -> None:
    if text is not None:
        (folder / "gen.json").write_text(text)
    refused("submit", fine, "--generation-config", "gen.json", says=("gen.json",))


# --- where it goes ----------------------------------------------------------------------------------------------------


def test_an_output_directory_that_holds_something_else(refused: Any, fine: Path, folder: Path) -> None:
    (folder / "thesis").mkdir()
    (folder / "thesis" / "chapter1.tex").write_text("x")
    refused("submit", fine, "--out", "thesis", says=("thesis", "chapter1.tex"))


def test_an_output_directory_that_is_a_file(refused: Any, fine: Path, folder: Path) -> None:
    (folder / "taken").write_text("x")
    refused("submit", fine, "--out", "taken", says=("taken",))
    refused("submit", fine, "--runs", "taken", says=("taken",))


def test_a_runs_root_that_cannot_be_written(refused: Any, fine: Path, folder: Path) -> None:
    """Root may write into any folder but not into the kernel's."""
    (folder / "locked").mkdir(mode=0o555)
    locked = "/proc/self/runs" if os.geteuid() == 0 else "locked"
    refused("submit", fine, "--runs", locked, says=(locked,))


def test_a_run_record_that_is_damaged(refused: Any, fine: Path, folder: Path) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "run.json").write_text('{"format": 1')
    refused("submit", fine, "--out", "run", says=("run.json",))
    refused("status", "run", says=("run.json",))
    refused("resume", "run", says=("run.json",))


@pytest.mark.parametrize("command", ["status", "resume"])
def test_a_run_that_is_not_there(command: str, refused: Any) -> None:
    refused(command, says=("runs",))
    refused(command, "abcdef", says=("abcdef",))


# --- the account ------------------------------------------------------------------------------------------------------


def test_no_key_for_a_service_that_is_not_on_this_machine(refused: Any, fine: Path) -> None:
    for url in ("https://generativelanguage.googleapis.com", "http://192.0.2.1:1"):
        refused("submit", fine, env={"GOOGLE_GEMINI_BASE_URL": url}, says=("GEMINI_API_KEY", "emulator"))


@pytest.mark.parametrize("url", ["nonsense", "ftp://x", "", "http://", "http://[::1", "http://127.0.0.1:notaport"])
@pytest.mark.parametrize("key", [{}, {"GEMINI_API_KEY": "k"}])
def test_a_service_url_that_is_none(url: str, key: dict[str, str], refused: Any, fine: Path) -> None:
    refused("submit", fine, env={"GOOGLE_GEMINI_BASE_URL": url, **key}, says=("GOOGLE_GEMINI_BASE_URL",))
