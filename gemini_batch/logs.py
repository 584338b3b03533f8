"""What goes to stderr for whoever reads logs: lines of text, or an object a line (`--log-format json`)."""

import logging
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

import orjson

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

OURS = ("gemini_batch", "workers")
"""Loggers that are set up; those of other packages stay as they are."""

FIELDS = "fields"
"""Of a record: a dict of what else its object holds."""


class JsonFormatter(logging.Formatter):
    """An object a line: `at` (RFC 3339), `level`, `logger`, `message`, `error` with a traceback if there is one, and
    the fields of the record."""

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return orjson.dumps(said, default=str).decode()


class TextFormatter(logging.Formatter):
    """What people read of others' messages: when, how bad, what."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")


def set_up(level: LogLevel, form: LogFormat, stream: TextIO | None = None) -> None:
    """Let our loggers write to `stream` (stderr). Again replaces what was set up before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    for name in OURS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level.upper())
        logger.propagate = False


def printable(text: str) -> str:
    """Text that no control character can hide in: what the service or a manifest says may hold any."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
