"""Keys and digests of many lines are those of each."""

import hashlib

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.gemini.keys import hex_column, line_keys
from gemini_batch.gemini.wire import line_key

NONCE = b"00c0ffee00c0ffee"

LINES = st.lists(st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**31 - 1)))


@given(LINES)
def test_the_keys_of_many_lines_are_those_of_each(lines):
    """What is sent is named one by one or by column, and what comes back is looked for by column."""
    indices = pa.array([index for index, _ in lines], pa.int64())
    samples = pa.array([sample for _, sample in lines], pa.int32())
    expected = [line_key(NONCE, *line).decode() for line in lines]
    assert line_keys(NONCE, indices, samples).to_pylist() == expected


def test_a_key_never_changes():
    """A run that was begun by an earlier release finds its answers by the keys that it sent."""
    assert line_key(NONCE, 123, 4) == b"00c0ffee00c0ffee-123-4-dc2fce29"


@given(st.lists(st.binary()))
def test_the_hex_digits_of_many_digests_are_those_of_each(texts):
    """A row's digest is the same whether it was sent alone or in a block."""
    digests = [hashlib.sha256(text) for text in texts]
    column = hex_column(b"".join(digest.digest() for digest in digests), 32)
    assert column.to_pylist() == [digest.hexdigest() for digest in digests]
