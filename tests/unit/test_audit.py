"""The auditor's verdict: a clean run is clean, and whatever else the facts say is a finding."""

from dataclasses import fields, is_dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

import orjson
import pytest
from audited import capped_shop, copied, findings_of, finished_shop, kinds_of, look_at, means_of, run_in_rounds
from hypothesis import given
from hypothesis import strategies as st
from made import make_asked, make_limits
from pydantic import BaseModel

from gemini_batch.audit.account import account_of
from gemini_batch.audit.facts import RunFacts, Unreadable, Version
from gemini_batch.audit.walk import Walk, audit
from gemini_batch.jobs import events
from gemini_batch.jobs.spending import settle_all
from gemini_batch.records import Job, ShardState

LATE = timedelta(days=1)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return finished_shop(tmp_path_factory.mktemp("run"), make_asked, make_limits)


@pytest.fixture(scope="module")
def clean(original):
    """(the run, its shards): everything an audit sees of a run that finished after some trouble."""
    return look_at(original)


@pytest.fixture(scope="module")
def in_rounds(tmp_path_factory):
    return look_at(run_in_rounds(tmp_path_factory.mktemp("rounds"), make_asked, make_limits))


def test_a_run_of_several_rounds_is_clean(in_rounds):
    run, shards = in_rounds
    assert [one.cause for one in run.rounds] == ["repair", "repair", "retry", "retry"]
    assert any(shard.record.left_out for shard in shards)
    assert [shard.plan.refusals for shard in shards].count(1) == 2
    assert findings_of(run, shards) == []


def test_a_run_that_met_with_trouble_and_finished_is_clean(clean):
    run, shards = clean
    causes = {version.record.cause for shard in shards for version in shard.history}
    assert {"OutcomeUnknown", "SendFailed", "SendRefused", "Collected"} <= causes
    assert findings_of(run, shards) == []


# --- any single change ------------------------------------------------------------------------------------------------

WORDS = {"problem", "at", "owner", "nonce", "created_at", "ended_at", "began_at", "error", "where", "looked_at"}
"""For people, and marks of who wrote when: nothing rests on them."""

ESTIMATES = {"requests", "request_bytes", "tokens", "first_index"}
"""Of a shard's plan; where its rows are is held against its files by those who read them."""

OF_AN_ENTRY = {"replaced", "asked_for", "refusals", "unanswered", "settings", "frozen", "sources"}
"""Of a plan's line: held against the shard's files with the shard; the run as a whole only has to number its shards
and, in round 0, rows."""

TOLD = {("again", "bought"), ("again", "were"), ("files", "part", "requests")}
"""Counted for people; the samples of a part only bound how many lines may be of unknown cost."""

OF_THE_RUN = {"run_id", "nonce", "shards", ("asked", "rows"), ("asked", "endpoint")}
"""What of run.json is held against something here. The rest of what was asked is in the plan's own identity."""


def is_free(facts, path):
    """Whether a value may be another without anything being wrong."""
    names = [step for step in path if isinstance(step, str)]
    match names:
        case ["run", *rest]:
            return rest[0] not in OF_THE_RUN and tuple(rest) not in OF_THE_RUN
        case ["plan", name] if isinstance(facts, RunFacts):
            later = name == "rows" and facts.plan[path[1]].round
            return name in ESTIMATES | OF_AN_ENTRY or later
        case ["told", name]:
            return name == "is_exact" or (facts.chain.last is None and name != "sends")
        case ["chain", "reserved"]:
            return True  # more than one send needs: of two workers that reserved for it the higher one's stays
        case ["plan", "replaced"]:
            return facts.again and facts.plan.round > 2  # by a person, whose new content may be the old one
        case ["plan", name]:
            return name in ESTIMATES
        case ["listed", name]:
            return name not in {"name", "requests"}
        case ["history", "record", "job", name] if facts.history[path[1]].record.cause == "JobLearned":
            return name not in {"name", "display_name"}  # the rest is as of that moment
        case ["success", "files", "name"] | ["may_resubmit"] | ["gone"]:
            return True  # names go with what was read; nothing was settled; not every shard has a job
    return names[-1] in WORDS or any(tuple(names[: len(told)]) == told for told in TOLD)


