"""Names of the objects in a run directory. Pure: nothing here touches a disk."""

RUN = "run.json"
REPORT = "report.json"
AUDIT = "audit.json"
SUCCESS = "_SUCCESS"
MERGED = "merged.json"
"""What `_SUCCESS` says, for the next round: which files of the dataset can stay."""
CONTROL = "control"
LEDGER = "ledger"
PARTS = "parts"
SPEND = "spend"
"""The chain of reservations under a cap."""
STOPPED = "stopped.json"
"""Why the last driver gave up, for `status`. A hint: the next driver removes it."""


def plan_of(round_number: int) -> str:
    """The shards of a round."""
    return f"plan-{round_number:04d}.parquet"


PLAN = plan_of(0)
"""The manifest's own. It is never changed; what is bought again stands in the plans of later rounds."""


def rows_of(shard: int) -> str:
    """The shard's manifest rows, frozen."""
    return f"shards/{shard:06d}.parquet"


def again_of(shard: int, digest: str) -> str:
    """The rows of a later round's shard: of whoever planned it, until a plan names one of them."""
    return f"shards/{shard:06d}-{digest}.parquet"


def ledger_of(shard: int) -> str:
    """The folder of the shard's history."""
    return f"{LEDGER}/{shard:06d}"


def requests_of(shard: int, nonce: str) -> str:
    """Per row: the digest of what was encoded under that claim, or why the row was left out."""
    return f"requests/{shard:06d}-{nonce}.parquet"


def media_of(requests: str) -> str:
    """Names, as the service gave them, of the pictures that were uploaded for those requests."""
    return f"{requests.removesuffix('.parquet')}.media.json"


def raw_of(shard: int) -> str:
    """What the provider returned, byte for byte."""
    return f"raw/{shard:06d}.jsonl.zst"


def part_of(shard: int) -> str:
    """The shard's aligned rows."""
    return f"{PARTS}/{shard:06d}.parquet"


def dataset_file(number: int) -> str:
    return f"dataset/part-{number:06d}.parquet"
