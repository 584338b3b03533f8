"""What a model is of, and the tuples that its states are made of."""

from typing import Any, NamedTuple


class Budget(NamedTuple):
    """What may go wrong at most, of each kind and in all."""

    crashes: int = 0
    cuts: int = 0
    """Creates whose answer is lost, before or after they took effect."""
    refusals: int = 0
    disk: int = 0
    """Writes that fail, done or not done."""
    losses: int = 0
    """Jobs that the service forgets, or their results."""
    total: int = 99

    def without(self, kind: str | None) -> "Budget":
        """One less of a kind; of no kind is there more than in all."""
        total = self.total - (kind is not None)
        left = [min(total, count - (name == kind)) for name, count in zip(self._fields[:-1], self, strict=False)]
        return Budget(*left, total=min(total, sum(left)))


class Rules(NamedTuple):
    policy: str = "wait"
    kinds: tuple[str, ...] = ("advance",)
    """What workers do: `advance` as solo, `work` and `look` as a fleet; `finish` once the shard is final."""
    workers: int = 2
    budget: Budget = Budget()
    shown_within: int | None = None
    """Ticks from a sender's last look at its clock until the job is in every complete listing; None: maybe never."""
    jobs: int = 1
    """More where a second one is no violation; none lands beyond."""
    sends: int = 3
    """In one record. Under `resubmit` it could go on for ever."""
    sweeps: int = 1
    """Looks at a time."""
    sibling: bool = True
    """Whether another shard has a job already."""
    exclusive: bool = True
    """Whether the store creates a version once only: what all else rests on."""
    only_money: bool = False
    """Whether a second payment is the only violation."""


class Worker(NamedTuple):
    call: int
    fresh: bool = False
    """Whether what it has read or written last is still the ledger's last record."""
    slept: int = 0
    """Ticks since it looked at its clock, where that matters."""
    wire: str = ""
    """Its create: `air`, `landed`, or `no` for refused. Before it, `kept`: SENDING is recorded, unknown to it."""


class World(NamedTuple):
    ledger: int
    owed: bool
    """Whether a send has begun that nothing recorded allows to repeat."""
    jobs: tuple[tuple[int, int, int, str], ...]
    """Number of the send, number of the file, age, life (`calls.STATES`)."""
    wires: tuple[tuple[int, int, int], ...]
    """Creates on their way that nobody waits for: number, file, age."""
    workers: tuple[Worker, ...]
    budget: Budget


class Step(NamedTuple):
    label: tuple[Any, ...]
    fair: bool
    """Whether nothing goes wrong in it."""
    world: World
