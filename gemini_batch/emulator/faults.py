"""Faults by name: what each does, and what a test says of when it happens.

A fault skips the first `after` things of its kind that it applies to, then happens to `times` of them. `job`, `model`,
`key` and `row` narrow what it applies to, `rate` lets it happen to a share of it, `lasts_seconds` ends it. Faults that
cannot happen together happen to one thing after the other, in the order in which they were armed.
"""

import difflib
import math
import re
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

CALLS = (
    "upload_start", "upload", "file_get", "file_list", "file_delete", "download",
    "create", "get", "list", "cancel", "delete", "generate", "count_tokens", "model_get", "model_list",
)  # fmt: skip
ANSWERS = ("400", "401", "403", "404", "408", "429", "500", "503", "reset", "hang")
SURVIVABLE_ANSWERS = ("408", "429", "500", "503", "reset")
_EFFECTS = {"reset": "the connection closes without a reply", "hang": "no reply for `seconds`"}
_OF_CALLS = re.compile(rf"({'|'.join((*CALLS, 'any'))})_({'|'.join(ANSWERS)})")


Subject = tuple[str | None, str | None]
"""Display name and model of the job that a call is about, as far as it is about one."""


class Point(Enum):
    CALL = "a call, before anything is done"
    CREATED = "a create that made a job"
    INPUT_LINE = "a line that a create is to read, in input order"
    JOB = "a job, chosen at its create"
    LINE = "a result line, chosen at the create of its job, in input order"
    GET = "a batches.get"
    GET_SUCCEEDED = "a batches.get of a job that has succeeded"
    LIST = "a batches.list"
    LIST_WITH_MORE = "a batches.list that leaves jobs for another page"
    LIST_OF_REST = "a batches.list of a page after the first"
    CHUNK = "an upload chunk that was kept"
    FILE = "a file, at the end of its upload"
    DOWNLOAD = "a download"


_ONE_REPLY = frozenset({Point.CALL, Point.CREATED, Point.GET, Point.CHUNK, Point.DOWNLOAD})
"""A fault of these is the whole of the reply."""

OF_LINES = frozenset({Point.INPUT_LINE, Point.LINE})
"""What has a key and a position."""

_OF_NO_JOB = frozenset({Point.LIST, Point.LIST_WITH_MORE, Point.LIST_OF_REST, Point.CHUNK, Point.FILE})
_CALLS_OF_NO_JOB = frozenset({"upload_start", "upload", "file_list", "list", "model_list"})
_CALLS_OF_A_MODEL = frozenset({"generate", "count_tokens", "model_get"})
"""They have a model, and no job whose name could be asked for."""


@dataclass(frozen=True)
class Fault:
    point: Point
    effect: str
    default_times: float = 1
    seconds: float = 0.0
    """How long or how late, where the fault has a duration and none is given."""
    is_survivable: bool = True
    """Whether a client that does everything right still gets every answer; only such faults are part of chaos."""
    aspect: str = ""
    """What of a thing it changes, where several faults would change the same."""
    call: str = ""
    answer: str = ""

    @property
    def is_about_a_job(self) -> bool:
        return self.point not in _OF_NO_JOB and self.call not in _CALLS_OF_NO_JOB


def _line(effect: str, is_survivable: bool = False) -> Fault:
    return Fault(Point.LINE, effect, is_survivable=is_survivable)


def _input_line(effect: str) -> Fault:
    """What is wrong with a line is so whenever it is sent; of a create the first such line counts."""
    return Fault(Point.INPUT_LINE, effect, default_times=math.inf, is_survivable=False)


def _job(effect: str, seconds: float = 0.0, is_survivable: bool = True) -> Fault:
    return Fault(Point.JOB, effect, seconds=seconds, is_survivable=is_survivable)


def _end(effect: str) -> Fault:
    return Fault(Point.JOB, effect, is_survivable=False, aspect="end")


