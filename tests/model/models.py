"""The models: what each is of, and how far it goes by default."""

from rules import Budget, Rules

ANY = Budget(9, 9, 9, 9, 9, total=1)
"""One thing that goes wrong, whatever it is."""

PROMISED = Rules(policy="resubmit", shown_within=2, sends=2)
"""A service whose complete listings show every job within the settle time."""

MODELS = {
    "wait": Rules(budget=ANY._replace(total=2)),
    "wait, a fleet": Rules(kinds=("work", "look"), budget=ANY),
    "wait, the first shard of a run": Rules(sibling=False, budget=ANY),
    "resubmit, jobs show in time": PROMISED._replace(budget=ANY._replace(disk=0, losses=0)),
    "resubmit, jobs may stay hidden": Rules(
        policy="resubmit", kinds=("advance", "finish"), workers=1, jobs=2, sends=2, budget=ANY._replace(total=2)
    ),
}
