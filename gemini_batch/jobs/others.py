"""What a listing shows of others in the project, for the quota desk. Pure.

In: a listing of the jobs that the key can see, and the records of the runs that are known here. Out: each job, whether
it is live, and of which run of ours.
"""

from collections.abc import Iterable

from gemini_batch.gemini.names import OUR_PREFIX
from gemini_batch.gemini.remote import Listing
from gemini_batch.jobs.lifecycle import is_live
from gemini_batch.quota.words import ListedJob
from gemini_batch.records import ShardRecord


def listed(listing: Listing, records: Iterable[ShardRecord]) -> list[ListedJob]:
    """The jobs of a listing as the desk counts them. No lease stands for a twin, so it counts as another's; its create
    is in the record of its shard.

    Args:
        records: of the runs that are known here.
    """
    twins = {twin.name for record in records for twin in record.twins}
    ours = []
    for job in listing.every:
        is_twin = job.name in twins
        created = None if is_twin or job.created_at is None else job.created_at.timestamp()
        ours.append(ListedJob(None if is_twin else run_of(job.display_name), is_live(job), created))
    return ours + [ListedJob(None, is_live(job)) for job in listing.others]


def run_of(display_name: str) -> str:
    """The run of `gbd-<run>-<shard>-<send>-<digest>`."""
    return display_name.removeprefix(OUR_PREFIX).rsplit("-", 3)[0]