def leaves(value, path=()):
    """Every plain value in facts, by where it stands."""
    if is_dataclass(value):
        for field in fields(value):
            yield from leaves(getattr(value, field.name), (*path, field.name))
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from leaves(getattr(value, name), (*path, name))
    elif isinstance(value, tuple | list):
        for at, item in enumerate(value):
            yield from leaves(item, (*path, at))
    elif isinstance(value, dict):
        for key in value:
            yield from leaves(value[key], (*path, key))
    elif value is not None:
        yield path


def at(value, path):
    for step in path:
        value = value[step] if isinstance(value, tuple | list | dict) else getattr(value, step)
    return value


def changed(value, path, new):
    if not path:
        return new
    step, rest = path[0], path[1:]
    if isinstance(value, tuple | list):
        return type(value)(changed(item, rest, new) if place == step else item for place, item in enumerate(value))
    if isinstance(value, dict):
        return value | {step: changed(value[step], rest, new)}
    inner = changed(getattr(value, step), rest, new)
    return replace(value, **{step: inner}) if is_dataclass(value) else value.model_copy(update={step: inner})


def other(value, more):
    """A value that is not this one."""
    match value:
        case bool():
            return not value
        case Enum():
            return [one for one in type(value) if one is not value][more % (len(type(value)) - 1)]
        case int() | float():
            return value + more
        case datetime():
            return value + LATE
    return f"{value}{more}"


class Quiet(tuple):
    """A tuple that Hypothesis does not print with every example."""

    __slots__ = ()

    def __repr__(self):
        return f"{len(self)} items"


@pytest.fixture(scope="module")
def capped(tmp_path_factory):
    return capped_shop(tmp_path_factory.mktemp("capped"), make_asked, make_limits)


@pytest.fixture(scope="module", params=["one round", "several rounds", "with a cap"])
def whole(request, clean, in_rounds, capped):
    return Quiet({"one round": clean, "several rounds": in_rounds}.get(request.param) or look_at(capped))


@pytest.fixture(scope="module")
def places(whole):
    """Every value that means something: (None for the run or the shard's number, path)."""
    run, shards = whole
    everything = [(None, run), *enumerate(shards)]
    return Quiet((where, path) for where, facts in everything for path in leaves(facts) if not is_free(facts, path))


@given(number=st.integers(0, 10**6), more=st.integers(1, 10**6))
def test_any_value_of_the_facts_that_is_another_is_a_finding(whole, places, number, more):
    """What nobody would notice is not accounted for."""
    run, shards = whole
    where, path = places[number % len(places)]
    facts = run if where is None else shards[where]
    facts = changed(facts, path, other(at(facts, path), more))
    if where is None:
        assert findings_of(facts, shards), path
    else:
        assert findings_of(run, [facts]), (where, path)


def test_no_value_of_the_facts_is_overlooked(whole, places):
    """The same for each once: chance must not decide which are tried."""
    run, shards = whole
    assert len(places) > 600
    overlooked = []
    for where, path in places:
        facts = run if where is None else shards[where]
        facts = changed(facts, path, other(at(facts, path), 1))
        if not (findings_of(facts, shards) if where is None else findings_of(run, [facts])):
            overlooked.append((where, path))
    assert overlooked == []


