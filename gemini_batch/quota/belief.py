"""What refusals teach of a model's limits: how much in flight the service takes, learnt from its 429s. Pure.

A 429 of a create does not say which limit it met: jobs, enqueued tokens, creates of a day, spending. So both windows,
jobs and tokens, shrink: by a tenth of what was in flight with the refused job, never below one job. They grow by
probes: one job goes over the window when it has been quiet for a while; taken, the windows grow by it and the next
probe is due soon; refused, they are what was in flight, and the next is due after twice the time.
"""

from pydantic import Field

from gemini_batch.records import Frozen

SHRINK = 0.9
"""Of what was in flight when a create within the windows was refused."""

PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 600.0
"""No create after a refusal for so long; twice as long after each that follows while none is taken. The service gives
no time to come back (python-genai #1901), and a limit of creates a day lasts for 12 to 24 h."""

LONG_ROW, LONGEST_ROW_PAUSE_SECONDS = 12, 3600.0
"""After so many refusals in a row, which takes half an hour, it is rather a limit of creates a day that is met, or of
spending: asked once an hour it costs few refusals and, of a day, little time."""

QUIET_SECONDS, LONGEST_QUIET_SECONDS = 60.0, 6 * 3600.0
"""From a refusal to a probe; doubled by each probe that is refused."""

GROW_SECONDS = 5.0
"""From a probe that was taken to the next."""

SETTLED, SETTLED_CREATES = 2, 150
"""After so many probes refused in a row, the next waits for so many creates to be taken, or for the longest quiet
time: fewer than one in a hundred is refused for the sake of learning. One refused after some that were taken settles it
again."""

PROBE_SECONDS = 600.0
"""A probe that is not heard of for so long is nobody's."""

SPLIT_SECONDS, SPLIT_TIMES = 300.0, 3
"""A shard that was refused so often over so long while nothing else was live may be larger than the limit."""

MOST_DOUBLINGS = 16
"""More than any of the times above takes."""


class Alone(Frozen):
    """How often, and since when, a shard was refused while nothing else was live."""

    since: float
    times: int = 1


class Belief(Frozen):
    """Of one model of a project. Times are the desk's."""

    jobs: float
    """Jobs that may be live, those of others included."""
    tokens: float
    """Input tokens that may be enqueued."""
    refusals: int = 1
    """In a row, but for those of creates that were on the wire together."""
    pause_until: float
    probe_at: float
    refused_at: float
    confirmed: int = 0
    """Probes that were refused in a row."""
    taken: int = 0
    """Creates since the last refusal."""
    probing: str = ""
    """The shard that goes over the windows."""
    probing_until: float = 0.0
    spread: float = 0.5
    """Of the last refusal, 0 to 1: what sets the probes of fleets apart."""
    splits: int = 0
    """Shards that were split since a create was taken: each makes the next wait for twice as long, since it is ever
    less likely that size is what they are refused for."""
    alone: dict[str, Alone] = Field(default_factory=dict)

    def holds(self, jobs: int, tokens: float, more: float) -> bool:
        """Whether a job of `more` tokens keeps the windows, beside so many jobs and tokens in flight. Beside none it
        does: the windows are never smaller than a shard that waits."""
        return (jobs + 1 <= self.jobs or jobs == 0) and (tokens + more <= self.tokens or tokens == 0)

    def probe_is_due(self, now: float) -> bool:
        """Whether a job may go over the windows."""
        return now >= self.next_probe and not (self.probing and now < self.probing_until)

    @property
    def next_probe(self) -> float:
        """From when on a job may go over the windows, if enough are not taken before."""
        settled = self.confirmed >= SETTLED and self.taken < SETTLED_CREATES
        return max(self.probe_at, self.refused_at + LONGEST_QUIET_SECONDS) if settled else self.probe_at

    def probed_by(self, name: str, now: float) -> "Belief":
        return self.model_copy(update={"probing": name, "probing_until": now + PROBE_SECONDS})

    def without_probe(self, name: str) -> "Belief":
        """The shard sends no more: another may probe."""
        return self.model_copy(update={"probing": ""}) if self.probing == name else self

    def after_taken(self, name: str, jobs: int, tokens: float, now: float) -> "Belief":
        """A create was taken; `jobs` and `tokens` are in flight with it. One that was refused before and is in flight
        after all shows that there was room."""
        changes: dict[str, object] = {"refusals": 0, "pause_until": now, "taken": self.taken + 1, "splits": 0}
        if name in self.alone:
            changes["alone"] = {other: alone for other, alone in self.alone.items() if other != name}
        if self.probing == name:
            changes |= {
                "probing": "",
                "confirmed": min(self.confirmed, SETTLED - 1),
                "jobs": max(self.jobs, float(jobs)),
                "tokens": max(self.tokens, tokens),
                "probe_at": now + GROW_SECONDS * (0.5 + self.spread),
            }
        return self.model_copy(update=changes)

    def may_be_too_large(self, name: str, now: float) -> bool:
        """Whether a shard was refused so often with nothing else live that its own size may be at fault."""
        alone = self.alone.get(name)
        patience = SPLIT_SECONDS * doubled(self.splits)
        return alone is not None and alone.times >= SPLIT_TIMES and now - alone.since >= patience

    def after_split(self, name: str) -> "Belief":
        """A shard is being split."""
        alone = {other: alone for other, alone in self.alone.items() if other != name}
        return self.model_copy(update={"splits": self.splits + 1, "alone": alone})


