"""What operators say, as it is recorded and heard: in any order, by any number of them, at any moment of a send."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shops import Clock, make_shop
from test_advance import Service

from gemini_batch import orders
from gemini_batch.config import resolve
from gemini_batch.errors import BadInput
from gemini_batch.jobs.advance import advance
from gemini_batch.jobs.orders import HELD_BACK
from gemini_batch.jobs.verdicts import AwaitDesk, Stop
from gemini_batch.ledger.posix import PosixStore
from gemini_batch.ledger.run import RunFiles
from gemini_batch.parquet import read_own_table
from gemini_batch.records import ShardState

S = ShardState
OPTIONS = resolve({}, None, {})


def _say(files, word):
    match word:
        case "pause":
            try:
                orders.pause(files)
            except BadInput:
                return
        case "cancel":
            orders.cancel(files)
        case "resume":
            orders.limits_in_force(files, OPTIONS)


WORDS = st.lists(st.sampled_from(["pause", "cancel", "resume"]), max_size=8)


def _controls(files):
    log = files.controls()
    return [log.at(version) for version in range(1, log.end() + 1)]


@settings(max_examples=60, deadline=None)
@given(words=WORDS)
def test_the_last_word_holds_and_a_cancel_is_the_last(words, asked, limits):
    clock = Clock()
    with TemporaryDirectory() as folder:
        shop = make_shop(Path(folder), asked, limits(), Service(clock), clock)
        expected = "run"
        for word in words:
            _say(shop.files, word)
            if expected != "cancel":
                expected = "run" if word == "resume" else word
            shop.heed()
            assert shop.order == expected
        said = _controls(shop.files)
        assert all(before.order != after.order for before, after in itertools.pairwise(said)), "no idle words"
        assert all(record.limits == shop.run.limits for record in said)


def test_words_that_race_are_all_recorded_one_after_the_other(tmp_path, asked, limits):
    clock = Clock()
    files = make_shop(tmp_path, asked, limits(), Service(clock), clock).files
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda word: _say(files, word), ["pause", "resume", "pause", "cancel", "resume", "pause"] * 4))
    said = _controls(files)
    assert None not in said
    assert said[-1].order == "cancel", "whatever came after it"
    assert [record.order for record in said].count("cancel") == 1


class Interrupting(PosixStore):
    """Somebody says something at the moment at which a send is recorded."""

    word = None

    def create(self, name, body):
        created = super().create(name, body)
        if self.word and b'"cause":"SendBegan"' in body:
            word, self.word = self.word, None
            _say(RunFiles(self), word)
        return created


@pytest.mark.parametrize("word", ["pause", "cancel"])
def test_a_send_that_is_recorded_when_the_order_comes_is_not_made(word, tmp_path, asked, limits):
    clock = Clock()
    shop = make_shop(tmp_path, asked, limits(), Service(clock), clock, store=Interrupting)
    shop.files.store.word = word
    verdict = advance(shop, 0)
    assert shop.remote.created == []
    if word == "pause":
        assert verdict == AwaitDesk(HELD_BACK)
        assert shop.last(0).state is S.READY
        orders.limits_in_force(shop.files, OPTIONS)
        shop.heed()
        advance(shop, 0)
        assert len(shop.remote.created) == 1
    else:
        assert verdict == Stop()
        assert shop.last(0).tally.by_kind == {"cancelled": 2}


def test_a_shard_that_is_given_up_says_so_of_every_row_and_costs_nothing(tmp_path, asked, limits):
    clock = Clock()
    shop = make_shop(tmp_path, asked, limits(), Service(clock), clock, rows=5)
    orders.cancel(shop.files)
    shop.heed()
    assert advance(shop, 0) == Stop()
    record = shop.last(0)
    assert (record.state, record.sends, record.job, record.upload) == (S.COLLECTED, (), None, None)
    assert (record.tally.by_kind, record.tally.unpriced, record.tally.cost_usd) == ({"cancelled": 5}, 0, 0)
    part = read_own_table(tmp_path / "run" / "parts" / "000000.parquet")
    assert part["attempts"].to_pylist() == [0] * 5
    assert part["cost_usd"].null_count == 5


def test_a_finished_run_is_neither_paused_nor_cancelled(tmp_path, asked, limits):
    clock = Clock()
    files = make_shop(tmp_path, asked, limits(), Service(clock), clock).files
    (tmp_path / "run" / "_SUCCESS").write_text('{"round": 0}')
    orders.pause(files)
    orders.cancel(files)
    assert _controls(files) == []
