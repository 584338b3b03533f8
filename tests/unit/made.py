"""Records with sane values."""

from datetime import UTC, datetime
from typing import Any

from gemini_batch.records import Asked, Limits, RunRecord

ASKED = {
    "rows": 0,
    "rows_digest": "",
    "model": "gemini-2.5-flash",
    "response_schema": None,
    "generation_config": {},
    "system_instruction": None,
    "media": "auto",
    "n_samples": 1,
    "endpoint": "http://127.0.0.1:1",
    "project": "p",
}
LIMITS = {
    "max_requests_per_shard": 10_000,
    "max_bytes_per_shard": 1_000_000,
    "max_tokens_per_shard": None,
    "max_live_jobs": 100,
    "max_enqueued_tokens": None,
    "poll_interval": 60.0,
    "settle": 3600.0,
    "on_unknown": "resubmit",
}


def make_asked(**changes: Any) -> Asked:
    return Asked(**{**ASKED, **changes})


def make_limits(**changes: Any) -> Limits:
    return Limits(**{**LIMITS, **changes})


def make_run(run_id: str = "run", **changes: Any) -> RunRecord:
    made = {
        "run_id": run_id,
        "nonce": "n",
        "created_at": datetime(2026, 11, 22, tzinfo=UTC),
        "version": "0",
        "manifest": "m",
        "media_roots": (),
        "asked": make_asked(),
        "limits": make_limits(),
        "shards": 1,
    }
    return RunRecord(**{**made, **changes})
