"""The settings in force, and where each is from: of a submit that is typed here, or of a run that is there.

In: what is given here, and a run. Out: what `settings --json` prints, and the same in words. No secret is in it.
"""

import os
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import orjson

from gemini_batch import rundir
from gemini_batch.access import record_of
from gemini_batch.config import OF_CALLS, Account, Options, option_name, options_of
from gemini_batch.given import Given
from gemini_batch.ledger.log import DIGITS
from gemini_batch.ledger.run import RunFiles
from gemini_batch.orders import limits_given
from gemini_batch.records import FORMAT, Limits, RunRecord

SHOWN = 60
"""Characters of a value, in words."""

USER_IN_URL = re.compile(r"(?<=://)[^/@\s]*@")

DEFAULT = Given(None, "default", "default")

OF_THIS_CALL = ("runs", "allow_failed", *sorted(OF_CALLS))
"""Options that no run records."""

URL, KEYS = "GOOGLE_GEMINI_BASE_URL", ("GEMINI_API_KEY", "GOOGLE_API_KEY")

Setting = dict[str, Any]
"""`value`, `from` (flag, environment, file, default, recorded), `where`; `next`, if a resume from here changes it."""

Said = tuple[str, Limits, str | None]
"""The name of a record, and the limits and the broker that it says."""


def settings_here(
    found: Mapping[str, Given], account: Account, environment: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """What a submit that is typed here has in force.

    Args:
        found: what is given, by public name.

    Raises:
        BadInput: a value that cannot be used.
    """
    options = options_of(found)
    limits = limits_given(options, options.model, Options().limits())
    settings = _service(account, environment)
    for field in Options.model_fields:
        name, value = option_name(field), getattr(options, field)
        given = found.get(name, DEFAULT)
        if field in Limits.model_fields and getattr(limits, field) != value:
            value, given = getattr(limits, field), _following(found)
        settings[name] = _setting(value, given)
    return {"format": FORMAT, "run": None, "run_id": None, "settings": settings}


def settings_of(files: RunFiles, found: Mapping[str, Given]) -> dict[str, Any]:
    """What a run has in force, and what a resume that is typed here would change of it.

    Raises:
        BadInput: there is no run; a value that cannot be used.
        RunStopped: a record of the run is damaged.
    """
    record, options, log = record_of(files), options_of(found), files.controls()
    history: list[Said] = [(rundir.RUN, record.limits, record.broker)]
    for version in range(1, log.end() + 1):
        if control := log.at(version):
            history.append((f"{rundir.CONTROL}/{version:0{DIGITS}d}.json", control.limits, control.broker))
    this_call = {name: _setting(getattr(options, name), found.get(name, DEFAULT)) for name in OF_THIS_CALL}
    settings = {**_asked(record), **_limits(record, history, options, found), **this_call}
    return {"format": FORMAT, "run": files.store.url, "run_id": record.run_id, "settings": settings}


def _service(account: Account, environment: Mapping[str, str]) -> dict[str, Setting]:
    key = next((name for name in KEYS if environment.get(name)), None)
    return {
        "endpoint": _setting(account.endpoint, Given(None, "environment", URL) if environment.get(URL) else DEFAULT),
        "api_key": _setting("(set)" if key else None, Given(None, "environment", key) if key else DEFAULT),
    }


def _asked(record: RunRecord) -> dict[str, Setting]:
    """What the run asks: its identity, which stays."""
    spec, config = record.asked.response_schema, record.asked.generation_config
    told = {
        "manifest": record.manifest,
        **record.asked.model_dump(mode="json", exclude={"response_schema", "generation_config", "project"}),
        "schema": (spec.ref or spec.json_schema) if spec else None,
        "validate": spec.validate_by if spec else None,
        "generation_config": {name: value for name, value in config.items() if not name.startswith("response")},
        "keep": record.keep,
        "media_root": record.media_roots,
    }
    return {name: _setting(value, Given(None, "recorded", rundir.RUN)) for name, value in told.items()}


def _limits(record: RunRecord, history: list[Said], options: Options, found: Mapping[str, Given]) -> dict[str, Setting]:
    """How the run is carried out, and where that was said; `next` is what is given here and not recorded yet."""
    now = history[-1][1]
    then = limits_given(options, record.asked.model, now)
    settings = {"broker": _setting(history[-1][2], _recorded(history, lambda said: said[2]))}
    for name in Limits.model_fields:
        value = getattr(now, name)
        shown = value or record.asked.project if name == "project" else value
        settings[name] = _setting(shown, _recorded(history, lambda said, name=name: getattr(said[1], name)))  # type: ignore[misc]
        if getattr(then, name) != value:
            given = found.get(name, _following(found))
            settings[name]["next"] = {"value": _masked(getattr(then, name)), "from": given.kind, "where": given.where}
    return settings


def _recorded(history: list[Said], read: Callable[[Said], Any]) -> Given:
    """The record that said first what holds now."""
    where = history[0][0]
    for before, after in pairwise(history):
        where = after[0] if read(before) != read(after) else where
    return Given(None, "recorded", where)


def _following(found: Mapping[str, Given]) -> Given:
    """Where a limit is from that nobody gave, and that another one brings with it."""
    name = "tier" if "tier" in found else "max_enqueued_tokens"
    given = found.get(name, DEFAULT)
    return Given(None, given.kind, f"by {given.naming(name)}")


def _setting(value: Any, given: Given) -> Setting:
    return {"value": _masked(value), "from": given.kind, "where": given.where}


def _masked(value: Any) -> Any:
    """As JSON, without user and password of a URL."""
    if isinstance(value, str):
        return USER_IN_URL.sub("***@", value)
    return orjson.loads(orjson.dumps(value, default=str))


def settings_in_words(found: dict[str, Any]) -> list[str]:
    """The same for people, a line each."""
    lines = [(name, *_line(setting)) for name, setting in found["settings"].items()]
    widths = [max(len(line[at]) for line in lines) for at in range(2)]
    head = [f"run {found['run_id']} in {found['run']}"] if found["run"] else []
    return head + ["  ".join([*map(str.ljust, line, widths), line[-1]]).rstrip() for line in lines]


def _line(setting: Setting) -> tuple[str, str]:
    """Value and origin."""
    following = setting.get("next")
    then = f"; a resume from here: {_short(following['value'])} ({following['where']})" if following else ""
    return _short(setting["value"]), setting["where"] + then


def _short(value: Any) -> str:
    text = "-" if value in (None, [], {}) else value if isinstance(value, str) else orjson.dumps(value).decode()
    text = text.replace("\n", "\\n")
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
