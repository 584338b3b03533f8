"""Whoever can write to the broker can ring, and no more: hostile messages against a real worker.

Every message carries a canary, or a bomb that would leave a file; after them a small run finishes as ever.
"""

import json
import pickle
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from gemini_batch.fleet.messages import ADVANCE, MERGE, PREFIX, QUEUE, SWEEP, list_of

CANARY = "CANARY-7f3a91"
NOBODYS = "no-such-run"
LONGEST_LINE = 400
"""Of a log that shows no content: 10 MB in one line are a denial of service of their own."""

TEN_MB = 10_000_000
REFUSED = "refused a message"
PATIENCE = 30.0


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


def letter(
    arguments: Any = (NOBODYS, 0),
    options: Any = None,
    embedded: Any = None,
    body: bytes | None = None,
    headers: Any = None,
    content: Any = "application/json",
    **changes: Any,
) -> dict[str, Any]:
    """A message as it lies in the list: a doorbell for a run that nobody has, but for what is given."""
    made = json.dumps([arguments, options or {}, embedded or {}]).encode() if body is None else body
    own = {"lang": "py", "task": ADVANCE, "id": str(uuid.uuid4()), "argsrepr": CANARY, "origin": CANARY}
    return {
        "body": b64encode(made).decode(),
        "content-encoding": "utf-8",
        "content-type": content,
        "headers": {**own, **headers} if isinstance(headers, dict) else headers or own,
        "properties": {
            "correlation_id": CANARY,
            "reply_to": CANARY,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
        **changes,
    }


def without(message: dict[str, Any], *path: str) -> dict[str, Any]:
    """The message but for one entry of it."""
    if len(path) == 1:
        return {name: value for name, value in message.items() if name != path[0]}
    return {**message, path[0]: without(message[path[0]], *path[1:])}


class Target:
    """A worker under fire."""

    def __init__(self, worker: Any, valkey: Any, look: Any, submit: Callable[[], Any]) -> None:
        self.worker, self.client, self._until, self._submit = worker, valkey.client, look.until, submit
        self._until(lambda: "t@test ready" in worker.said, "the worker is ready")
        self.main = worker.main
        self.refusals = 0

    def push(self, *messages: Any) -> None:
        """Put messages into the queue's list one by one, each when the one before was refused."""
        for message in messages:
            raw = message if isinstance(message, bytes) else json.dumps(message).encode()
            self.client.lpush(list_of(0), raw)
            self.expect_refusal(str(message)[:300])

    def expect_refusal(self, of: object) -> None:
        self.refusals += 1
        self._until(lambda: self._ended or self._refused, f"the refusal of {of}", PATIENCE)
        assert not self._ended, f"the worker ended over {of}"
        self._until(lambda: not self.left, f"nothing is left of {of}", PATIENCE)

    @property
    def _ended(self) -> bool:
        return "nrecoverable error" in self.worker.said or "Frequent restarts" in self.worker.said

    @property
    def _refused(self) -> bool:
        return self.worker.said.count(REFUSED) >= self.refusals

    @property
    def left(self) -> int:
        """Messages that wait or are not acknowledged."""
        return int(self.client.llen(list_of(0)) + self.client.hlen(f"{PREFIX}unacked"))

    def works_on(self) -> None:
        """Nothing was shown or kept, and a run that is submitted now finishes."""
        self.shows_nothing()
        self._submit()
        self.shows_nothing()
        keys = [key for key in self.client.scan_iter() if CANARY.encode() in key]
        assert keys == []

    def lives(self) -> None:
        """It works on in the same process."""
        self.works_on()
        assert self.worker.main == self.main

    def shows_nothing(self) -> None:
        said = self.worker.said
        assert CANARY not in said
        assert max(map(len, said.splitlines())) < LONGEST_LINE


@pytest.fixture
def submit(cli: Any, valkey: Any, look: Any, folder: Path) -> Callable[[], Any]:
    """Have a small run done by the fleet."""

    def small() -> None:
        manifest = look.prompts(folder / "m.parquet", 2)
        done = cli(
            "submit", manifest, "--broker", valkey.url, "--runs", folder / "runs", "--poll-interval", "1", "--json"
        )
        assert done.code == 0, done.err
        rows = look.rows(Path(done.json["run"]))
        assert [row["text"] for row in rows] == [look.answer(f"Prompt number {i}") for i in range(2)]

    return small


@pytest.fixture
def target(start_worker: Any, valkey: Any, look: Any, submit: Callable[[], Any]) -> Target:
    return Target(start_worker("t@test", "-c", 1, "-l", "INFO"), valkey, look, submit)


@pytest.fixture
def stranger(valkey: Any) -> Iterator[Celery]:
    """A plain Celery client of somebody who knows the queue's name."""
    app = Celery("stranger", broker=valkey.url, set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE, task_ignore_result=True, broker_transport_options={"global_keyprefix": PREFIX}
    )
    yield app
    app.close()


# --- what a doorbell may say ------------------------------------------------------------------------------------------

ILL_NAMED = [
    (NOBODYS, 0, CANARY),
    (f"../../{CANARY}", 0),
    ("..", 0),
    (f"/tmp/{CANARY}", 0),
    (f"{CANARY.lower()}/../x", 0),
    (f".active/{CANARY}", 0),
    (f"{NOBODYS}\n{CANARY}", 0),
    (f"{NOBODYS}\0{CANARY}", 0),
    (CANARY * 800, 0),
    ("", 0),
    (NOBODYS, -1),
    (NOBODYS, 10**30),
    (NOBODYS, 1e30),
    (NOBODYS, True),
    (NOBODYS, CANARY),
    (NOBODYS, [CANARY]),
    (NOBODYS, {CANARY: 1}),
    (NOBODYS, None),
    ({CANARY: 1}, 0),
    ([CANARY], 0),
    (None, None),
    (7, 0),
    (),
    (NOBODYS,),
    (NOBODYS, 0, CANARY, {CANARY: [CANARY]}),
]


def test_arguments_that_name_no_run_and_shard_are_refused_unseen(target: Target, stranger: Celery) -> None:
    """The worker opens what a doorbell names; a path must never get so far."""
    for arguments in ILL_NAMED:
        stranger.send_task(ADVANCE, arguments)
        target.expect_refusal(arguments)
    for arguments in [(), (f"../{CANARY}",), (NOBODYS,), (CANARY * 800,), (None,), ([CANARY],)]:
        stranger.send_task(MERGE, arguments)
        target.expect_refusal(arguments)
    target.lives()


def test_a_doorbell_by_keywords_is_refused_unseen(target: Target, stranger: Celery) -> None:
    """Python names an unexpected keyword in its error."""
    for task in (ADVANCE, MERGE):
        stranger.send_task(task, (), {CANARY: CANARY})
        target.expect_refusal("a keyword")
    stranger.send_task(SWEEP, (), {CANARY: CANARY})
    target.lives()


def test_a_sweep_takes_nothing_from_its_message(target: Target, stranger: Celery) -> None:
    """It looks at what was handed over, and at nothing else."""
    stranger.send_task(SWEEP, (f"../{CANARY}", {CANARY: 1}))
    target.lives()


def test_a_task_nobody_registered_is_refused_without_its_name(target: Target, stranger: Celery) -> None:
    """A name may be a secret that was pasted into the wrong place."""
    for name in (f"sk-{CANARY}", "celery.backend_cleanup.x", "os.system", "workers.tasks.host", CANARY * 1000):
        stranger.send_task(name, (CANARY,), {CANARY: CANARY})
        target.expect_refusal(name[:40])
    target.lives()


def test_celery_s_own_tasks_do_nothing_for_a_stranger(target: Target, stranger: Celery, tmp_path: Path) -> None:
    """They are registered in every worker, and some of them call other tasks."""
    signature = {"task": "os.mkdir", "args": [str(tmp_path / "made")], "kwargs": {}, "options": {}}
    for name in ("chord_unlock", "map", "starmap", "chunks", "group", "chain", "accumulate", "backend_cleanup"):
        stranger.send_task(f"celery.{name}", (signature, [[CANARY]]))
        target.expect_refusal(name)
    target.lives()
    assert not (tmp_path / "made").exists()


# --- what a message may be --------------------------------------------------------------------------------------------


def test_a_pickle_is_not_opened(target: Target, stranger: Celery, tmp_path: Path) -> None:
    """Opening one runs whatever its sender wants."""
    bomb = tmp_path / "bomb"
    stranger.send_task(ADVANCE, (Bomb(bomb), CANARY), serializer="pickle")
    target.expect_refusal("a pickle")
    body = pickle.dumps(([Bomb(bomb)], {}, {}))
    for content in ("application/x-python-serialize", "application/json", "application/data", "", None):
        target.push(letter(body=body, content=content))
    target.push(letter(body=body, content="application/x-python-serialize", headers={"compression": "gzip"}))
    target.lives()
    assert not bomb.exists()


def test_yaml_and_msgpack_and_what_nobody_knows_are_not_opened(target: Target, tmp_path: Path) -> None:
    """One way to say something is enough; YAML can make objects."""
    bomb = tmp_path / "bomb"
    yaml = f"- !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{bomb}]]\n- {CANARY}"
    for content in ("application/x-yaml", "application/yaml", "text/yaml"):
        target.push(letter(body=yaml.encode(), content=content))
    for content in ("application/x-msgpack", f"application/{CANARY}", "text/plain", "application/x-python-serialize"):
        target.push(letter(body=b"\x93" + CANARY.encode(), content=content))
    target.lives()
    assert not bomb.exists()


def test_ten_megabytes_are_refused_in_one_line(target: Target, stranger: Celery) -> None:
    """Content in a log fills the disk, and is read by people it is not for."""
    huge = CANARY * (TEN_MB // len(CANARY))
    for arguments in [(huge, 0), (NOBODYS, huge), (NOBODYS, 0, huge)]:
        stranger.send_task(ADVANCE, arguments)
        target.expect_refusal("10 MB")
    stranger.send_task("nobody.s", (huge,))
    target.expect_refusal("10 MB for nobody")
    target.push(letter(body=huge.encode()), letter(body=huge.encode(), content="application/x-yaml"))
    target.push(letter(headers={"argsrepr": huge}))
    target.lives()


# --- what is around a message -----------------------------------------------------------------------------------------


def test_nothing_of_a_message_s_headers_is_shown_or_heeded(target: Target) -> None:
    """Celery lets the sender name the task in the log, put off its start, and say what runs after it."""
    follow_up = {"task": MERGE, "args": [CANARY], "kwargs": {}, "options": {"queue": CANARY}}
    target.push(
        letter(headers={"id": CANARY}),
        letter(headers={"id": "x" * 1_000_000}),
        letter(headers={"shadow": CANARY}),
        letter(headers={"eta": "2100-01-01T00:00:00"}),
        letter(headers={"eta": CANARY}),
        letter(headers={"expires": "2000-01-01T00:00:00"}),
        letter(headers={"expires": CANARY}),
        letter(headers={"timelimit": [1e-9, 1e-9]}),
        letter(headers={"stamped_headers": [CANARY], "stamps": {CANARY: CANARY}}),
        letter(embedded={"callbacks": [follow_up]}),
        letter(embedded={"errbacks": [follow_up], "chord": follow_up}),
        letter(embedded={"chain": [follow_up]}),
        letter(embedded={"id": CANARY, "delivery_info": CANARY, "shadow": CANARY}),
    )
    target.lives()


SHAPES = {
    "no task": without(letter(), "headers", "task"),
    "a task that is none": letter(headers={"task": None}),
    "a task that is a dict": letter(headers={"task": {CANARY: 1}}),
    "no id": without(letter(), "headers", "id"),
    "an id that is a dict": letter(headers={"id": {CANARY: 1}}),
    "a time limit that is text": letter(headers={"timelimit": [CANARY, CANARY]}),
    "a compression nobody knows": letter(headers={"compression": CANARY}),
    "headers that are text": letter(headers=CANARY),
    "headers that are a list": letter(headers=[CANARY]),
    "no headers": without(letter(), "headers"),
    "headers of the first protocol": {
        **letter(body=json.dumps({"task": ADVANCE, "id": CANARY, "args": [CANARY], "kwargs": {}}).encode()),
        "headers": {},
    },
    "a body that is a dict": letter(body=json.dumps({CANARY: 1}).encode()),
    "a body that is text": letter(body=json.dumps(CANARY).encode()),
    "a body that is a number": letter(body=b"7"),
    "a body that is null": letter(body=b"null"),
    "a body that is short": letter(body=json.dumps([CANARY]).encode()),
    "a body that is empty": letter(body=b""),
    "a body that is deep": letter(body=b"[" * 100_000),
    "a body that is no JSON": letter(body=b"{" + CANARY.encode()),
    "a body that is no UTF-8": letter(body=b"\xff\xfe" + CANARY.encode()),
    "arguments that are text": letter(body=json.dumps([CANARY, {}, {}]).encode()),
    "arguments that are a number": letter(body=json.dumps([7, {}, {}]).encode()),
    "keywords that are text": letter(body=json.dumps([[], CANARY, {}]).encode()),
    "options that are text": letter(body=json.dumps([[], {}, CANARY]).encode()),
    "a body in no base64": letter() | {"body": CANARY},
    "a body that is not packed": letter() | {"body": {CANARY: 1}},
    "no body": without(letter(), "body"),
    "a content type that is a dict": letter(content={CANARY: 1}),
    "no content type": without(letter(), "content-type"),
    "no properties": without(letter(), "properties"),
    "properties that are text": letter() | {"properties": CANARY},
    "no delivery tag": without(letter(), "properties", "delivery_tag"),
    "no delivery info": without(letter(), "properties", "delivery_info"),
    "delivery info that is text": letter() | {"properties": {"delivery_tag": "t", "delivery_info": CANARY}},
    "a body encoding nobody knows": letter() | {"properties": letter()["properties"] | {"body_encoding": CANARY}},
}


def test_a_message_of_any_other_shape_cannot_end_a_worker(target: Target) -> None:
    """One that does is put back into the queue as the worker leaves, and ends the next, for ever."""
    target.push(*SHAPES.values())
    target.lives()


GARBAGE = {
    "text": CANARY.encode(),
    "nothing": b"",
    "no UTF-8": b"\xff\xfe\x80" + CANARY.encode(),
    "half a message": json.dumps(letter()).encode()[:-20],
    "a list": json.dumps([CANARY]).encode(),
    "text in JSON": json.dumps(CANARY).encode(),
    "a number": b"7",
    "null": b"null",
    "another object": json.dumps({CANARY: CANARY}).encode(),
    "deep": b"[" * 200_000,
    "10 MB": (CANARY * (TEN_MB // len(CANARY))).encode(),
    "a pickle": pickle.dumps(CANARY),
}


def test_garbage_in_the_queue_cannot_end_a_worker(target: Target) -> None:
    """A worker that ends comes back more slowly every time."""
    target.push(*GARBAGE.values())
    target.lives()


def test_garbage_in_the_queue_does_not_keep_a_fleet_from_its_work(target: Target) -> None:
    """Whatever it does to the worker that meets it, it is gone then and was not shown."""
    target.client.lpush(list_of(0), GARBAGE["text"], GARBAGE["no UTF-8"], GARBAGE["a list"])
    target.works_on()
    assert target.left == 0


# --- what ringing does ------------------------------------------------------------------------------------------------


def test_ringing_a_hundred_times_for_every_shard_buys_nothing_more(
    target: Target, stranger: Celery, cli: Any, valkey: Any, emulator: Any, look: Any, folder: Path
) -> None:
    """Messages are repeated, come late and come in any order; shards beyond the last do not exist."""
    emulator.settings(job_seconds=1)
    options = (
        "--broker",
        valkey.url,
        "--runs",
        folder / "runs",
        "--poll-interval",
        "1",
        "--max-requests-per-shard",
        "2",
    )
    running = cli.start("submit", look.prompts(folder / "m.parquet", 4), *options, "--json")
    look.until(lambda: any((folder / "runs" / ".active").glob("*.json")), "the run is handed over")
    (run,) = (entry.stem for entry in (folder / "runs" / ".active").glob("*.json"))
    for _ in range(100):
        for shard in (1, 0, 2, 9_999_999):
            stranger.send_task(ADVANCE, (run, shard))
        stranger.send_task(MERGE, (run,))
    done = running.ended()
    assert done.code == 0, done.err
    for shard in range(3):
        stranger.send_task(ADVANCE, (run, shard))
    look.until(lambda: target.left == 0, "all doorbells are answered")
    assert emulator.stats()["requests"] == {"bought_total": 4, "distinct": 4, "bought_more_than_once": 0}
    assert emulator.creates == 2
    rows = look.rows(Path(done.json["run"]))
    assert [row["text"] for row in rows] == [look.answer(f"Prompt number {i}") for i in range(4)]


# --- keys -------------------------------------------------------------------------------------------------------------


def test_every_key_of_a_fleet_has_the_prefix(target: Target, valkey: Any) -> None:
    """The server may be shared with other applications, and with other fleets behind other prefixes."""
    target.lives()
    keys = list(valkey.client.scan_iter())
    assert len(keys) > 2
    assert [key for key in keys if not key.startswith(PREFIX.encode())] == []
