"""What the client makes of statuses and of raw JSON, without a network."""

import base64
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.errors import Denied, NotFound, Refused, RemoteError, Throttled, Unavailable
from gemini_batch.gemini.client import _instant, _job, _of_status, _refusal, _stored

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("code", "leaf"),
    [
        (400, Refused), (401, Denied), (403, Denied), (404, NotFound), (408, Unavailable), (409, Refused),
        (429, Throttled), (500, Unavailable), (502, Unavailable), (503, Unavailable), (504, Unavailable),
        (302, Unavailable), (200, Unavailable), (413, Refused),
    ],
)  # fmt: skip
def test_a_status_says_what_the_caller_can_do(code, leaf):
    """Each leaf is a different next step: stop, wait, buy again, or find out."""
    error = _of_status(code, "text", "{}")
    assert (type(error), error.code, str(error)) == (leaf, code, "text")


def test_a_create_that_was_cancelled_on_the_way_has_an_unknown_outcome():
    """499 is google.rpc CANCELLED: not certainly refused, so a further create might be a second bill."""
    assert isinstance(_of_status(499, "CANCELLED", "{}"), Unavailable)


@pytest.mark.parametrize(
    "details", ["{'reason': 'API_KEY_INVALID'}", "API key not valid. Please pass a valid API key."]
)
def test_a_wrong_key_comes_as_400_and_stops_the_run(details):
    assert isinstance(_of_status(400, "400 INVALID_ARGUMENT", details), Denied)


@given(st.integers(100, 599))
def test_every_status_is_a_leaf_of_ours(code):
    error = _of_status(code, "t", "")
    assert isinstance(error, RemoteError)
    assert type(error) is not RemoteError


def test_an_unknown_model_stops_the_run_and_a_missing_file_does_not():
    """No shard can pass with the first; a new upload mends the second."""
    model = "404 NOT_FOUND: models/gemini-9 is not found for API version v1beta"
    assert isinstance(_refusal(404, model), Denied)
    gone = _refusal(404, "404 NOT_FOUND: Requested entity was not found.")
    assert (type(gone), gone.code) == (Refused, 404)


BODY = {
    "name": "batches/abc",
    "metadata": {
        "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
        "model": "models/gemini-2.5-flash",
        "displayName": "gbd-r-000001-1-d",
        "createTime": "2026-11-22T12:00:00.123456789Z",
        "endTime": "2026-11-22T13:00:00Z",
        "batchStats": {"requestCount": "12", "pendingRequestCount": "0"},
        "state": "BATCH_STATE_SUCCEEDED",
        "output": {"responsesFile": "files/batch-abc"},
        "name": "batches/abc",
    },
    "done": True,
    "response": {"@type": "…", "responsesFile": "files/batch-abc"},
}


def test_a_finished_operation_is_read_with_its_stats_and_output():
    job = _job(BODY)
    assert (job.name, job.display_name, job.state) == ("batches/abc", "gbd-r-000001-1-d", "BATCH_STATE_SUCCEEDED")
    assert (job.requests, job.responses_file, job.error) == (12, "files/batch-abc", None)
    assert job.created_at == datetime(2026, 11, 22, 12, 0, 0, 123456, UTC)
    assert job.ended_at == datetime(2026, 11, 22, 13, tzinfo=UTC)


def test_the_output_is_found_in_the_response_alone():
    body = {**BODY, "metadata": {key: value for key, value in BODY["metadata"].items() if key != "output"}}
    assert _job(body).responses_file == "files/batch-abc"


def test_a_failed_operation_keeps_its_error():
    body = {"name": "batches/a", "metadata": {"state": "BATCH_STATE_FAILED"}, "error": {"code": 13, "message": "why"}}
    assert (_job(body).error, _job(body).state) == ("why", "BATCH_STATE_FAILED")
    assert _job({**body, "error": {"code": 13}}).error == "13"


def test_a_job_without_metadata_is_in_no_known_state():
    job = _job({"name": "batches/a"})
    assert (job.name, job.display_name, job.state, job.created_at) == ("batches/a", "", "BATCH_STATE_UNSPECIFIED", None)


@given(
    metadata=JSON
    | st.dictionaries(
        st.sampled_from(["state", "displayName", "createTime", "endTime", "batchStats", "output", "name"]), JSON
    )
    | st.fixed_dictionaries({"batchStats": st.fixed_dictionaries({"requestCount": JSON})})
    | st.fixed_dictionaries({"output": st.fixed_dictionaries({"responsesFile": JSON})}),
    rest=st.dictionaries(st.sampled_from(["name", "error", "response", "done"]), JSON),
)
def test_an_odd_operation_is_a_job_or_a_remote_error(metadata, rest):
    """One strange job in the project's list must not end every run of the project."""
    with suppress(RemoteError):
        _job({**rest, "metadata": metadata})


@pytest.mark.parametrize(
    ("shown", "sha256"),
    [
        (base64.b64encode(b"AB" * 32).decode(), "ab" * 32),
        (base64.b64encode(b"\xab" * 32).decode(), "ab" * 32),
        (None, None), ("", None), ("no base64!", None), (base64.b64encode(b"\xff" * 64).decode(), None),
    ],
)  # fmt: skip
def test_a_digest_is_read_in_either_spelling_or_not_at_all(shown, sha256):
    """A digest that cannot be read vouches for nothing, and condemns nothing either."""
    assert _stored(types.File(name="files/a", sha256_hash=shown)).sha256 == sha256


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("", None),
        ("2026-11-22T12:00:00Z", datetime(2026, 11, 22, 12, tzinfo=UTC)),
        ("2026-11-22T12:00:00.5Z", datetime(2026, 11, 22, 12, 0, 0, 500_000, UTC)),
        ("2026-11-22T12:00:00.123456789Z", datetime(2026, 11, 22, 12, 0, 0, 123_456, UTC)),
        ("2026-11-22T12:00:00.000000001Z", datetime(2026, 11, 22, 12, tzinfo=UTC)),
        ("2026-11-22T12:00:00+00:00", datetime(2026, 11, 22, 12, tzinfo=UTC)),
        ("2026-11-22T12:00:00.25+02:00", datetime(2026, 11, 22, 10, 0, 0, 250_000, UTC)),
    ],
)
def test_times_of_the_service_are_rfc_3339_with_up_to_nine_digits(text, expected):
    """Proto JSON allows offsets besides Z."""
    assert _instant(text) == expected