@given(st.data())
def test_a_version_that_is_missing_damaged_doubled_or_moved_is_a_finding(clean, data):
    run, shards = clean
    number = data.draw(st.integers(0, len(shards) - 1))
    history = list(shards[number].history)
    place = data.draw(st.integers(0, len(history) - 1))
    version = history[place]
    match data.draw(st.sampled_from(["missing", "damaged", "cut", "doubled", "moved"])):
        case "missing":
            history[place] = replace(version, record=None)
        case "damaged":
            history[place] = Version(version.number, None, "not JSON")
        case "cut":  # a last record that only says that files were deleted is not missed
            telling = [at for at, one in enumerate(history) if one.record.cause != "FilesDeleted"]
            del history[min(place, telling[-1]) :]
        case "doubled":
            history.append(replace(version, number=len(history) + 1))
        case "moved":
            source = (place + data.draw(st.integers(1, len(history) - 1))) % len(history)
            history[place] = replace(version, record=history[source].record)
    shards = [*shards[:number], replace(shards[number], history=tuple(history)), *shards[number + 1 :]]
    assert findings_of(run, shards)


@pytest.mark.parametrize("name", ["rows", "requests", "lines", "part"])
@pytest.mark.parametrize("found", [None, Unreadable("cut")])
def test_a_file_that_is_missing_or_damaged_is_a_finding(clean, name, found):
    run, shards = clean
    if (name, found) == ("lines", None):
        found = replace(shards[0].files.lines, sha256=None)
    one = replace(shards[0], files=replace(shards[0].files, **{name: found}))
    (finding,) = findings_of(run, [one])
    assert (finding.kind, finding.shard) == ({"lines": "raw"}.get(name, name), 0)


# --- jobs -------------------------------------------------------------------------------------------------------------


def with_job(shards, job, number=0):
    return [replace(shards[number], listed=(*shards[number].listed, job)), *shards[number + 1 :]]


def test_a_job_of_a_send_that_the_ledger_does_not_know_is_bought_and_unrecorded(clean):
    run, shards = clean
    again = shards[0].record.job.model_copy(update={"name": "batches/again"})
    facts = with_job(shards, again)
    (finding,) = findings_of(run, facts)
    assert finding.kind == "unrecorded_job"
    for word in ("batches/again", "2 rows", "batches/1", "repeated on the way"):
        assert word in finding.what
    assert "resume" in finding.fix
    assert account_of(run, facts[0])["bought_more_than_once"]["rows"] == 2


def test_a_job_under_the_runs_name_that_no_send_made_is_named_and_left_alone(clean):
    run, shards = clean
    (finding,) = findings_of(run, with_job(shards, Job(name="batches/x", display_name="gbd-run-000000-9-" + "0" * 16)))
    assert (finding.kind, "batches/x" in finding.what) == ("unrecorded_job", True)
    assert "nothing here touches it" in finding.fix
    (finding,) = findings_of(replace(run, nobodys=(Job(name="batches/x", display_name="gbd-run-by-hand"),)), shards)
    assert (finding.kind, finding.shard) == ("unrecorded_job", None)


def test_a_recorded_twin_is_a_finding_with_its_rows_and_the_reason(original, tmp_path):
    """The promise that was broken is said, with what it cost."""
    shop = copied(original, tmp_path)
    job = shop.last(0).job
    again = Job(name="batches/again", display_name=job.display_name, created_at=job.created_at)
    shop.save(shop.last(0), events.JobLearned(again))
    (run, shards) = look = look_at(shop)
    (finding,) = findings_of(*look)
    assert (finding.kind, finding.shard) == ("bought_twice", 0)
    for word in ("2 rows", "batches/again", "batches/1", "one send made both"):
        assert word in finding.what
    account = account_of(run, shards[0])
    assert account["jobs"] | {"created": 2, "twins": 1} == account["jobs"]
    assert account["lines"]["sent"] == 4
    assert account["bought_more_than_once"]["rows"] == 2


def test_an_old_job_that_is_no_longer_listed_is_no_finding(clean):
    """The service keeps jobs for a while only."""
    run, shards = clean
    facts = [replace(shard, listed=()) for shard in shards]
    assert findings_of(run, facts) == []
    assert sum(account_of(run, shard)["jobs"]["no_longer_listed"] for shard in facts) == 4


