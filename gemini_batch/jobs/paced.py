"""The remote service, asked no more than it bears: after a 429 of uploads, lists or gets nobody makes such a call.

Wraps a `Remote`. A call that may not be made raises `Throttled` at once, with the time to come back; nothing is sent.
Creates have limits of their own, which the quota desk learns.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from gemini_batch.errors import RemoteError, Throttled
from gemini_batch.gemini.remote import Listing, Remote, Seen, StoredFile
from gemini_batch.quota.gates import Gates, Kind
from gemini_batch.records import Job

R = TypeVar("R")


class Paced:
    """`Remote` behind the gates of its project. Safe between threads if both are."""

    def __init__(self, remote: Remote, gates: Gates) -> None:
        self._remote = remote
        self._gates = gates

    def upload(self, path: Path, display_name: str, mime_type: str) -> StoredFile:
        return self._through("uploads", lambda: self._remote.upload(path, display_name, mime_type))

    def create_job(self, model: str, file_name: str, display_name: str) -> Job:
        return self._remote.create_job(model, file_name, display_name)

    def get_job(self, name: str) -> Seen:
        return self._through("gets", lambda: self._remote.get_job(name))

    def cancel_job(self, name: str) -> None:
        self._remote.cancel_job(name)

    def list_jobs(self) -> Listing:
        return self._through("lists", self._remote.list_jobs)

    def get_file(self, name: str) -> StoredFile:
        return self._through("gets", lambda: self._remote.get_file(name))

    def delete_file(self, name: str) -> None:
        self._remote.delete_file(name)

    def list_files(self) -> tuple[StoredFile, ...]:
        return self._through("lists", self._remote.list_files)

    def download(self, name: str, target: Path) -> None:
        self._through("gets", lambda: self._remote.download(name, target))

    def _through(self, kind: Kind, call: Callable[[], R]) -> R:
        turn = self._gates.enter(kind)
        if turn.wait is not None:
            raise Throttled(f"it answered 429 to {kind}, which are asked for again after a while", 429, turn.wait)
        try:
            answer = call()
        except Throttled:
            self._gates.throttled(kind, turn.trial)
            raise
        except RemoteError:
            if turn.trial:
                self._gates.passed(kind)
            raise
        if turn.trial:
            self._gates.passed(kind)
        return answer
