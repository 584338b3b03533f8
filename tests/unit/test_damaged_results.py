"""Result files that are cut, doubled, shuffled, full of gaps, of others' lines or of garbage: a whole run of each kind.

CHAOS_SEEDS makes it more of them. Single lines under Hypothesis are in test_align.py.
"""

import hashlib
import os
import random
from datetime import timedelta

import orjson
import pytest
from audited import findings_in
from shops import Clock, make_shop
from test_paying import Service

from gemini_batch.finish import finish
from gemini_batch.jobs.advance import advance
from gemini_batch.jobs.verdicts import Stop
from gemini_batch.ledger.objects import ObjectStore
from gemini_batch.parquet import read_own_table

SEEDS = int(os.environ.get("CHAOS_SEEDS", "8"))
ROWS = 6
LOOKS = 20


def cut(lines, dice):
    whole = b"".join(lines)
    return whole[: dice.randrange(len(whole))]


def doubled(lines, dice):
    return b"".join(lines + dice.choices(lines, k=dice.randint(1, ROWS)))


def shuffled(lines, dice):
    return b"".join(dice.sample(lines, len(lines)))


def missing(lines, dice):
    return b"".join(sorted(dice.sample(lines, dice.randrange(ROWS)), key=lines.index))


def alien(lines, dice):
    """Lines of another run, of a row that there is not, and of no key."""
    keys = [orjson.loads(dice.choice(lines))["key"][::-1], f"{'0' * 16}-1-0", "", None, 7]
    return b"".join(dice.sample(lines + [line_of(key, "of somebody else") for key in keys], ROWS + len(keys)))


def malformed(lines, dice):
    spoilt = [line[: dice.randrange(1, len(line) - 1)] + b"\n" if dice.random() < 0.5 else line for line in lines]
    return b"".join(dice.sample([*spoilt, b"{\n", b"[]\n", b"null\n", b"\n", b"[" * 5000 + b"\n"], ROWS + 5))


def no_text(lines, dice):
    """Bytes that are no UTF-8 within an answer."""
    return b"".join(line.replace(b"to p", dice.choice([b"\xff", b"\xc3", b"\xed\xa0\x80"])) for line in lines)


def giant(lines, dice):
    """A line of some megabytes among the others, which nobody asked for."""
    return b"".join(dice.sample([*lines, line_of("", "x" * dice.randint(1 << 20, 3 << 20))], ROWS + 1))


ONCE = {"told by its size": cut, "told by its digest": cut, "told by its lines": cut, "told by a second look": cut}
"""The first download is damaged, the next one is whole."""

ALWAYS = {way.__name__: way for way in (doubled, shuffled, missing, alien, malformed, no_text, giant)}
WAYS = [*ONCE, *ALWAYS]


def line_of(key, text):
    found = {"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}]}
    return orjson.dumps({"key": key, "response": found}) + b"\n"


class Damaging(Service):
    """Spoils the results of each of its jobs in another way, and says as much of a file as is needed to tell."""

    def __init__(self, seed):
        super().__init__(Clock())
        self.seed, self.fetched = seed, set()

    def way(self, name):
        return WAYS[int(name.rpartition("-")[2]) - 1]

    def lines(self, name):
        asked = map(orjson.loads, self.inputs[self.sources[name]].splitlines())
        return [line_of(one["key"], f"to {one['request']['contents'][0]['parts'][0]['text']}") for one in asked]

    def get_job(self, name):
        seen = super().get_job(name)
        told = self.way(seen.job.responses_file) == "told by its lines"
        return type(seen)(seen.job.model_copy(update={"requests": ROWS if told else None}), seen.at)

    def get_file(self, name):
        if name.startswith("files/out-"):
            whole, way = b"".join(self.lines(name)), self.way(name)
            self.size_bytes = len(whole) if way == "told by its size" else None
            self.sha256 = hashlib.sha256(whole).hexdigest() if way == "told by its digest" else None
        return super().get_file(name)

    def download(self, name, target):
        way, lines = self.way(name), self.lines(name)
        damage, first = (ONCE | ALWAYS)[way], name not in self.fetched
        self.fetched.add(name)
        dice = random.Random(f"{self.seed} {name}")
        target.write_bytes(damage(lines, dice) if way in ALWAYS or first else b"".join(lines))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_row_has_its_own_answer_or_says_why_not_whatever_becomes_of_the_results(seed, tmp_path, asked, limits):
    """Bought once all the same: nothing that a result file holds is a reason to buy."""
    service, store = Damaging(seed), ObjectStore("memory:///")
    terms = limits(max_requests_per_shard=ROWS)
    shop = make_shop(tmp_path, asked, terms, service, service.clock, lambda _: store, rows=ROWS * len(WAYS))
    for _ in range(LOOKS):
        service.clock.passed += timedelta(minutes=30)
        if [advance(shop, entry.shard) for entry in shop.plan] == [Stop()] * len(WAYS):
            break
    finish(shop)
    assert findings_in(shop) == []
    assert service.asked == len(WAYS)
    for shard, way in enumerate(WAYS):
        with shop.files.store.local(f"parts/{shard:06d}.parquet") as part:
            rows = read_own_table(part).to_pylist()
        right = [f"to p{row['index']}" for row in rows]
        assert [row["index"] for row in rows] == list(range(shard * ROWS, (shard + 1) * ROWS))
        if way in (*ONCE, "doubled", "shuffled", "alien", "giant"):
            assert [row["text"] for row in rows] == right, way
        assert all(row["text"] in (None, mine) for row, mine in zip(rows, right, strict=True)), way
        assert {row["error"]["kind"] for row in rows if row["status"] != "ok"} <= {"missing"}, way
