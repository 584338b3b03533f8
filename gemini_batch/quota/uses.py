"""What outlives a shard's time in flight and still counts against the project: creates of a day, files at the service.

Pure. In: when creates were sent, when files vanish. Out: how many count now, and when the next stops to. Shards that
have left the desk are kept in steps of ten minutes, rounded so that nothing is forgotten early: a run of any size is a
few hundred numbers.
"""

from collections import Counter
from collections.abc import Iterable

from pydantic import Field

from gemini_batch.records import Frozen

DAY_SECONDS = 86_400.0
"""A limit of creates a day is taken to be of any 24 hours: how the service counts is not published."""

STEP_SECONDS = 600


class Uses(Frozen):
    """Of shards that are no longer in flight. Keys are steps of the desk's time."""

    creates: dict[int, int] = Field(default_factory=dict)
    """By the step in which they were sent."""
    files: dict[int, int] = Field(default_factory=dict)
    """Bytes, by the step at whose beginning they are gone."""

    def plus(self, creates: Iterable[float], files: Iterable[tuple[float, int]]) -> "Uses":
        """With these creates and files (time of deletion, bytes) too."""
        sent, kept = Counter(self.creates), Counter(self.files)
        for at in creates:
            sent[int(at // STEP_SECONDS)] += 1
        for until, size_bytes in files:
            kept[int(-(-until // STEP_SECONDS))] += size_bytes
        return Uses(creates=dict(sent), files=dict(kept))

    def at(self, now: float) -> "Uses":
        """Without what no longer counts."""
        creates, files = self.next_create_ends(), self.next_file_ends()
        if (creates is None or creates > now) and (files is None or files > now):
            return self
        sent = {step: number for step, number in self.creates.items() if _day_ends(step) > now}
        kept = {step: size for step, size in self.files.items() if step * STEP_SECONDS > now}
        return Uses(creates=sent, files=kept)

    @property
    def is_empty(self) -> bool:
        return not (self.creates or self.files)

    @property
    def number_of_creates(self) -> int:
        return sum(self.creates.values())

    @property
    def stored_bytes(self) -> int:
        return sum(self.files.values())

    def next_create_ends(self) -> float | None:
        """When the first of the creates stops to count."""
        return _day_ends(min(self.creates)) if self.creates else None

    def next_file_ends(self) -> float | None:
        """When the first of the files is gone."""
        return float(min(self.files) * STEP_SECONDS) if self.files else None


def _day_ends(step: int) -> float:
    return (step + 1) * STEP_SECONDS + DAY_SECONDS
