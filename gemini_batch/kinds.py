"""Why a row has no answer, and whether buying it again can help: one table, for code and documents alike. Pure."""

from typing import Final, Literal, NamedTuple

from gemini_batch.records import Limits


class Kind(NamedTuple):
    """A value of the dataset's `error.kind`."""

    status: Literal["failed", "blocked", "truncated", "invalid"]
    meaning: str
    again: Literal["never", "up to --max-attempts", "once", "with --retry-truncated", "with --retry-invalid"]
    """Whether a round buys such rows by itself. `retry RUN` buys what it is told to."""


OFTEN: Final = "up to --max-attempts"

KINDS = {
    "transient": Kind("failed", "the service failed on the row, or the whole job did", OFTEN),
    "missing": Kind("failed", "the results have no line for the row", OFTEN),
    "media_expired": Kind("failed", "a file the row names was gone when the job read it; it is uploaded anew", OFTEN),
    "unknown": Kind("failed", "the service said something that is not understood", "once"),
    "truncated": Kind("truncated", "the answer met the output limit", "with --retry-truncated"),
    "schema_invalid": Kind("invalid", "the answer does not fit the schema", "with --retry-invalid"),
    "blocked_prompt": Kind("blocked", "the service refused the prompt", "never"),
    "blocked_answer": Kind("blocked", "the service withheld the answer", "never"),
    "invalid_argument": Kind("failed", "the service cannot do what the row asks", "never"),
    "media_unreadable": Kind("failed", "a picture cannot be read; nothing was sent", "never"),
    "bad_row": Kind("failed", "the row holds nothing that can be sent", "never"),
    "oversized": Kind("failed", "the row is too large for a job; nothing was sent", "never"),
    "cancelled": Kind("failed", "the run or its job was cancelled", "never"),
    "budget": Kind("failed", "the budget did not allow it", "never"),
}


def may_pass(kind: str, attempts: int, limits: Limits) -> bool:
    """Whether a round buys again what failed like this after so many attempts."""
    match KINDS[kind].again:
        case "never":
            return False
        case "once":
            return attempts < min(2, limits.max_attempts)
        case "with --retry-truncated":
            return limits.retry_truncated and attempts < limits.max_attempts
        case "with --retry-invalid":
            return limits.retry_invalid and attempts < limits.max_attempts
        case _:
            return attempts < limits.max_attempts
