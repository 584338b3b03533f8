"""Doorbells into the broker."""

import logging

from gemini_batch.fleet.messages import ADVANCE, AFTER, FIRST, Doorbell
from workers.app import app

log = logging.getLogger(__name__)


def ring(task: str, *doorbells: Doorbell) -> None:
    """Send a message for each doorbell; a broker that is away is no trouble, since the next sweep rings again."""
    try:
        with app.producer_pool.acquire(block=True) as producer:
            for bell in doorbells:
                arguments = (bell.run, bell.shard) if task == ADVANCE else (bell.run,)
                app.send_task(task, arguments, producer=producer, priority=AFTER)
    except Exception as error:  # kombu raises its own, redis-py's and the socket's
        log.warning("the broker took no doorbell: %s", type(error).__name__)


def ring_sweep(task: str) -> None:
    """Ask for a sweep."""
    try:
        with app.producer_pool.acquire(block=True) as producer:
            app.send_task(task, producer=producer, priority=FIRST)
    except Exception as error:
        log.warning("the broker took no sweep: %s", type(error).__name__)
