"""Every error of the package, by the one question a caller has: what now?

GeminiBatchError
├── BadInput                 refused, nothing was sent (exit 2)
│   ├── CostNotConfirmed     it may cost more than goes without asking
│   └── UnknownOption        the library has no keyword of that name; a TypeError as well
├── RunStopped               the run cannot go on by itself (exit 1)
├── JobFailed                the job ended without success
├── JobUnfinished            the time to wait for the job is up; it goes on
├── CreateUnknown            nobody knows whether the job was created: look for its display name
├── NoResults                the job has nothing to fetch: not ended, failed, or its results are elsewhere
├── RowError                 this row fails alone, unpaid
├── IllegalTransition        a defect of ours: the lifecycle has no such step
└── RemoteError              what the service or the network answered
    ├── NotSent              no byte of the request left: free to try again
    ├── Unavailable          no answer, or 408 / 5xx: whether it took effect is unknown
    ├── Throttled            429: wait, costs no attempt
    ├── NotFound             404
    ├── Refused              400, 404 or 409 on a create: will not pass as it is
    └── Denied               401, 403, refused key, unknown model: stop the run
"""


class GeminiBatchError(Exception):
    """The root of the tree. The text is for the operator: it names the thing and the fix."""


class BadInput(GeminiBatchError):
    """The request cannot be carried out as given; nothing was sent and nothing was written."""


class CostNotConfirmed(BadInput):
    """The plan's high estimate passes `confirm_above`, and nobody said yes. `high_usd` is that estimate."""

    def __init__(self, message: str, high_usd: float) -> None:
        super().__init__(message)
        self.high_usd = high_usd


class UnknownOption(BadInput, TypeError):
    """A keyword that the library does not know. The message has the nearest one that it knows."""


class RunStopped(GeminiBatchError):
    """The run needs a person: its message says what for. Everything paid for is kept."""

    def __init__(self, message: str, resume_with: str | None = None) -> None:
        super().__init__(message)
        self.resume_with = resume_with
        """Options that `resume` needs to go on, where that is all it takes."""


class JobFailed(GeminiBatchError, RuntimeError):
    """A job ended otherwise than by success. `state` is such as `JOB_STATE_FAILED`, `reason` the service's word."""

    def __init__(self, job_name: str, state: str, reason: str | None) -> None:
        super().__init__(f"the job {job_name} ended as {state}: {reason or 'the service gives no reason'}")
        self.job_name = job_name
        self.state = state
        self.reason = reason


class JobUnfinished(GeminiBatchError, TimeoutError):
    """A job was still running when the time to wait for it was up. It goes on, and can be waited for again."""

    def __init__(self, job_name: str, state: str | None, seconds: float) -> None:
        super().__init__(
            f"the job {job_name} was not over after {seconds:g} seconds ({state or 'it was never seen'}); it goes on"
        )
        self.job_name = job_name
        self.state = state


class CreateUnknown(GeminiBatchError):
    """The answer to a create was lost. A job called `display_name` may exist, and then has been paid for."""

    def __init__(self, display_name: str, why: str) -> None:
        super().__init__(
            f"nobody knows whether the job {display_name!r} was created: {why}. Before you ask again, look for it with "
            f"list_batch_jobs(display_name={display_name!r}), now and in an hour: a job that is there has been paid for"
        )
        self.display_name = display_name


class NoResults(GeminiBatchError):
    """A job holds no such results. The message has its state and why; `state` is the service's word."""

    def __init__(self, message: str, state: str) -> None:
        super().__init__(message)
        self.state = state


class RowError(GeminiBatchError):
    """One row cannot be sent. `kind` is a value of the dataset's `error.kind`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class IllegalTransition(GeminiBatchError):
    """An event that its state does not know."""


class RemoteError(GeminiBatchError):
    """An answer of the service that is not a success. `code` is the HTTP status, 0 where there was none."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class NotSent(RemoteError):
    """The connection was never made, so the service cannot have seen the request."""


class Unavailable(RemoteError):
    """Time-out, cut connection, 408 or 5xx. Repeating is safe only for idempotent calls."""


class Throttled(RemoteError):
    """429. The service gives no time to come back (python-genai #1901); `wait` is ours, in seconds, if there is one."""

    def __init__(self, message: str, code: int = 0, wait: float | None = None) -> None:
        super().__init__(message, code)
        self.wait = wait


class NotFound(RemoteError):
    """404 for a named job or file. Under another project's key everything is 404."""


class Refused(RemoteError):
    """The service read the request and will not do it."""


class Denied(RemoteError):
    """The key, the project or the model is not accepted; every further request would fail alike."""
