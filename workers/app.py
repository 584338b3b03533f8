"""The Celery application: settings that make a broker a doorbell and nothing more.

Everything it needs comes from the environment (`GEMINI_BATCH_BROKER_URL`, `GEMINI_BATCH_RUNS`, `GEMINI_BATCH_PROJECT`,
`GEMINI_BATCH_ALLOW_SCHEMA`, and the key as for `submit`), so that no secret stands in a command line. Importing it
opens nothing: a worker forks.
"""

import logging
import os
from typing import Any

from celery import Celery
from celery.signals import after_setup_logger, after_setup_task_logger

from gemini_batch.config import resolve
from gemini_batch.fleet.broker import SOCKET_SECONDS, Broker, read_broker
from gemini_batch.fleet.messages import AFTER, FIRST, PREFIX, QUEUE, SEPARATOR
from gemini_batch.logs import JsonFormatter
from workers.gate import install

TASK_SECONDS = 4 * 3600
"""A pool process that is busy with one doorbell for so long hangs: 2 GB take an hour at 5 Mbit/s. It is killed, which
costs nothing: the shard goes on from its ledger."""


def settings(broker: Broker | None) -> dict[str, Any]:
    """Celery's settings. Each is there because of what was measured without it (celery 5.6 and 5.7 on Redis)."""
    return {
        "broker_url": broker.url.replace(";", "%3B") if broker else None,  # kombu would begin another broker at it
        "broker_use_ssl": broker.tls if broker else None,
        # Pickle is code from whoever can write to the broker.
        "task_serializer": "json",
        "accept_content": ["json"],
        # Results live in the run directory. acks_late lost 14 of 6,000 messages in 45 kills all the same, and a worker
        # that holds an unacknowledged message exits when Redis restarts (5.7.0).
        "task_ignore_result": True,
        "task_acks_late": False,
        "worker_disable_prefetch": True,
        "worker_prefetch_multiplier": 1,
        # Both fill Redis with keys that nobody reads, and remote control is a way in.
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "task_default_queue": QUEUE,
        "task_publish_retry": False,
        "task_time_limit": TASK_SECONDS,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "global_keyprefix": PREFIX,
            "queue_order_strategy": "priority",
            "priority_steps": [FIRST, AFTER],
            "sep": SEPARATOR,
            # Without these a publish on a dead connection waits for ever.
            "socket_timeout": 3 * SOCKET_SECONDS,
            "socket_connect_timeout": SOCKET_SECONDS,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
        "worker_redirect_stdouts": False,
    }


# Celery prefers these to its settings: doorbells would go to another application's broker, without our TLS.
for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND"):
    os.environ.pop(name, None)
install()
options = resolve({})


@after_setup_logger.connect(weak=False)
@after_setup_task_logger.connect(weak=False)
def log_as_told(logger: logging.Logger, **_: Any) -> None:
    """Celery sets up logging by itself; `--log-format json` changes what a line looks like."""
    if options.log_format == "json":
        for handler in logger.handlers:
            handler.setFormatter(JsonFormatter())


app = Celery("gemini-batch", include=["workers.tasks"])
app.conf.update(settings(read_broker(options.broker) if options.broker else None))
