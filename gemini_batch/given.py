"""Settings as they are given, and where: typed, in the environment, in a TOML file.

In: the names that there are. Out: what is given, by name. Whatever is nearer to the command wins. An unknown name is
refused where it was typed or stands in a file, and warned of in the environment, which other programs share.
"""

import difflib
import re
import tomllib
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gemini_batch.errors import BadInput
from gemini_batch.inputs import read_text

ENV_PREFIX = "GEMINI_BATCH_"

CONFIG = f"{ENV_PREFIX}CONFIG"
"""A settings file, where none is typed."""

OTHERS = {CONFIG, f"{ENV_PREFIX}JSON", f"{ENV_PREFIX}DETACH", f"{ENV_PREFIX}SUPERVISOR"}
"""Variables that are no settings: of single calls, and of a worker's own processes."""

Kind = Literal["flag", "environment", "file", "default", "recorded"]


@dataclass(frozen=True)
class Given:
    """A value, and where it is from."""

    value: Any = field(repr=False)  # a broker's holds a password
    kind: Kind
    where: str
    """In the user's words: `--max-live-jobs`, `GEMINI_BATCH_TIER`, `settings.toml, line 3`."""

    def naming(self, name: str) -> str:
        """The setting and where it is given, for a message."""
        return self.where if self.kind == "flag" else f"{name} in {self.where}"


def variable(name: str) -> str:
    """The environment variable of an option, by its public name."""
    return ENV_PREFIX + ("BROKER_URL" if name == "broker" else name.upper())


def find_settings(
    typed: Mapping[str, Any], config: Path | None, environment: Mapping[str, str], names: Collection[str]
) -> dict[str, Given]:
    """What is given of the settings `names`, each by the first that has it: flag, environment, file.

    Args:
        typed: None means not typed.
        config: the TOML file; by default the one that GEMINI_BATCH_CONFIG names.

    Raises:
        BadInput: an unknown name, an unreadable file.
    """
    by_flag = {name: Given(value, "flag", f"--{name.replace('_', '-')}") for name, value in typed.items()}
    by_flag = {name: given for name, given in by_flag.items() if given.value is not None}
    for name in by_flag:
        _refuse_unknown(name, names, "unknown option")
    if config is None and environment.get(CONFIG):
        config = Path(environment[CONFIG])
    return {**_read_toml(config, names), **_from_environment(environment, names), **by_flag}


def _from_environment(environment: Mapping[str, str], names: Collection[str]) -> dict[str, Given]:
    """An empty variable is one that is not set, as Compose files and shells leave them."""
    known = {variable(name): name for name in names}
    for unknown in sorted(environment.keys() - known.keys() - OTHERS):
        if unknown.startswith(ENV_PREFIX):
            warnings.warn(f"{unknown} is no setting and is not read{nearest(unknown, known)}", stacklevel=4)
    return {
        name: Given(environment[of], "environment", of) for of, name in known.items() if environment.get(of)
    }  # fmt: skip


def _read_toml(path: Path | None, names: Collection[str]) -> dict[str, Given]:
    if path is None:
        return {}
    text = read_text("--config", path)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"--config {path} is not TOML: {error}") from None
    found = {name: Given(value, "file", _place(path, text, name)) for name, value in values.items()}
    for name, given in found.items():
        _refuse_unknown(name, names, f"{given.where}: unknown key")
    return found


def _place(path: Path, text: str, name: str) -> str:
    """Where in a file a key stands. Keys are flat, so the first line that begins with it does."""
    begins = re.compile(rf"\s*\[*\s*[\"']?{re.escape(name)}[\"']?\s*[].=]")
    line = next((number for number, line in enumerate(text.splitlines(), 1) if begins.match(line)), None)
    return f"{path}, line {line}" if line else str(path)


def _refuse_unknown(name: str, names: Collection[str], what: str) -> None:
    if name not in names:
        raise BadInput(f"{what} {name!r}{nearest(name, names)}")


def nearest(name: str, names: Collection[str]) -> str:
    """The end of a refusal: the nearest name that there is, if one is near."""
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
