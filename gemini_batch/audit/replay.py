"""A shard's history, played back. Pure.

In: every version of a ledger. Out: what is wrong with it. A record is a full snapshot, so each must be exactly what
the lifecycle makes of the one before and of one event; which event that was can be read off the two.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from gemini_batch import rundir
from gemini_batch.audit.facts import Version
from gemini_batch.errors import IllegalTransition
from gemini_batch.gemini.names import OUR_PREFIX
from gemini_batch.jobs import events, lifecycle
from gemini_batch.records import FORMAT, RunRecord, Send, ShardRecord, ShardState, Snapshot

Fault = tuple[str, str]
"""Kind and what."""


def replay(run: RunRecord, shard: int, history: Sequence[Version], may_resubmit: bool) -> Iterator[Fault]:
    """What is wrong with the history of a shard."""
    before: ShardRecord | None = ShardRecord(shard=shard)
    nonces = set[str]()
    for number, version in enumerate(history, 1):
        after = version.record if version.number == number else None
        if after is None:
            yield _absent(number, version)
        else:
            for what in _marks(after, shard, number, nonces):
                yield "ledger_step", f"version {number} {what}"
        if before and after:
            for what in _step(run, before, after, sends_of(history[:number]), may_resubmit):
                yield "ledger_step", f"version {number} ({after.cause} after {before.state}) {what}"
        before = after


def sends_of(history: Sequence[Version]) -> dict[str, Send]:
    """Every send that was ever made, by display name: one that the service refused leaves the later records."""
    return {send.display_name: send for version in history if version.record for send in version.record.sends}


def left_out_of(history: Sequence[Version], requests: str | None) -> dict[int, str]:
    """Index -> why, of the rows that were left out when these requests were made."""
    made = [v.record for v in history if v.record and v.record.cause in MADE and v.record.requests == requests]
    return {row.index: row.why for row in made[0].left_out} if made else {}


MADE = ("Prepared", "NothingToSend")
"""Causes of records that bring requests."""


def _absent(number: int, version: Version) -> Fault:
    if version.why:
        return "ledger_damaged", f"version {number} cannot be read: {version.why}"
    return "ledger_gap", f"version {number} is missing"


def _marks(record: ShardRecord, shard: int, number: int, nonces: set[str]) -> Iterator[str]:
    """Whose write it was. Remembers its nonce."""
    if record.version != number:
        yield f"calls itself version {record.version}"
    if record.shard != shard:
        yield f"is of shard {record.shard}"
    if not 1 <= record.format <= FORMAT:
        yield f"is of format {record.format}"
    if not record.nonce or record.nonce in nonces:
        yield "has a nonce that another version has, or none"
    if not record.owner or record.at is None:
        yield "does not say who wrote it, or when"
    nonces.add(record.nonce)


def _step(
    run: RunRecord, before: ShardRecord, after: ShardRecord, sends: dict[str, Send], may_resubmit: bool
) -> Iterator[str]:
    event = event_between(before, after)
    if event is None:
        yield "names a cause that is not known, or lacks what that cause brings"
        return
    try:
        expected = lifecycle.apply(before, event)
    except IllegalTransition:
        yield "is a step that the lifecycle does not have"
        return
    names = ShardRecord.model_fields.keys() - Snapshot.model_fields.keys()
    if differing := sorted(name for name in names if getattr(expected, name) != getattr(after, name)):
        yield f"does not follow from the version before: {', '.join(differing)}"
    yield from _unsound(run, before, after, event, sends, may_resubmit)


PLAIN: dict[str, Callable[[], events.Event]] = {"Claimed": events.Claimed, "Settled": events.Settled}
ANSWERS: dict[str, Callable[[int, str], events.Event]] = {
    "SendFailed": events.SendFailed,
    "UploadGone": events.UploadGone,
}
LOOKS: dict[str, Callable[[datetime], events.Event]] = {
    "Absent": events.Absent,
    "JobMissing": events.JobMissing,
    "ResultsMissing": events.ResultsMissing,
}


def event_between(before: ShardRecord, after: ShardRecord) -> events.Event | None:
    """The event that a record says it is of, read off what it changed; None where that cannot be."""
    why = after.problem or ""
    if plain := PLAIN.get(after.cause):
        return plain()
    if answer := ANSWERS.get(after.cause):
        return answer(before.sends[-1].number if before.sends else 0, why)
    if look := LOOKS.get(after.cause):
        return look(after.absence.last_at) if after.absence else None
    match after.cause:
        case "OutcomeUnknown":
            return events.OutcomeUnknown(why)
        case "SendRefused":
            row = after.left_out[-1] if after.left_out != before.left_out and after.left_out else None
            number = before.sends[-1].number if before.sends else 0
            return events.SendRefused(number, why, row, after.too_large)
        case "Prepared" if after.upload and after.requests:
            return events.Prepared(after.upload, after.requests)
        case "NothingToSend" if after.requests:
            return events.NothingToSend(after.requests)
        case "SendBegan" if after.sends:
            return events.SendBegan(after.sends[-1])
        case "JobLearned":
            return _learned(before, after)
        case "JobUnclear":
            return _unclear(before, after)
        case "JobStuck" if after.stuck_since:
            return events.JobStuck(after.stuck_since)
        case "FilesDeleted" if before.upload and after.upload:
            return _files_deleted(before, after)
        case "JobEnded" if after.job:
            return events.JobEnded(after.job)
        case "Collected" if after.tally:
            return events.Collected(after.tally)
    return None


def _unclear(before: ShardRecord, after: ShardRecord) -> events.JobUnclear | None:
    """The look that ends it leaves no time behind; any that is late enough says the same."""
    if after.absence and before.job:
        return events.JobUnclear(before.job, after.absence.last_at)
    if after.job is None or before.absence is None:
        return None
    first, last = before.absence.first_at, before.absence.last_at
    return events.JobUnclear(after.job, max(last, first + lifecycle.NO_OUTCOME_AFTER))


def _files_deleted(before: ShardRecord, after: ShardRecord) -> events.FilesDeleted:
    was, left = before.upload, after.upload
    return events.FilesDeleted(
        input=bool(was and left and left.deleted and not was.deleted),
        media=bool(was and left and left.media_deleted and not was.media_deleted),
        requests=after.job.requests if after.job and before.state is ShardState.SUBMITTED else None,
    )


def _learned(before: ShardRecord, after: ShardRecord) -> events.JobLearned | None:
    job = after.twins[-1] if after.twins != before.twins and after.twins else after.job
    return events.JobLearned(job) if job else None


def _unsound(
    run: RunRecord,
    before: ShardRecord,
    after: ShardRecord,
    event: events.Event,
    sends: dict[str, Send],
    may_resubmit: bool,
) -> Iterator[str]:
    """What the lifecycle takes on trust from those who act."""
    match event:
        case events.Prepared() | events.NothingToSend():
            if event.requests != rundir.requests_of(before.shard, before.nonce):
                yield f"has requests ({event.requests}) that are not of the claim before it"
        case events.SendBegan(send):
            yield from _unsound_send(run, before, after, send)
        case events.SendRefused(_, why, row) if row is not None:
            if row.why != why or not 1 <= row.line <= before.sends[-1].lines:
                yield f"leaves out row {row.index} for line {row.line}, which the refusal does not name"
            elif row.index in {other.index for other in before.left_out}:
                yield f"leaves out row {row.index}, which was left out before"
        case events.JobLearned(job):
            if job.display_name not in sends:
                yield f"records {job.name}, whose name {job.display_name!r} is of no send"
        case events.JobEnded(job) | events.JobUnclear(job):
            if before.job and job.name != before.job.name:
                yield f"ends {job.name}, and the job was {before.job.name}"
        case events.FilesDeleted(input=True) if before.state is ShardState.SUBMITTED:
            yield from _unsound_deletion(before, after)
        case events.Settled():
            yield from _unsound_settled(before, may_resubmit)


def _unsound_deletion(before: ShardRecord, after: ShardRecord) -> Iterator[str]:
    requests = after.job.requests if after.job else None
    if requests is None or requests != before.sent_lines:
        yield f"deletes the input file of a job with {requests} requests; {before.sent_lines} lines were sent"


def _unsound_settled(before: ShardRecord, may_resubmit: bool) -> Iterator[str]:
    times = before.absence.times if before.absence else 0
    if not may_resubmit:
        yield "lets the shard be sent again, though --on-unknown was never resubmit"
    elif times + 1 < lifecycle.SETTLE_LISTINGS:
        yield f"lets the shard be sent again after {times + 1} listings; {lifecycle.SETTLE_LISTINGS} are due"


def _unsound_send(run: RunRecord, before: ShardRecord, after: ShardRecord, send: Send) -> Iterator[str]:
    upload = before.upload
    if upload is None or (send.sha256, send.lines) != (upload.sha256, upload.lines):
        yield "sends other bytes than were uploaded"
    if send.requests != before.requests or send.owner != after.owner or send.number != after.version:
        yield "is a send that does not fit its own record (requests, owner or number)"
    if send.display_name != job_name(run, before.shard, send):
        yield f"sends under {send.display_name!r}, which is not the name of that send"


def job_name(run: RunRecord, shard: int, send: Send) -> str:
    """The display name that only this send of this run may have."""
    digest = hashlib.sha256(f"{run.nonce} {send.number} {send.sha256}".encode()).hexdigest()
    return f"{OUR_PREFIX}{run.run_id}-{shard:06d}-{send.number}-{digest[:16]}"


def why_twice(history: Sequence[Version], first: str | None, twin: str) -> str:
    """Why a shard has two jobs.

    Args:
        first, twin: display names of the shard's job, if it has one, and of the other.
    """
    if first == twin:
        return "one send made both: its request was repeated on the way, or by the service"
    number = next((send.number for name, send in sends_of(history).items() if name == twin), None)
    if number is None:
        return "the name is of no send that is recorded"
    causes = {version.record.cause for version in history if version.record and version.number > number}
    if "Settled" in causes:
        return (
            f"send {number} was in no complete listing for the settle time, so the rows were sent again; its job came "
            "to be all the same"
        )
    if causes & {"SendFailed", "SendRefused", "UploadGone"}:
        return f"send {number} was answered with a refusal, and its job came to be all the same"
    return f"send {number} made a job beside the shard's, and no record says why"
