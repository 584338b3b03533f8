"""What most unit tests need: records with sane values, and Hypothesis without a clock."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from gemini_batch.records import Asked, Limits

settings.register_profile("unit", deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")

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


@pytest.fixture(scope="session")
def asked() -> Callable[..., Asked]:
    def make(**changes: Any) -> Asked:
        return Asked(**{**ASKED, **changes})

    return make


@pytest.fixture(scope="session")
def limits() -> Callable[..., Limits]:
    def make(**changes: Any) -> Limits:
        return Limits(**{**LIMITS, **changes})

    return make
