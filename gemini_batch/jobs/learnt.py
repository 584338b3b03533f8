"""What the collected shards of a run say of its plan, each counted once. Safe between threads.

In: records as they become known, in any order, again and again. Out: the run's `Calibration`.
"""

from collections.abc import Iterable, Sequence
from threading import Lock

from gemini_batch.gemini.calibrate import Calibration, read_shard
from gemini_batch.records import ShardPlan, ShardRecord


class Learnt:
    def __init__(self) -> None:
        self.calibration = Calibration()
        self._seen: set[int] = set()
        self._lock = Lock()

    def add(self, plan: Sequence[ShardPlan], records: Iterable[ShardRecord]) -> bool:
        """Count what is news. Returns whether there was any."""
        before = self.calibration
        for record in records:
            if record.tally is None or record.shard in self._seen:
                continue
            reading = read_shard(plan[record.shard], record.tally)
            with self._lock:
                if record.shard not in self._seen:
                    self._seen.add(record.shard)
                    self.calibration = self.calibration.add(reading)
        return self.calibration != before
