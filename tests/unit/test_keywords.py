"""The library says what the command says, by the same names: read off the command."""

import inspect
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import get_args, get_type_hints

import pytest
import typer.main
from hypothesis import given
from hypothesis import strategies as st
from made import make_asked, make_run

from gemini_batch import BadInput, Run, UnknownOption, distributed_batch_process
from gemini_batch.cli import app
from gemini_batch.library.call import OWN
from gemini_batch.library.shown import as_html
from gemini_batch.records import ShardPlan, ShardRecord
from gemini_batch.status import summarise

COMMANDS = typer.main.get_command(app).commands
OF_OPEN = {"runs", "broker", "project"}
OF_CALLS = {"config", "log_level", "log_format"}
OBJECT = {"json"}
"""The object that `--json` prints is what `status()` and `wait()` return."""


def flags(command):
    parameters = [one for one in COMMANDS[command].params if one.param_type_name == "option"]
    return {
        flag.removeprefix("--").replace("-", "_") for one in parameters for flag in one.opts if flag.startswith("--")
    }


def keywords(function):
    found = set()
    for name, parameter in inspect.signature(function).parameters.items():
        options = parameter.kind is inspect.Parameter.VAR_KEYWORD
        found |= set(get_args(get_type_hints(function)[name])[0].__annotations__) if options else {name}
    return found - {"self"}


def test_every_option_of_submit_is_a_keyword_and_there_are_no_others():
    assert keywords(distributed_batch_process) - OWN == flags("submit") - OWN
    assert "schema" in flags("submit")


@pytest.mark.parametrize(
    ("command", "method", "elsewhere"),
    [
        ("resume", Run.resume, OBJECT),
        ("retry", Run.retry, OBJECT),
        ("wait", Run.wait, OBJECT | OF_OPEN | OF_CALLS | {"allow_failed"}),
        ("results", Run.write, OF_OPEN | OF_CALLS),
    ],
)
def test_every_option_of_a_command_on_runs_is_a_keyword_of_its_method_or_of_open(command, method, elsewhere):
    assert flags(command) - keywords(method) <= elsewhere
    assert keywords(Run.open) >= OF_OPEN


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("temprature", "temperature"),
        ("wiat", "wait"),
        ("retrun_metadata", "return_metadata"),
        ("max_live_job", "max_live_jobs"),
        ("n_sample", "n_samples"),
        ("scheme", "schema"),
    ],
)
def test_an_unknown_keyword_is_refused_with_the_nearest_name(wrong, near):
    with pytest.raises(UnknownOption, match=f"{wrong}.*did you mean '{near}'") as refused:
        distributed_batch_process([["a"]], **{wrong: 1})
    assert isinstance(refused.value, TypeError) and isinstance(refused.value, BadInput)


def test_what_is_only_a_worker_s_is_no_keyword():
    with pytest.raises(UnknownOption, match="allow_schema"):
        distributed_batch_process([["a"]], allow_schema="x.*")


# --- as HTML ----------------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen, self.text = set(), ""

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)

    def handle_data(self, data):
        self.text += data


TEXTS = st.text(st.characters(codec="utf-8"))


@given(TEXTS, TEXTS, TEXTS)
def test_no_text_of_a_run_becomes_markup(where, reason, problem):
    plan = [ShardPlan(shard=0, first_index=0, rows=1, requests=1, request_bytes=1, tokens=1)]
    now = datetime(2026, 11, 23, tzinfo=UTC)
    run, records = make_run(asked=make_asked(rows=1)), [ShardRecord(shard=0)]
    status = summarise(where, run, plan, records, False, now, stopped=reason, waiting={0: problem})
    parser = Tags()
    parser.feed(as_html(status))
    assert parser.seen <= {"div", "b", "br", "progress"}
