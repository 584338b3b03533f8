"""What must never happen, said of each record that is written, and how a run should be left."""

from frame import number_of

from gemini_batch.jobs.lifecycle import GONE
from gemini_batch.records import ShardState

S = ShardState
KNOWN = "RNDFXC"
"""Lives of jobs that the service still knows."""


class Violation(Exception):
    """The world is as it must never be."""


def judge(jobs, before, after, cause, only_one):
    """A new record, beside what the service has made. Raises Violation."""
    if before.state is S.COLLECTED and after.model_copy(update={"twins": before.twins}) != before:
        raise Violation("a final state changed")
    if before.job and (after.job is None or after.job.name != before.job.name):
        raise Violation("a recorded job was swapped")
    if not {twin.name for twin in before.twins} <= {twin.name for twin in after.twins}:
        raise Violation("a second job was forgotten")
    if after.job:
        _judge_job(jobs, before, after, cause)
    elif after.state is S.COLLECTED and jobs and only_one:
        raise Violation("given up although there is a paid job")


def _judge_job(jobs, before, after, cause):
    made = {number: (file, life) for number, file, _, life in jobs}
    if number_of(after.job.name) not in made:
        raise Violation("a job that the service never made")
    file, life = made[number_of(after.job.name)]
    if after.requests != f"requests/{file}":
        raise Violation("the rows of another request file are looked for in the results")
    if after.job.state == GONE and life in KNOWN:
        raise Violation("a job that the service knows was written off")
    if after.state is S.COLLECTED and life == "R":
        raise Violation("a running job was not waited for")
    if cause == "JobUnclear" and after.state is S.ENDED and (before.absence is None or before.absence.times < 2):
        raise Violation("a job that is over was given up after one look")
    if cause == "ResultsMissing" and life == "D" and before.job.responses_file and not after.job.responses_file:
        raise Violation("results that the service has were given up")


def is_end(worlds, world):
    """Whether nothing is under way, and all jobs that the service knows are recorded."""
    calls = [worlds.calls.calls[worker.call] for worker in world.workers]
    overdue = any(call.overdue for call in calls if call.kind == "idle")
    if world.wires or overdue or any(worker.wire for worker in world.workers):
        return False
    record = worlds.calls.records[world.ledger]
    if record.state is S.READY:  # more sends are not modelled
        return len(record.sends) >= worlds.rules.sends
    recorded = {number_of(job.name) for job in (record.job, *record.twins) if job}
    if any(life in KNOWN and number not in recorded for number, _, _, life in world.jobs):
        return False
    lost = worlds.rules.policy == "wait" and record.state is S.UNKNOWN
    """The one send made no job, and nobody can know: it waits."""
    return lost or record.state is S.COLLECTED
