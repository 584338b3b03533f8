"""A finished run over the scripted service, and what an audit sees of it."""

import shutil
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from shops import Clock, Inline, make_shop
from test_paying import Service

from gemini_batch.audit.facts import RunFacts, ShardFacts
from gemini_batch.audit.judge import judge_run, judge_shard
from gemini_batch.audit.walk import Means, Walk
from gemini_batch.errors import Refused, RunStopped, Throttled, Unavailable
from gemini_batch.finish import finish
from gemini_batch.jobs.advance import Stop, advance
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
