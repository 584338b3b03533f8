"""Faults that a test arms over HTTP: a table of names, each with the thing it happens to.

A fault skips the first `after` things of its kind, then happens to `times` of them.
"""

import threading
from dataclasses import dataclass
from enum import Enum

from gemini_batch.emulator.wire import Json, invalid


class Point(Enum):
    CREATE = "a create, before anything is done"
    CREATED = "a create that made a job"
    JOB = "a job, chosen at its create"
    LINE = "a result line, chosen at the create of its job, in input order"
    GET = "a batches.get"
    GET_SUCCEEDED = "a batches.get of a job that has succeeded"
    LIST = "a batches.list"
    CHUNK = "an upload chunk"
    DOWNLOAD = "a download"


@dataclass(frozen=True)
class Fault:
    point: Point
    effect: str
    default_times: int = 1


FAULTS = {
    "create_503": Fault(Point.CREATE, "no job, 503"),
    "create_429": Fault(Point.CREATE, "no job, 429 with a Help link only"),
    "create_reply_lost": Fault(Point.CREATED, "the connection closes without a reply"),
    "create_503_after_commit": Fault(Point.CREATED, "503 although the job exists"),
    "job_failed": Fault(Point.JOB, "ends FAILED with a top-level error, no output"),
    "job_expired": Fault(Point.JOB, "ends EXPIRED, no output"),
    "result_shuffled": Fault(Point.JOB, "result lines in another order"),
    "result_reversed_members": Fault(Point.JOB, "`key` last in every line, errors under `status`"),
    "result_line_missing": Fault(Point.LINE, "left out"),
    "result_line_duplicated": Fault(Point.LINE, "written twice"),
    "result_line_foreign": Fault(Point.LINE, "followed by a copy under a key nobody sent"),
    "result_line_broken": Fault(Point.LINE, "cut in the middle"),
    "result_line_error": Fault(Point.LINE, "error with code 13"),
    "result_line_blocked": Fault(Point.LINE, "promptFeedback, no candidates"),
    "result_line_truncated": Fault(Point.LINE, "MAX_TOKENS, text cut in half"),
    "succeeded_without_output": Fault(Point.GET_SUCCEEDED, "the output is not there yet", default_times=2),
    "state_unknown": Fault(Point.GET, "the state is BATCH_STATE_SOMETHING", default_times=2),
    "get_500": Fault(Point.GET, "500"),
    "list_500": Fault(Point.LIST, "500"),
    "upload_503": Fault(Point.CHUNK, "503 without X-Goog-Upload-Status; the bytes are not kept"),
    "download_cut": Fault(Point.DOWNLOAD, "200, half of the body, no Content-Length, then the connection closes"),
}


@dataclass(slots=True)
class _Armed:
    name: str
    times: int
    after: int

    def fires(self) -> bool:
        if self.after:
            self.after -= 1
            return False
        self.times -= 1
        return self.times >= 0


class FaultBoard:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: list[_Armed] = []

    def arm(self, name: str, times: int | None = None, after: int = 0) -> None:
        fault = FAULTS.get(name)
        if fault is None:
            raise invalid(f"Unknown fault {name!r}. Known: {', '.join(sorted(FAULTS))}.")
        with self._lock:
            self._armed.append(_Armed(name, fault.default_times if times is None else times, after))

    def clear(self) -> None:
        with self._lock:
            self._armed.clear()

    def armed(self) -> list[Json]:
        with self._lock:
            return [{"name": one.name, "times": one.times, "after": one.after} for one in self._armed]

    def take(self, point: Point) -> frozenset[str]:
        """The names of the faults that happen now, to this one thing."""
        with self._lock:
            fired = frozenset(one.name for one in self._at(point) if one.fires())
            self._drop_spent()
        return fired

    def take_lines(self, n_lines: int) -> dict[int, str]:
        """Position to fault, for a job of `n_lines`; a line suffers one fault at most."""
        taken: dict[int, str] = {}
        with self._lock:
            for one in self._at(Point.LINE):
                first = min(one.after, n_lines)
                one.after -= first
                free = (position for position in range(first, n_lines) if position not in taken)
                chosen = [position for position, _ in zip(free, range(one.times), strict=False)]
                one.times -= len(chosen)
                taken.update(dict.fromkeys(chosen, one.name))
            self._drop_spent()
        return taken

    def _at(self, point: Point) -> list[_Armed]:
        return [one for one in self._armed if FAULTS[one.name].point is point]

    def _drop_spent(self) -> None:
        self._armed = [one for one in self._armed if one.times > 0]
