"""What the promise rests on, in every order in which things can happen. `model.py` goes further than these bounds."""

from random import Random

import broken
import pytest
from model import check, main
from models import ANY, IN_TIME, MODELS
from replay import go, random_way, shortest_ways
from rules import Budget, Rules

from gemini_batch.jobs import events

LEAST = {
    "wait": 180_000,
    "wait, any one fault": 50_000,
    "wait, the first shard of a run": 49_000,
    "wait, in a fleet": 130_000,
    "resubmit, jobs show in time": 98_000,
    "resubmit, jobs may stay hidden": 12_000,
}
"""States that there are at least: a model that has lost some proves less than it says."""


@pytest.mark.parametrize("name", MODELS)
def test_no_order_of_events_pays_twice_or_loses_what_is_paid(name):
    """Nor repeats a send without a recorded reason, nor changes what is final, nor leaves a state that cannot end."""
    found = check(MODELS[name])
    assert found.violation is None, found.way
    assert found.states > LEAST[name]


def test_a_job_that_lists_hide_for_longer_than_the_settle_time_is_paid_twice_under_resubmit():
    """What the promise of `resubmit` excepts is all that it has to: one tick more, and it happens."""
    assert check(IN_TIME._replace(shown_within=3)).violation == "paid twice"


# --- the model can fail -----------------------------------------------------------------------------------------------

ONE = Budget(crashes=1, cuts=1, refusals=1, total=1)
WAIT = Rules(budget=ONE, only_money=True)
RESUBMIT = IN_TIME._replace(budget=ONE, only_money=True)
FLEET = RESUBMIT._replace(kinds=("work", "look"))

COSTLY = {
    broken.lost_save_counts_as_won: WAIT._replace(budget=Budget()),
    broken.time_out_clears_sending: WAIT,
    broken.death_clears_sending: WAIT,
    broken.first_absence_is_believed: RESUBMIT,
    broken.settle_time_is_not_waited_for: RESUBMIT,
    broken.any_listing_is_complete: RESUBMIT,
    broken.shifted_pages_are_a_listing: RESUBMIT,
    broken.old_listing_is_believed: FLEET,
    broken.late_sender_sends: RESUBMIT,
    broken.word_of_any_send_counts: RESUBMIT,
    broken.absence_outlives_its_send: RESUBMIT,
}


@pytest.mark.parametrize("rule", COSTLY, ids=lambda rule: rule.__name__)
def test_without_any_one_of_its_rules_the_code_pays_twice(rule):
    with rule():
        assert check(COSTLY[rule]).violation == "paid twice"


def test_a_store_that_lets_two_create_one_version_pays_twice():
    """What all of it rests on."""
    assert check(WAIT._replace(exclusive=False)).violation == "paid twice"


@pytest.mark.parametrize(
    ("rule", "rules", "violation"),
    [
        (broken.key_needs_no_witness, Rules(), "a job that the service knows was written off"),
        (broken.one_look_is_enough, Rules(budget=ANY), "a job that is over was given up after one look"),
        (broken.newest_job_is_the_jobs, MODELS["resubmit, jobs may stay hidden"], "a recorded job was swapped"),
        (broken.late_word_is_forced, Rules(budget=ANY), "IllegalTransition: shard 0: SendFailed in state READY"),
        (broken.unknown_is_not_looked_for, Rules(budget=ONE), "from here it cannot end"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_other_rules_are_missed_too(rule, rules, violation):
    with rule():
        assert check(rules).violation == violation


# --- the model is of the real code ------------------------------------------------------------------------------------

FILES = {"FilesDeleted"}
"""Decides nothing about jobs, and one shard alone keeps its file; test_any_history.py has several."""

EVERY = {event.__name__ for event in events.Event.__args__} - {"NothingToSend", "JobStuck"} - FILES
HIDDEN = Rules(policy="resubmit", budget=ANY, jobs=2, sends=2)
REAL = {
    "solo": (Rules(budget=ANY), EVERY - {"Settled"}),
    "fleet": (HIDDEN._replace(kinds=("work", "look")), EVERY),
    "to the end": (HIDDEN._replace(kinds=("advance", "finish")), EVERY),
}


@pytest.mark.parametrize("name", REAL)
def test_real_workers_over_a_real_ledger_go_the_ways_of_the_model(name, tmp_path):
    """Threads, files and versions instead of numbers: after each step all of it is where the model says."""
    rules, causes = REAL[name]
    ways = [*shortest_ways(rules, causes).values()]
    rules = rules._replace(budget=rules.budget._replace(total=4))
    ways += [random_way(rules, Random(seed), 100) for seed in range(12)]
    for number, stops in enumerate(ways):
        (tmp_path / str(number)).mkdir()
        go(rules, stops, tmp_path / str(number))


def test_the_long_form_says_what_it_found(capsys):
    """`make chaos` reads its exit code, people its lines."""
    assert main(["--workers", "1", "--crashes", "1"]) == 0
    assert capsys.readouterr().out.count("holds") == len(MODELS) - 1, "two are the same at these bounds"
    with broken.death_clears_sending():
        assert main(["--only", "fleet"]) == 1
    assert "  (1, 'append', 'SendBegan', 'ok')" in capsys.readouterr().out
