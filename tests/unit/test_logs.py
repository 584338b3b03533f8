"""A line of a log for programs: an object, whatever happened."""

import io
import json
import logging

import pytest

from gemini_batch import logs


@pytest.fixture
def stream():
    """What is written; afterwards the loggers are as they were."""
    before = {name: (logging.getLogger(name).handlers[:], logging.getLogger(name).propagate) for name in logs.OURS}
    yield io.StringIO()
    for name, (handlers, propagate) in before.items():
        logger = logging.getLogger(name)
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(logging.NOTSET)


def test_a_record_is_an_object_with_its_fields_and_its_error(stream):
    logs.set_up("info", "json", stream)
    log = logging.getLogger("gemini_batch.anything")
    log.debug("not told")
    log.info("run %s", "a\nb", extra={logs.FIELDS: {"run": "a", "shard": 3}})
    try:
        raise ValueError("no")
    except ValueError:
        log.exception("went wrong")
    told, failed = map(json.loads, stream.getvalue().splitlines())
    assert (told["level"], told["message"], told["run"], told["shard"]) == ("info", "run a\nb", "a", 3)
    assert "ValueError: no" in failed["error"]


def test_a_second_set_up_replaces_the_first(stream):
    for form in ("json", "text"):
        logs.set_up("warning", form, stream)
    logging.getLogger("workers.tasks").warning("once")
    (line,) = stream.getvalue().splitlines()
    assert line.endswith("WARNING once")


@pytest.mark.parametrize("form", ["text", "json"])
def test_celery_s_loggers_write_as_the_worker_was_told(form, monkeypatch, stream):
    from workers import app  # noqa: PLC0415 - it reads the environment

    monkeypatch.setattr(app, "options", app.options.model_copy(update={"log_format": form}))
    logger = logging.Logger("celery")
    logger.addHandler(logging.StreamHandler(stream))
    app.log_as_told(logger)
    logger.warning("hello")
    assert (stream.getvalue() == "hello\n") is (form == "text")
