"""Check all models as far as one likes: `python tests/model/model.py --workers 3 --crashes 3`.

In: how many workers, and how often each thing may go wrong. Out: a line for each model, and the way to what must not
be, should there be one; then the exit code is 1.
"""

import sys
from argparse import ArgumentParser

from calls import Calls
from models import MODELS
from rules import Budget, Rules
from search import Found, search
from world import Worlds


def check(rules: Rules) -> Found:
    """Every state of a model."""
    with Calls(rules.policy, rules.sibling) as calls:
        return search(Worlds(rules, calls))


def main(arguments: list[str]) -> int:
    asked = _parser().parse_args(arguments)
    held, checked = True, set()
    for name, rules in ((name, _widened(rules, asked)) for name, rules in MODELS.items()):
        if asked.only not in name or rules in checked:
            continue
        checked.add(rules)
        found = check(rules)
        held = held and found.violation is None
        print(f"{name}: {found}", *(f"  {label}" for label, _ in found.way), sep="\n", flush=True)
    return 0 if held else 1


def _widened(rules: Rules, asked) -> Rules:
    counts = {kind: getattr(asked, kind) for kind in Budget._fields}
    budget = Budget(**{kind: count for kind, count in counts.items() if count is not None})
    return rules._replace(workers=asked.workers, budget=budget, sends=max(rules.sends, asked.sends))


def _parser() -> ArgumentParser:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="part of a model's name")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sends", type=int, default=2, help="sends that one record may name")
    for kind in Budget._fields[:-1]:
        parser.add_argument(f"--{kind}", type=int, default=0, help=f"{kind} at most")
    parser.add_argument("--total", type=int, help="of all of them at most")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
