"""Runs of several rounds under audit: clean at every step, and whatever is wrong with a round is named."""

import copy
import json
from dataclasses import replace
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from audited import copied, drive, findings_of, kinds_of, look_at, means_of, run_in_rounds, shop_in_rounds
from made import make_asked, make_limits
from test_audit_walk import rewrite, sha256

from gemini_batch import rundir
from gemini_batch.audit.walk import audit
from gemini_batch.coordinator.repair import Batch, Pick
from gemini_batch.coordinator.retry import Choice, retry
from gemini_batch.coordinator.rounds import Chosen, plan_batches, plan_round, rows_again
from gemini_batch.finish import finish

TRANSIENT = frozenset({("transient", 1)})


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return run_in_rounds(tmp_path_factory.mktemp("run"), make_asked, make_limits)


@pytest.fixture
def shop(original, tmp_path):
    """With a service of its own: some go on to buy."""
    made = copied(original, tmp_path)
    remote = copy.deepcopy(original.remote)
    return replace(made, plan=made.files.plan(), remote=remote, clock=remote.clock)


def kinds_in(shop):
    return kinds_of(*look_at(shop))


# --- clean ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 3])
def test_a_run_is_clean_at_every_step_of_every_round(samples, tmp_path, limits):
    asked = partial(make_asked, n_samples=samples, min_valid=min(2, samples))
    shop, looks = shop_in_rounds(tmp_path, asked, limits), []

    def look(shop):
        looks.append(len(shop.plan))
        assert findings_of(*look_at(shop)) == []

    drive(shop, look)
    assert retry(shop.files, shop.run, shop.limits, Choice(keys=frozenset({"2", "6"}))) == 2
    facts, _ = look_at(shop)
    assert (facts.success is not None, facts.finished) == (True, False), "the dataset stays till the next is made"
    look(shop)
    drive(shop, look)
    assert len(set(looks)) >= 3
    facts, shards = look_at(shop)
    assert findings_of(facts, shards) == [] and facts.finished


def test_rows_frozen_by_a_planner_that_came_too_late_are_no_finding(shop, tmp_path):
    last = shop.plan[-1]
    for name in (rundir.again_of(last.shard, "0" * 12), rundir.again_of(last.shard + 7, "1" * 12)):
        (tmp_path / "run" / name).write_bytes(b"debris")
    assert kinds_in(shop) == []


def test_what_was_bought_again_is_told_with_the_reason(shop):
    said = audit(shop.files, means_of(shop))
    again = {shard["shard"]: shard["bought_more_than_once"]["again"] for shard in said["shards"]}
    told = {number: one for number, one in again.items() if one and one["rows"]}
    assert [(one["round"], one["by"], one["rows"], one["why"]) for one in told.values()] == [
        (1, "repair", 2, {"transient": 2}),
        (2, "repair", 1, {"transient": 1}),
        (3, "retry", 2, {"ok": 2}),
    ]
    assert said["totals"]["bought_again"] == {"transient": 3, "ok": 2}
    assert said["totals"]["rows_bought_more_than_once"] == 5, "what was only refused was bought once"


# --- plans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-9])])
def test_a_later_plan_that_is_missing_in_the_middle_or_damaged_is_one_finding(change, shop, tmp_path):
    change(tmp_path / "run/plan-0002.parquet")
    assert kinds_in(shop) == ["plan"]


def test_a_last_plan_that_is_missing_shows_in_the_dataset_that_was_made_of_it(shop, tmp_path):
    (tmp_path / "run/plan-0004.parquet").unlink()
    assert kinds_in(shop) == ["plan", "stray_file", "unrecorded_job"]


@pytest.mark.parametrize(
    "change",
    [
        {"round": 2},
        {"shard": 99},
        {"sources": [0]},
        {"frozen": "shards/000000.parquet"},
        {"settings": '{"price": 0}'},
        {"settings": "[]"},
        {"replaced": True},
        {"asked_for": True},
        {"refusals": 3},
        {"unanswered": 0},
        {"rows": 1},
        {"first_index": 0},
    ],
    ids=str,
)
def test_a_line_of_a_later_plan_that_says_something_else_is_a_finding(change, shop, tmp_path):
    rewrite(tmp_path / "run/plan-0001.parquet", lambda rows: [rows[0], *rows[1:-1], rows[-1] | change])
    assert {"plan", "rows"} & set(kinds_in(shop))


# --- rows -------------------------------------------------------------------------------------------------------------


def frozen_in(shop, tmp_path, number=1):
    (entry,) = [one for one in shop.plan if one.round == number and not one.refusals]
    return tmp_path / "run" / entry.frozen


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: [*rows[:-1], rows[-1] | {"index": 99}],
        lambda rows: rows[::-1],
        lambda rows: [rows[0], *rows],
        lambda rows: [*rows[:-1], rows[-1] | {"samples": [1]}],
        lambda rows: [*rows[:-1], rows[-1] | {"samples": []}],
        lambda rows: [*rows[:-1], rows[-1] | {"attempts": 0}],
        lambda rows: [*rows[:-1], rows[-1] | {"was": "ok"}],
        lambda rows: [*rows[:-1], rows[-1] | {"prompt": "another"}],
    ],
)
def test_frozen_rows_of_a_later_round_that_are_others_are_a_finding(change, shop, tmp_path):
    rewrite(frozen_in(shop, tmp_path), change)
    assert {"rows", "requests"} & set(kinds_in(shop))