def test_a_live_job_that_the_service_does_not_know_is_a_finding(clean):
    run, shards = clean
    submitted = replace(shards[0], history=shards[0].history[:4], files=replace(shards[0].files, lines=None, part=None))
    assert submitted.record.state is ShardState.SUBMITTED
    assert kinds_of(replace(run, success=None), [submitted]) == []
    assert kinds_of(replace(run, success=None), [replace(submitted, gone=True)]) == ["missing_job"]


@pytest.mark.parametrize(
    ("state", "shown", "kinds"),
    [
        ("BATCH_STATE_EXPIRED", None, []),
        ("BATCH_STATE_FAILED", None, []),
        ("BATCH_STATE_FAILED", "files/out", ["lost_results"]),
        ("BATCH_STATE_SUCCEEDED", None, ["lost_results"]),
        ("GONE", None, ["lost_results"]),
    ],
)
def test_what_was_paid_for_and_never_fetched_is_a_finding_and_a_job_without_results_is_not(clean, state, shown, kinds):
    """Rows that failed are accounted for; a result that lies at the service is not."""
    run, shards = clean
    ended = shards[0].history[4].record
    job = ended.job.model_copy(update={"state": state, "responses_file": None})
    history = (*shards[0].history[:4], Version(5, ended.model_copy(update={"job": job})))
    listed = (job.model_copy(update={"responses_file": shown}),)
    facts = replace(shards[0], history=history, listed=listed, files=replace(shards[0].files, part=None))
    assert kinds_of(replace(run, success=None), [facts]) == kinds


def test_a_list_that_could_not_be_read_is_not_clean_and_one_that_nobody_asked_for_is(clean):
    run, shards = clean
    blind = [replace(shard, listed=None) for shard in shards]
    assert findings_of(replace(run, looked_at=None), blind) == []
    assert kinds_of(replace(run, looked_at=None, unseen="503"), blind) == ["jobs_unseen"]


# --- money ------------------------------------------------------------------------------------------------------------


def money_of(shop):
    return [one.what for one in findings_of(*look_at(shop)) if one.kind == "money"]


def test_a_run_with_a_cap_is_clean_and_its_chain_says_what_the_ledgers_say(capped):
    facts, shards = look_at(capped)
    assert findings_of(facts, shards) == []
    assert facts.told.settled_usd > 0
    assert facts.told.is_exact
    assert len(facts.told.sends) == len(facts.chain.reserved) == 6


def test_what_was_reserved_and_sent_while_an_audit_looked_is_no_finding(tmp_path):
    shop = capped_shop(tmp_path, make_asked, make_limits)
    (tmp_path / "run" / "_SUCCESS").unlink()
    chain = sorted((tmp_path / "run" / "spend").iterdir())
    late = [(path, path.read_bytes()) for path in chain[1:]]
    for path, _ in late:
        path.unlink()
    walk = Walk(shop.files, means_of(shop))
    facts = walk.see_run()
    for path, body in late:
        path.write_bytes(body)
    shards = list(walk.see_shards(facts))
    assert not [one for one in findings_of(walk.see_dataset(facts), shards) if one.kind == "money"]


def spoiled(shop, folder, spoil):
    """A copy of the run whose chain is as `spoil` leaves it."""
    shop = copied(shop, folder)
    spoil(sorted((folder / "run" / "spend").iterdir()))
    return shop


