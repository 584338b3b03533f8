"""What an audit saw becomes findings: everything that is not accounted for. Pure.

A row that failed is accounted for, and so is a line that never came if its row says so. What cannot be explained by
the ledger is a finding, each with its one way to mend it.
"""

from collections.abc import Iterator
from math import isclose

from gemini_batch import rundir
from gemini_batch.audit.facts import (
    DatasetFile,
    Files,
    Finding,
    Lines,
    Part,
    Requests,
    Rows,
    RunFacts,
    ShardFacts,
    Success,
    Unreadable,
)
from gemini_batch.audit.money import judge_chain, judge_sends
from gemini_batch.audit.plan import RESTORE, Words, at, damage_of, judge_entry, judge_plan
from gemini_batch.audit.replay import replay, sends_of, why_twice
from gemini_batch.jobs import lifecycle
from gemini_batch.records import Job, Send, ShardPlan, ShardRecord, ShardState, Tally

S = ShardState

REMAKE_PART = "delete it and _SUCCESS, then resume: it is made again from the raw results, and buys nothing"
REFETCH = (
    "restore it; or, while the service still has the job's results, delete it, the part and _SUCCESS and resume: they "
    "are fetched again, and cost nothing"
)
REMAKE_DATASET = "delete _SUCCESS, then resume: the dataset is made again from the parts, and buys nothing"
RESUME = "resume the run; without --offline and with its key the audit then says what became of it"


# --- one shard --------------------------------------------------------------------------------------------------------


def judge_shard(run: RunFacts, facts: ShardFacts) -> Iterator[Finding]:
    """What is wrong with one shard."""
    shard, record = facts.plan.shard, facts.record
    found = [
        *((kind, what, RESTORE) for kind, what in replay(run.run, shard, facts.history, run.may_resubmit)),
        *_unsettled(run, record),
        *(("money", what, RESTORE) for what in (judge_sends(run.chain, facts.history) if run.finished else ())),
        *judge_entry(run, facts),
        *_files(facts.plan, record, sends_of(facts.history), facts.files),
        *_jobs(run, facts, record),
    ]
    return (Finding(kind, shard, what, fix) for kind, what, fix in found)


def _unsettled(run: RunFacts, record: ShardRecord) -> Iterator[Words]:
    if run.finished and record.state is not S.COLLECTED:
        yield "unsettled", f"the run has finished, and the ledger says {record.state}", RESUME


def _files(plan: ShardPlan, record: ShardRecord, sends: dict[str, Send], files: Files) -> Iterator[Words]:
    yield from _rows(plan, files.rows)
    if record.requests is not None:
        yield from _requests(plan, record, _sent(record, sends), files.requests)
    if record.state is S.COLLECTED and record.tally:
        yield from _collected(plan, record.tally, files)
    elif record.state is not S.ENDED:
        for kind, name, found in (("raw", "raw results", _held(files.lines)), ("part", "a part", files.part)):
            if found is not None:
                yield kind, f"there are {name}, and the ledger has got no further than {record.state}", RESUME


def _held(lines: Lines | Unreadable | None) -> object:
    """The raw results, if there are any."""
    return None if isinstance(lines, Lines) and lines.sha256 is None else lines


def _rows(plan: ShardPlan, rows: Rows | Unreadable | None) -> Iterator[Words]:
    if not isinstance(rows, Rows):
        yield "rows", f"the frozen rows are {damage_of(rows)}", RESTORE
    elif rows.count != plan.rows or rows.misplaced.count:
        wrong = rows.misplaced.count or abs(rows.count - plan.rows)
        yield "rows", f"the frozen rows are not those of the plan ({wrong:,} differ)", RESTORE
    elif rows.misasked.count:
        yield "rows", f"the frozen rows ask for samples that the run does not have{at(rows.misasked)}", RESTORE
    elif rows.unanswered != plan.unanswered:
        what = f"the plan says that {plan.unanswered} of them had no answer before, the frozen rows {rows.unanswered}"
        yield "rows", what, RESTORE


def _requests(
    plan: ShardPlan, record: ShardRecord, sent: Send | None, requests: Requests | Unreadable | None
) -> Iterator[Words]:
    if not isinstance(requests, Requests):
        yield "requests", f"{record.requests} is {damage_of(requests)}", RESTORE
        return
    if requests.rows != plan.rows or requests.misplaced.count:
        yield "requests", f"{record.requests} does not hold the shard's rows", RESTORE
    if requests.unlike.count:
        yield "requests", f"{record.requests} does not say what the frozen rows give{at(requests.unlike)}", RESTORE
    if sent is not None and requests.lines is not None and sent.lines != requests.lines:
        what = f"{record.requests} has {requests.lines:,} lines, and the ledger says that {sent.lines:,} were sent"
        yield "requests", what, RESTORE
    yield from _remade(record, sent, requests)


