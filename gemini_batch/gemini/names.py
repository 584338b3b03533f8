"""Names of what a run has at the service, read back. Pure.

In: a display name. Out: the run and the shard it was made for, or None for what nobody of this project named. A run's
id may begin with another's (`--fresh`, `--out`), so a prefix alone does not tell whose a job is.
"""

import hashlib
import re
from dataclasses import dataclass

OUR_PREFIX = "gbd-"
"""Display names of all that this project creates start with it."""

_PLACE = r"gbd-(?P<run>.+)-(?P<shard>[0-9]{6,7})"
_JOB = re.compile(rf"{_PLACE}-(?P<send>[0-9]+)-(?P<digest>[0-9a-f]{{16}})")
_FILE = re.compile(rf"{_PLACE}-(?:(?P<mark>[0-9a-f]{{8}})-)?(?:input|[0-9a-f]{{16}})")


@dataclass(frozen=True)
class Made:
    """Whose something at the service is."""

    run: str
    shard: int
    mark: str = ""
    """Of a file: tells the run from others with its id, such as the same question asked in another directory."""


def mark_of(nonce: str) -> str:
    """What marks the files of the run with that nonce."""
    return hashlib.sha256(nonce.encode()).hexdigest()[:8]


def read_job_name(display_name: str) -> Made | None:
    return _read(_JOB, display_name)


def read_file_name(display_name: str) -> Made | None:
    return _read(_FILE, display_name)


def _read(form: re.Pattern[str], display_name: str) -> Made | None:
    found = form.fullmatch(display_name)
    return Made(found["run"], int(found["shard"]), found.groupdict().get("mark") or "") if found else None