def rewritten(path, **changes):
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | changes))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda chain: chain[1].unlink(), "version 2 is missing"),
        (lambda chain: chain[1].write_bytes(b"{"), "version 2 cannot be read"),
        (lambda chain: chain[-1].unlink(), "are held after the end"),
        (lambda chain: [one.unlink() for one in chain], "there is no record of one"),
        (lambda chain: rewritten(chain[1], cause="Reserved", settled_usd=5.5), "version 2 reserves up to"),
        (lambda chain: [rewritten(one, held=[]) for one in chain], "0.0 were reserved for it"),
        (lambda chain: rewritten(chain[0], cap_usd=99.0), "a cap of 99.0 USD, which nobody said"),
        (lambda chain: rewritten(chain[-1], settled_usd=0.0), "it settles 0.0 USD"),
    ],
    ids=["gap", "damaged", "cut", "gone", "above the cap", "unreserved", "unsaid", "unlike the ledgers"],
)
def test_money_that_is_not_accounted_for_is_a_finding(capped, tmp_path, spoil, said):
    found = money_of(spoiled(capped, tmp_path, spoil))
    assert any(said in what for what in found), found


def test_a_second_job_is_in_the_chain_at_its_highest(capped, tmp_path):
    shop = copied(capped, tmp_path)
    job = shop.last(0).job
    shop.save(shop.last(0), events.JobLearned(Job(name="batches/again", display_name=job.display_name)))
    assert any("the second jobs ()" in what for what in money_of(shop))
    settle_all(replace(shop, book=None))
    assert money_of(shop) == []


# --- unfinished runs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("versions", range(6))
def test_a_run_that_is_under_way_is_clean_at_every_version(clean, versions):
    """Unfinished is said, and is no finding; in a run that has finished the same history is one."""
    run, shards = clean
    files = shards[0].files if versions > 4 else replace(shards[0].files, lines=None, part=None)
    facts = replace(shards[0], history=shards[0].history[:versions], files=files)
    if versions >= 4:
        assert findings_of(replace(run, success=None), [facts]) == []
    else:  # its job is there, and not in the ledger yet
        assert kinds_of(replace(run, success=None), [facts]) == ["unrecorded_job"]
        assert findings_of(replace(run, success=None), [replace(facts, listed=())]) == []
    assert "unsettled" in kinds_of(run, [facts])


def test_files_that_the_ledger_has_not_got_to_are_a_finding(clean):
    run, shards = clean
    facts = replace(shards[0], history=shards[0].history[:4])
    assert kinds_of(replace(run, success=None), [facts]) == ["part", "raw"]


# --- audit.json -------------------------------------------------------------------------------------------------------


def test_the_file_is_json_with_a_line_for_each_shard_and_says_what_the_command_says(original, tmp_path):
    shop = copied(original, tmp_path)
    said = audit(shop.files, means_of(shop))
    body = (tmp_path / "run" / "audit.json").read_bytes()
    assert orjson.loads(body) == orjson.loads(orjson.dumps(said))
    lines = [line for line in body.splitlines() if line.startswith(b'{"shard":')]
    assert (len(lines), max(map(len, lines)) < 700) == (5, True)
    assert (said["clean"], said["finished"], said["notes"]) == (True, True, [])
    assert said["looked_at"] == shop.clock.now().isoformat()
    assert said["totals"]["jobs"] == {
        "created": 4, "adopted": 1, "twins": 0, "unrecorded": 0, "listed": 4, "no_longer_listed": 0,
    }  # fmt: skip
    assert said["totals"]["lines"] == {
        "sent": 8, "received": 8, "missing": 0, "duplicate": 0, "conflicting": 0, "foreign": 0, "broken": 0,
    }  # fmt: skip
    assert said["totals"]["by_status"] == {"ok": 8, "failed": 2}
    for shard in said["shards"]:
        tally = shop.last(shard["shard"]).tally
        assert (shard["raw_sha256"], shard["part_sha256"]) == (tally.raw_sha256, tally.part_sha256)


def test_a_place_that_takes_no_audit_file_is_a_finding_and_the_rest_is_still_told(original, tmp_path, monkeypatch):
    shop = copied(original, tmp_path)

    def full(name, scratch):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shop.files.store, "publish", full)
    said = audit(shop.files, means_of(shop))
    assert (said["clean"], [one["kind"] for one in said["findings"]]) == (False, ["unwritten"])
    assert len(said["shards"]) == 5
