"""What a look at a shard comes to, for whoever decides when it is looked at again. Pure data."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from gemini_batch.jobs import events


@dataclass(frozen=True)
class Rest:
    """Come back after `delay`; None means the caller backs off by how often it was told so."""

    reason: str
    delay: timedelta | None = None


@dataclass(frozen=True)
class AwaitDesk:
    """The quota desk does not let the shard in now; come back when something has ended."""

    reason: str
    until: datetime | None = None
    """When it is worth asking again, where that is known."""


@dataclass(frozen=True)
class Stop:
    """The shard is final."""


Verdict = Rest | AwaitDesk | Stop
Outcome = events.Event | Rest | AwaitDesk
