"""The port every effect goes through: each store operation and each remote call is a named point.

Nothing else may touch what outlives a process; scratch files are no effects, since nothing reads them after a crash.
A hook sees every point before and after it happens, which is where crash tests kill the process; without one a point
costs one comparison.
"""

from collections.abc import Callable
from functools import wraps
from typing import Literal, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
Hook = Callable[[str, Literal["before", "after"]], None]

POINTS: set[str] = set()
"""Every effect of the imported code, filled by the decorator."""

_hook: Hook | None = None


def observe(hook: Hook | None) -> None:
    """Call `hook(point, "before" | "after")` around every effect of this process; None ends it."""
    global _hook  # noqa: PLW0603 - one switch per process, as failpoints are
    _hook = hook


def effect(point: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Mark a function as the effect `point`."""
    POINTS.add(point)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def announced(*args: P.args, **kwargs: P.kwargs) -> R:
            if _hook is None:
                return function(*args, **kwargs)
            _hook(point, "before")
            result = function(*args, **kwargs)
            _hook(point, "after")
            return result

        return announced

    return decorate
