"""Keys and digests of many lines at once, as columns. Pure."""

from array import array
from itertools import repeat
from sys import byteorder
from zlib import crc32

import pyarrow as pa
import pyarrow.compute as pc


def line_keys(nonce: bytes, indices: pa.Array, samples: pa.Array) -> pa.Array:
    """`wire.line_key` of each line, as text, at half the cost.

    Args:
        indices: per line, the row; int64.
        samples: per line, the sample of it.
    """
    names = pc.binary_join_element_wise(indices.cast(pa.string()), samples.cast(pa.string()), "-")
    checks = array("I", map(crc32, names.cast(pa.binary()).to_pylist(), repeat(crc32(nonce + b"-"))))
    if byteorder == "little":
        checks.byteswap()
    return pc.binary_join_element_wise(nonce.decode(), names, hex_column(checks.tobytes(), checks.itemsize), "-")


def hex_column(values: bytes, size: int) -> pa.Array:
    """The hex digits of values of `size` bytes each, one after the other."""
    digits = pa.py_buffer(values.hex().encode())
    return pa.Array.from_buffers(pa.binary(2 * size), len(values) // size, [None, digits]).cast(pa.string())