def after_refusal(
    before: Belief | None, name: str, *, jobs: int, tokens: float, more: float, least: float, now: float, spread: float
) -> Belief:
    """What a refused create teaches.

    Args:
        name: of the shard that was refused.
        jobs: others in flight at the service, those of other programs included.
        tokens: of those of the model, as far as is known.
        more: tokens of the refused job.
        least: tokens of the smallest shard that waits.
        now: the desk's time.
        spread: a random number from 0 to 1.
    """
    was_probe = before is not None and before.probing == name
    new_jobs = max(1.0, float(jobs) if was_probe else SHRINK * (jobs + 1))
    new_tokens = max(least, tokens if was_probe else SHRINK * (tokens + more))
    if before is None:
        before = Belief(
            jobs=new_jobs, tokens=new_tokens, refusals=0, pause_until=now, probe_at=now, refused_at=now, spread=spread
        )
    confirmed = before.confirmed + was_probe
    quiet = min(QUIET_SECONDS * doubled(confirmed), LONGEST_QUIET_SECONDS)
    fresh = now >= before.pause_until  # of those that were on the wire together one counts
    refusals = before.refusals + 1 if fresh else before.refusals
    longest = LONGEST_PAUSE_SECONDS if refusals < LONG_ROW else LONGEST_ROW_PAUSE_SECONDS
    pause = min(PAUSE_SECONDS * doubled(refusals - 1), longest)
    return before.model_copy(
        update={
            "jobs": min(before.jobs, new_jobs),
            "tokens": max(least, min(before.tokens, new_tokens)),
            "refusals": refusals,
            "pause_until": now + pause * (0.5 + spread) if fresh else before.pause_until,
            "probe_at": now + quiet * (0.5 + spread),
            "refused_at": now,
            "confirmed": confirmed,
            "taken": 0,
            "probing": "" if was_probe else before.probing,
            "spread": spread,
            "alone": _alone(before.alone, name, now) if jobs == 0 else before.alone,
        }
    )


def _alone(before: dict[str, Alone], name: str, now: float) -> dict[str, Alone]:
    known = before.get(name)
    return {**before, name: Alone(since=known.since, times=known.times + 1) if known else Alone(since=now)}


def doubled(times: int) -> float:
    return 2.0 ** min(times, MOST_DOUBLINGS)
