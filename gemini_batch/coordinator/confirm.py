"""A plan that may cost more than goes without asking is not begun before somebody says yes.

In: the plan's estimate, the options, and a way to ask, if there is one. A plan that nobody can price is not held up.
"""

from collections.abc import Callable

from gemini_batch.config import Options
from gemini_batch.errors import CostNotConfirmed
from gemini_batch.gemini.estimate import CostEstimate
from gemini_batch.gemini.prices import in_usd

Ask = Callable[[CostEstimate], bool]
"""Whether a person says yes."""


def refuse_unconfirmed(estimate: CostEstimate | None, options: Options, ask: Ask | None = None) -> None:
    """Return if the plan may be bought.

    Args:
        ask: None where nobody can be asked.

    Raises:
        CostNotConfirmed: it may not.
    """
    if estimate is None or options.yes or options.max_cost is not None or estimate.high <= options.confirm_above:
        return
    if ask is not None and ask(estimate):
        return
    raise CostNotConfirmed(
        f"not confirmed: the plan may cost {in_usd(estimate.high)} (expected {in_usd(estimate.expected)}), more than "
        f"--confirm-above {in_usd(options.confirm_above)}; nothing was sent. Say --yes, set a cap by --max-cost, "
        "raise --confirm-above, or bound the answers by --max-output-tokens",
        estimate.high,
    )
