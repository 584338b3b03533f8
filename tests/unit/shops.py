"""A shop over fakes of the service, the pool and the clock, for tests of `advance`."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa

from gemini_batch.coordinator.columns import Columns
from gemini_batch.coordinator.manifest import TableManifest
from gemini_batch.coordinator.start import begin, scan
from gemini_batch.jobs.shop import Shop
from gemini_batch.ledger.posix import PosixStore
from gemini_batch.ledger.run import RunFiles
from gemini_batch.quota.desk import Desk, MemoryBooks

BEGAN = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Clock:
    def __init__(self):
        self.passed = timedelta(0)

    def now(self):
        return BEGAN + self.passed

    def boottime(self):
        return self.passed.total_seconds()


class Inline:
    def run(self, function, task):
        return function(task)


def make_shop(folder, asked, limits, remote, clock, store=PosixStore, rows=2, table=None):
    """A run of `rows` prompts, or of a table, planned (if it is not yet) and ready to be advanced."""
    asking = pa.table({"prompt": [f"p{row}" for row in range(rows)]}) if table is None else table
    manifest = TableManifest(asking, "t", folder, Columns())
    plan = scan(manifest, asked(), (folder,), limits)
    files = RunFiles(store(folder / "run"))
    what = asked(rows=plan.rows, rows_digest=plan.rows_digest)
    if files.record() is None:
        begin(files, manifest, what, plan, (folder,), limits, "run", clock)
    run = files.record()
    return Shop(
        run=run, limits=limits, files=files, plan=files.plan(), remote=remote,
        desk=Desk(MemoryBooks(lambda: clock.now().timestamp()), run, limits), pool=Inline(), clock=clock, owner="o",
    )  # fmt: skip