def _remade(record: ShardRecord, sent: Send | None, requests: Requests) -> Iterator[Words]:
    """The bytes that were sent, held against those that the frozen rows give."""
    remade, upload = requests.remade, record.upload
    if remade is None:
        return
    if sent is not None and (sent.sha256, sent.lines) != (remade.sha256, remade.lines):
        yield "requests", "the frozen rows do not give the bytes that the ledger says were sent (sha256)", RESTORE
    expected = (remade.sha256, remade.lines, remade.size_bytes)
    if upload is not None and (upload.sha256, upload.lines, upload.size_bytes) != expected:
        yield "requests", "the frozen rows do not give the bytes that the ledger says were uploaded (sha256)", RESTORE


def _sent(record: ShardRecord, sends: dict[str, Send]) -> Send | None:
    """The send that the shard's requests are of: its job's, or else the last."""
    job = record.job
    send = sends.get(job.display_name) if job else record.sends[-1] if record.sends else None
    return send if send and send.requests == record.requests else None


def _collected(plan: ShardPlan, tally: Tally, files: Files) -> Iterator[Words]:
    lines, part = files.lines, files.part
    raw = list(_raw(tally, lines))
    yield from raw
    if part is None:
        yield "part", "the part is missing; a dataset that is there holds its rows", REMAKE_PART
    elif isinstance(part, Unreadable):
        yield "part", f"the part is {damage_of(part)}", REMAKE_PART
    elif part.sha256 != tally.part_sha256:
        yield "part", "the part is not the file that was recorded (sha256)", REMAKE_PART
    else:
        yield from _part(plan, part)
        if not raw:
            yield from _told_by_lines(part)
            yield from _counts(tally, lines, part)


def _raw(tally: Tally, lines: Lines | Unreadable | None) -> Iterator[Words]:
    if isinstance(lines, Unreadable):
        yield "raw", f"the raw results are {damage_of(lines)}", REFETCH
    elif lines is not None and lines.sha256 != tally.raw_sha256:
        if lines.sha256 is None:
            yield "raw", "the raw results are missing", REFETCH
        else:
            yield "raw", "the raw results are not those that were recorded (sha256)", REFETCH
    elif lines is not None and lines.raw_bytes != tally.raw_bytes and not _is_unsized(tally):
        what = f"the ledger says that the raw results have {tally.raw_bytes:,} bytes; they have {lines.raw_bytes:,}"
        yield "miscounted", what, RESTORE


def _is_unsized(tally: Tally) -> bool:
    """Whether it was recorded by a release that did not count the bytes."""
    return tally.raw_sha256 is not None and not tally.raw_bytes


def _part(plan: ShardPlan, part: Part) -> Iterator[Words]:
    if part.rows != plan.rows or part.misplaced.count:
        yield "part", f"the part does not hold the shard's rows in order{at(part.misplaced)}", REMAKE_PART
    if part.unlike_request.count:
        yield "part", f"the part names requests that were not sent{at(part.unlike_request)}", REMAKE_PART
    if part.misvoted.count:
        yield "part", f"rows of the part are not what their samples come to{at(part.misvoted)}", REMAKE_PART
    if part.uncounted.count or part.rounds != {plan.round}:
        yield "part", f"rows of the part are of another round or of other attempts{at(part.uncounted)}", REMAKE_PART


def _told_by_lines(part: Part) -> Iterator[Words]:
    if part.without_line.count:
        yield "row_without_line", f"rows are ok that no raw line answers{at(part.without_line)}", REMAKE_PART
    if part.unlike_line.count:
        yield "row_unlike_line", f"rows do not say what their raw line says{at(part.unlike_line)}", REMAKE_PART


COUNTED = [name for name in Tally.model_fields if not name.endswith(("sha256", "raw_bytes", "cost_usd", "unpriced"))]


