"""What a fleet remembers in Redis: who is busy with what, what rests until when, which workers live.

All of it may vanish at any moment; every question then has an answer that costs time and nothing else. So an error of
Redis is an answer too. Times are Redis's own: the clocks of workers do not matter.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import orjson

from gemini_batch.fleet.due import Wake
from gemini_batch.fleet.messages import PREFIX
from gemini_batch.quota.gates import Pause

if TYPE_CHECKING:
    import redis
    from redis.lock import Lock

P = ParamSpec("P")
R = TypeVar("R")

HOLD_SECONDS = 30.0
"""A worker that is not heard of for so long no longer holds what it was busy with."""

FORGET_SECONDS = 86_400
"""Of a run that nobody sweeps any more."""

BEAT_SECONDS = 10.0
SILENT_SECONDS = 60
"""A worker that missed this many seconds of heartbeats is gone."""

PAUSE_SECONDS = 3600
"""A pause of which nothing is heard for so long is forgotten: longer than the longest."""

PROBLEM_SECONDS = 600
"""A worker says again what is wrong with it at every sweep it runs."""


@dataclass(frozen=True)
class Hold:
    """Something one worker has to itself. `key` and `value` prove it to a transaction."""

    key: str
    value: bytes


def _or(answer: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """The answer while Redis has none."""

    def decorate(ask: Callable[P, R]) -> Callable[P, R]:
        @wraps(ask)
        def asked(*args: P.args, **kwargs: P.kwargs) -> R:
            import redis  # noqa: PLC0415 - by whoever has a client

            try:
                return ask(*args, **kwargs)
            except (redis.RedisError, ValueError, TypeError, KeyError):  # or a value that this release cannot read
                found: R = answer
                return found

        return asked

    return decorate


class Hints:
    """Safe between threads; one per process."""

    def __init__(self, client: "redis.Redis") -> None:
        self._client: Any = client

    # --- holds

    @contextmanager
    def hold(self, *what: object, longest: float = math.inf) -> Iterator[Hold | None]:
        """Have something to oneself while the block lasts; None when another worker has it or nobody can tell.

        A courtesy that saves work: what is safe does not rest on it.

        Args:
            longest: seconds after which it is given up although the block lasts: whoever is in it hangs.
        """
        import redis  # noqa: PLC0415
        from redis.exceptions import LockError  # noqa: PLC0415
        from redis.lock import Lock  # noqa: PLC0415

        lock = Lock(self._client, _key("hold", *what), timeout=HOLD_SECONDS, blocking=False, thread_local=False)
        try:
            mine = lock.acquire()
        except redis.RedisError:
            mine = False
        if not mine:
            yield None
            return
        done = Event()
        renewing = Thread(target=_renew, args=(lock, done, longest), name="hold", daemon=True)
        renewing.start()
        try:
            yield Hold(str(lock.name), lock.local.token or b"")
        finally:
            done.set()
            renewing.join()
            with suppress(redis.RedisError, LockError):
                lock.release()

    @_or(frozenset())
    def held(self, run: str, shards: list[int]) -> frozenset[int]:
        """Which of these shards a worker is busy with."""
        values = self._client.mget([_key("hold", run, shard) for shard in shards]) if shards else []
        return frozenset(shard for shard, value in zip(shards, values, strict=True) if value)

    # --- rests

    @_or(None)
    def rest(
        self, run: str, shard: int, wait: timedelta, reason: str, failures: int = 0, known: float | None = None
    ) -> None:
        """Do not ring for a shard for a while.

        Args:
            known: when what it waits for is over, in seconds since 1970, if that is known.
        """
        self._client.hset(_key("wake", run), str(shard), self._wake(wait, reason, failures, known))
        self._client.expire(_key("wake", run), FORGET_SECONDS)

    @_or(None)
    def rest_all(self, run: str, shards: list[int], wait: timedelta, reason: str) -> None:
        if shards:
            wake = self._wake(wait, reason)
            self._client.hset(_key("wake", run), mapping={str(shard): wake for shard in shards})
            self._client.expire(_key("wake", run), FORGET_SECONDS)

    @_or(None)
    def forget_rest(self, run: str, shard: int) -> None:
        self._client.hdel(_key("wake", run), str(shard))

    @_or(({}, 0.0))
    def wakes(self, run: str) -> tuple[dict[int, Wake], float]:
        """What rests, and Redis's time."""
        found = self._client.hgetall(_key("wake", run))
        return dict(_readable(found)), self._now()

    @_or(0)
    def failures(self, run: str, shard: int) -> int:
        value = self._client.hget(_key("wake", run), str(shard))
        return _read_wake(value).failures if value else 0

    # --- pace

    @_or(False)
    def take(self, what: str, *of: object, seconds: float) -> bool:
        """Whether something that is to happen once in so many seconds may happen now."""
        return bool(self._client.set(_key(what, *of), b"1", nx=True, px=max(1, round(seconds * 1000))))

    @_or(None)
    def pace(self, what: str, *of: object, seconds: float) -> None:
        """Let it happen again after so many seconds, whatever was said before."""
        self._client.set(_key(what, *of), b"1", px=max(1, round(seconds * 1000)))

    @_or(None)
    def hasten(self, what: str, *of: object, seconds: float) -> None:
        """Let it happen again after so many seconds at the latest."""
        self._client.pexpire(_key(what, *of), max(1, round(seconds * 1000)), lt=True)

    @_or(None)
    def claim(self, what: str, by: str) -> str | None:
        """Who has something for as long as he claims it again; the one who claims it, if nobody had."""
        key = _key(what)
        if self._client.set(key, by.encode(), nx=True, ex=SILENT_SECONDS):
            return by
        holder = self.claimed(what)
        if holder == by:
            self._client.expire(key, SILENT_SECONDS)
        return holder

    @_or(None)
    def claimed(self, what: str) -> str | None:
        """Who has it, if anyone."""
        holder = self._client.get(_key(what))
        return holder.decode() if holder else None

    @_or((None, 0.0))
    def pause(self, kind: str, project: str) -> tuple[Pause | None, float]:
        """Since when a kind of call is not made, and Redis's time."""
        value = self._client.get(_key("pause", project, kind))
        return (Pause.model_validate_json(value) if value else None), self._now()

    @_or(None)
    def keep_pause(self, kind: str, project: str, pause: Pause | None) -> None:
        if pause is None:
            self._client.delete(_key("pause", project, kind))
        else:
            self._client.set(_key("pause", project, kind), pause.model_dump_json(), ex=PAUSE_SECONDS)

    @_or(math.inf)
    def count(self, what: str, *of: object, seconds: int) -> float:
        """How often something has happened in so many seconds, this time included."""
        times = int(self._client.incr(_key(what, *of)))
        self._client.expire(_key(what, *of), seconds, nx=True)
        return times

    @_or(0)
    def waiting(self, list_key: str) -> int:
        """Messages in a list of the broker."""
        return int(self._client.llen(list_key))

    # --- what people want to know

    @_or(None)
    def beat(self, node: str, host: str, version: str) -> None:
        """Show that a worker lives."""
        worker = {"host": host, "version": version, "at": self._now()}
        self._client.hset(_key("workers"), node, orjson.dumps(worker))
        self._client.expire(_key("workers"), FORGET_SECONDS)

    @_or(None)
    def complain(self, node: str, run: str, problem: str | None) -> None:
        """What keeps a worker from serving a run; None takes it back."""
        if problem is None:
            self._client.delete(_key("problem", run, node))
        else:
            self._client.set(_key("problem", run, node), problem.encode(), ex=PROBLEM_SECONDS)

    @_or([])
    def workers(self, run: str) -> list[dict[str, Any]]:
        """The workers that live, each with what keeps it from serving the run."""
        now, found, silent = self._now(), [], []
        for node, body in sorted(self._client.hgetall(_key("workers")).items()):
            with suppress(ValueError, TypeError, KeyError):
                worker = orjson.loads(body)
                if now - worker["at"] > SILENT_SECONDS:
                    silent.append(node)
                else:
                    found.append(self._shown(node.decode(), worker, run))
        if silent:
            self._client.hdel(_key("workers"), *silent)
        return found

    def _shown(self, node: str, worker: dict[str, Any], run: str) -> dict[str, Any]:
        problem = self._client.get(_key("problem", run, node))
        return {
            "host": node,
            "version": worker["version"],
            "seen_at": datetime.fromtimestamp(worker["at"], UTC).isoformat(),
            "problem": problem.decode() if problem else None,
        }

    @_or(None)
    def explain(self, run: str, reason: str, until: float | None = None) -> None:
        """Why shards that have not begun do not, and until when, if that is known."""
        self._client.set(_key("desk-says", run), orjson.dumps([reason, until]), ex=SILENT_SECONDS)

    @_or((None, None))
    def explanation(self, run: str) -> tuple[str | None, float | None]:
        value = self._client.get(_key("desk-says", run))
        reason, until = orjson.loads(value) if value else (None, None)
        return reason, until

    @_or(None)
    def looked(self, run: str) -> None:
        """A sweep has looked at the run."""
        self._client.set(_key("looked", run), str(self._now()), ex=FORGET_SECONDS)

    @_or(None)
    def looked_at(self, run: str) -> datetime | None:
        value = self._client.get(_key("looked", run))
        return datetime.fromtimestamp(float(value), UTC) if value else None

    @_or(None)
    def blind(self, run: str, why: str | None) -> None:
        """Why nobody can see how the jobs of a run stand; None takes it back."""
        if why is None:
            self._client.delete(_key("blind", run))
        else:
            self._client.set(_key("blind", run), why.encode(), ex=SILENT_SECONDS)

    @_or(None)
    def blinded(self, run: str) -> str | None:
        """The same, as it was said last."""
        value = self._client.get(_key("blind", run))
        return value.decode(errors="replace") if value else None

    @_or(None)
    def forget(self, run: str) -> None:
        """A run has ended."""
        self._client.delete(_key("wake", run), _key("looked", run), _key("blind", run))

    def _wake(self, wait: timedelta, reason: str, failures: int = 0, known: float | None = None) -> bytes:
        now = self._now()
        return orjson.dumps([now, now + wait.total_seconds(), failures, reason, known])

    def _now(self) -> float:
        seconds, microseconds = self._client.time()
        return float(seconds + microseconds / 1e6)


def _key(*parts: object) -> str:
    return PREFIX + ":".join(str(part) for part in parts)


def _readable(found: dict[bytes, bytes]) -> Iterator[tuple[int, Wake]]:
    """Without those that another release wrote otherwise: they hide no other."""
    for shard, value in found.items():
        with suppress(ValueError, TypeError):
            yield int(shard), _read_wake(value)


def _read_wake(value: bytes) -> Wake:
    found = orjson.loads(value)
    began, until, failures, reason, known = found if len(found) == 5 else (*found, None)
    return Wake(float(began), float(until), int(failures), str(reason), None if known is None else float(known))


def _renew(lock: "Lock", done: Event, longest: float) -> None:
    """Keep a hold while its block lasts. One that was lost in a flush stays lost: someone else may have it."""
    import redis  # noqa: PLC0415
    from redis.exceptions import LockError  # noqa: PLC0415

    renewals = 0
    while not done.wait(HOLD_SECONDS / 3) and renewals * HOLD_SECONDS / 3 < longest:
        renewals += 1
        try:
            lock.reacquire()
        except LockError:
            return
        except redis.RedisError:
            continue