FAULTS = {
    "create_reply_lost": Fault(Point.CREATED, "the connection closes without a reply"),
    "create_500_after_commit": Fault(Point.CREATED, "500 although the job exists"),
    "create_503_after_commit": Fault(Point.CREATED, "503 although the job exists"),
    "create_hangs_after_commit": Fault(Point.CREATED, "no reply for `seconds`, though the job exists", seconds=60),
    "create_line_refused": _input_line("400 that names the line"),
    "create_line_refused_unnamed": _input_line("400 that does not name the line"),
    "create_late": _job("the connection closes at once; the job comes to be `seconds` later", 30),
    "list_lag": _job("in no list before `seconds` have passed", 120),
    "get_lag": _job("404 on get before `seconds` have passed", 120),
    "job_failed": _end("ends FAILED with a top-level error, no output"),
    "job_expired": _end("ends EXPIRED, no output"),
    "job_cancelled": _end("ends CANCELLED though nobody asked, no output"),
    "job_stuck": _end("stays PENDING until it expires after 48 hours"),
    "job_without_stats": _job("no batchStats in any reply"),
    "cancel_ignored": _job("a cancel is answered with {} and the job succeeds"),
    "cancelled_with_output": _job("keeps the first half of its result lines when cancelled"),
    "result_shuffled": _job("result lines in another order"),
    "result_reversed_members": _job("`key` last in every line, errors under `status`"),
    "result_line_missing": _line("left out"),
    "result_line_duplicated": _line("written twice", is_survivable=True),
    "result_line_conflicting": _line("written twice, the second time with another answer"),
    "result_line_foreign": _line("followed by a copy under a key nobody sent", is_survivable=True),
    "result_line_without_key": _line("neither `key` nor `metadata`"),
    "result_line_swapped": _line("exchanges its answer with the next line"),
    "result_line_broken": _line("cut in the middle"),
    "result_line_bad_utf8": _line("a byte in it is not UTF-8"),
    "result_line_giant": _line("its text is 8 MB longer"),
    "result_line_error": _line("`error` with code 13"),
    "result_line_status": _line("the same under `status`"),
    "result_line_media_expired": _line("`error` with code 7: a file may not exist"),
    "result_line_null": _line("`response` is null"),
    "result_line_empty": _line("neither `response` nor `error`"),
    "result_line_blocked": _line("promptFeedback, no candidates"),
    "result_line_refused": _line("finishReason SAFETY, no content"),
    "result_line_recitation": _line("finishReason RECITATION, content without parts"),
    "result_line_truncated": _line("MAX_TOKENS, text cut in half"),
    "result_line_unfinished": _line("MAX_TOKENS, no text at all: thinking used the budget up"),
    "result_line_odd_finish": _line("a finishReason nobody knows"),
    "result_line_thoughts": _line("a thought and a signature beside the text", is_survivable=True),
    "result_line_only_thoughts": _line("a thought and a signature, no text"),
    "result_line_split": _line("the text in several parts", is_survivable=True),
    "result_line_fenced": _line("the text in a Markdown fence"),
    "result_line_in_prose": _line("the text after a sentence of prose"),
    "result_line_shifted": _line("each name and value of the JSON object in its text one place on"),
    "result_line_leaked_thought": _line("a thought before the text that is not marked as one"),
    "result_line_citations": _line("citationMetadata beside the text", is_survivable=True),
    "result_line_separator": _line("U+2028, U+2029 and U+0085 in a string", is_survivable=True),
    "result_line_without_usage": _line("no usageMetadata", is_survivable=True),
    "succeeded_without_output": Fault(Point.GET_SUCCEEDED, "the output is not there yet", default_times=2),
    "state_unknown": Fault(Point.GET, "the state is BATCH_STATE_SOMETHING", default_times=2),
    "state_stale": Fault(Point.GET, "shown as PENDING, whatever has become of it", default_times=2),
    "list_truncated": Fault(Point.LIST_WITH_MORE, "the page is the last one, though there are more jobs"),
    "list_page_repeated": Fault(Point.LIST_OF_REST, "the first page again, with the token of this one"),
    "list_token_loop": Fault(Point.LIST, "the page's token leads to the same page"),
    "list_shuffled": Fault(Point.LIST, "the page in another order"),
    "upload_status_missing": Fault(Point.CHUNK, "kept, but no X-Goog-Upload-Status in the reply"),
    "upload_reply_lost": Fault(Point.CHUNK, "kept, but the connection closes without a reply"),
    "file_processing": Fault(Point.FILE, "PROCESSING for `seconds`", seconds=60),
    "file_failed": Fault(Point.FILE, "FAILED", is_survivable=False),
    "download_cut": Fault(Point.DOWNLOAD, "half of the body, no Content-Length, then the connection closes"),
    "download_cut_length": Fault(Point.DOWNLOAD, "half of the body under the full Content-Length"),
    "download_cut_chunked": Fault(Point.DOWNLOAD, "half of the body in chunks, the last one missing"),
    "download_cut_short": Fault(Point.DOWNLOAD, "half of the body under a Content-Length that says so"),
    "download_flipped": Fault(Point.DOWNLOAD, "one bit in the middle is another", is_survivable=False),
}


