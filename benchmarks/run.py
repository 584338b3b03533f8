"""Measures everything and writes docs/performance.md: its sections between markers, and a picture.

    python benchmarks/run.py [--only stages,e2e] [--rows 1000000] [--repeat 3] [--long] [--page docs/performance.md]

Each section's figures are kept beside this file, so sections can be measured one at a time: the page is always written
from all that are there. Prints every section as it is done.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import control
import e2e
import memory
import orjson
import page
import peers
import stages
from measured import Given, machine, save

Figures = dict[str, Any]


class Section(NamedTuple):
    measure: Callable[[Given], Figures]
    markdown: Callable[[Mapping[str, Figures]], str]
    """Of the figures of all sections that are there."""
    rows: int
    """That are measured if nobody says how many."""


SECTIONS = {
    "stages": Section(stages.measure, lambda every: stages.markdown(every["stages"]), 1_000_000),
    "e2e": Section(e2e.measure, lambda every: e2e.markdown(every["e2e"]), 1_000_000),
    "memory": Section(memory.measure, lambda every: memory.markdown(every["memory"]), 1_000_000),
    "control": Section(control.measure, lambda every: control.markdown(every["control"]), 10_000),
    "peers": Section(peers.measure, lambda every: peers.markdown(every["peers"]), 20_000),
}


def main() -> None:
    given = _arguments()
    kept: Path = given.figures
    for name in given.only:
        section = SECTIONS[name]
        rows = section.rows if given.rows is None else given.rows
        _say(f"{name}: {rows:,} rows, {given.repeat} times\n")
        figures = section.measure(Given(rows, given.repeat, given.long))
        save(kept / f"{name}.json", figures | {"machine": machine(), "at": datetime.now(UTC).date().isoformat()})  # noqa: TID251
        every = _kept(kept)
        _say(section.markdown(every) + "\n")
        _write(given.page, every)


def _arguments() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=[name for name in SECTIONS if name != "peers"]
    )
    parser.add_argument("--rows", type=int)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--long", action="store_true")
    here = Path(__file__).resolve().parent
    parser.add_argument("--page", type=Path, default=here.parent / "docs" / "performance.md")
    parser.add_argument("--figures", type=Path, default=here / "figures")
    given = parser.parse_args()
    if unknown := set(given.only) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    return given


def _kept(folder: Path) -> dict[str, Figures]:
    paths = {name: folder / f"{name}.json" for name in SECTIONS}
    return {name: orjson.loads(path.read_bytes()) for name, path in paths.items() if path.exists()}


def _write(path: Path, every: Mapping[str, Figures]) -> None:
    sections = {name: _dated(every[name]) + SECTIONS[name].markdown(every) for name in every}
    if "stages" in every:
        drawn = page.picture("Rows per CPU second; the line is the target", stages.bars(every["stages"]))
        path.with_name("performance.svg").write_text(drawn)
        sections["stages"] += "\n\n![Rows per CPU second of each stage](performance.svg)"
    path.write_text(page.with_sections(path.read_text(), sections))
    _say(f"wrote {path}\n")


def _dated(figures: Figures) -> str:
    on = figures["machine"]
    return (
        f"Measured on {figures['at']}: {on['cores']} cores of {on['cpu']}, load {on['load']}, {on['system']}, Python "
        f"{on['python']}, {on['versions']}.\n\n"
    )


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
