"""The life of a worker: its name, its heartbeat, the timer that asks for sweeps, and what its log may show.

The timer runs in Celery's main process, which forks: it holds a Redis client and nothing of the service or the store.
"""

import gc
import logging
import os
import signal
import socket
from importlib import import_module
from threading import Event, Thread
from typing import Any

from celery.signals import celeryd_init, worker_init, worker_ready, worker_shutting_down

from gemini_batch._version import __version__
from gemini_batch.fleet.broker import read_broker
from gemini_batch.fleet.hints import BEAT_SECONDS, Hints
from gemini_batch.fleet.messages import FIRST, SWEEP, list_of
from gemini_batch.fleet.sweep import SWEEP_SECONDS
from workers.app import options
from workers.ring import ring_sweep

TICK_SECONDS = 0.3
"""Between two looks at whether a sweep is due, which a sweep or a doorbell may have brought forward."""

SUPERVISOR = "GEMINI_BATCH_SUPERVISOR"
"""In the environment of a supervised worker: the process it must not outlive."""

NOT_OURS = ("message body", "unknown message", "unregistered task", "invalid task message")
"""Words of Celery's warnings about a message that it will not have (celery 5.6, 5.7: worker/consumer/consumer.py)."""

_node = f"celery@{socket.gethostname()}"
_leaving = Event()


def node_name() -> str:
    """The worker's name among the workers, the same in all its processes."""
    return _node


@celeryd_init.connect
def _remember_name(sender: str, **_: Any) -> None:
    global _node  # noqa: PLW0603 - one per worker
    _node = sender
    logging.getLogger("celery.worker.consumer.consumer").addFilter(_withhold)


@worker_init.connect
def _import_sdk(**_: Any) -> None:
    """Once, before the pool is forked: in each process of the pool it would take half a second of CPU and 20 MB. What
    is there by then stays for good, so no collection in the pool looks at it, or makes pages of it its own."""
    import_module("gemini_batch.gemini.client")
    gc.freeze()


@worker_ready.connect
def _start_timer(**_: Any) -> None:
    Thread(target=_keep_time, name="sweep-timer", daemon=True).start()


@worker_shutting_down.connect
def _stop_timer(**_: Any) -> None:
    _leaving.set()


def _keep_time() -> None:
    """Ask for a sweep whenever one is due, show that the worker lives, and leave with the supervisor."""
    if options.broker is None:
        return
    hints, beats, ticks = Hints(read_broker(options.broker).connect()), round(BEAT_SECONDS / TICK_SECONDS), 0
    while not _leaving.wait(TICK_SECONDS):
        if ticks % beats == 0:
            hints.beat(_node, socket.gethostname(), __version__)
            _leave_with_supervisor()
        ticks += 1
        if hints.take("sweep", seconds=SWEEP_SECONDS) and not hints.waiting(list_of(FIRST)):
            ring_sweep(SWEEP)


def _leave_with_supervisor() -> None:
    supervisor = os.environ.get(SUPERVISOR)
    if supervisor and os.getppid() != int(supervisor):
        os.kill(os.getpid(), signal.SIGTERM)


def _withhold(record: logging.LogRecord) -> bool:
    """A message that is none of ours is worth a line, its content is not: it may be anything, of any size."""
    if any(words in str(record.msg) for words in NOT_OURS):
        record.msg, record.args, record.exc_info = "refused a message that is no doorbell; content withheld", (), None
    return True
