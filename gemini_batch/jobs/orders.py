"""What an order of an operator makes of the one thing to do. Pure.

`pause` holds back what leads to a job; `cancel` gives it up. What is paid for is looked for, waited for and collected
under any order: `jobs/lifecycle.py` alone says how.
"""

from dataclasses import dataclass

from gemini_batch.jobs.events import Claimed
from gemini_batch.jobs.lifecycle import Claim, Command, Conclude, Prepare, SendOnce
from gemini_batch.records import Order

HELD_BACK = "the run is paused"


@dataclass(frozen=True)
class HoldBack:
    """Leave the shard as it is: nothing of it is bought."""


@dataclass(frozen=True)
class GiveUp:
    """Say of every row of the claimed shard that it is not sent."""


Ordered = Command | HoldBack | GiveUp


def under(order: Order, command: Command) -> Ordered:
    """The one thing to do under an order.

    A shard that is given up is claimed first, like one that is sent: so whoever is about to send it loses the race, or
    has won it and the shard is one that was sent.
    """
    match order, command:
        case "pause", Claim() | Prepare() | SendOnce():
            return HoldBack()
        case "cancel", Claim() | SendOnce():
            return Conclude(Claimed())  # no place at the quota desk is needed
        case "cancel", Prepare():
            return GiveUp()
    return command
