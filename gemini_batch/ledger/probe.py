"""Whether a place can hold runs at all: of racing creates of one object exactly one must win.

Everything that is bought rests on it, and some stores that speak the S3 protocol ignore the condition of a put.
"""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from gemini_batch.clock import new_nonce
from gemini_batch.errors import BadInput
from gemini_batch.ledger.store import Store

PROBE = ".probe-"
"""Objects of this name are debris of a probe that was cut off."""

RACERS = 8


def probe(store: Store) -> None:
    """Prove that create-if-absent holds in a store. Leaves nothing behind.

    Raises:
        BadInput: it does not.
        OSError: the store cannot be reached, read or written.
    """
    name, bodies = PROBE + new_nonce(), [new_nonce().encode() for _ in range(RACERS)]
    try:
        winners = _race(store, name, bodies)
        proven = len(winners) == 1 and not _won(store, name, b"late") and store.read(name) == winners[0]
    finally:
        store.delete(name)
    if not proven:
        raise BadInput(
            f"{store.url} lets two writers create the same object, so a job could be paid for twice; keep runs on a "
            "disk or NFS with hard links, or on S3, Google Cloud Storage or Azure Blob Storage (--out, --runs)"
        )


def _race(store: Store, name: str, bodies: list[bytes]) -> list[bytes]:
    gate = Barrier(RACERS)

    def run(body: bytes) -> bool:
        gate.wait()
        return _won(store, name, body)

    with ThreadPoolExecutor(RACERS) as racers:
        return [body for body, won in zip(bodies, racers.map(run, bodies), strict=True) if won]


def _won(store: Store, name: str, body: bytes) -> bool:
    """As `Log.append` judges it: a repeated put may report its own success as a failure."""
    try:
        if store.create(name, body):
            return True
    except OSError:
        if (written := store.read(name)) is None:
            raise
        return written == body
    return store.read(name) == body
