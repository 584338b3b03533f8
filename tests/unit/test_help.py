"""`--help` teaches: every command shows what it is for, and what it shows can be typed."""

import shlex

import pytest
import typer.main

from gemini_batch.cli import app
from gemini_batch.cli.examples import EXAMPLES, commands_in

GROUP = typer.main.get_command(app)
NAMES = list(GROUP.commands)


def _context(name, arguments=()):
    command = GROUP.commands[name] if name else GROUP
    return command.make_context(name or "gemini-batch-dist", list(arguments), resilient_parsing=not arguments)


def _help(name):
    context = _context(name)
    context.terminal_width = 80
    return context.command.get_help(context)


def test_every_command_shows_examples():
    assert set(EXAMPLES) - {""} == set(NAMES) - {"emulator"}, "those of the emulator are in docs/emulator.md"


@pytest.mark.parametrize("line", [line for name in EXAMPLES for line in commands_in(name)])
def test_every_example_is_understood(line):
    program, name, *arguments = shlex.split(line)
    assert program == "gemini-batch-dist"
    context = _context(name, arguments) if arguments else _context(name)
    assert context.command.name == name


@pytest.mark.parametrize("name", ["", *NAMES])
def test_help_fits_80_columns_with_long_names_whole_and_flags_as_flags(name):
    text = _help(name)
    assert "<bool>" not in text
    for parameter in _context(name).command.params:
        for flag in parameter.opts:
            assert not flag.startswith("--") or flag in text.replace(",", " ").split(), flag
    long = [line for line in text.splitlines() if len(line) > 80 and "|" not in line]
    assert long == []


@pytest.mark.parametrize("name", NAMES)
def test_the_list_of_commands_says_what_each_does(name):
    (line,) = [line for line in _help("").splitlines() if line.startswith(f"  {name} ")]
    assert not line.endswith("..."), line
