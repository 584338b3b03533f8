"""An object store (S3, Google Cloud Storage, Azure) as a store, by conditional put.

obstore hangs in forked children: a process that forks must never touch it. So it is imported at the first operation
and not with this module, and by no other module. Credentials come from its own chain (AWS_*, GOOGLE_*, AZURE_*).
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gemini_batch.effects import effect

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig
    from obstore.store import ObjectStore as Remote

PUT_BYTES, PUTS = 8 << 20, 4
"""Size of the pieces of an upload and how many are on the way at once: 10,000 pieces are the most that S3 takes."""

GET_BYTES = 16 << 20
"""Size of the pieces of a download: each is one request with a time-out and repetitions of its own."""

RETRIES: "RetryConfig" = {
    "max_retries": 12,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {"init_backoff": timedelta(seconds=0.25), "max_backoff": timedelta(seconds=5), "base": 2},
}
CONNECT_SECONDS, REQUEST_SECONDS = 5, 60
"""With the retries: nothing hangs for longer than about a minute and a half, and a piece may take a minute."""

ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
"""Where obstore looks for another endpoint than the provider's own."""


class ObjectStore:
    """The objects below a URL: `s3://`, `gs://`, `az://`; in tests `memory:///`."""

    def __init__(self, url: str) -> None:
        self.url = url

    @effect("store.create")
    def create(self, name: str, body: bytes) -> bool:
        try:
            with self._os_errors(name):
                self._remote.put(name, body, mode="create")
        except FileExistsError:
            return False
        return True

    @effect("store.read")
    def read(self, name: str) -> bytes | None:
        try:
            with self._os_errors(name):
                return bytes(self._remote.get(name).bytes())
        except FileNotFoundError:
            return None

    @effect("store.exists")
    def exists(self, name: str) -> bool:
        return self._last_modified(name) is not None

    @effect("store.modified")
    def modified(self, name: str) -> datetime | None:
        return self._last_modified(name)

    @effect("store.exists")
    def size_of(self, name: str) -> int | None:
        """Bytes of an object; None when absent."""
        try:
            with self._os_errors(name):
                return self._remote.head(name)["size"]
        except FileNotFoundError:
            return None

    @effect("store.names")
    def names(self, folder: str) -> list[str]:
        with self._os_errors(folder):
            found = self._remote.list_with_delimiter(folder or None)
            paths = [*found["common_prefixes"], *(entry["path"] for entry in found["objects"])]
        return sorted(path.rpartition("/")[2] for path in paths)

    @effect("store.names")
    def tree(self, folder: str = "") -> list[str]:
        """Names of all objects below a folder, however deep, sorted. A hint, as `names`."""
        with self._os_errors(folder):
            prefix, pages = f"{urlsplit(self.url).path.strip('/')}/".lstrip("/"), self._remote.list(folder or None)
            return sorted(entry["path"].removeprefix(prefix) for page in pages for entry in page)

    @effect("store.publish")
    def publish(self, name: str, scratch: Path) -> None:
        with self._os_errors(name):
            self._remote.put(name, scratch, chunk_size=PUT_BYTES, max_concurrency=PUTS)
        scratch.unlink()

    @effect("store.delete")
    def delete(self, name: str) -> None:
        try:
            with self._os_errors(name):
                self._remote.delete(name)
        except FileNotFoundError:
            return

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        with self.scratch(Path(name).name) as path:
            self._download(name, path)
            yield path

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="gemini-batch-", ignore_cleanup_errors=True) as folder:
            yield Path(folder) / name

    @contextmanager
    def held(self) -> Iterator[bool]:
        yield True

    def is_held(self) -> None:
        """Nobody can say: there are no locks."""

    def sweep_scratch(self) -> None:
        """Scratch files are local."""

    def _last_modified(self, name: str) -> datetime | None:
        try:
            with self._os_errors(name):
                return self._remote.head(name)["last_modified"]
        except FileNotFoundError:
            return None

    @effect("store.read")
    def _download(self, name: str, path: Path) -> None:
        """The object in pieces of one version: if it is replaced meanwhile, this fails."""
        with self._os_errors(name), path.open("wb") as sink:
            found = self._remote.head(name)
            size, version = found["size"], found["e_tag"]
            for start in range(0, size, GET_BYTES):
                stop = min(start + GET_BYTES, size)
                piece = self._remote.get(name, options={"range": (start, stop), "if_match": version})
                sink.write(piece.bytes())

    @cached_property
    def _remote(self) -> "Remote":
        from obstore import store  # noqa: PLC0415 - see the module's docstring

        parts = urlsplit(self.url)
        if parts.scheme == "memory":
            return store.MemoryStore()
        kind = {"s3": store.S3Store, "gs": store.GCSStore, "az": store.AzureStore}[parts.scheme]
        prefix = parts.path.strip("/") or None
        options = _client_options(parts.scheme)
        made: Remote = kind(parts.netloc, prefix=prefix, client_options=options, retry_config=RETRIES)
        return made

    @contextmanager
    def _os_errors(self, name: str) -> Iterator[None]:
        """Whatever obstore raises as an OSError that names the object. A full local disk is one already."""
        from obstore.exceptions import BaseError  # noqa: PLC0415 - see the module's docstring

        try:
            yield
        except (BaseError, FileNotFoundError, ValueError) as error:
            where = f"{self.url}/{name}" if name else self.url
            raise _kind_of(error)(f"{where}: {_reason(error)}") from None


