"""Mistakes in what a look at the service, at Redis or at a result file is taken to say, each with the one test that
must go red for it. How they are made stands in `plant.py`."""

from typing import Any

import pytest

PAYING, LOOKING, TWINS = "tests/unit/test_paying.py", "tests/unit/test_looking.py", "tests/unit/test_twins.py"
LIFE, TIMES, GONE = (
    "tests/unit/test_lifecycle.py",
    "tests/unit/test_lifecycle_times.py",
    "tests/unit/test_advance.py",
)
LISTS, DESKS, ALIGN = (
    "tests/contract/test_client_lists.py",
    "tests/contract/test_desks.py",
    "tests/unit/test_align.py",
)
ADVANCE, LOOKS = "gemini_batch.jobs.advance", "gemini_batch.jobs.looking"
SHOP, LIFECYCLE = "gemini_batch.jobs.shop", "gemini_batch.jobs.lifecycle"

MISTAKES = {
    "one listing settles": (
        LIFECYCLE,
        "    if seen is None:\n        return Absent(at)\n",
        "    if seen is None:\n        return Settled() if settle is not None else Absent(at)\n",
        f"{TIMES}::test_two_listings_far_apart_do_not_settle",
    ),
    "the settle time is in other units": (
        LOOKS,
        "timedelta(seconds=shop.limits.settle) if",
        "timedelta(milliseconds=shop.limits.settle) if",
        f"{PAYING}::test_under_resubmit_a_send_that_stayed_absent_is_made_again_once",
    ),
    "under `wait` a lost create settles too": (
        LOOKS,
        'if shop.limits.on_unknown == "resubmit" else None',
        "",
        f"{PAYING}::test_under_wait_a_hidden_job_is_never_bought_again",
    ),
    "the settle time is that of this machine's clock": (
        LOOKS,
        "dict(listing.jobs), listing.at, settle)",
        "dict(listing.jobs), shop.clock.now(), settle)",
        f"{LOOKING}::test_a_lost_create_settles_by_the_services_time_whatever_clock_this_machine_has[ahead]",
    ),
    "the first page of a list is the list": (
        "gemini_batch.gemini.client",
        "            if not token:\n                return entries, first_at",
        "            return entries, first_at",
        f"{LISTS}::test_every_page_is_read",
    ),
    "a list that lacks a recorded job is complete": (
        LOOKS,
        "if lacking := self._lacking(listing):",
        "if lacking := None:",
        f"{PAYING}::test_a_list_that_lacks_a_recorded_job_is_no_proof_of_absence",
    ),
    "a list that repeats a page is complete": (
        LOOKS,
        "if event is None or not listing.whole:",
        "if event is None:",
        f"{LOOKING}::test_a_list_that_shows_a_job_twice_is_no_proof_of_absence",
    ),
    "a list under another key is complete": (
        LOOKS,
        "if unseen and unseen == recorded and not self._sees_upload():",
        "if False:",
        f"{LOOKING}::test_a_key_that_sees_nothing_of_the_run_proves_no_absence",
    ),
    "404 under another key means gone": (
        LOOKS,
        "if name not in listing.names and self._witnessed(listing) and self._spaced(listing.at):",
        "if name not in listing.names and self._spaced(listing.at):",
        f"{LOOKING}::test_a_key_that_sees_nothing_of_the_run_writes_no_job_off",
    ),
    "results that another key cannot see are gone": (
        LOOKS,
        "if (job.name in listing.names or self._witnessed(listing)) and self._spaced(listing.at):",
        "if self._spaced(listing.at):",
        f"{LOOKING}::test_a_key_that_sees_nothing_of_the_run_gives_no_results_up",
    ),
    "one 404 means gone": (
        LIFECYCLE,
        "return absence.times >= GONE_TRIES and absence.last_at - absence.first_at >= needed",
        "return True",
        f"{GONE}::test_a_job_that_is_seen_between_two_misses_is_not_gone",
    ),
    "one look without output ends a job": (
        LIFECYCLE,
        'return JobUnclear(job.model_copy(update={"error": job.error or "it shows no output"}), at)',
        "return JobEnded(job)",
        f"{LOOKING}::test_who_comes_back_after_days_gives_nothing_up_that_is_shown_badly_at_first[shown0]",
    ),
    "any listing will do, however old": (
        SHOP,
        "if self._listing is None or self._listing[0] < not_before:",
        "if self._listing is None:",
        f"{PAYING}::test_a_listing_from_before_the_send_is_no_absence",
    ),
    "a sweep's listing holds for what was sent since": (
        ADVANCE,
        "if advancing.version != before.version:",
        "if False:",
        f"{LOOKING}::test_a_sweeps_listing_says_nothing_of_what_was_sent_after_it_began",
    ),
    "only the last send is looked for": (
        LIFECYCLE,
        "for send in record.sends:\n        if job := listed.get",
        "for send in record.sends[-1:]:\n        if job := listed.get",
        f"{TIMES}::test_any_send_ever_made_is_recognised_in_a_listing[settle2-d1]",
    ),
    "a second job is not recorded": (
        LIFECYCLE,
        'return {"twins": (*(twin for twin in record.twins if twin.name != job.name), job)}',
        "return {}",
        f"{TWINS}::test_a_twin_that_ended_by_itself_is_only_counted",
    ),
    "of two jobs of a send one is recorded": (
        LOOKS,
        "if job.display_name in names:",
        "if False:",
        f"{PAYING}::test_all_jobs_of_one_send_are_recorded_the_oldest_is_the_shards",
    ),
    "the latest job is the shard's": (
        LIFECYCLE,
        "if record.job is None and record.state is not S.COLLECTED:",
        "if record.state is not S.COLLECTED:",
        f"{LIFE}::test_an_adoption_is_never_swapped_and_a_twin_is_counted_once[SUBMITTED]",
    ),
    "an empty Redis is an empty desk": (
        "gemini_batch.quota.redis_books",
        "if pipe.get(condition.key) != condition.value:",
        "if False:",
        f"{DESKS}::test_after_a_flush_nobody_is_let_in_until_the_ledgers_were_read",
    ),
    "a lost create holds no place": (
        "gemini_batch.records",
        "ShardState.SENDING, ShardState.UNKNOWN, ShardState.SUBMITTED}",
        "ShardState.SENDING, ShardState.SUBMITTED}",
        f"{DESKS}::test_an_unknown_create_holds_its_place[memory]",
    ),
    "whatever arrives is the whole file": (
        "gemini_batch.jobs.whole",
        "if _is_whole(packed, stored, job):",
        "if True:",
        f"{PAYING}::test_a_download_that_was_cut_is_not_accepted",
    ),
    "a digest is not looked at": (
        "gemini_batch.jobs.whole",
        "if stored and stored.sha256:",
        "if False:",
        f"{PAYING}::test_a_download_with_a_flipped_bit_is_not_accepted",
    ),
    "lines are in the order of the rows": (
        "gemini_batch.jobs.align",
        "places = pc.index_in(sent, value_set=keys) if len(keys)",
        "places = pa.array([at if at < len(keys) else None for at in range(len(sent))], pa.int32()) if len(keys)",
        f"{ALIGN}::test_a_row_gets_its_own_answer_or_none_never_another_rows",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_turns_its_test_red(name: str, turns_red: Any) -> None:
    turns_red(*MISTAKES[name])


def test_the_code_still_says_what_the_mistakes_change(has_moved: Any) -> None:
    assert [name for name, (module, before, *_) in MISTAKES.items() if has_moved(module, before)] == []


def test_without_a_mistake_they_are_green(are_green: Any) -> None:
    are_green({test for *_, test in MISTAKES.values()})
