"""The one call that costs money: SENDING is recorded, then the job is created, once, by the same call.

Whatever is not certainly a refusal leaves the outcome unknown.
"""

import hashlib
from datetime import UTC, datetime, timedelta

from gemini_batch.errors import Denied, NotFound, NotSent, Refused, RunStopped, Throttled, Unavailable
from gemini_batch.jobs import events
from gemini_batch.jobs.held import Held
from gemini_batch.jobs.refusal import refusal
from gemini_batch.jobs.spending import reserve
from gemini_batch.jobs.verdicts import AwaitDesk, Outcome, Rest
from gemini_batch.quota.words import Wait
from gemini_batch.records import Send, Upload

SEND_WITHIN = timedelta(seconds=30)
"""A sender that was suspended for longer between recording SENDING and the POST must not send: by then others may
have looked for its job and not found it."""


def await_desk(wait: Wait) -> AwaitDesk:
    """What the desk's word to wait comes to."""
    return AwaitDesk(wait.reason, None if wait.until is None else datetime.fromtimestamp(wait.until, UTC))


class Sending(Held):
    """Takes a READY shard to its job."""

    def _send(self) -> Outcome | None:
        shop, upload = self._shop, self._record.upload
        if upload is None:
            raise AssertionError("READY without an upload")
        if wait := shop.desk.may_send(self._record, *self._size):
            return await_desk(wait)
        if not upload.active and (outcome := self._await_active(upload)):
            return outcome
        shop.heed()  # a cap may have been set since this process began
        reserved_usd, reason = reserve(shop, self._record)
        if reason:
            return AwaitDesk(reason)
        began = shop.clock.boottime()
        number = self._record.version + 1
        digest = hashlib.sha256(f"{shop.run.nonce} {number} {upload.sha256}".encode()).hexdigest()
        send = Send(
            number=number,
            display_name=shop.remote_name(self._record.shard, f"{number}-{digest[:16]}"),
            sha256=upload.sha256,
            lines=upload.lines,
            requests=self._record.requests or "",
            owner=shop.owner,
            began_at=shop.clock.now(),
            reserved_usd=reserved_usd,
        )
        if not self._save(events.SendBegan(send)):
            return None  # someone else moved the shard; only the writer of SENDING may send
        # Asked again now that the ledger shows the send: a desk lost since the first word is rebuilt from the ledger.
        if wait := shop.desk.may_send(self._record, *self._size):
            self._save(events.SendFailed(number, str(wait)))
            return await_desk(wait)
        if reserved_usd is None and self._is_capped():
            self._save(events.SendFailed(number, "not sent: a cap was set meanwhile"))
            return None
        waited = timedelta(seconds=shop.clock.boottime() - began)
        if waited > SEND_WITHIN:
            return events.SendFailed(number, f"not sent: {waited} passed since SENDING was recorded")
        return self._post(send, upload.name)

    def _is_capped(self) -> bool:
        """Asked when the ledger shows the send: whoever reads it after a cap was said counts it, or this one sees the
        cap and does not send."""
        self._shop.heed()
        return self._shop.limits.max_cost is not None

    def _await_active(self, upload: Upload) -> Outcome | None:
        """A create with a file that is still being processed is refused (Files API guide)."""
        try:
            stored = self._shop.remote.get_file(upload.name)
        except NotFound:
            return events.Claimed()
        return None if stored.active else Rest("the service is still processing the upload")

    def _post(self, send: Send, file_name: str) -> Outcome:
        """The create, once. Whatever is not certainly a refusal leaves the outcome unknown."""
        try:
            job = self._shop.remote.create_job(self._shop.run.asked.model, file_name, send.display_name)
        except (NotSent, Throttled) as error:
            if isinstance(error, Throttled) and self._is_too_large():
                why = f"larger than the service takes, it seems, so it is split: {error}"
                return events.SendRefused(send.number, why, too_large=True)
            self._save(events.SendFailed(send.number, str(error)))
            return Rest(f"the create was not taken: {error}")
        except Denied as error:
            self._save(events.SendFailed(send.number, str(error)))
            raise
        except Refused as error:
            return self._refused(send, error)
        except Unavailable as error:
            return events.OutcomeUnknown(str(error))
        return events.JobLearned(job)

    def _is_too_large(self) -> bool:
        """Tell the desk of a 429. Returns whether the shard is to be split; one row alone waits."""
        record = self._record
        split = self._shop.desk.refused(record, *self._size)
        return split and self._shop.plan[record.shard].rows - len(record.left_out) > 1

    def _refused(self, send: Send, error: Refused) -> events.Event:
        meant = refusal(self._shop, self._record, send, error)
        if isinstance(meant, RunStopped):
            self._save(events.SendFailed(send.number, str(error)))
            raise meant
        return meant
