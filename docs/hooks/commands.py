"""The page commands.md, made of the code: every option with its variable, key and default; every command.

In: the typer application and the model of the options. Out: Markdown. Nothing is written by hand, so nothing is stale.
"""

import re
from typing import Any

import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from gemini_batch.cli import app
from gemini_batch.config import GENERATION, OPERATIONAL, Options, option_name
from gemini_batch.given import variable

PAGE = "commands.md"
OF_THIS_CALL = frozenset({"out", "runs", "fresh", "yes", "confirm_above", "allow_failed", "log_level", "log_format"})
OF_MANIFESTS = frozenset({"prompt_column", "key_column", "template", "image_column", "keep", "limit"})
GROUPS = {
    "How the manifest is read": OF_MANIFESTS,
    "How an answer is made": GENERATION,
    "How the run is carried out": OPERATIONAL - OF_THIS_CALL,
    "Of this call": OF_THIS_CALL,
    "What else is asked, and by whom": frozenset(Options.model_fields),
}
"""Each option is in the first group that has it."""

HEAD = """# All options

Made from the code. An option may be given as a flag, as a variable of the environment or as a key of a TOML file
(`--config FILE.toml`); that is also the order in which they win. An unknown key is refused. In the library each
option is a keyword of the same name as its key. Sizes are in bytes, times in seconds, money in USD.
"""


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    files.append(File.generated(config, PAGE, content=page()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    if page.file.src_uri != "cli.md":
        return markdown
    return markdown.replace("\n\n", f"\n\nEvery option, and each command with its own: [All options]({PAGE}).\n\n", 1)


def page() -> str:
    contexts = [
        command.make_context(name, [], resilient_parsing=True)
        for name, command in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
    ]
    words = {param.name: _words(param, context)[0] for context in contexts for param in _shared(context)}
    groups: dict[str, list[str]] = {title: [] for title in GROUPS}
    for name in Options.model_fields:
        groups[next(title for title, names in GROUPS.items() if name in names)].append(name)
    return "\n\n".join(
        [
            HEAD,
            *(_group(title, names, words) for title, names in groups.items()),
            "## Commands",
            *map(_command, contexts),
        ]
    )


def _group(title: str, names: list[str], words: dict[str, str]) -> str:
    head = ["option", "variable", "TOML key", "default", "what it says"]
    return f"## {title}\n\n{_table(head, [_option(name, words[name]) for name in names])}"


def _option(name: str, words: str) -> list[str]:
    field, key = Options.model_fields[name], option_name(name)
    default = "" if field.default in (None, (), False) else f"`{field.default}`"
    return [f"`{words}`", f"`{variable(key)}`", f"`{key}`", default, field.description or ""]


def _command(context: Any) -> str:
    command, shared = context.command, _shared(context)
    arguments = [
        param.metavar if param.required else f"[{param.metavar}]" for param in command.params if _is_argument(param)
    ]
    own = [_words(param, context) for param in command.params if param not in shared]
    parts = [f"### {' '.join([command.name, *arguments])}", command.help.strip()]
    if own:
        parts.append(_table(["", ""], [[f"`{words}`", about] for words, about in own]))
    if shared:
        parts.append(f"Takes also {', '.join(f'`{param.opts[-1]}`' for param in shared)}.")
    return "\n\n".join([*parts, *_examples(command.epilog or "")])


def _shared(context: Any) -> list[Any]:
    """Options of the tables; the emulator has settings of its own, some of the same name."""
    own = context.command.name == "emulator"
    return [param for param in context.command.params if param.name in Options.model_fields and not own]


def _is_argument(param: Any) -> bool:
    return bool(param.param_type_name == "argument")


def _words(param: Any, context: Any) -> tuple[str, str]:
    """How it is typed, and what it does."""
    typed, about = param.get_help_record(context)
    if _is_argument(param):
        return str(param.metavar), about
    return re.sub(r"<(int|float)[^>]*>", "N", re.sub(r"<(str|list|path)[^>]*>", "VALUE", typed)), about


def _examples(epilog: str) -> list[str]:
    lines = [line.partition("   ") for line in epilog.splitlines() if line.startswith("gemini-batch-dist")]
    shown = "\n".join(f"{line}  # {said}" if said else line for line, _, said in lines)
    return [f"```bash\n{shown}\n```"] if lines else []


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    """Outside of code a bar would end the cell."""
    return text if text.startswith("`") else text.replace("|", "&#124;")
