"""A worker queue for huge Gemini Batch workloads: a manifest of prompts in, one aligned dataset out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gemini_batch._version import __version__

if TYPE_CHECKING:
    from gemini_batch.errors import BadInput, CostNotConfirmed, GeminiBatchError, RunStopped, UnknownOption
    from gemini_batch.library import Row, Run, distributed_batch_process

__all__ = [
    "BadInput",
    "CostNotConfirmed",
    "GeminiBatchError",
    "Row",
    "Run",
    "RunStopped",
    "UnknownOption",
    "__version__",
    "distributed_batch_process",
]

_HOMES = {
    "BadInput": "errors",
    "CostNotConfirmed": "errors",
    "GeminiBatchError": "errors",
    "RunStopped": "errors",
    "UnknownOption": "errors",
    "Row": "library",
    "Run": "library",
    "distributed_batch_process": "library",
}


def __getattr__(name: str) -> Any:
    """Import on first use: Arrow and the SDK take a second, a process that only wants one thing should not wait."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
