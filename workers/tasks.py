"""The tasks: each looks at something and keeps nothing. What a doorbell means is `gemini_batch.fleet`'s to know."""

import os
from threading import Lock

from gemini_batch.config import resolve_account
from gemini_batch.errors import BadInput
from gemini_batch.fleet.broker import read_broker
from gemini_batch.fleet.host import Host, Serving
from gemini_batch.fleet.messages import ADVANCE, MERGE, SWEEP
from gemini_batch.fleet.sweep import sweep
from workers.app import app, options
from workers.life import node_name
from workers.ring import ring

_lock = Lock()
_hosts: dict[int, Host] = {}


@app.task(name=ADVANCE, typing=False)
def advance_shard(run: object = None, shard: object = None, *_: object) -> None:
    """Take one shard as far as it goes."""
    host().advance(run, shard)


@app.task(name=SWEEP, typing=False)
def sweep_runs(*_: object) -> None:
    """Look at all runs and ring what is due."""
    sweep(host())


@app.task(name=MERGE, typing=False)
def merge_run(run: object = None, *_: object) -> None:
    """Write the dataset of a run that is done."""
    host().merge(run)


def host() -> Host:
    """This process's own: clients do not survive a fork."""
    with _lock:
        if os.getpid() not in _hosts:
            _hosts.clear()
            _hosts[os.getpid()] = Host(serving(), ring)
        return _hosts[os.getpid()]


def serving() -> Serving:
    """What the environment says.

    Raises:
        BadInput: no key, no broker.
    """
    if options.broker is None:
        raise BadInput("no broker: set GEMINI_BATCH_BROKER_URL, or use gemini-batch-dist worker --broker URL")
    account, broker = resolve_account(options.project), read_broker(options.broker)
    return Serving(
        options.runs,
        account,
        broker,
        options.allow_schema,
        node_name(),
        allow_http=options.allow_http,
        media_root=options.media_root,
    )