def find_fault(name: str) -> Fault | None:
    """One of `FAULTS`, or `<call>_<answer>` made of CALLS (or `any`) and ANSWERS."""
    if known := FAULTS.get(name):
        return known
    if made := _OF_CALLS.fullmatch(name):
        call, answer = made.groups()
        return Fault(Point.CALL, _EFFECTS.get(answer, answer), seconds=60, call=call, answer=answer)
    return None


_MOST_SECONDS = 1e9
"""As of the settings; a date so much later can still be told."""


def _read_times(value: Any) -> Any:
    if value in (None, "always") or (type(value) is int and value >= 1):
        return value
    raise ValueError(f"must be a whole number from 1, or always (got {value!r})")


class FaultSpec(BaseModel):
    """A fault as it is armed; the same words in a flag, a TOML file and an admin call."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    times: Annotated[int | Literal["always"] | None, BeforeValidator(_read_times)] = None
    """How many things it happens to; None: as many as this fault usually does."""
    after: int = Field(0, ge=0)
    """How many things it skips first."""
    rate: float | None = Field(None, gt=0, le=1)
    """The share of things it happens to, by seeded dice; without `times` it goes on for ever."""
    job: str | None = None
    """A pattern of display names, such as `nightly-*`."""
    model: str | None = None
    key: str | None = None
    """A pattern of line keys."""
    row: int | None = Field(None, ge=0)
    """The position of a line in its job."""
    seconds: float | None = Field(None, ge=0, le=_MOST_SECONDS)
    """How long or how late, for a fault that has a duration; of virtual time, save for a reply that hangs."""
    lasts_seconds: float | None = Field(None, gt=0, le=_MOST_SECONDS)
    """The fault is gone so much virtual time after it was armed."""

    @model_validator(mode="after")
    def _fits(self) -> "FaultSpec":
        fault = find_fault(self.name)
        if fault is None:
            raise ValueError(unknown_fault(self.name))
        if (self.key is not None or self.row is not None) and fault.point not in OF_LINES:
            raise ValueError(f"{self.name} happens to {fault.point.value}: it has no key and no row")
        if (self.job is not None or self.model is not None) and not fault.is_about_a_job:
            raise ValueError(f"{self.name} happens to {fault.point.value}: it has no job and no model")
        if self.job is not None and fault.call in _CALLS_OF_A_MODEL:
            raise ValueError(f"{self.name} happens to a call of a model: it has no job")
        return self

    @property
    def fault(self) -> Fault:
        fault = find_fault(self.name)
        if fault is None:
            raise ValueError(unknown_fault(self.name))
        return fault

    @property
    def aspect(self) -> str:
        """Of the faults of one aspect at most one happens to a thing."""
        fault = self.fault
        return fault.aspect or (fault.point.name if fault.point in _ONE_REPLY else self.name)

    @property
    def limit(self) -> float:
        """The most times that it happens."""
        if self.times is None:
            return math.inf if self.rate or self.lasts_seconds else self.fault.default_times
        return math.inf if self.times == "always" else self.times

    @property
    def duration(self) -> float:
        return self.fault.seconds if self.seconds is None else self.seconds

    @property
    def looks_at_lines(self) -> bool:
        """Whether it takes a look at each line to know if the fault applies."""
        return self.key is not None or self.row is not None or self.rate is not None

    def applies_to_job(self, display_name: str | None, model: str | None) -> bool:
        return _matches(self.job, display_name) and _matches(self.model, model)

    def applies_to_line(self, position: int, key: str) -> bool:
        return _matches(self.key, key) and self.row in (None, position)


_TEXTS = ("job", "model", "key")
"""Of the members of a fault: a key may be made of digits."""


def read_flag(text: str) -> FaultSpec:
    """`NAME[,member=value]…`, as `--fault` takes it; raises ValueError."""
    name, *members = (part.strip() for part in text.split(","))
    given: dict[str, Any] = {"name": name}
    for member in members:
        word, equals, value = member.partition("=")
        if not equals:
            raise ValueError(f"{member!r} is not member=value")
        given[word] = value if word in _TEXTS else _number(value)
    return FaultSpec.model_validate(given)


def _number(value: str) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


def _matches(pattern: str | None, text: str | None) -> bool:
    return pattern is None or (text is not None and fnmatchcase(text, pattern))


def unknown_fault(name: str) -> str:
    near = difflib.get_close_matches(name, FAULTS, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return (
        f"Unknown fault {name!r}. {hint}Known: {', '.join(sorted(FAULTS))}; and <call>_<answer> with a call of "
        f"{', '.join((*CALLS, 'any'))} and an answer of {', '.join(ANSWERS)}."
    )
