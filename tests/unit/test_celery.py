"""What the project uses of Celery, and what it must never use: results, late acknowledgement, timers, pickle."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import gemini_batch
import workers
from gemini_batch.fleet import messages
from gemini_batch.fleet.broker import read_broker

HERE, CELERYS = Path(gemini_batch.__file__).parent, Path(workers.__file__).parent
TREES = {path: ast.parse(path.read_text()) for folder in (HERE, CELERYS) for path in sorted(folder.rglob("*.py"))}
SENDING = {path: tree for path, tree in TREES.items() if path.is_relative_to(CELERYS) or path.parent.name == "fleet"}
"""What makes or sends messages."""
OF_CELERY = {path: tree for path, tree in TREES.items() if path.is_relative_to(CELERYS)}


def keywords(tree):
    """Names that are given a value: keywords of calls, and texts that are keys of a dict; each with its value."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from ((keyword.arg, keyword.value) for keyword in node.keywords)
        elif isinstance(node, ast.Dict):
            keys = zip(node.keys, node.values, strict=True)
            yield from ((key.value, value) for key, value in keys if isinstance(key, ast.Constant))


def names(tree):
    """Names and attributes that are used, and every part of what is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Import):
            yield from (part for alias in node.names for part in alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            yield from [*(node.module or "").split("."), *(alias.name for alias in node.names)]


def given(trees, *banned):
    """Where any of these names is given a value, but for False."""
    off = ast.dump(ast.Constant(False))
    return [
        (path.name, name)
        for path, tree in trees.items()
        for name, value in keywords(tree)
        if name in banned and ast.dump(value) != off
    ]


def used(trees, *banned):
    """Where any of these names is used."""
    return [(path.name, name) for path, tree in trees.items() for name in names(tree) if name in banned]


# --- what may not be in the code --------------------------------------------------------------------------------------


def test_messages_have_neither_a_time_to_come_nor_one_to_go():
    """One with a time sits unacknowledged in a worker: it runs again and again, and ends the worker when Redis restarts
    (5.7.0)."""
    assert given(SENDING, "eta", "countdown") == []
    assert given(OF_CELERY, "expires", "task_time_to_live") == []


def test_no_task_asks_for_another_try():
    """A retry is a countdown; the next sweep rings again."""
    assert used(OF_CELERY, "retry", "Retry") == []
    assert given(OF_CELERY, "autoretry_for", "max_retries", "retry_backoff", "default_retry_delay") == []


def test_there_are_no_results_and_nothing_that_needs_them():
    """Chords lost their body for ever with one killed worker; results live in the run directory."""
    assert used(TREES, "AsyncResult", "GroupResult", "chord") == []
    assert used(OF_CELERY, "chain", "group", "signature") == []
    assert given(OF_CELERY, "result_backend", "backend", "result_expires", "result_extended") == []


def test_nothing_is_acknowledged_late():
    """An unacknowledged message is lost or repeated, and ends the worker when Redis restarts (5.7.0)."""
    names = ("acks_late", "reject_on_worker_lost", "retry_on_worker_lost", "acks_on_failure_or_timeout")
    assert given(TREES, *names, *(f"task_{name}" for name in names)) == []


def test_there_is_no_scheduler():
    """A beat is a single process that must not be doubled; here every worker may ask for the next sweep."""
    assert used(OF_CELERY, "crontab", "beat_schedule", "add_periodic_task", "on_after_configure") == []
    assert given(TREES, "beat_schedule", "beat") == []
    for path, tree in TREES.items():
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert not texts & {"-B", "--beat", "beat"}, path


def test_celery_is_imported_below_workers_alone():
    """Everything that decides must run, and be tested, without it."""
    others = {path: tree for path, tree in TREES.items() if path not in OF_CELERY}
    imports = {
        path: [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        for path, tree in others.items()
    }
    trees = {path: ast.Module(nodes, []) for path, nodes in imports.items()}
    assert used(trees, "celery", "kombu", "billiard", "workers") == []
    assert used(OF_CELERY, "celery") != []


# --- what Celery makes of the settings --------------------------------------------------------------------------------

SETTINGS = {
    "accept_content": ["json"],
    "task_serializer": "json",
    "result_backend": None,
    "task_ignore_result": True,
    "task_acks_late": False,
    "task_reject_on_worker_lost": None,
    "worker_disable_prefetch": True,
    "worker_prefetch_multiplier": 1,
    "worker_enable_remote_control": False,
    "worker_send_task_events": False,
    "task_send_sent_event": False,
    "task_default_queue": "gemini-batch",
    "task_publish_retry": False,
    "task_always_eager": False,
    "beat_schedule": {},
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
}


@pytest.mark.parametrize(("name", "value"), SETTINGS.items())
def test_celery_is_set_to_ring_doorbells_and_no_more(name, value):
    """Each of these was measured to lose, repeat or leak something in its other position."""
    from workers.app import app  # noqa: PLC0415 - asked for here, so that the other tests need no Celery

    assert app.conf[name] == value


def test_every_key_of_the_transport_has_the_prefix_and_no_wait_is_endless():
    """The server may be shared; a publish on a dead connection would wait for ever."""
    from workers.app import app  # noqa: PLC0415

    options = app.conf.broker_transport_options
    assert options["global_keyprefix"] == messages.PREFIX == "gemini-batch:"
    for name in ("socket_timeout", "socket_connect_timeout", "health_check_interval"):
        assert 0 < options[name] <= 60
    assert "unacked_key" not in options, "it would not carry the prefix of the queue"


def test_with_tls_celery_verifies_what_our_own_clients_verify():
    """kombu connects on its own; an unverified one would hand the password to anybody."""
    from workers.app import settings  # noqa: PLC0415

    broker = read_broker("rediss://user:pw@host:1/0?ssl_ca_certs=/ca.pem")
    made = settings(broker)
    assert made["broker_url"] == "rediss://user:pw@host:1/0"
    assert made["broker_use_ssl"] == broker.tls
    assert settings(read_broker("redis://host:1/0"))["broker_use_ssl"] is None


def test_the_tasks_are_the_three_doorbells():
    """A task is something that whoever can write to the broker can have done."""
    from workers import tasks  # noqa: PLC0415

    registered = {name for name in tasks.app.tasks if not name.startswith("celery.")}
    assert registered == {messages.SWEEP, messages.ADVANCE, messages.MERGE}
    assert all(
        not task.acks_late and task.ignore_result for task in tasks.app.tasks.values() if task.name in registered
    )


# --- a process of its own ---------------------------------------------------------------------------------------------


def fresh(code, **variables):
    """What a new process prints, with these variables and nobody's settings."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("GEMINI_", "GOOGLE_", "CELERY_"))} | variables
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_worker_opens_nothing_before_it_forks():
    """Clients do not survive a fork; a server that nobody can reach must not matter yet."""
    code = "import workers.tasks, workers.life, workers.ring; print('imported')"
    assert fresh(code, GEMINI_BATCH_BROKER_URL="redis://127.0.0.1:1/0") == ["imported"]


@pytest.mark.parametrize(
    "name", ["CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND"]
)
def test_settings_of_other_celery_applications_on_the_machine_do_not_count(name):
    """Celery prefers these variables to its settings: doorbells would go to a stranger's broker, without our TLS."""
    code = (
        "from workers.app import app\n"
        "c = app.conf\n"
        "print(c.broker_url, c.broker_read_url, c.broker_write_url, c.result_backend)"
    )
    found = fresh(code, GEMINI_BATCH_BROKER_URL="redis://ours/0", **{name: "redis://theirs/0"})
    assert found == ["redis://ours/0", "redis://ours/0", "redis://ours/0", "None"]


def test_a_password_reaches_celery_as_it_was_meant():
    """kombu takes `;` for the end of one broker and the beginning of the next, and would show the rest as a host."""
    code = "from workers.app import app\nc = app.connection_for_read()\nprint(c.password, c.hostname, c.alt)"
    found = fresh(code, GEMINI_BATCH_BROKER_URL="redis://user:one;two%3Bthree@host:1/0")
    assert found == ["one;two;three", "host", "[]"]
