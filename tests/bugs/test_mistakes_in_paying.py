"""Mistakes around the one call that costs money, each with the one test that must go red for it.

A safety test that cannot fail is no test. Every mistake is made in the shipped code of a process of its own, where
exactly the named test is run.
"""

from typing import Any

import pytest

PAYING, LIFE, LEDGER = "tests/unit/test_paying.py", "tests/unit/test_lifecycle.py", "tests/unit/test_ledger.py"
WIRE = "tests/contract/test_sends_once.py"
SENDING, HELD, SHOP, LIFECYCLE = (f"gemini_batch.jobs.{module}" for module in ("sending", "held", "shop", "lifecycle"))

MISTAKES = {
    "the claim of another process will do": (
        LIFECYCLE,
        "return Prepare() if record.nonce == claim else Claim()",
        "return Prepare()",
        f"{LIFE}::test_each_state_has_one_thing_to_do[CLAIMED-other-expected3]",
    ),
    "who finds SENDING sends": (
        LIFECYCLE,
        'return Conclude(OutcomeUnknown("the process that was sending has gone"))',
        "return SendOnce()",
        f"{LIFE}::test_a_send_that_somebody_else_began_is_never_made_again_but_becomes_unknown",
    ),
    "a dead sender has sent nothing": (
        LIFECYCLE,
        'Conclude(OutcomeUnknown("the process that was sending has gone"))',
        'Conclude(SendFailed(record.sends[-1].number, "the process that was sending has gone"))',
        f"{LIFE}::test_a_send_that_somebody_else_began_is_never_made_again_but_becomes_unknown",
    ),
    "who lost the race for SENDING sends too": (
        SENDING,
        "if not self._save(events.SendBegan(send)):",
        "if not self._save(events.SendBegan(send)) and False:",
        f"{PAYING}::test_of_two_workers_on_one_shard_only_the_writer_of_sending_sends",
    ),
    "a version that is taken counts as won": (
        "gemini_batch.ledger.log",
        "return written is not None and written.nonce == record.nonce",
        "return written is not None",
        f"{PAYING}::test_of_two_workers_on_one_shard_only_the_writer_of_sending_sends",
    ),
    "a create replaces what is there": (
        "gemini_batch.ledger.posix",
        "os.link(scratch, target)",
        "os.replace(scratch, target)",
        f"{PAYING}::test_of_two_workers_on_one_shard_only_the_writer_of_sending_sends",
    ),
    "a create that reports failure is not read back": (
        "gemini_batch.ledger.log",
        "if (written := self.at(record.version)) is None:\n                raise",
        "return False",
        f"{LEDGER}::test_a_create_that_reports_failure_after_success_is_recognised_by_its_nonce[after]",
    ),
    "a time-out clears SENDING": (
        SENDING,
        "return events.OutcomeUnknown(str(error))",
        "return events.SendFailed(send.number, str(error))",
        f"{PAYING}::test_a_lost_answer_is_found_by_name_and_adopted",
    ),
    "a late word on an earlier send frees the last": (
        LIFECYCLE,
        "if record.sends and number == record.sends[-1].number else None",
        "",
        f"{LIFE}::test_a_word_about_an_earlier_send_does_not_speak_for_the_last[SendFailed]",
    ),
    "a sender that slept sends all the same": (
        SENDING,
        "if waited > SEND_WITHIN:",
        "if waited > SEND_WITHIN * 1000:",
        f"{PAYING}::test_a_sender_that_slept_after_recording_the_send_does_not_send",
    ),
    "what the disk would not take is forgotten": (
        HELD,
        "self._shop.unrecorded[self._record.shard] = event",
        "pass",
        f"{PAYING}::test_a_job_whose_name_could_not_be_recorded_is_recorded_before_anything_else",
    ),
    "an answer that comes late is dropped": (
        SHOP,
        "if not isinstance(event, STAYS_TRUE) or not still_fits(record, event):",
        "if True:",
        f"{PAYING}::test_an_answer_that_comes_after_others_gave_the_send_up_is_recorded",
    ),
    "all shards go ahead before the first is accepted": (
        "gemini_batch.quota.book",
        "return pilot_wait() if run not in self.proven and under_way else None",
        "return None",
        f"{PAYING}::test_until_a_job_is_accepted_one_shard_goes_ahead_and_its_refusal_stops_the_run",
    ),
    "the SDK retries": (
        "gemini_batch.gemini.client",
        "types.HttpRetryOptions(attempts=1)",
        "types.HttpRetryOptions(attempts=3, initial_delay=0.01, jitter=0.01)",
        f"{WIRE}::test_a_status_is_taken_as_it_is_and_nothing_is_sent_again[create_job-503-Unavailable]",
    ),
    "a create reuses a connection": (
        "gemini_batch.gemini.client",
        '{"Connection": "close"}',
        "{}",
        f"{WIRE}::test_every_create_has_a_connection_of_its_own[create_job]",
    ),
    "a create follows redirects": (
        "gemini_batch.gemini.client",
        "follow_redirects=False",
        "follow_redirects=True",
        f"{WIRE}::test_a_redirect_is_not_followed[create_job-307]",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_turns_its_test_red(name: str, turns_red: Any) -> None:
    turns_red(*MISTAKES[name])


def test_the_code_still_says_what_the_mistakes_change(has_moved: Any) -> None:
    assert [name for name, (module, before, *_) in MISTAKES.items() if has_moved(module, before)] == []


def test_without_a_mistake_they_are_green(are_green: Any) -> None:
    are_green({test for *_, test in MISTAKES.values()})
