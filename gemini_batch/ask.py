"""A plan's cost in words, and the question whether to buy it, put to a person at a terminal."""

import sys

from rich.console import Console

from gemini_batch.coordinator.confirm import Ask
from gemini_batch.gemini.estimate import CostEstimate
from gemini_batch.gemini.prices import in_usd


def cost_in_words(estimate: CostEstimate | None) -> str:
    """Two lines: the amounts, and what they assume."""
    if estimate is None:
        return "cost     not known: no published price of this model; give --price IN,OUT (USD per million tokens)"
    amounts = [
        f"{name} {in_usd(usd)}"
        for name, usd in (("low", estimate.low), ("expected", estimate.expected), ("high", estimate.high))
    ]
    return f"cost     {', '.join(amounts)}\n           assuming: {'; '.join(estimate.assumptions)}"


def asker(console: Console) -> Ask | None:
    """Asks on the console; None where nobody would see the question or could answer it."""
    if not (sys.stdin and sys.stdin.isatty() and console.is_terminal):
        return None

    def ask(estimate: CostEstimate) -> bool:
        console.print(cost_in_words(estimate), highlight=False, soft_wrap=True, markup=False)
        console.print("buy it? [y/N] ", end="", highlight=False, markup=False)
        return sys.stdin.readline().strip().lower() in {"y", "yes"}

    return ask
