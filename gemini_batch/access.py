"""Whether this process may work on a run: the right service, the right project, a schema it may and can check.

Under a wrong key every job looks gone, which must never look like "gone, buy again".
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from gemini_batch.config import Account
from gemini_batch.errors import BadInput
from gemini_batch.ledger.run import RunFiles
from gemini_batch.records import Limits, RunRecord
from gemini_batch.schema.check import checker

PLAIN_TYPES = frozenset(
    {
        "builtins:bool",
        "builtins:dict",
        "builtins:float",
        "builtins:int",
        "builtins:list",
        "builtins:str",
        "datetime:date",
        "datetime:datetime",
        "decimal:Decimal",
        "uuid:UUID",
    }
)
"""Schemas that bring no code of anybody's: every worker may check by them."""


def record_of(files: RunFiles) -> RunRecord:
    """What a run asks.

    Raises:
        BadInput: there is none, or this release cannot read it.
    """
    record = files.record()
    if record is None:
        raise BadInput(f"{files.store.url} holds no run")
    return record


def projects_of(record: RunRecord, limits: Limits) -> frozenset[str]:
    """What the run's project is called: as it was when the run began, and by the name that it was given since.

    Args:
        limits: those in force.
    """
    return frozenset(filter(None, (record.asked.project, limits.project)))


def is_ours(record: RunRecord, limits: Limits, account: Account) -> bool:
    """Whether the run's jobs are visible to the account."""
    return record.asked.endpoint == account.endpoint and account.project in projects_of(record, limits)


def is_same_project(record: RunRecord, limits: Limits, account: Account) -> bool:
    """Whether the account's project is the run's: by its name, or by the key, whatever name is given now."""
    return not projects_of(record, limits).isdisjoint({account.project, account.key_name})


def refuse_stranger(record: RunRecord, limits: Limits, account: Account, by_key: bool = True) -> None:
    """
    Args:
        by_key: False where the name alone counts: the quota desk of a worker goes by it.

    Raises:
        BadInput: the run belongs to another endpoint or project: its jobs would all look gone.
    """
    same = is_same_project(record, limits, account) if by_key else account.project in projects_of(record, limits)
    for name, theirs, ours in (
        ("endpoint", record.asked.endpoint, account.endpoint),
        ("project", account.project if same else limits.project or record.asked.project, account.project),
    ):
        if theirs != ours:
            raise BadInput(
                f"run {record.run_id} was made for the {name} {theirs}, this process would use {ours}; its jobs are "
                "not visible there. Set the API key (or --project, or GOOGLE_GEMINI_BASE_URL) it was made with."
            )


def refuse_schema(record: RunRecord, allowed: Sequence[str] | None) -> None:
    """
    Args:
        allowed: patterns such as `mypkg.*` of models that may be imported; None for a process whose user named the
            model.

    Raises:
        BadInput: answers cannot be checked here as the run asks; what cannot be checked here must not be bought.
    """
    spec = record.asked.response_schema
    if spec and spec.validate_by == "model" and spec.ref and allowed is not None and spec.ref not in PLAIN_TYPES:
        name = spec.ref.replace(":", ".")
        if not any(fnmatchcase(name, pattern) for pattern in allowed):
            raise BadInput(
                f"the schema {spec.ref} may not be imported here; start the worker with --allow-schema '{name}', or "
                "submit with --validate json-schema"
            )
    checker(spec)