def test_damage_to_the_frozen_rows_of_a_later_round_is_one_finding(shop, tmp_path):
    path = frozen_in(shop, tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    assert kinds_in(shop) == ["rows"]


def repair_round(shop, source, wanted, change=lambda rows: rows):
    """A round that takes these rows of a shard, as no planner should."""
    with shop.files.store.local(rundir.part_of(source)) as path:
        kinds = {row["index"]: row["error"] and row["error"]["kind"] for row in pq.read_table(path).to_pylist()}
    entry = shop.plan[source]
    pick = Pick(frozenset((kind, times) for kind in kinds.values() for times in range(4)))
    blocks = [block.filter(pa.array([i in wanted for i in block["index"].to_pylist()])) for block in
              rows_again(shop.files, entry, pick)]  # fmt: skip
    chosen = Chosen((source,), iter([(source, change(block)) for block in blocks]), 10)
    assert plan_round(shop.files, shop.run, shop.limits, [chosen], "repair", shop.plan)


def test_rows_that_have_an_answer_and_are_bought_again_unasked_are_bought_twice(shop):
    repair_round(shop, 0, {0})
    assert kinds_in(shop) == ["plan"], "before anything is bought"
    drive(shop)
    assert kinds_in(shop) == ["bought_twice"]


def test_rows_that_two_rounds_take_of_one_shard_are_bought_twice(shop):
    batch = Batch(((0, Pick(TRANSIENT)),), 10)
    assert plan_batches(shop.files, shop.run, shop.limits, (batch,), shop.plan)
    drive(shop)
    (finding,) = findings_of(*look_at(shop))
    assert (finding.kind, "another shard" in finding.what, "row 1" in finding.what) == ("bought_twice", True, True)


def test_a_row_that_is_bought_again_with_another_question_is_a_finding(shop):
    def another(rows):
        at = rows.schema.get_field_index("prompt")
        return rows.set_column(at, rows.schema.field("prompt"), pa.array(["another"] * rows.num_rows))

    repair_round(shop, 3, {6}, another)
    drive(shop)
    assert "rows" in kinds_in(shop)


def test_a_source_whose_end_is_not_recorded_makes_its_rows_bought_twice(shop, tmp_path):
    (source,) = [one.sources[0] for one in shop.plan if one.round == 2]
    max((tmp_path / "run" / rundir.ledger_of(source)).iterdir()).unlink()
    assert "bought_twice" in kinds_in(shop)


# --- the dataset ------------------------------------------------------------------------------------------------------


def relist(folder, name="dataset/part-000000.parquet"):
    """`_SUCCESS` and its copy, after the file was changed."""
    said = json.loads((folder / "_SUCCESS").read_text())
    said["files"][0]["sha256"] = sha256(folder / name)
    for list_ in ("_SUCCESS", "merged.json"):
        (folder / list_).write_text(json.dumps(said))


@pytest.mark.parametrize("change", [{"text": "of the first round"}, {"round": 0}, {"attempts": 1}, {"cost_usd": 0.0}])
def test_a_row_that_is_not_what_its_rounds_come_to_is_a_finding(change, shop, tmp_path):
    rewrite(tmp_path / "run/dataset/part-000000.parquet", lambda rows: [*rows[:6], rows[6] | change, *rows[7:]])
    relist(tmp_path / "run")
    (finding,) = findings_of(*look_at(shop))
    assert "other rows than the parts (1, the first is row 6)" in finding.what


def test_a_dataset_of_an_earlier_round_is_not_taken_for_that_of_the_last(shop, tmp_path):
    """A copy of `_SUCCESS` that was restored: the run is not finished then, and its files are others."""
    said = json.loads((tmp_path / "run/_SUCCESS").read_text())
    for name in ("_SUCCESS", "merged.json"):
        (tmp_path / "run" / name).write_text(json.dumps(said | {"round": 1}))
    facts, shards = look_at(shop)
    assert not facts.finished
    assert kinds_of(facts, shards) == ["dataset"]


def test_a_part_of_a_later_round_is_made_again_as_the_finding_says(shop, tmp_path):
    entry = next(one for one in shop.plan if one.round)
    (tmp_path / "run" / rundir.part_of(entry.shard)).unlink()
    (finding,) = findings_of(*look_at(shop))
    assert (finding.kind, finding.shard) == ("part", entry.shard)
    (tmp_path / "run/_SUCCESS").unlink()
    finish(shop)
    assert kinds_in(shop) == []