def _counts(tally: Tally, lines: Lines | Unreadable | None, part: Part) -> Iterator[Words]:
    """What was recorded of the shard, counted again."""
    held = {name: value for found in (lines, part) if found for name, value in vars(found).items() if value is not None}
    if differing := [name for name in COUNTED if name in held and getattr(tally, name) != held[name]]:
        words = ", ".join(f"{name} {getattr(tally, name)}, is {held[name]}" for name in differing)
        yield "miscounted", f"the ledger's count is not what the files hold: {words}", RESTORE
    if part.mended is not None and not _is_priced(tally, part):
        what = f"the ledger says that the shard cost {tally.cost_usd} USD and {tally.unpriced} lines of unknown cost"
        yield "miscounted", f"{what}; its rows say {part.cost_usd} and {part.unpriced}", RESTORE
    if not _has_usage(tally, part):
        what = f"the ledger says that {tally.counted} lines tell how long their prompt was"
        yield "miscounted", f"{what}; {part.with_usage} rows of {part.requests} lines do", RESTORE


def _has_usage(tally: Tally, part: Part) -> bool:
    """With several samples a row there are bounds only."""
    most = part.with_usage if part.requests == part.rows else part.requests
    return tally.counted is None or part.with_usage <= tally.counted <= most


def _is_priced(tally: Tally, part: Part) -> bool:
    """A row with a line of unknown cost does not say what its other lines cost, so that with several samples a row
    there are bounds only."""
    same = isclose(tally.cost_usd, part.cost_usd, rel_tol=1e-9, abs_tol=1e-12)
    if part.requests == part.rows or not part.unpriced:
        return same and tally.unpriced == part.unpriced
    return part.unpriced <= tally.unpriced <= part.requests and (same or part.cost_usd < tally.cost_usd)


# --- its jobs ---------------------------------------------------------------------------------------------------------


def _jobs(run: RunFacts, facts: ShardFacts, record: ShardRecord) -> Iterator[Words]:
    known = [job for job in (record.job, *record.twins) if job]
    listed = {job.name: job for job in facts.listed or ()}
    for twin in record.twins:
        yield _bought_twice(facts, record, listed.get(twin.name, twin))
    if record.job is not None:
        yield from _its_job(facts, record, record.job, listed.get(record.job.name))
    for job in listed.values():
        if job.name not in {one.name for one in known}:
            yield _unrecorded(run, facts, record, job)


def _bought_twice(facts: ShardFacts, record: ShardRecord, twin: Job) -> Words:
    rows, first = rows_of(facts, twin), record.job
    beside = f" beside {first.name}" if first else ""
    what = f"{rows:,} rows were bought twice: {twin.name} ({state_of(twin)}){beside}; {reason(facts, twin)}"
    return "bought_twice", what, f"the shard keeps its first answers; if {twin.name} is not over, cancel it"


def rows_of(facts: ShardFacts, job: Job) -> int:
    """How many requests a job holds, by its send or else by the service."""
    send = sends_of(facts.history).get(job.display_name)
    return send.lines if send else job.requests or 0


def reason(facts: ShardFacts, job: Job) -> str:
    first = facts.record.job
    return why_twice(facts.history, first.display_name if first else None, job.display_name)


def state_of(job: Job) -> str:
    return job.state.rpartition("STATE_")[2]


def _its_job(facts: ShardFacts, record: ShardRecord, job: Job, listed: Job | None) -> Iterator[Words]:
    send, over = sends_of(facts.history).get(job.display_name), state_of(job) in lifecycle.TERMINAL
    for shown in filter(None, (job, listed)):
        if send and shown.requests not in (None, send.lines):
            what = f"{job.name} holds {shown.requests:,} requests, and {send.lines:,} were sent"
            yield "job_lines", what, "look at the job at the service: it is not the one that was sent"
            break
    if facts.gone:
        yield "missing_job", f"the ledger waits for {job.name}, which the service does not know", RESUME
    if record.state in (S.ENDED, S.COLLECTED) and job.responses_file is None:
        if listed is not None and listed.responses_file is not None:
            what = f"{job.name} was given up as {state_of(job)}, and the service has its results"
            yield "lost_results", what, f"fetch {listed.responses_file} by hand while the service has it"
        elif not over or state_of(job) == "SUCCEEDED":
            what = f"{job.name} was given up ({record.problem or state_of(job)}): what it held was never fetched"
            yield "lost_results", what, "look at it at the service, if it is still there; its rows say why they failed"


