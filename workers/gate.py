"""The way in: of a message only the task and the doorbell are taken, and what is no doorbell does not reach Celery.

Celery lets whoever sends a message name it in the log, put off its start, limit its time and say what runs after it,
and a message of a shape it does not expect ends the worker, which puts it back into the queue for the next one.
"""

import binascii
import logging
from base64 import b64decode, b64encode
from queue import Empty
from typing import Any

import orjson
from kombu.transport import TRANSPORT_ALIASES, redis

from gemini_batch.clock import new_nonce
from gemini_batch.fleet.messages import ADVANCE, AFTER, FIRST, MERGE, QUEUE, SWEEP, Doorbell, read

log = logging.getLogger(__name__)

LONGEST_BODY = 4096
"""Ours have about 150 bytes."""

BROADCASTS = ("celeryev", "celery.pidbox")
"""In the names of queues of Celery's own that we have no use for."""


class Channel(redis.Channel):
    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except (ValueError, RecursionError):
            _refuse()
            raise Empty from None


class Transport(redis.Transport):
    Channel = Channel

    def _deliver(self, message: Any, queue: str) -> None:
        if any(name in queue for name in BROADCASTS):
            return
        clean = rewritten(message)
        if clean is None:
            _refuse()
        else:
            super()._deliver(clean, queue)


def install() -> None:
    """Let every connection of this process go through the gate."""
    TRANSPORT_ALIASES["redis"] = TRANSPORT_ALIASES["rediss"] = f"{__name__}:Transport"


def rewritten(message: Any) -> dict[str, Any] | None:
    """The message as one of our own, made anew from what it means; None for one that means nothing to us."""
    try:
        task, arguments = message["headers"]["task"], _arguments(message)
    except (TypeError, KeyError, ValueError, RecursionError, binascii.Error):
        return None
    if task == SWEEP:
        return _message(task, [])
    if task not in (ADVANCE, MERGE) or len(arguments) != (2 if task == ADVANCE else 1):
        return None
    bell = read(*arguments)
    return _message(task, _meant(task, bell)) if bell else None


def _arguments(message: dict[str, Any]) -> list[Any]:
    body = message["body"]
    if message["content-type"] != "application/json" or len(body) > LONGEST_BODY:
        raise ValueError("no doorbell")
    arguments = orjson.loads(b64decode(body, validate=True))[0]
    if not isinstance(arguments, list):
        raise TypeError("no doorbell")
    return arguments


def _meant(task: str, bell: Doorbell) -> list[Any]:
    return [bell.run, bell.shard] if task == ADVANCE else [bell.run]


def _message(task: str, arguments: list[Any]) -> dict[str, Any]:
    """Of Celery's second protocol."""
    number = new_nonce(16)
    return {
        "body": b64encode(orjson.dumps([arguments, {}, {}])).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": task, "id": number, "root_id": number, "argsrepr": "", "kwargsrepr": ""},
        "properties": {
            "correlation_id": number,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "priority": FIRST if task == SWEEP else AFTER,
            "body_encoding": "base64",
            "delivery_tag": number,
        },
    }


def _refuse() -> None:
    log.warning("refused a message that is no doorbell; content withheld")
