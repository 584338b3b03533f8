"""The pauses of a project's calls, shared by all workers through Redis.

Two workers that read and write at once may both make the one call after a pause, and no more comes of it. Without Redis
every call may be made.
"""

from gemini_batch.clock import fraction
from gemini_batch.fleet.hints import Hints
from gemini_batch.quota.gates import Kind, Turn, after_429, turn


class HintedGates:
    """`Gates` of one project."""

    def __init__(self, hints: Hints, project: str) -> None:
        self._hints = hints
        self._project = project

    def enter(self, kind: Kind) -> Turn:
        before, now = self._hints.pause(kind, self._project)
        found, pause = turn(before, now)
        if pause != before:
            self._hints.keep_pause(kind, self._project, pause)
        return found

    def throttled(self, kind: Kind, trial: bool) -> None:
        before, now = self._hints.pause(kind, self._project)
        if now:
            self._hints.keep_pause(kind, self._project, after_429(before, trial, now, fraction()))

    def passed(self, kind: Kind) -> None:
        self._hints.keep_pause(kind, self._project, None)
