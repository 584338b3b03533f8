"""A create that the service read and turned down: what is at fault, a row, the shard or the whole run.

Nothing was bought, so what follows costs time only. A line that the service names is left out and the others are sent
again; a shard refused without a word of where is halved by a later round; a fault of every line stops the run.
"""

import re
from collections.abc import Iterator
from typing import Any

from gemini_batch.errors import Refused, RunStopped
from gemini_batch.jobs import events, lifecycle
from gemini_batch.jobs.sent import row_of_line
from gemini_batch.jobs.shop import Shop
from gemini_batch.records import LeftOut, Send, ShardRecord

QUOTED = re.compile(r"['\"`](\w{1,100})['\"`]")
"""A name in a refusal: `no such field: 'thinking_config'` (inspect_ai #3257)."""


def refusal(shop: Shop, record: ShardRecord, send: Send, error: Refused) -> events.Event | RunStopped:
    """What a refused create of the shard means; `RunStopped` when a person is needed.

    Raises:
        OSError: the store cannot be read now.
    """
    why = str(error)
    if error.code == 404:
        last = record.refusals + 1 >= lifecycle.MAX_REFUSALS
        if not last or shop.proven():
            return events.UploadGone(send.number, why)
    elif row := _row_named(shop, record, send, why):
        if _names_a_setting(why, shop.asked(record.shard).generation_config):
            return RunStopped(f"the service refuses a setting of the run: {why}")
        if lifecycle.is_of_all((*record.left_out, row)):
            return RunStopped(f"the service refuses whatever line comes first, so the settings are at fault: {why}")
        return events.SendRefused(send.number, why, row)
    if not shop.proven() and not _may_be_a_row(shop, record, why):
        # The pilot: what the service finds wrong here it will most likely find in every shard. Once a person has said
        # to go on, a second shard is the proof.
        return RunStopped(
            f"the service refused the first job of the run, nothing was bought: {why}. "
            "If a row is at fault, and not the settings, resume: it is looked for by halves"
        )
    return events.SendRefused(send.number, why)


def _names_a_setting(why: str, settings: Any) -> bool:
    """Whether a name that the service quotes is one that the settings of every line bring."""
    return not set(QUOTED.findall(why)).isdisjoint(_names(settings))


def _names(settings: Any) -> Iterator[str]:
    if isinstance(settings, dict):
        for name, value in settings.items():
            yield str(name)
            yield from _names(value)
    elif isinstance(settings, list):
        for value in settings:
            yield from _names(value)


def _may_be_a_row(shop: Shop, record: ShardRecord, why: str) -> bool:
    """Whether a person has seen the run stopped and said to go on, and no shard beside this one was refused alike
    since."""
    said = shop.files.controls().last()
    if said is None or said.at is None or said.cause != "resumed":
        return False
    peers = (one for one in shop.all_records() if shop.plan[one.shard].round == shop.plan[record.shard].round)
    since = (one for one in peers if one.refused and one.at and one.at > said.at)
    return all(lifecycle.in_words(one.refused or "") != lifecycle.in_words(why) for one in since)


def _row_named(shop: Shop, record: ShardRecord, send: Send, why: str) -> LeftOut | None:
    line = lifecycle.named_line(why)
    if line is None:
        return None
    store = shop.files.store
    with store.local(shop.rows(record.shard)) as rows, store.local(send.requests) as requests:
        found = row_of_line(rows, requests, shop.run.asked.n_samples, line)
    return LeftOut(index=found[0], line=line, why=why) if found else None
