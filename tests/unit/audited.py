"""A finished run over the scripted service, and what an audit sees of it."""

import shutil
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import orjson
from shops import Clock, Inline, make_shop
from test_paying import Service

from gemini_batch.audit.facts import RunFacts, ShardFacts
from gemini_batch.audit.judge import judge_run, judge_shard
from gemini_batch.audit.walk import Means, Walk
from gemini_batch.coordinator.retry import Choice, retry
from gemini_batch.errors import Refused, RunStopped, Throttled, Unavailable
from gemini_batch.finish import begin_round, finish
from gemini_batch.jobs.advance import advance
from gemini_batch.jobs.verdicts import Stop
from gemini_batch.ledger.posix import PosixStore
from gemini_batch.ledger.run import RunFiles

SCRIPT = [None, Unavailable("cut"), Throttled("quota", 429), None, Refused("no", 400)]
"""The first four shards: well; answer lost and adopted; turned away and sent again; refused."""

ROWS = 10


class Whole(Service):
    """Knows how many requests each of its jobs holds."""

    def get_job(self, name):
        seen = super().get_job(name)
        source = self.inputs[self.sources[f"files/out-{name[8:]}"]]
        return type(seen)(seen.job.model_copy(update={"requests": source.count(b"\n")}), seen.at)

    def list_jobs(self):
        listing = super().list_jobs()
        shown = tuple(self.get_job(job.name).job for job in listing.every)
        return type(listing)({job.display_name: job for job in shown}, listing.names, listing.at, shown)


class Hiding(Whole):
    """Shows its first job in no list until `shown`."""

    shown = False

    def list_jobs(self):
        listing = super().list_jobs()
        kept = tuple(job for job in listing.every if self.shown or job.name != "batches/1")
        by_name = {job.display_name: job for job in kept}
        return type(listing)(by_name, frozenset(job.name for job in kept), listing.at, kept)


def finished_shop(folder, asked, limits, script=SCRIPT, kind=Whole, **changes):
    """A run that came to its end through everything in `script`."""
    service = kind(Clock())
    service.script = list(script)
    shop = make_shop(folder, asked, limits(max_requests_per_shard=2, **changes), service, service.clock, rows=ROWS)
    for _ in range(40):
        shop.clock.passed += timedelta(minutes=31)
        with suppress(RunStopped):
            if [advance(shop, entry.shard) for entry in shop.plan] == [Stop()] * len(shop.plan):
                finish(shop)
                return shop
    raise AssertionError([shop.last(entry.shard) for entry in shop.plan])


class Failing(Whole):
    """Answers samples with an error, each so many times as `failing` says, and tells what answers used."""

    def __init__(self, clock):
        super().__init__(clock)
        self.failing = Counter()
        self._made = {}

    def answers(self, name="files/out-1"):
        if name not in self._made:
            keys = [orjson.loads(line)["key"] for line in self.inputs[self.sources[name]].splitlines()]
            self._made[name] = b"".join(orjson.dumps({"key": key} | self._answer(key)) + b"\n" for key in keys)
        return self._made[name]

    def _answer(self, key):
        _, index, sample, _ = key.rsplit("-", 3)
        if self.failing[int(index), int(sample)]:
            self.failing[int(index), int(sample)] -= 1
            return {"error": {"code": 14, "message": "try again"}}
        found = {"content": {"parts": [{"text": f"{index} by {sample}"}]}, "finishReason": "STOP"}
        used = {"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 12}
        return {"response": {"candidates": [found], "usageMetadata": used}}


IN_ROUNDS = [None, Unavailable("cut"), Refused("Error on line 1: no", 400), None, None, Refused("no", 400)]
"""Five shards: well; lost and adopted; refused for a line, and sent without it; well; refused, and halved."""


def shop_in_rounds(folder, asked, limits):
    """A run over `Failing` that has yet to be driven: the first sample of row 1 fails once, that of row 6 twice."""
    service = Failing(Clock())
    service.script = list(IN_ROUNDS)
    service.failing = Counter({(1, 0): 1, (6, 0): 2})
    return make_shop(
        folder, asked, limits(max_requests_per_shard=2 * asked().n_samples), service, service.clock, rows=ROWS
    )


def drive(shop, watch=lambda shop: None):
    """Through all rounds to the dataset, with a look after every step."""
    for _ in range(60):
        shop.clock.passed += timedelta(minutes=31)
        for entry in list(shop.plan):
            verdict = advance(shop, entry.shard)
            watch(shop)
        if isinstance(verdict, Stop) and all(record.state == "COLLECTED" for record in shop.all_records()):
            if not begin_round(shop):
                finish(shop)
                return shop
            watch(shop)
    raise AssertionError([shop.last(entry.shard) for entry in shop.plan])


def run_in_rounds(folder, asked, limits):
    """A finished run of four rounds: two of repairs, and two that a person asked for."""
    shop = drive(shop_in_rounds(folder, asked, limits))
    for choice, settings in (
        (Choice(keys=frozenset({"3", "9"})), {"generation_config": {"temperature": 1}}),
        (Choice(statuses=frozenset({"failed"})), None),
    ):
        retry(shop.files, shop.run, shop.limits, choice, settings)
        drive(shop)
    return shop


def capped_shop(folder, asked, limits, kind=Failing, script=SCRIPT, **changes):
    """A finished run with a cap, whose answers tell what they used."""

    def bounded(**more):
        return asked(generation_config={"maxOutputTokens": 100}, **more)

    def with_cap(**more):
        return limits(**{"max_cost": 5.0, "price": (1.0, 1000.0)} | changes | more)

    return finished_shop(folder, bounded, with_cap, script, kind)


def copied(shop, folder):
    """The same run in another directory, to be changed."""
    shutil.copytree(shop.files.store.root, folder / "run")
    return replace(shop, files=RunFiles(PosixStore(folder / "run")), records={})


def means_of(shop):
    return Means(shop.remote, Inline(), shop.clock)


def look_at(shop) -> tuple[RunFacts, list[ShardFacts]]:
    walk = Walk(shop.files, means_of(shop))
    facts = walk.see_run()
    shards = list(walk.see_shards(facts))
    return walk.see_dataset(facts), shards


def findings_in(shop):
    """What an audit says of a run as it stands; one that has not come to its end has no dataset yet."""
    return findings_of(*look_at(shop))


def findings_of(facts, shards):
    return [*judge_run(facts), *(finding for shard in shards for finding in judge_shard(facts, shard))]


def kinds_of(facts, shards):
    return sorted({finding.kind for finding in findings_of(facts, shards)})
