"""A fleet on a server that others use too: the user that docs/operations.md makes is enough, and harms nobody."""

import re
import sys
from pathlib import Path
from urllib.parse import quote

import kombu
import pytest
import redis

from gemini_batch.fleet.broker import read_broker
from gemini_batch.fleet.messages import SWEEP
from workers.app import settings

GUIDE = Path(__file__).parents[2] / "docs" / "operations.md"
USER, PASSWORD = "gemini-batch", "p@ss:w/rd#1%"
OLD_CELERY = Path(sys.prefix) / "celery56"
ROWS, OPTIONS = 12, ("--max-requests-per-shard", 2, "--poll-interval", 1, "--json")
HARMFUL = ("FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG GET *", "ACL LIST", "CLIENT LIST", "GET other:key", "DEL other:key")


@pytest.fixture
def url(valkey):
    """The broker's URL for the guide's user, made by the guide's own lines."""
    lines = re.findall(r"^ACL SETUSER .*", GUIDE.read_text(), re.MULTILINE)
    assert lines, "the guide no longer says how to make the user"
    for line in lines:
        valkey.client.execute_command(*line.replace("PASSWORD", PASSWORD).split())
    valkey.client.acl_log_reset()
    yield f"redis://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{valkey.port}/1"
    valkey.client.acl_deluser(USER)


@pytest.fixture
def refused(valkey):
    """What the server refused the user so far."""
    return lambda: [(entry["reason"], entry["object"]) for entry in valkey.client.acl_log()]


@pytest.mark.parametrize("older", [False, True], ids=["celery", "celery56"])
def test_a_fleet_finishes_a_run_as_this_user(older, url, refused, cli, valkey, start_worker, look):
    """Also with a worker that has to pass doorbells on, and after a flush: both take other commands."""
    if older and not OLD_CELERY.exists():
        pytest.skip("`make test` installs the older Celery")
    worker = start_worker("a@one", "--broker", url, env={"PYTHONPATH": str(OLD_CELERY)} if older else {})
    unfit = None if older else start_worker("b@two", "--broker", url, "--project", "another")
    broker = {"GEMINI_BATCH_BROKER_URL": url}
    run = cli.start("submit", look.prompts(cli.folder / "m.parquet", ROWS), *OPTIONS, env=broker)
    parts = look.until(lambda: list(cli.folder.glob("runs/*/parts/*")), "the first part")
    valkey.client.flushall()
    done = run.ended()
    assert len(parts) < ROWS / 2, "the flush came too late to mean anything"
    assert (done.code, done.json["rows"]["ok"]) == (0, ROWS)
    assert cli("status", "--json", env=broker).json["state"] == "finished"
    assert refused() == []
    assert unfit is None or "was made for the project" in unfit.said
    assert ("v5.6." in worker.said) == older
    assert PASSWORD not in run.said + worker.said


def test_whatever_celery_does_to_its_queue_is_allowed(url, refused):
    """Restoring what a dead worker held, giving back, purging: rare, so a run need not come by them."""
    made = settings(read_broker(url))
    options = made["broker_transport_options"] | {"visibility_timeout": -1}
    with kombu.Connection(made["broker_url"], transport_options=options) as connection:
        queue = connection.SimpleQueue("gemini-batch")
        channel = queue.channel
        queue.put([[], {}, {}], headers={"task": SWEEP})
        queue.put([[], {}, {}], headers={"task": SWEEP})
        queue.get(timeout=5)
        channel.qos.restore_visible(num=10, interval=1)
        queue.get(timeout=5).reject()
        queue.get(timeout=5).requeue()
        queue.get(timeout=5).ack()
        queue.put([[], {}, {}], headers={"task": SWEEP})
        queue.clear()
        channel.close()
    assert refused() == []


@pytest.mark.parametrize("command", HARMFUL)
def test_the_user_can_do_no_harm_to_others(command, url):
    client = redis.Redis.from_url(url)
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command.split())
    client.close()