def _unrecorded(run: RunFacts, facts: ShardFacts, record: ShardRecord, job: Job) -> Words:
    if job.display_name not in sends_of(facts.history):
        what = f"{job.name} ({state_of(job)}) has the run's name, and no send that is recorded made it"
        return "unrecorded_job", what, "look at it at the service: nothing here touches it"
    twice = f", though {record.job.name} holds its rows: {reason(facts, job)}" if record.job else ""
    what = f"{job.name} ({state_of(job)}) holds {rows_of(facts, job):,} rows and is not in the ledger{twice}"
    if run.finished:
        return "unrecorded_job", what, "delete _SUCCESS, then resume: it is recorded, and cancelled if it still runs"
    return "unrecorded_job", what, f"gemini-batch-dist resume {run.where} records it, if no process does so already"


# --- the whole run ----------------------------------------------------------------------------------------------------


def judge_run(facts: RunFacts) -> Iterator[Finding]:
    """What is wrong with the run beside its shards."""
    found = [
        *judge_plan(facts),
        *(("control", what, RESTORE) for what in facts.control_faults),
        *(("money", f"{rundir.SPEND}: {what}", RESTORE) for what in _money(facts)),
        *(("stray_file", f"{name} is of nothing that was planned", "move it away") for name in facts.strays),
        *_success(facts),
        *_looked(facts),
    ]
    return (Finding(kind, None, what, fix) for kind, what, fix in found)


def _money(facts: RunFacts) -> Iterator[str]:
    is_whole = facts.finished and not facts.plan_faults
    return judge_chain(facts.chain, facts.told, len(facts.plan) if is_whole and isinstance(facts.plan, tuple) else None)


def _success(facts: RunFacts) -> Iterator[Words]:
    success = facts.success
    if success is None:
        return
    if isinstance(success, Unreadable):
        yield "dataset", f"_SUCCESS is {damage_of(success)}", REMAKE_DATASET
        return
    yield from _whole(facts, success)
    for file in success.files:
        yield from _dataset_file(file)
    if not facts.is_repeated:
        yield "dataset", "merged.json does not say what _SUCCESS does", REMAKE_DATASET
    if facts.reported_rows != facts.run.asked.rows:
        told = facts.reported_rows if isinstance(facts.reported_rows, int) else damage_of(facts.reported_rows)
        yield "report", f"report.json is not of this run's rows ({told})", REMAKE_DATASET


def _whole(facts: RunFacts, success: Success) -> Iterator[Words]:
    if (success.run_id, success.endpoint) != (facts.run.run_id, facts.run.asked.endpoint):
        yield "dataset", "_SUCCESS is of another run", REMAKE_DATASET
    if isinstance(facts.plan, tuple) and not facts.plan_faults and success.round > len(facts.rounds):
        yield "plan", f"_SUCCESS is of round {success.round}, and the plans end with {len(facts.rounds)}", RESTORE
    if len({file.name for file in success.files}) != len(success.files):
        yield "dataset", "_SUCCESS lists a file twice", REMAKE_DATASET
    if (rows := sum(file.rows for file in success.files)) != facts.run.asked.rows:
        yield "dataset", f"_SUCCESS lists {rows:,} rows, and {facts.run.asked.rows:,} were asked", REMAKE_DATASET


def _dataset_file(file: DatasetFile) -> Iterator[Words]:
    seen = file.seen
    if seen is None or isinstance(seen, Unreadable):
        yield "dataset", f"{file.name} is {damage_of(seen)}", REMAKE_DATASET
        return
    if seen.sha256 != file.sha256:
        yield "dataset", f"{file.name} is not the file that _SUCCESS lists (sha256)", REMAKE_DATASET
        return
    if seen.rows != file.rows or seen.misplaced.count:
        yield "dataset", f"{file.name} does not hold its rows in order{at(seen.misplaced)}", REMAKE_DATASET
    if (file.by_status, file.failed) != (seen.by_status, seen.failed):
        yield "dataset", f"_SUCCESS counts other rows than {file.name} holds", REMAKE_DATASET
    if seen.made_of is not None and seen.made_of != file.made_of:
        yield "dataset", f"_SUCCESS says that {file.name} was made of other parts than the ledger", REMAKE_DATASET
    if seen.unlike_part.count:
        yield "dataset", f"{file.name} holds other rows than the parts{at(seen.unlike_part)}", REMAKE_DATASET


def _looked(facts: RunFacts) -> Iterator[Words]:
    if facts.unseen:
        what = f"the jobs could not be listed: {facts.unseen}"
        yield "jobs_unseen", what, "again when the service answers; --offline leaves the jobs out"
    for job in facts.nobodys:
        what = f"{job.name} ({state_of(job)}) is named {job.display_name!r}, as no send of this run is"
        yield "unrecorded_job", what, "look at it at the service: nothing here touches it"
