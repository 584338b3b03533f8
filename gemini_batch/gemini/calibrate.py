"""What collected shards say about a plan's estimates. Pure.

In: of each shard what the plan expected and what its answers took. Out: by how much to scale the estimates of what has
yet to be sent, the worst shard, and the mean length of an answer. Adding a shard takes the same time however many there
were.
"""

from dataclasses import dataclass

from gemini_batch.records import ShardPlan, Tally

ENOUGH = 20
"""Lines with usage, below which a mean says little: nothing is scaled, and no shard counts as the worst. Ours."""


@dataclass(frozen=True)
class Reading:
    """A shard, as far as its answers tell their usage."""

    lines: int
    estimated: float
    """Input tokens of these lines by the plan: their share of the shard's."""
    actual: int
    """Input tokens that the service counted."""
    output: int
    """Tokens that it wrote for these lines, thoughts included."""


@dataclass(frozen=True)
class Calibration:
    """The sum of the readings of a run."""

    lines: int = 0
    estimated: float = 0.0
    actual: int = 0
    output: int = 0
    highest: float | None = None
    """The largest actual / estimated of any shard with enough lines, None before the first: what a budget has to reckon
    with, where `scale` is what a limit has."""

    def add(self, reading: Reading | None) -> "Calibration":
        """With one shard more; the same for one that says nothing."""
        if reading is None:
            return self
        highest = self.highest
        if reading.lines >= ENOUGH:
            highest = max(highest or 0.0, reading.actual / reading.estimated)
        return Calibration(
            self.lines + reading.lines,
            self.estimated + reading.estimated,
            self.actual + reading.actual,
            self.output + reading.output,
            highest,
        )

    @property
    def scale(self) -> float:
        """Actual / estimated input tokens; 1 while too little has come back."""
        return self.actual / self.estimated if self.lines >= ENOUGH else 1.0

    @property
    def mean_output(self) -> float | None:
        """Tokens written for a request, thoughts included; None while too little has come back."""
        return self.output / self.lines if self.lines >= ENOUGH else None


def read_shard(entry: ShardPlan, tally: Tally) -> Reading | None:
    """What a collected shard says; None if none of its answers tells its usage, or the tally is of a release that did
    not count those that do."""
    if not tally.counted or not entry.requests or not entry.tokens:
        return None
    estimated = entry.tokens * tally.counted / entry.requests
    return Reading(tally.counted, estimated, tally.prompt_tokens, tally.output_tokens + tally.thoughts_tokens)
