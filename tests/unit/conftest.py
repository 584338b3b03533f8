"""What most unit tests need: records with sane values, and Hypothesis without a clock."""

import os
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from made import make_asked, make_limits

from gemini_batch.records import Asked, Limits

settings.register_profile("unit", deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", settings.get_profile("unit"), max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "unit"))


@pytest.fixture(scope="session")
def asked() -> Callable[..., Asked]:
    return make_asked


@pytest.fixture(scope="session")
def limits() -> Callable[..., Limits]:
    return make_limits
