"""A worker queue for huge Gemini Batch workloads: a manifest of prompts in, one aligned dataset out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gemini_batch._version import __version__

if TYPE_CHECKING:
    from gemini_batch.errors import (
        BadInput,
        CostNotConfirmed,
        CreateUnknown,
        GeminiBatchError,
        JobFailed,
        JobUnfinished,
        NoResults,
        RemoteError,
        RunStopped,
        UnknownOption,
    )
    from gemini_batch.gemini.remote import BatchJob
    from gemini_batch.library import Row, Run, distributed_batch_process
    from gemini_batch.reducer.vote import FieldVote, ListVoteConfig, MajorityVoteResult, ValueCount, aggregate_records
    from gemini_batch.single.create import create_batch_job
    from gemini_batch.single.download import download_batch_results, get_inline_results
    from gemini_batch.single.embed import batch_embed, parse_embedding_results
    from gemini_batch.single.jobs import cancel_batch_job, list_batch_jobs
    from gemini_batch.single.monitor import monitor_batch_job
    from gemini_batch.single.pages import pdf_pages_to_images
    from gemini_batch.single.process import batch_process
    from gemini_batch.single.results import BatchResult, iter_batch_results, parse_batch_results
    from gemini_batch.single.statistics import TokenStatistics, calculate_token_statistics, normalize_embeddings

__all__ = [
    "BadInput",
    "BatchJob",
    "BatchResult",
    "CostNotConfirmed",
    "CreateUnknown",
    "FieldVote",
    "GeminiBatchError",
    "JobFailed",
    "JobUnfinished",
    "ListVoteConfig",
    "MajorityVoteResult",
    "NoResults",
    "RemoteError",
    "Row",
    "Run",
    "RunStopped",
    "TokenStatistics",
    "UnknownOption",
    "ValueCount",
    "__version__",
    "aggregate_records",
    "batch_embed",
    "batch_process",
    "calculate_token_statistics",
    "cancel_batch_job",
    "create_batch_job",
    "distributed_batch_process",
    "download_batch_results",
    "get_inline_results",
    "iter_batch_results",
    "list_batch_jobs",
    "monitor_batch_job",
    "normalize_embeddings",
    "parse_batch_results",
    "parse_embedding_results",
    "pdf_pages_to_images",
]

_HOMES = {
    "BadInput": "errors",
    "CostNotConfirmed": "errors",
    "CreateUnknown": "errors",
    "GeminiBatchError": "errors",
    "JobFailed": "errors",
    "JobUnfinished": "errors",
    "NoResults": "errors",
    "RemoteError": "errors",
    "RunStopped": "errors",
    "BatchJob": "gemini.remote",
    "UnknownOption": "errors",
    "Row": "library",
    "Run": "library",
    "distributed_batch_process": "library",
    "FieldVote": "reducer.vote",
    "ListVoteConfig": "reducer.vote",
    "MajorityVoteResult": "reducer.vote",
    "ValueCount": "reducer.vote",
    "aggregate_records": "reducer.vote",
    "create_batch_job": "single.create",
    "download_batch_results": "single.download",
    "get_inline_results": "single.download",
    "batch_embed": "single.embed",
    "parse_embedding_results": "single.embed",
    "cancel_batch_job": "single.jobs",
    "list_batch_jobs": "single.jobs",
    "monitor_batch_job": "single.monitor",
    "pdf_pages_to_images": "single.pages",
    "batch_process": "single.process",
    "BatchResult": "single.results",
    "iter_batch_results": "single.results",
    "parse_batch_results": "single.results",
    "TokenStatistics": "single.statistics",
    "calculate_token_statistics": "single.statistics",
    "normalize_embeddings": "single.statistics",
}


def __getattr__(name: str) -> Any:
    """Import on first use: Arrow and the SDK take a second, a process that only wants one thing should not wait."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
