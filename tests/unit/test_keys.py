"""Duplicate keys are found without holding the keys."""

import xxhash
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.coordinator.keys import KeySpool, first_duplicate


def suspects(*blocks):
    with KeySpool() as spool:
        for block in blocks:
            spool.add(block)
        return spool.suspects()


@given(st.lists(st.lists(st.text(max_size=3), max_size=20), max_size=5))
def test_the_first_repeated_key_is_found_across_blocks_with_both_its_rows(blocks):
    """Two rows with one key could not be told apart in the dataset."""
    keys = [key for block in blocks for key in block]
    expected = next(((key, keys.index(key), row) for row, key in enumerate(keys) if key in keys[:row]), None)
    assert first_duplicate(keys, suspects(*blocks)) == expected


def test_unique_keys_raise_no_suspicion():
    """Only a suspicion costs a second reading of the manifest."""
    assert suspects([str(n) for n in range(10_000)]) == set()


def test_a_collision_of_hashes_is_not_a_duplicate():
    """Different keys with one hash must be acquitted by comparing the keys themselves."""
    keys = ["a", "b", "c"]
    marks = {xxhash.xxh3_64_intdigest(key.encode()) for key in keys}
    assert first_duplicate(keys, marks) is None


def test_a_manifest_of_one_key_on_every_row_is_still_judged():
    """The worst case of duplicates must not lose the suspicion."""
    found = first_duplicate(["k"] * 5_000, suspects(["k"] * 5_000))
    assert found == ("k", 0, 1)


def test_thousands_of_different_duplicates_still_name_one_of_them():
    """Suspects are capped per bucket; whatever remains must be a true duplicate."""
    keys = [f"k{n % 40_000}" for n in range(80_000)]
    key, first, second = first_duplicate(keys, suspects(keys))
    assert keys[first] == keys[second] == key
    assert first < second