def _client_options(scheme: str) -> "ClientConfig":
    return {
        "timeout": timedelta(seconds=REQUEST_SECONDS),
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "allow_http": _endpoint(scheme).startswith("http://"),
    }


def _endpoint(scheme: str) -> str:
    """The endpoint that is set, if one is. obstore panics over one without a scheme."""
    for name in ENDPOINTS.get(scheme, ()):
        if endpoint := os.environ.get(name, "").lower():
            if not endpoint.startswith(("http://", "https://")):
                raise ValueError(f"{name} must start with http:// or https://")
            return endpoint
    return ""


NO_BUCKET = re.compile("NoSuchBucket|ContainerNotFound|specified bucket does not exist")
DENIED = re.compile(r"status code: 40[13]\b")
KINDS = {"AlreadyExistsError": FileExistsError, "FileNotFoundError": FileNotFoundError}


class NoBucket(OSError):
    """The bucket itself is not there."""


def _kind_of(error: Exception) -> type[OSError]:
    """A bucket that is not there is no absent object: a run in it must not read as one that never was."""
    text = str(error)
    if NO_BUCKET.search(text):
        return NoBucket
    return PermissionError if DENIED.search(text) else KINDS.get(type(error).__name__, OSError)


STATUS = re.compile(r"status code: (\d{3}[A-Za-z -]*)")
CODE = re.compile(r"<Code>(\w+)</Code>")
CAUSE = re.compile(r'message: "([^"]*)"')
ASKS_FOR_CREDENTIALS = re.compile(r"//169\.254\.|//metadata\.google|token request")


def _reason(error: Exception) -> str:
    """The cause in a few words: obstore's own text holds URLs and answers, and those may hold signatures."""
    text = str(error)
    if ASKS_FOR_CREDENTIALS.search(text):
        return "no credentials in the environment, and no metadata service gives any"
    if status := STATUS.search(text):
        code = CODE.search(text)
        return status[1].strip() + (f" ({code[1]})" if code else "")
    if "error sending request" in text:
        cause = CAUSE.search(text)
        return f"no connection ({cause[1] if cause else 'timed out'})"
    return _without_secrets(text.partition("\n")[0])


SECRET = re.compile("^(AWS|AZURE|GOOGLE)_.*(KEY|SECRET|TOKEN|SAS|PASSWORD)")


def _without_secrets(text: str) -> str:
    for name, value in os.environ.items():
        if value and SECRET.match(name):
            text = text.replace(value, f"${name}")
    return re.sub(r"\?\S*|//\S*@", "?", text.removeprefix("Generic "))
