"""Whose a job or a file at the service is, by its name alone."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shops import Clock, make_shop

from gemini_batch.gemini.names import Made, mark_of, read_file_name, read_job_name

HEX = st.text("0123456789abcdef", min_size=12, max_size=12)
RUNS = HEX | st.builds("{}-{}".format, HEX, st.text("0123456789abcdef", min_size=8, max_size=8))


@given(RUNS, st.integers(0, 9_999_999), st.integers(1, 10**6), st.text())
def test_what_a_name_was_made_from_is_read_back(run, shard, send, of):
    """Also of a run whose id begins with another run's."""
    digest = hashlib.sha256(of.encode()).hexdigest()[:16]
    assert read_job_name(f"gbd-{run}-{shard:06d}-{send}-{digest}") == Made(run, shard)
    assert read_file_name(f"gbd-{run}-{shard:06d}-{digest}") == Made(run, shard)
    assert read_file_name(f"gbd-{run}-{shard:06d}-input") == Made(run, shard), "as it was before there were marks"
    for what in ("input", digest):
        assert read_file_name(f"gbd-{run}-{shard:06d}-{mark_of(of)}-{what}") == Made(run, shard, mark_of(of))


@pytest.mark.parametrize("name", ["", "weekly report", "gbd-", "gbd-run", "gbd-run-000001", "gbd-run-1-1-" + "a" * 16])
def test_other_names_are_nobodys(name):
    assert read_job_name(name) is None
    assert read_file_name(name) is None


def test_names_are_read_as_they_are_made(tmp_path, asked, limits):
    """The one place that makes them and the one that reads them must not drift apart."""
    shop = make_shop(tmp_path, asked, limits(), None, Clock())
    assert read_file_name(shop.file_name(3, "input")) == Made("run", 3, mark_of(shop.run.nonce))
    assert read_job_name(shop.remote_name(3, "5-" + "0" * 16)) == Made("run", 3)
