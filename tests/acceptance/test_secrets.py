"""Keys and passwords stay where they were given."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

QUICK = ("--poll-interval", "1", "--max-requests-per-shard", "3")
CANARY = "CANARY-7f3a91"


def _held(folder: Path) -> str:
    """All that lies below a folder, Parquet and compressed files read as what they hold."""
    import pyarrow as pa  # noqa: PLC0415

    said = []
    for path in sorted(folder.rglob("*")):
        said.append(str(path))
        if path.is_file():
            said.append(path.read_bytes().decode("latin-1"))
        if path.suffix == ".parquet":
            said.append(str(pq.read_table(path).to_pylist()))
        if path.suffix == ".zst":
            with pa.CompressedInputStream(str(path), "zstd") as stream:
                said.append(stream.read().decode())
    return "\n".join(said)


def test_the_key_is_nowhere(cli: Any, emulator: Any, look: Any, folder: Path) -> None:
    manifest = look.prompts(folder / "m.parquet", 9)
    for fault in ("result_line_error", "get_500", "upload_503", "create_429", "job_failed", "create_reply_lost"):
        emulator.fault(fault, times=1)
    key = {"GEMINI_API_KEY": CANARY}
    said = [
        cli("submit", manifest, *QUICK, "--settle", "2", "--json", env=key),
        cli("submit", manifest, *QUICK, "--model", "gemini-does-not-exist", env=key),
        cli("status", "--json", env=key),
        cli("resume", env=key),
        cli("submit", "nowhere.parquet", env=key),
    ]
    assert [done.code for done in said] == [0, 1, 0, 1, 2], [done.err for done in said]
    for done in said:
        assert CANARY not in done.words
    assert len(_held(folder)) > 10_000
    assert CANARY not in _held(folder)


def test_a_password_in_the_service_url_is_nowhere(cli: Any, emulator: Any, look: Any, folder: Path) -> None:
    url = emulator.url.replace("http://", f"http://proxy:{CANARY}@")
    done = cli("submit", look.prompts(folder / "m.parquet", 3), *QUICK, "--json", env={"GOOGLE_GEMINI_BASE_URL": url})
    assert CANARY not in done.words
    assert CANARY not in _held(folder)


def test_no_child_shows_the_key_on_its_command_line(cli: Any, emulator: Any, look: Any, folder: Path) -> None:
    emulator.settings(job_seconds=30)
    manifest = look.prompts(folder / "m.parquet", 3000)  # fewer need no children
    cli.start("submit", manifest, *QUICK, "--yes", env={"GEMINI_API_KEY": CANARY})
    look.until(lambda: emulator.creates == 1, "the job is created")
    lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in cli.left()]
    assert len(lines) > 1
    assert not any(CANARY in line for line in lines)
