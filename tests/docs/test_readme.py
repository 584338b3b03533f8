"""A reader who has only README.md: fifty prompts of their own, two that fail, a join, a cap. Its commands are typed."""

import json

import duckdb
from docpages import blocks, lines, needs_shell
from docshell import Shell

BASH = [block for block in blocks("README.md") if block.language == "bash" and not needs_shell(block.text)]
COMMANDS = [line.words[1:] for block in BASH for line in lines(block.text)]
FILES = {block.file: block.text for block in blocks("README.md") if block.file}
(QUERY,) = (block.text.split('"""')[1] for block in blocks("README.md") if "duckdb" in block.text)


def words(*start: str) -> list[str]:
    """The one command of the README that begins like this and stays."""
    (found,) = [line for line in COMMANDS if line[: len(start)] == start and "--detach" not in line]
    return list(found)


def test_fifty_prompts_two_failures_mended_and_joined_and_a_cap(shell: Shell) -> None:
    shape = json.loads(FILES["reviews.jsonl"].splitlines()[0])
    rows = [shape | {"key": f"r{n}", "prompt": None if n in (7, 30) else f"Review {n}"} for n in range(50)]
    write(shell, "reviews.jsonl", rows)
    (shell.folder / "schemas.py").write_text(FILES["schemas.py"])

    shell.type(*words("plan"))
    shell.type(*words("submit", "reviews.jsonl", "--schema"), exits=3)
    failed = [json.loads(line) for line in shell.type(*words("results")).splitlines() if line.startswith("{")]
    assert [row["key"] for row in failed] == ["r7", "r30"]

    fixed = json.loads(FILES["mended.jsonl"].splitlines()[0])
    write(shell, "mended.jsonl", [fixed | {"key": row["key"]} for row in failed])
    shell.type(*words("retry"))
    assert len(duckdb.sql(QUERY)) == 50

    capped = words("submit", "reviews.jsonl", "--max-output-tokens")
    capped[capped.index("--max-cost") + 1] = "0.0013"
    shell.type(*capped, exits=1)
    shell.type(*words("resume"), exits=3)


def write(shell: Shell, name: str, rows: list[dict[str, object]]) -> None:
    (shell.folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
