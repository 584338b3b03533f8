"""Every job a key can see, over many pages: what our client makes of lists that are long, shuffled or broken."""

import httpx2
import pytest
from sdk_calls import MODEL, jsonl, request_of

from gemini_batch.config import Account
from gemini_batch.emulator.local import LocalEmulator
from gemini_batch.errors import Unavailable
from gemini_batch.gemini.client import GeminiClient

OURS, OTHERS = "gbd-run-000000-1-d", 250


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """An emulator with three pages of jobs: ours is the oldest, on the last of them."""
    source = tmp_path_factory.mktemp("crowd") / "part.jsonl"
    source.write_bytes(jsonl({"key": "a", "request": request_of("a")}))
    with LocalEmulator(max_live_jobs=OTHERS + 1) as emulator:
        gemini = GeminiClient(Account(endpoint=emulator.url, project="p", key="k"))
        file = gemini.upload(source, "part", "jsonl")
        gemini.create_job(MODEL, file.name, OURS)
        with httpx2.Client(base_url=emulator.url, headers={"x-goog-api-key": "k"}, trust_env=False) as http:
            for number in range(OTHERS):
                job = {"displayName": f"other-{number % 7}", "inputConfig": {"fileName": file.name}}
                made = http.post(f"/v1/models/{MODEL}:batchGenerateContent", json={"batch": job})
                assert made.status_code == 200, made.text
            yield gemini, http


@pytest.fixture
def gemini(crowd):
    return crowd[0]


@pytest.fixture
def fault(crowd):
    """Arms a fault for this test."""
    _, http = crowd
    yield lambda name, **when: http.post("/admin/faults", json={"name": name, **when}).raise_for_status()
    http.delete("/admin/faults")


def test_every_page_is_read(gemini):
    """The newest come first, so what is looked for after a while stands on the last page."""
    listing = gemini.list_jobs()
    assert len(listing.names) == OTHERS + 1
    assert [job.display_name for job in listing.every] == [OURS]
    assert listing.jobs[OURS].name in listing.names


def test_the_order_of_a_list_means_nothing(gemini, fault):
    before = gemini.list_jobs()
    fault("list_shuffled", times="always")
    after = gemini.list_jobs()
    assert (after.names, after.jobs[OURS], after.every) == (before.names, before.jobs[OURS], before.every)


def test_a_page_that_comes_again_hides_another_and_is_told(gemini, fault):
    """What is not in such a list may be there all the same."""
    assert gemini.list_jobs().whole
    fault("list_page_repeated")
    listing = gemini.list_jobs()
    assert (len(listing.names), listing.whole) == (OTHERS + 1 - 100, False)


def test_a_list_that_leads_back_to_a_page_is_no_list(gemini, fault):
    """It would never end."""
    fault("list_token_loop", times="always", after=1)
    with pytest.raises(Unavailable, match="repeats"):
        gemini.list_jobs()
