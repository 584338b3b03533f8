"""The models: what each is of, and how far it goes in every test run."""

from rules import Budget, Rules

ANY = Budget(crashes=1, cuts=1, refusals=1, disk=1, losses=1, total=1)
"""One thing that goes wrong, whatever it is."""

TWO = Budget(crashes=2, cuts=2, refusals=2, disk=0, losses=2, total=2)

IN_TIME = Rules(policy="resubmit", shown_within=2, sends=2)
"""A service whose complete listings show every job within the settle time."""

MODELS = {
    "wait": Rules(budget=TWO),
    "wait, any one fault": Rules(budget=ANY),
    "wait, the first shard of a run": Rules(sibling=False, budget=ANY),
    "wait, in a fleet": Rules(kinds=("work", "look"), budget=ANY._replace(disk=0)),
    "resubmit, jobs show in time": IN_TIME._replace(budget=ANY._replace(disk=0, losses=0)),
    "resubmit, jobs may stay hidden": Rules(
        policy="resubmit", kinds=("advance", "finish"), workers=1, jobs=2, sends=2, budget=TWO._replace(disk=2)
    ),
}
